"""Indicators of a base by year and month, each with coverage, grade and the figures and factor rows it was made from.

No official indicator table exists for the 2020 programme; these are the figures that the plans of such bases name. A value
is withheld (NULL, with the reason in `inputs`) when less than 90 % of what is behind it is known or when the economic
figure is not in the ledger. Grade: A metered, B with a form or bill in it, C more than a tenth estimated or substituted; over
several carriers or outlets that of the worst one in the figure, as in GET /aggregates and reports.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from psycopg.types.json import Jsonb

from accounting.columns import Connection
from accounting.counters import SQL
from park.clock import Period, parse_period

ENOUGH = 0.9
MANY_ESTIMATED = 0.1
RENEWABLE_NOTE = "own generation / electricity used; green certificates are not counted"
PER_10K_CNY = {"万元": 1.0, "元": 1e-4, "CNY": 1e-4, "亿元": 1e4, "10k CNY": 1.0}
INTENSITIES = (("energy_per_value_added", "tce_equivalent", "tce/万元"), ("co2_per_value_added", "co2_t", "t/万元"),
               ("water_per_value_added", "water_m3", "m3/万元"))
MASSES = {"so2_t": "so2", "nox_t": "nox", "dust_t": "dust", "cod_t": "cod", "ammonia_t": "ammonia"}


@dataclass
class Figure:
    """A value with what stands behind it; `why` says why a value is withheld."""

    indicator: str
    unit: str
    value: float | None
    coverage: float | None
    estimated: float = 0.0               # share of the figure, or of its worst part, that is estimated or substituted
    form: bool = False                   # a ledger entry or bill is in it
    inputs: dict[str, Any] = field(default_factory=dict)

    @property
    def grade(self) -> str:
        """A metered, B with a form in it, C estimated to more than a tenth."""
        return "C" if self.estimated > MANY_ESTIMATED else "B" if self.form else "A"

    def withheld(self) -> Figure:
        """The figure without its value when less than 90 % is known; the partial value stays in `inputs`."""
        if self.value is not None and (self.coverage is None or self.coverage < ENOUGH):
            self.inputs |= {"withheld": f"less than {ENOUGH:.0%} known", "partial": self.value}
            self.value = None
        return self


@dataclass(frozen=True)
class Carrier:
    """A base's energy of a carrier in a period."""

    unit: str
    amount: float | None
    generation: float | None
    export: float | None
    estimated: float
    billed: float
    n_expected: int
    n_known: int
    n_good: int
    tce_calorific: float | None
    tce_equivalent: float | None
    co2_kg: float | None
    days_without_tce: int
    days_without_co2: int
    n_days: int
    factor_ids: list[int] | None
    days_due: int

    @property
    def estimated_share(self) -> float:
        """The part of the amount that is estimated."""
        return _share(self.estimated, self.amount)

    @property
    def coverage(self) -> float | None:
        """Known slots over expected ones; days of the period before the first reading are as unknown as any."""
        return self.n_known / self.n_expected * min(self.n_days / self.days_due, 1.0) if self.n_expected else None


def compute(conn: Connection, base_id: int, zone: str, periods: list[str], now: datetime) -> set[str]:
    """Write the indicators of the periods; the answer are those in which a figure changed."""
    from accounting.definitions import defined_figures, definitions_of  # they stand on this module's figures
    from accounting.named import Named

    changed: set[str] = set()
    today = now.astimezone(ZoneInfo(zone)).date()
    baseline = conn.execute(SQL["plan_years"], {"base": base_id}).fetchone()
    named = Named(conn, base_id, zone, today, baseline[0] if baseline else None)
    for text in periods:
        period = parse_period(text, zone)
        computed = figures(conn, base_id, period, today)
        named.remember(period, computed)
        for f in [*computed, *defined_figures(definitions_of(conn, base_id, period.last_day), named, period)]:
            row = conn.execute(SQL["write_indicator"], {
                "base": base_id, "indicator": f.indicator, "period": text, "value": f.value, "unit": f.unit,
                "coverage": f.coverage, "grade": f.grade, "inputs": Jsonb(f.inputs), "now": now}).fetchone()
            changed |= {text} if row is not None else set()
    return changed


