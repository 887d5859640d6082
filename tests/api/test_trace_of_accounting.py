"""The way back over what accounting really writes: every cell of the simulated park's aggregates adds up from its counters."""

from __future__ import annotations

from collections import Counter

import httpx
import pytest

from accounting.passes import run_pass
from api.tokens import create_token
from bench.accounting import END, load
from tests.api.conftest import Connection, serving


@pytest.fixture
def park(db: Connection) -> Connection:
    """Two days of the simulated park, accounted."""
    load(db, 2)
    run_pass(db, END)
    return db


def test_every_cell_of_the_simulated_park_adds_up_from_its_parts(park: Connection, database_url: str) -> None:
    row = park.execute("SELECT code FROM base").fetchone()
    assert row
    token = create_token(park, role="auditor", name="a")
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    with serving(database_url) as (url, _), httpx.Client(base_url=f"{url}/api/v1", timeout=30,
                                                         headers={"Authorization": f"Bearer {token}"}) as client:
        for by in ("carrier", "carrier,enterprise", "enterprise"):
            body = client.get("/aggregates", params={"base": row[0], "period": "2026-10-31", "by": by}).json()
            for figure in [c["figure"] for r in body["rows"] for c in r["cells"].values() if c["value"] is not None]:
                told = client.get("/trace", params={"figure": figure}).json()
                seen[figure.rsplit("/", 1)[1]] += 1
                if told.get("agrees") is not True:
                    wrong.append(f"{figure}: {told}"[:500])
        outlets = client.get("/aggregates", params={"base": row[0], "period": "2026-10-31"}).json()["emission"]
        for figure in [r["mass"]["figure"] for r in outlets if r["mass"]["value"] is not None]:
            seen["mass"] += 1
            assert client.get("/trace", params={"figure": figure}).json()["agrees"] is True, figure
    assert not wrong, "\n".join(wrong)
    assert all(seen[m] >= 5 for m in ("energy", "tce_calorific", "tce_equivalent", "co2", "cost", "mass")), seen


