"""Virtual points: formulas over counters and gauges, whatever is late, changed or unknown; mistakes with file and line."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from accounting.passes import run_pass
from accounting.verify import verify
from park.catalogue import check_files, read_catalogue
from park.catalogue_store import apply, export, plan
from tests.accounting.conftest import every

Conn = psycopg.Connection[Any]
Feed = Callable[..., None]
MINI = Path(__file__).parents[1] / "data" / "mini.yaml"
START = datetime(2026, 3, 1, 16, tzinfo=UTC)
NOW = START + timedelta(days=3)
POINTS = """points:
  - {code: e1.rest.kwh, quantity: active_energy, unit: MWh, kind: counter, belongs_to: e1.site, carrier: electricity, formula:
      "%s"}
"""


@pytest.fixture
def virtual(park: Conn, tmp_path: Path) -> Callable[..., None]:
    """virtual(formula, more=''): e1.rest.kwh of the mini park with that formula."""

    def add(formula: str, more: str = "") -> None:
        file = tmp_path / "virtual.yaml"
        file.write_text(POINTS % formula + more, encoding="utf-8")
        apply(park, read_catalogue([MINI, file]))

    return add


def slots(park: Conn, code: str = "e1.rest.kwh") -> dict[int, tuple[float | None, int, int]]:
    rows = park.execute(
        """SELECT (extract(epoch FROM ts - %s) / 900)::int, amount, quality, method FROM interval_15m
        JOIN point USING (base_id, point_id) WHERE code = %s ORDER BY 1""",
        (START, code),
    ).fetchall()
    return {r[0]: (r[1], r[2], r[3]) for r in rows}


def test_the_rest_below_a_meter_in_the_unit_of_the_point(park: Conn, feed: Feed, virtual: Callable[..., None]) -> None:
    """Parent less child, kWh into MWh; hours, days and the period's figures follow like those of any counter."""
    virtual("e1.main.kwh - e1.furnace.kwh")
    at = every(900, START, 97)
    feed("e1.main.kwh", at, 100 * np.arange(97.0))
    feed("e1.furnace.kwh", at, 60 * np.arange(97.0))
    run_pass(park, NOW)
    found = slots(park)
    assert len(found) == 96 and all(v == (pytest.approx(0.04), 0, 6) for v in found.values())
    days = park.execute("""SELECT amount, n_known, e.unit, tce_calorific FROM energy_1d e JOIN point USING (base_id, point_id)
        WHERE code = 'e1.rest.kwh' AND day = '2026-03-02'""").fetchall()
    assert days == [(pytest.approx(3840), 96, "kWh", pytest.approx(3840 * 0.1229e-3))]
    assert verify(park, 1, NOW) == []


def test_a_late_reading_of_a_part_changes_the_formula_s_slots_and_no_other(
    park: Conn, feed: Feed, virtual: Callable[..., None]
) -> None:
    virtual("e1.main.kwh - e1.furnace.kwh")
    at = every(900, START, 97)
    feed("e1.main.kwh", at, 100 * np.arange(97.0))
    feed("e1.furnace.kwh", at[:40] + at[50:], np.delete(60 * np.arange(97.0), slice(40, 50)))
    run_pass(park, NOW)
    found = slots(park)
    assert {i for i, v in found.items() if v[1] == 2} == set(range(39, 50))  # estimated where the part's split is
    assert found[45][0] == pytest.approx(0.04)
    feed("e1.furnace.kwh", at[40:50], [60 * 39 + 1.0 * i for i in range(1, 11)])
    run_pass(park, NOW)
    found = slots(park)
    assert found[45] == (pytest.approx(0.099), 0, 6) and found[20] == (pytest.approx(0.04), 0, 6)
    assert verify(park, 1, NOW) == []


def test_what_is_not_known_of_a_part_is_not_known_of_the_formula(park: Conn, feed: Feed, virtual: Callable[..., None]) -> None:
    virtual("e1.main.kwh - e1.furnace.kwh")
    at = every(900, START, 97)
    feed("e1.main.kwh", at, 100 * np.arange(97.0))
    feed("e1.furnace.kwh", at[:49], 60 * np.arange(49.0))
    run_pass(park, NOW)
    assert set(slots(park)) == set(range(48))
    assert park.execute(
        """SELECT n_expected, n_known FROM interval_1d JOIN point USING (base_id, point_id)
        WHERE code = 'e1.rest.kwh' AND ts = %s""",
        (START,),
    ).fetchone() == (96, 48)


