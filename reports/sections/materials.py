"""Parts of section 5: the water balance, stores of waste, exchanges between enterprises, land and waste heat."""

from __future__ import annotations

from datetime import date

import msgspec

from reports import figures
from reports.accounts import Stock, Waste, Water
from reports.model import Cell, Column, Rows, Table, Text, tidy
from reports.rows import Year
from reports.words import said, table, word

NOT_BOOKED_BEFORE = Text("此前无台账，按零起算", "nothing booked before: counted from zero")
NOT_BOOKED = Text("未填报", "not booked")
MORE_OUT = Text("排水多于取水（含外来污水）", "more goes out than came in: waste water from elsewhere")
NO_OUTLET = Text("无水污染排口流量", "no metered outlet")


def water_balance(year: Year) -> Table:
    """What came in, what was used again, what went out as waste water, and what is neither."""
    booked = max((e.last_day for e in year.ledger if e.kind == "water_recirculated"), default=None)
    ends = None if booked is None or booked >= year.span.through else booked
    rows: Rows = []
    for w in year.water:
        name = f"water-balance/{year.span.year}/{w.code or 'base'}"
        cells = [_metered(f"{name}/{f}", w, year, getattr(w, f), figures.NO_METER) for f in ("fresh", "reclaimed")]
        cells.append(figures.plain(f"{name}/recirculated", w.recirculated, "m3", "declared", reason=NOT_BOOKED))
        hours = max(w.hours_due or 0, year.span.hours)
        share = min(1.0, w.hours_known / hours) if hours and w.hours_known is not None else None
        cells.append(figures.known(f"{name}/discharged", w.discharged, "m3", share, digits=0, absent=NO_OUTLET))
        coverage = min((c.coverage for c in cells if c.coverage is not None), default=None)
        silent = NO_OUTLET if w.discharged is None else MORE_OUT
        cells.append(figures.ratio(f"{name}/consumed", w.consumed, 1.0, "m3", coverage, digits=0, absent=silent))
        reuse = figures.ratio(f"{name}/reuse", w.reuse_rate, 1.0, "%", cells[0].coverage, scale=100, digits=1)
        if ends is not None and w.recirculated is not None:
            cells[2], reuse = (_up_to(c, ends) for c in (cells[2], reuse))
        cells.append(reuse)
        rows.append((Text(w.name_zh or "园区合计", w.name_en or "Base"), *cells))
    if not rows:
        fields = ("fresh", "reclaimed", "recirculated", "discharged", "consumed", "reuse")
        rows.append(figures.nothing(1, f"water-balance/{year.span.year}/none", fields, "m3", "measured"))
    return Table(
        "water-balance",
        Text("水平衡与重复利用", "Water balance and reuse"),
        (
            Column(Text("单位", "Owner"), width=1.5),
            Column(Text("新鲜水", "Fresh"), "m3", 1.1),
            Column(Text("再生水", "Reclaimed"), "m3", 1.1),
            Column(Text("厂内循环", "Recirculated"), "m3", 1.1),
            Column(Text("废水排放", "Discharged"), "m3", 1.1),
            Column(Text("消耗", "Consumed"), "m3", 1.1),
            Column(Text("重复利用率", "Reuse rate"), "%", 1.0),
        ),
        tuple(rows),
        (said("water_balance"),),
    )


def _up_to(cell: Cell, day: date) -> Cell:
    """A figure whose recirculated water is booked up to a day before the metered water ends: too low."""
    told = Text(f"循环水仅填报至 {day}，偏低", f"recirculated booked up to {day} only: too low")
    return cell if cell.value is None else msgspec.structs.replace(cell, reason=told)


def _metered(figure: str, w: Water, year: Year, value: float | None, absent: Text) -> Cell:
    due = w.n_expected * max(1.0, year.span.days / w.days) if w.days else 0.0
    coverage = min(1.0, w.n_known / due) if due else None
    return figures.known(figure, value, "m3", coverage, digits=0, absent=absent)


def waste_stores(year: Year) -> Table:
    """Each store from opening to closing; a mark where more left than was there, or where storing manifests disagree."""
    rows: Rows = []
    for w in year.waste:
        name = f"waste/{year.span.year}/{w.kind}/{w.item}/{w.code or 'base'}"
        kind, owner = word("ledger", w.kind), Text(w.name_zh or "园区", w.name_en or "Base")
        cells = [
            _declared(f"{name}/{f}", getattr(w, f), "t", w.preliminary)
            for f in ("generated", "received", "used", "disposed", "moved", "closing")
        ]
        known = w.booked_before or w.opening != 0
        opening = figures.plain(f"{name}/opening", None, "t", "declared", reason=NOT_BOOKED_BEFORE)
        cells.insert(0, _declared(f"{name}/opening", w.opening, "t", w.preliminary) if known else opening)
        rows.append((_of_kind(kind, w.item), owner, *cells, _mark(w)))
    if not rows:
        empty = [figures.plain(f"waste/{year.span.year}/none/{f}", None, "t", "declared") for f in table()["store"]]
        rows.append((word("ledger", "solid_waste"), Text("—", "—"), *empty, Text("—", "—")))
    return Table(
        "waste",
        Text("固体废物台账与贮存", "Waste by manifest and store"),
        (
            Column(Text("类别", "Kind"), width=1.9),
            Column(Text("单位", "Owner"), width=1.3),
            *(Column(word("store", f), "t", 0.9) for f in table()["store"]),
            Column(Text("标记", "Mark"), width=1.2),
        ),
        tuple(rows),
        (said("waste_store"),),
    )