def figures(conn: Connection, base_id: int, period: Period, today: date) -> list[Figure]:
    """Every indicator of a base and period, withheld where too little is known.

    What is due of a running period ends today. Its intensities end with the last day that the value added covers.
    """
    due_until = min(period.last_day, today)
    carriers = _carriers(conn, base_id, period.first_day, due_until)
    later = conn.execute(SQL["begins_later"], {"base": base_id, "first": period.first_day, "last": due_until}).fetchall()
    ledger = conn.execute(SQL["ledger_now"], {"base": base_id, "first": period.first_day, "last": period.last_day}).fetchall()
    added = _value_added(ledger, period, running=today <= period.last_day)
    n_hours = max(((due_until - period.first_day).days + 1) * 24 - (24 if today <= period.last_day else 0), 1)
    hours = conn.execute(SQL["indicator_emission"], {"base": base_id, "start": period.start, "end": period.end}).fetchall()
    due = conn.execute(SQL["indicator_transmission"], {
        "base": base_id, "first": period.first_day, "last": period.last_day}).fetchone()
    energy = list(_energy(carriers))
    for f in energy if later else ():
        f.inputs |= _begins_later(f.indicator, later)
    measured = energy if added is None or added.until >= due_until else list(
        map(_upto, _energy(_carriers(conn, base_id, period.first_day, added.until)), energy))
    out = [*energy, *_intensities({f.indicator: f for f in measured}, added), _water_reuse(carriers), _waste(ledger),
           *_masses(hours, n_hours)]
    if due is not None:
        *counts, there, series = (int(n) for n in due)
        out.append(_transmission(*counts, coverage=min(there / (series * n_hours), 1.0) if series else None))
    return [f.withheld() for f in out]


def _begins_later(indicator: str, later: list[tuple[str, str, date]]) -> dict[str, Any]:
    """Which counters of the figure began within its period though no meter is on record: their earlier days are not missing."""
    own = {"electricity_kwh": "electricity", "renewable_share": "electricity", "water_m3": "water"}.get(indicator)
    told = {code: day.isoformat() for carrier, code, day in later if own in (None, carrier)}
    return {"begins_later": told} if told else {}


def _carriers(conn: Connection, base_id: int, first: date, last: date) -> dict[str, Carrier]:
    rows = conn.execute(SQL["indicator_energy"], {"base": base_id, "first": first, "last": last})
    return {name: Carrier(*[*figures, (last - first).days + 1]) for name, *figures in rows}


def _upto(measured: Figure, whole: Figure) -> Figure:
    """A sum of the first part of a period: a carrier of the whole that has no day there is unknown there, not zero."""
    here, there = measured.inputs.get("carriers", {}), whole.inputs.get("carriers", {})
    absent, total = sum(abs(v) for c, v in there.items() if c not in here), sum(map(abs, there.values()))
    if absent and measured.coverage is not None:
        measured.coverage *= 1 - absent / total
        measured.inputs["not_known_yet"] = sorted(set(there) - set(here))
    return measured


def _energy(carriers: dict[str, Carrier]) -> Iterator[Figure]:
    for indicator, name, unit, scale in (("tce_calorific", "tce_calorific", "tce", 1.0),
                                         ("tce_equivalent", "tce_equivalent", "tce", 1.0), ("co2_t", "co2_kg", "t", 1e-3)):
        missing = "days_without_co2" if name == "co2_kg" else "days_without_tce"
        yield _sum(indicator, unit, carriers, name, scale, missing)
    e, w = carriers.get("electricity"), carriers.get("water")
    yield _single("electricity_kwh", "kWh", e)
    share = Figure("renewable_share", "1", None, e.coverage if e else None, inputs={"note": RENEWABLE_NOTE})
    if e and e.amount:
        share.inputs |= {"generation_kwh": e.generation, "electricity_kwh": e.amount}
        share.value = (e.generation or 0.0) / e.amount
        share.estimated, share.form = e.estimated_share, bool(e.billed)
    yield share
    yield _single("water_m3", "m3", w)


