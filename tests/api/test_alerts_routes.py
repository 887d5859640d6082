"""GET /alerts with its filters, an operator's steps, the key figures, and the ledger."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx

from tests.api.conftest import Connection, Service


def test_alerts_are_filtered_paged_and_told_in_both_languages(operator: httpx.Client, mini: Connection,
                                                             raise_alert: Callable[..., int]) -> None:
    ids = [raise_alert(p) for p in ("e1.stack.so2", "e1.stack.nox", "e1.stack.dust")]
    mini.execute("UPDATE alert SET severity = 'low', opened_at = '2026-01-01Z' WHERE alert_id = %s", (ids[0],))
    assert [a["id"] for a in operator.get("/alerts").json()["alerts"]] == [ids[2], ids[1], ids[0]]
    assert [a["id"] for a in operator.get("/alerts?severity=low&severity=medium").json()["alerts"]] == [ids[0]]
    assert [a["id"] for a in operator.get("/alerts?since=2026-02-01T00:00:00Z").json()["alerts"]] == [ids[2], ids[1]]
    # an empty list would say that all is quiet there; a base of somebody else answers the same, or the answer would tell of it
    assert operator.get("/alerts?base=nowhere").status_code == 404
    first = operator.get("/alerts?limit=2").json()
    second = operator.get(f"/alerts?limit=2&cursor={first['next']}").json()
    assert [a["id"] for a in first["alerts"] + second["alerts"]] == [ids[2], ids[1], ids[0]] and second["next"] is None
    zh = operator.get("/alerts").json()["alerts"][0]
    en = operator.get("/alerts", headers={"Accept-Language": "en-GB,en;q=0.9"}).json()["alerts"][0]
    assert (zh["rule"]["name"], en["rule"]["name"]) == ("二氧化硫超标预警", "SO2 near its limit")
    assert en["unit_name"] == "Stack 1" and zh["unit_name"] == "1号排气筒"


def test_the_steps_of_an_operator_leave_a_trail_and_impossible_ones_are_conflicts(operator: httpx.Client,
                                                                                raise_alert: Callable[..., int]) -> None:
    alert = raise_alert()

    def step(change: str, **said: object) -> int:
        return operator.post(f"/alerts/{alert}/{change}", json=said).status_code

    assert step("unshelve") == 409
    assert step("shelve", minutes=30) == 422                    # a reason is missing
    assert step("shelve", note="works on the line") == 422      # a time is missing
    assert step("shelve", minutes=60 * 24 * 8, note="x") == 422
    assert step("shelve", minutes=30, reason="works on the line") == 200
    (shelved,) = operator.get("/alerts?state=shelved").json()["alerts"]
    assert (shelved["id"], shelved["shelf"]["by"]) == (alert, "operator of the test")
    assert shelved["shelf"]["reason"] == "works on the line"
    assert operator.get(f"/alerts/{alert}").json()["shelf"] == shelved["shelf"]
    assert operator.get("/alerts?state=unacknowledged").json()["alerts"] == []
    assert step("unshelve") == 200
    assert step("comment") == 422 and step("comment", note="called the plant") == 200
    assert step("assign") == 422 and step("assign", to="Wang Lei") == 200
    assert step("close") == 409                                 # its condition is still there
    assert step("ack") == 200 and step("ack") == 409
    assert operator.post(f"/alerts/{alert}/explode").status_code == 422
    assert operator.post(f"/alerts/{alert}/ack", content=b"{").status_code == 422
    assert operator.post("/alerts/999/ack").status_code == 404
    trail = operator.get(f"/alerts/{alert}").json()
    assert [t["change"] for t in trail["transitions"]] == ["raise", "shelve", "unshelve", "comment", "assign", "ack"]
    assert {t["actor"] for t in trail["transitions"]} == {"evaluator", "operator of the test"}
    assert (trail["state"], trail["assigned_to"]) == ("acknowledged", "Wang Lei")
    taken = operator.get("/alerts/steps?base=mini&since=2026-01-01T00:00:00Z").json()["steps"]
    assert [s["change"] for s in taken] == ["ack", "assign", "comment", "unshelve", "shelve"]
    assert operator.get("/alerts/steps?base=mini&since=2099-01-01T00:00:00Z").json()["steps"] == []


def test_key_figures_count_raises_and_what_is_open(operator: httpx.Client, raise_alert: Callable[..., int]) -> None:
    for point in ("e1.stack.so2", "e1.stack.nox"):
        raise_alert(point)
    body = operator.get("/alerts/kpi?base=mini&days=2&lang=en").json()
    of_all = operator.get("/alerts/kpi?days=2&lang=en").json()
    assert of_all["bases"] == [body] and (of_all["raised"], of_all["base"]) == (body["raised"], None)
    assert body["raised"] == 2 and body["raised_a_day"] == 1.0
    assert [(o["severity"], o["open"], o["unacknowledged"]) for o in body["open"]] == [("high", 2, 2)]
    assert [(r["rule"], r["raised"], r["name"]) for r in body["rules"]] == [("stack-so2", 2, "SO2 near its limit")]


ENTRY = {"base": "mini", "kind": "production", "enterprise": "e1", "item": "rebar", "first_day": "2026-01-01",
         "last_day": "2026-01-31", "value": 5200, "unit": "t", "evidence": "weighbridge 2026-01"}


def test_an_entry_is_never_edited_a_correction_supersedes_it_once(operator: httpx.Client) -> None:
    first = operator.post("/ledger", json=ENTRY)
    assert first.status_code == 201 and first.json()["recorded_by"] == "operator of the test"
    entry = first.json()["id"]
    second = operator.post("/ledger", json=ENTRY | {"value": 5150, "supersedes": entry, "reason": "weighed again"})
    assert second.status_code == 201 and second.json()["supersedes"] == entry
    assert operator.post("/ledger", json=ENTRY | {"value": 1, "supersedes": entry, "reason": "r"}).status_code == 409
    other = {"kind": "value_added", "supersedes": second.json()["id"], "reason": "r"}
    assert operator.post("/ledger", json=ENTRY | other).status_code == 422
    assert operator.post("/ledger", json=ENTRY | {"supersedes": 99999, "reason": "r"}).status_code == 404
    assert [e["value"] for e in operator.get("/ledger?kind=production").json()["entries"]] == [5150.0]
    both = operator.get("/ledger?kind=production&superseded=true").json()["entries"]
    assert [(e["value"], e["superseded_by"]) for e in both] == [(5150.0, None), (5200.0, second.json()["id"])]
    assert operator.get("/ledger?kind=production&first_day=2026-02-01").json()["entries"] == []
    assert operator.get("/ledger?base=mini").status_code == 200 and operator.get("/ledger?base=nowhere").status_code == 404


def test_an_entry_that_makes_no_sense_is_not_booked(operator: httpx.Client, mini: Connection) -> None:
    wrong: list[tuple[dict[str, object], int]] = [
        ({"value": "NaN"}, 422), ({"last_day": "2025-12-31"}, 422), ({"base": "nowhere"}, 404), ({"enterprise": "e9"}, 422),
        ({"kind": "Value Added"}, 422), ({"kind": "value_aded"}, 422), ({"colour": "red"}, 422), ({"unit": ""}, 422),
        ({"note": "x" * 501}, 422), ({"note": "\x00"}, 422), ({"first_day": "0001-01-01"}, 422), ({"value": 1e400}, 422)]
    for change, status in wrong:
        answer = operator.post("/ledger", content=json.dumps(ENTRY | change), headers={"Content-Type": "application/json"})
        assert answer.status_code == status, (change, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    assert mini.execute("SELECT count(*) FROM ledger WHERE kind = 'production'").fetchone() == (0,)


def test_other_stages_are_told_of_a_new_entry(service: Service, operator: httpx.Client, database_url: str) -> None:
    from park.database import connect
    with connect(database_url, autocommit=True) as listening:
        listening.execute("LISTEN park_catalogue")
        assert operator.post("/ledger", json=ENTRY).status_code == 201
        assert [n.payload for n in listening.notifies(timeout=5, stop_after=1)] == ["mini"]
