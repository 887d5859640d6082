"""Virtual gauges: values by formula as readings, with the worst quality, no value out of nothing, healed by what comes late."""

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
from ingest import rollup
from park.catalogue import check_files, read_catalogue
from park.catalogue_store import apply
from park.database import connect
from tests.accounting.conftest import every

Conn = psycopg.Connection[Any]
Feed = Callable[..., None]
MINI = Path(__file__).parents[1] / "data" / "mini.yaml"
START = datetime(2026, 3, 1, 16, tzinfo=UTC)
NOW = START + timedelta(minutes=30, seconds=10)


@pytest.fixture
def virtual(park: Conn, tmp_path: Path) -> Callable[[str], None]:
    """virtual(rows): points added to the mini park."""

    def add(rows: str) -> None:
        file = tmp_path / "virtual.yaml"
        file.write_text("points:\n" + rows, encoding="utf-8")
        apply(park, read_catalogue([MINI, file]))

    return add


def stored(park: Conn, code: str = "e1.both.kw") -> dict[int, tuple[float | None, int]]:
    """Value and quality by the second after START."""
    rows = park.execute(
        """SELECT extract(epoch FROM ts - %s)::int, value, quality FROM reading JOIN point USING (base_id, point_id)
        WHERE code = %s ORDER BY 1""",
        (START, code),
    ).fetchall()
    return {r[0]: (r[1], r[2]) for r in rows}


BOTH = """  - {code: e1.both.kw, quantity: active_power, unit: MW, belongs_to: e1.site, high: 0.5,
     formula: e1.furnace.kw + e1.filter.kw}
"""


def test_a_sum_of_powers_is_there_where_all_of_it_is(park: Conn, feed: Feed, virtual: Callable[[str], None]) -> None:
    """Means of the minute in the point's unit; the worst quality; a gap stays a gap, a word without a value stays a word."""
    virtual(BOTH)
    feed("e1.furnace.kw", every(20, START, 30), [100.0, 110.0, 120.0] * 10)
    feed("e1.filter.kw", every(60, START, 5), [40.0, 40.0, None, 0.0, 900.0], [0, 2, 12, 0, 0])
    run_pass(park, NOW)
    assert stored(park) == {
        0: (pytest.approx(0.15), 0),
        60: (pytest.approx(0.15), 2),
        120: (None, 12),
        180: (pytest.approx(0.11), 0),  # a true zero counts
        240: (pytest.approx(1.01), 4),  # beyond the plausible range
    }
    newest = park.execute("""SELECT l.value FROM latest l JOIN point USING (base_id, point_id)
        WHERE code = 'e1.both.kw'""").fetchone()
    assert newest == (pytest.approx(1.01),) and verify(park, 1, NOW) == []


def test_a_step_is_computed_when_it_is_over_and_again_when_readings_come_late(
    park: Conn, feed: Feed, virtual: Callable[[str], None]
) -> None:
    virtual(BOTH)
    at = every(60, START, 10)
    feed("e1.furnace.kw", at, [100.0] * 10)
    feed("e1.filter.kw", at, [40.0] * 10)
    run_pass(park, START + timedelta(minutes=5, seconds=9))
    assert set(stored(park)) == {0, 60, 120, 180}  # the fifth minute's last readings may be under way
    run_pass(park, START + timedelta(minutes=5, seconds=10))  # nothing came: time alone
    assert set(stored(park)) == {0, 60, 120, 180, 240}
    feed("e1.filter.kw", at[2:3], [70.0])
    feed("e1.filter.kw", at[3:4], [None], 13)
    run_pass(park, NOW)
    found = stored(park)
    assert len(found) == 10 and found[120] == (pytest.approx(0.17), 0) and found[180] == (None, 13)
    former = park.execute("""SELECT value, reason, by_source FROM reading_revision JOIN point USING (base_id, point_id)
        WHERE code = 'e1.both.kw' ORDER BY ts""").fetchall()
    assert former == [(pytest.approx(0.14), "corrected", "park account")] * 2
    assert verify(park, 1, NOW) == []