def test_a_formula_that_changes_is_computed_anew_over_all_history(park: Conn, feed: Feed, virtual: Callable[..., None]) -> None:
    at = every(900, START, 97)
    feed("e1.main.kwh", at, 100 * np.arange(97.0))
    run_pass(park, NOW)
    virtual("e1.main.kwh * 0.25")  # a virtual point that comes after its data
    run_pass(park, NOW)
    assert [v[0] for v in slots(park).values()] == pytest.approx([0.025] * len(slots(park))) and len(slots(park)) == 96
    virtual("e1.main.kwh * 0.5")
    run_pass(park, NOW)
    assert [v[0] for v in slots(park).values()] == pytest.approx([0.05] * len(slots(park)))
    assert verify(park, 1, NOW) == []


def test_formulas_of_formulas_and_of_gauges(park: Conn, feed: Feed, virtual: Callable[..., None]) -> None:
    """A gauge gives its mean in the slot: 80 kW over 15 min are 20 kWh; a name that is no word stands in quotes."""
    virtual(
        "'e1.filter-h.kwh' + e1.main.kwh",
        """  - {code: e1.filter-h.kwh, quantity: active_energy, unit: kWh, kind: counter,
     belongs_to: e1.filter, carrier: electricity, formula: "e1.filter.kw * value(15, 'min')"}
""",
    )
    feed("e1.main.kwh", every(900, START, 9), 10 * np.arange(9.0))
    feed("e1.filter.kw", every(60, START, 120), [80.0] * 120)
    park.execute("""INSERT INTO reading_15m (bucket, sum, n, n_usable, n_good, point_id, base_id)
        SELECT date_bin('15 minutes', ts, '2000-01-01 00:00+00'), sum(value), count(*), count(*), count(*), point_id, base_id
        FROM reading JOIN point USING (base_id, point_id) WHERE code = 'e1.filter.kw' GROUP BY 1, point_id, base_id""")
    run_pass(park, NOW)
    assert [v[0] for v in slots(park, "e1.filter-h.kwh").values()] == pytest.approx(
        [20.0] * len(slots(park, "e1.filter-h.kwh"))
    )
    assert [v[0] for v in slots(park).values()] == pytest.approx([0.03] * len(slots(park)))
    assert verify(park, 1, NOW) == []


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("e1.main.kwh + e1.water", "energy and volume cannot be added"),
        ("e1.main.kwh * e1.furnace.kwh", "the result is energy^2"),
        ("e1.main.kw", "the result is energy/time"),
        ("e1.main.kwh - e9.kwh", "there is no 'e9.kwh'"),
        ("e1.main.kwh -", "cannot be read as an expression"),
        ("__import__('os').system('true')", "only min(), max(), abs(), value() can be called"),
        ("e1.rest.kwh + e1.main.kwh", "needs 'e1.rest.kwh' itself"),
        ("3 * 4", "names at least one point"),
    ],
)
def test_a_formula_s_mistakes_have_file_and_line(tmp_path: Path, formula: str, said: str) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(POINTS % formula, encoding="utf-8")
    found = check_files([MINI, file])
    assert len(found) == 1 and found[0].startswith(f"{file}:2: points[") and said in found[0], found


def test_a_virtual_point_takes_no_source_and_reads_back(park: Conn, tmp_path: Path, virtual: Callable[..., None]) -> None:
    import yaml

    file = tmp_path / "wrong.yaml"
    file.write_text(
        POINTS.replace("formula:", "source: {device: d.e1.main, key: x}, formula:") % "e1.main.kwh", encoding="utf-8"
    )
    assert "a counter or gauge without a source" in check_files([MINI, file])[0]
    virtual(
        "e1.main.kwh - e1.furnace.kwh",
        "flows:\n  - {carrier: water, parent: e1.water, children: [e1.product], loss_share: 0.02}\n",
    )
    file.write_text(yaml.safe_dump(export(park, "mini"), allow_unicode=True), encoding="utf-8")
    assert "formula: e1.main.kwh - e1.furnace.kwh" in file.read_text(encoding="utf-8")
    assert plan(park, read_catalogue([file])) == []