def _mark(w: Waste) -> Text:
    if w.negative_days:
        first = f"{w.negative_days[0]:%Y-%m-%d}"
        return Text(f"{first} 起库存为负，台账有误", f"below zero from {first}: an entry is missing")
    if w.stored_differs is not None and abs(w.stored_differs) > 0.005:
        return Text(f"贮存申报差 {w.stored_differs:+.2f} t", f"stored entries differ by {w.stored_differs:+.2f} t")
    return Text("—", "—")


def _declared(figure: str, value: float | None, unit: str, preliminary: bool, digits: int = 2) -> Cell:
    if value is None:
        return figures.plain(figure, None, unit, "declared")
    return Cell(
        id=figure,
        value=tidy(value),
        unit=unit,
        basis="declared",
        grade="B",
        quality="preliminary" if preliminary else "final",
        digits=digits,
    )


def exchanges(year: Year) -> Table:
    """Metered flows between enterprises, and those of the ledger, each once: what one gives is what the other takes."""
    rows: Rows = []
    for x in year.exchange:
        due = x.n_expected * max(1.0, year.span.days / x.days) if x.days else 0.0
        coverage = min(1.0, x.n_known / due) if due else None
        cell = figures.known(f"exchange/{year.span.year}/{x.code}", x.amount, x.unit, coverage, digits=1)
        rows.append(
            (
                word("carriers", x.carrier),
                Text(x.from_zh, x.from_en),
                Text(x.to_zh, x.to_en),
                word("units", x.unit),
                cell,
                Text("—", "—"),
            )
        )
    for p in year.passed:
        name = f"exchange/{year.span.year}/ledger/{p.kind}/{p.item}/{p.from_code}/{p.to_code}/{p.unit}"
        confirmed = (
            Text("仅一方登记", "one side booked")
            if p.confirmed is None
            else (
                Text("双方一致", "both agree")
                if abs(p.confirmed - p.amount) <= 0.005 * max(abs(p.amount), 1e-9)
                else Text(f"对方登记 {p.confirmed:,.2f}", f"the other booked {p.confirmed:,.2f}")
            )
        )
        rows.append(
            (
                _item(p.item),
                Text(p.from_zh, p.from_en),
                Text(p.to_zh, p.to_en),
                word("units", p.unit),
                _declared(name, p.amount, p.unit, p.preliminary),
                confirmed,
            )
        )
    if not rows:
        absent = Text("无登记的企业间交换", "no exchange on record")
        none = Text("—", "—")
        rows.append(
            (
                none,
                none,
                none,
                none,
                figures.plain(f"exchange/{year.span.year}/none", None, "t", "declared", reason=absent),
                none,
            )
        )
    return Table(
        "exchange",
        Text("企业间蒸汽、余热与物料交换", "Steam, waste heat and materials between enterprises"),
        (
            Column(Text("种类", "Kind"), width=1.0),
            Column(Text("供方", "From"), width=1.4),
            Column(Text("受方", "To"), width=1.4),
            Column(Text("单位", "Unit"), width=0.6),
            Column(Text("数量", "Amount"), width=1.2),
            Column(Text("对账", "Both sides"), width=1.1),
        ),
        tuple(rows),
        (said("double_entry"),),
    )


def land_and_heat(year: Year) -> Table | None:
    """Land by use, its output, and waste heat; None where nothing is booked."""
    if not year.stock:
        return None
    rows: Rows = [
        (
            _stock_name(s),
            Text(s.name_zh or "园区", s.name_en or "Base"),
            word("units", s.unit),
            _declared(f"stock/{year.span.year}/{s.what}/{s.code or 'base'}/{s.item}", s.amount, s.unit, s.preliminary),
        )
        for s in year.stock
    ]
    heat = {a: sum(s.amount for s in year.stock if (s.what, s.item) == ("waste_heat", a)) for a in ("available", "used")}
    if heat["available"] > 0:
        rows.append(
            (
                Text("余热利用率", "Waste heat used, share"),
                Text("园区合计", "Base"),
                word("units", "%"),
                Cell(
                    id=f"stock/{year.span.year}/waste_heat/rate",
                    value=tidy(100 * heat["used"] / heat["available"]),
                    unit="%",
                    basis="declared",
                    grade="B",
                    digits=1,
                ),
            )
        )
    return Table(
        "land-heat",
        Text("土地与余热", "Land and waste heat"),
        (
            Column(Text("项目", "Item"), width=1.8),
            Column(Text("单位", "Owner"), width=1.4),
            Column(Text("计量单位", "Unit"), width=0.7),
            Column(Text("数量", "Amount"), width=1.2),
        ),
        tuple(rows),
    )


def _stock_name(s: Stock) -> Text:
    return _of_kind(Text("用地", "Land"), s.item) if s.what == "land" else word("heat", s.item)


def _item(code: str) -> Text:
    return word("carriers" if code in table()["carriers"] else "items", code)


def _of_kind(kind: Text, code: str) -> Text:
    item = _item(code)
    return Text(f"{kind.zh}：{item.zh}", f"{kind.en}: {item.en}")