def _sum(indicator: str, unit: str, carriers: dict[str, Carrier], name: str, scale: float, missing: str) -> Figure:
    """Sum over carriers. Coverage weighs each carrier by its part of the sum, so that a small unknown meter stays small; a
    carrier of which nothing is known weighs as much as the mean of the others."""
    parts = {c: getattr(k, name) for c, k in carriers.items() if getattr(k, name) is not None}
    inputs: dict[str, Any] = {"carriers": {c: v * scale for c, v in sorted(parts.items())},
                              "factors": sorted({i for k in carriers.values() for i in k.factor_ids or []}),
                              "without_factor": sorted(c for c, k in carriers.items() if getattr(k, missing) > 0)}
    if not parts:
        return Figure(indicator, unit, None, None, inputs=inputs)
    typical = sum(abs(v) for v in parts.values()) / len(parts)
    weights = {c: abs(parts[c]) if c in parts else typical for c, k in carriers.items() if c in parts or k.amount is None}
    total = sum(weights.values()) or 1.0
    coverage = sum(w * (carriers[c].coverage or 0.0) for c, w in weights.items()) / total
    counted = [carriers[c] for c in parts]
    return Figure(indicator, unit, sum(parts.values()) * scale, coverage, max(k.estimated_share for k in counted),
                  any(k.billed for k in counted), inputs=inputs)


def _single(indicator: str, unit: str, carrier: Carrier | None) -> Figure:
    if carrier is None:
        return Figure(indicator, unit, None, None, inputs={"withheld": "no counter of this carrier counts for the base"})
    return Figure(indicator, unit, carrier.amount, carrier.coverage, carrier.estimated_share, bool(carrier.billed),
                  inputs={"n_expected": carrier.n_expected, "n_known": carrier.n_known, "n_good": carrier.n_good})


def _share(part: float | None, whole: float | None) -> float:
    return abs(part or 0.0) / abs(whole) if whole else 0.0


@dataclass(frozen=True)
class ValueAdded:
    """Value added in 10,000 CNY up to a day, the part of the days until then that entries cover, and those entries."""

    value: float
    coverage: float
    until: date
    entries: list[int]
    preliminary: bool


def _value_added(ledger: list[Any], period: Period, *, running: bool) -> ValueAdded | None:
    """The sum over enterprises; an entry of a longer span counts by its days in the period. A running period is looked at
    up to the last day that an entry covers, a closed one as a whole."""
    rows = [r for r in ledger if r[1] == "value_added" and r[4] in PER_10K_CNY]
    if not rows:
        return None
    covered = {d for r in rows for d in _days(max(r[7], period.first_day), min(r[8], period.last_day))}
    until = max(covered) if running else period.last_day
    n_days = (until - period.first_day).days + 1
    return ValueAdded(sum(r[5] * PER_10K_CNY[r[4]] * r[9] for r in rows), len(covered) / n_days, until,
                      sorted(r[0] for r in rows), any(r[6] == "preliminary" for r in rows))


def _days(first: date, last: date) -> Iterator[date]:
    return (first + timedelta(days=i) for i in range((last - first).days + 1))


def _intensities(energy: dict[str, Figure], added: ValueAdded | None) -> Iterator[Figure]:
    for indicator, source, unit in INTENSITIES:
        f = energy[source]
        out = Figure(indicator, unit, None, f.coverage, f.estimated, form=True,
                     inputs={"numerator": source, "numerator_value": f.value})
        if added is None or added.value <= 0:
            out.inputs["withheld"] = "no value added in the ledger for this period"
        elif f.value is not None and f.coverage is not None:
            out.inputs |= {"value_added_10k_cny": added.value, "ledger": added.entries, "preliminary": added.preliminary,
                           "until": added.until.isoformat(),
                           "value_added_coverage": added.coverage}
            out.value, out.coverage = f.value / added.value, min(f.coverage, added.coverage)
        else:
            out.inputs["withheld"] = f"{source}: {f.inputs.get('withheld', 'not known')}"
        yield out