def test_rollups_and_virtual_counters_go_on_from_it(
    park: Conn, feed: Feed, virtual: Callable[[str], None], database_url: str
) -> None:
    """Gauge of gauges of gauges, its quarter-hours, and energy by the mean of the quarter-hour."""
    virtual(
        BOTH
        + """  - {code: e1.share, quantity: power_factor, unit: '1', belongs_to: e1.site, formula: e1.filter.kw / e1.both.kw}
  - {code: e1.both.kwh, quantity: active_energy, unit: kWh, kind: counter, belongs_to: e1.site, carrier: electricity,
     formula: "e1.both.kw * value(15, 'min')"}
"""
    )
    feed("e1.furnace.kw", every(60, START, 30), [120.0] * 15 + [0.0] * 15)
    feed("e1.filter.kw", every(60, START, 30), [80.0] * 15 + [0.0] * 15)
    run_pass(park, NOW)
    share = stored(park, "e1.share")
    assert [share[60 * i] for i in (0, 14, 15)] == [(pytest.approx(0.4), 0), (pytest.approx(0.4), 0), (None, 16)]
    with connect(database_url, autocommit=True) as other:
        rollup.prepare(other)
        rollup.roll_up(other)
    quarter = park.execute("""SELECT sum / n_usable, n_good FROM reading_15m JOIN point USING (base_id, point_id)
        WHERE code = 'e1.both.kw' ORDER BY bucket""").fetchall()
    assert quarter == [(pytest.approx(0.2), 15), (0.0, 15)]
    run_pass(park, NOW)
    energy = park.execute("""SELECT amount FROM interval_15m JOIN point USING (base_id, point_id) WHERE code = 'e1.both.kwh'
        ORDER BY ts""").fetchall()
    assert energy == [(pytest.approx(50.0),), (0.0,)]
    assert verify(park, 1, NOW) == []


def test_a_formula_over_counters_and_its_change_over_all_history(
    park: Conn, feed: Feed, virtual: Callable[[str], None]
) -> None:
    text = """  - {{code: e1.sec, quantity: active_power, unit: kW, belongs_to: e1.site, expected_s: 900, formula: "{}"}}
"""
    feed("e1.main.kwh", every(900, START, 97), 100 * np.arange(97.0))
    later = START + timedelta(days=2)
    run_pass(park, later)
    virtual(text.format("e1.main.kwh / value(15, 'min')"))
    run_pass(park, later)
    assert stored(park, "e1.sec") == {900 * i: (pytest.approx(400), 0) for i in range(96)}
    park.execute("UPDATE point SET ratio = 2 WHERE code = 'e1.main.kwh'")
    run_pass(park, later)
    assert stored(park, "e1.sec") == {900 * i: (pytest.approx(800), 0) for i in range(96)}
    park.execute("UPDATE point SET ratio = 1 WHERE code = 'e1.main.kwh'")
    virtual(text.format("e1.main.kwh / value(30, 'min') + e1.furnace.kw * 0"))  # of the second nothing is known
    run_pass(park, later)
    assert stored(park, "e1.sec") == {900 * i: (None, 16) for i in range(96)}
    feed("e1.furnace.kw", every(60, START, 20), [7.0] * 20)
    run_pass(park, later)
    assert [v[0] for v in stored(park, "e1.sec").values()] == [pytest.approx(200)] * 2 + [None] * 94
    assert verify(park, 1, later) == []


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ("unit: kW, formula: e1.main.kw + e1.stack.so2", "cannot be added"),
        ("unit: kW, expected_s: 45, formula: e1.main.kw * 2", "whole minutes"),
        ("unit: kW, formula: \"e1.main.kwh / value(15, 'min')\"", "expected_s must be 900"),
        ("unit: kW, formula: slow.kw * 2", "'slow.kw' comes every 300 s"),
        ("unit: kW, formula: v * 2", "needs 'v' itself"),
        ("unit: K, quantity: temperature, formula: hot - cold", "give it the unit degC"),
    ],
)
def test_what_does_not_fit_is_said_with_file_and_line(tmp_path: Path, point: str, said: str) -> None:
    file = tmp_path / "wrong.yaml"
    quantity = "" if "quantity" in point else "quantity: active_power, "
    file.write_text(
        f"""points:
  - {{code: v, belongs_to: e1.site, {quantity}{point}}}
  - {{code: slow.kw, quantity: active_power, unit: kW, expected_s: 300}}
  - {{code: hot, quantity: temperature, unit: degC}}
  - {{code: cold, quantity: temperature, unit: K}}
  - {{code: mean, quantity: temperature, unit: K, formula: (hot + cold) / 2}}
  - {{code: spread, quantity: temperature, unit: degC, formula: hot - cold}}
""",
        encoding="utf-8",
    )
    found = check_files([MINI, file])
    assert len(found) == 1 and found[0].startswith(f"{file}:2: points[") and said in found[0], found
