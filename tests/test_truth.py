"""What the platform makes of a month of the simulated park, with every field mishap in it, beside what really flowed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from ingest.bulk import load_blocks
from park.catalogue import read_catalogue
from park.catalogue_store import apply
from park.database import connect
from park.demo import prepare
from park.quality import Quality
from simulators.catalogue import catalogue_files
from simulators.history import blocks
from simulators.model import Park
from simulators.scenario import read_scenario
from tests.command import park as park_command

DAYS = 35
END = datetime(2026, 11, 23, 4, tzinfo=UTC)
SLOT_S = 900
INTERVALS = """SELECT p.code, array_agg(extract(epoch FROM i.ts)::float8 ORDER BY i.ts), array_agg(i.amount ORDER BY i.ts),
    array_agg(i.quality ORDER BY i.ts) FROM interval_15m i JOIN point p USING (base_id, point_id)
    WHERE NOT p.attributes ? 'formula' GROUP BY 1"""


@pytest.fixture
def accounted(database_url: str) -> list[tuple[Any, ...]]:
    prepare(database_url)
    with connect(database_url) as conn:
        apply(conn, read_catalogue(catalogue_files()))
    load_blocks(database_url, "lvyuan", blocks(DAYS, END), lambda n: None)
    done = park_command("account", "--once", PARK_DATABASE_URL=database_url)
    assert done.returncode == 0, done
    with connect(database_url) as conn:
        return conn.execute(INTERVALS).fetchall()


def test_totals_are_right_to_a_hundredth_of_a_percent_and_nothing_is_wrong_without_a_mark(
        accounted: list[tuple[Any, ...]]) -> None:
    catalogue = read_catalogue(catalogue_files())
    park = Park(catalogue, read_scenario("lvyuan"), 1)
    assert park.ground_truth(END.timestamp())  # draws the mishaps: some of them change what really flowed
    counters = {c.column: c for c in park.counters}
    ratios = {p.code: p.ratio for p in catalogue.points}
    off: list[str] = []
    marked = 0
    for code, starts, amounts, qualities in accounted:
        counter, ratio = counters[park.column_of[code]], ratios[code]
        edges = np.append(starts, starts[-1] + SLOT_S)
        register = counter.initial + counter.gain * park.rates.at(edges)[1][:, counter.node]
        true = np.diff(register) * ratio
        amount = np.array([np.nan if a is None else a for a in amounts])
        # what the register can show at all: its step, or a single-precision number's
        step = max(counter.step, float(np.spacing(np.float32(register.max())))) * ratio
        known, good = ~np.isnan(amount), np.array(qualities) == Quality.GOOD
        marked += int((~good).sum())
        wrong = good & (np.abs(amount - true) > 2 * step + 1e-6 * np.abs(true))
        if wrong.any():
            at = datetime.fromtimestamp(starts[int(np.argmax(wrong))], UTC)
            off.append(f"{code}: {wrong.sum()} slots wrong without a mark, first {at}")
        if abs(amount[known].sum() - true[known].sum()) > 1e-4 * true[known].sum() + 2 * step:
            off.append(f"{code}: total {amount[known].sum()} instead of {true[known].sum()}")
    assert off == []
    assert len(accounted) > 90
    assert marked > 0, "this month had no mishap: the test would prove nothing"