def _water_reuse(carriers: dict[str, Carrier]) -> Figure:
    """Reclaimed water over reclaimed and fresh water (工业用水重复利用率 as far as the park's own networks show it)."""
    fresh, again = carriers.get("water"), carriers.get("reclaimed_water")
    out = Figure("water_reuse_rate", "1", None, None)
    if fresh is None or again is None or fresh.amount is None or again.amount is None:
        out.inputs["withheld"] = "needs counters of fresh and of reclaimed water"
        return out
    total = fresh.amount + again.amount
    out.inputs |= {"reclaimed_m3": again.amount, "fresh_m3": fresh.amount}
    out.coverage = min(fresh.coverage or 0.0, again.coverage or 0.0)
    out.value = again.amount / total if total > 0 else None
    out.estimated, out.form = max(fresh.estimated_share, again.estimated_share), bool(fresh.billed or again.billed)
    return out


def _waste(ledger: list[Any]) -> Figure:
    """Used over generated and used from old stock, by manifests (formula of 一般工业固体废物综合利用率)."""
    tonnes = {"t": 1.0, "kg": 1e-3, "万吨": 1e4}
    rows = [r for r in ledger if r[1] == "solid_waste" and r[4] in tonnes]
    by_action: dict[str, float] = {}
    for r in rows:
        by_action[r[2]] = by_action.get(r[2], 0.0) + r[5] * tonnes[r[4]] * r[9]
    out = Figure("solid_waste_use_rate", "1", None, None, form=True,
                 inputs={"actions_t": by_action, "ledger": [r[0] for r in rows]})
    due = by_action.get("generated", 0.0) + by_action.get("used_stock", 0.0)
    if due <= 0:
        out.inputs["withheld"] = "no solid waste in the ledger for this period"
        return out
    out.value, out.coverage = (by_action.get("used", 0.0) + by_action.get("used_stock", 0.0)) / due, 1.0
    return out


def _masses(hours: list[Any], n_hours: int) -> Iterator[Figure]:
    rows = {r[0]: r[1:] for r in hours}
    for indicator, quantity in MASSES.items():
        if quantity not in rows:
            yield Figure(indicator, "t", None, None, inputs={"withheld": "no outlet measures it"})
            continue
        kg, valid, stopped, exempt, missing, insufficient, substituted, unknown, exceeded, outlets, estimated = rows[quantity]
        due = valid + exempt + missing + insufficient
        inputs = {"hours_valid": valid, "hours_stopped": stopped, "hours_exempt": exempt,
                  "hours_missing": missing + insufficient, "hours_substituted": substituted,
                  "hours_exceeded": exceeded, "hours_without_mass": unknown}
        # a substituted hour is known upward: it counts as known for the sum and as estimated for the grade
        coverage = (due - unknown) / due if due else 1.0 if stopped else None
        if coverage is not None:             # hours before the first reading are as unknown as any
            coverage *= min((due + stopped) / (outlets * n_hours), 1.0)
        tonnes = None if kg is None else kg / 1000
        yield Figure(indicator, "t", tonnes, coverage, estimated, inputs=inputs)


def _transmission(due: int, received: int, valid: int, marked: int, *, coverage: float | None) -> Figure:
    """传输有效率 = 传输率 x 有效率, by hours of outlets and pollutants; stopped and marked hours take no part. Lost hours are
    its value, not its coverage: that is the part of the period for which there are hours at all."""
    out = Figure("transmission_effective_rate", "1", None, coverage,
                 inputs={"hours_due": due, "hours_received": received, "hours_valid": valid, "hours_marked": marked})
    if due:
        out.value = (received / due) * (valid / received if received else 0.0)
    return out


def ledger_periods(conn: Connection, base_id: int, zone: str) -> set[str]:
    """Years and months of ledger entries that no pass has seen; the caller computes them."""
    seen = conn.execute(SQL["pass_of"], {"base": base_id, "pass": "ledger"}).fetchone()
    last = int(seen[1].get("entry", 0)) if seen is not None else 0
    periods: set[str] = set()
    newest = last
    for entry_id, first, final in conn.execute(SQL["ledger_since"], {"base": base_id, "entry": last}):
        newest = max(newest, entry_id)
        periods |= {f"{d:%Y}" for d in _days(first, final)} | {f"{d:%Y-%m}" for d in _days(first, final)}
    if newest > last:
        conn.execute(SQL["note_pass"], {"base": base_id, "pass": "ledger", "done_to": None, "now": datetime.now().astimezone(),
                                        "detail": Jsonb({"entry": newest})})
    return periods
