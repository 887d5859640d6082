"""The alert desk over HTTP: who am I, routes, duty, out of service, cases with their evidence, figures after EEMUA 191."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from api.route_targets import check_target
from park.errors import InputError
from tests.api.conftest import Connection, Service

PHOTOGRAPH = b"photograph of the repaired bag filter"
HASH = hashlib.sha256(PHOTOGRAPH).hexdigest()
ROBOT = {"name": "night", "kind": "dingtalk", "target": "https://oapi.dingtalk.com/robot/send?access_token=verysecret",
         "secret": "SEC1"}
NOW = datetime.now(UTC).replace(microsecond=0)


def at(hours: float) -> str:
    return (NOW + timedelta(hours=hours)).isoformat()


def test_a_token_learns_its_role_its_bases_and_what_it_may_do(service: Service) -> None:
    with service.client("enterprise", "mini", enterprise="e1") as client:
        assert client.get("/me").json() == {"name": "enterprise of the test", "role": "enterprise", "bases": ["mini"],
                                            "enterprise": "e1", "rights": ["handle", "ledger"]}
    with service.client("auditor") as client:
        assert client.get("/me").json()["rights"] == []
    with service.client("operator") as client:
        rights = client.get("/me").json()["rights"]
        assert {"step", "routes", "duty", "out_of_service", "dispatch", "verify", "seal"} <= set(rights)
    assert httpx.get(f"{service.url}/api/v1/me").status_code == 401


def test_a_route_is_made_changed_tested_and_removed_and_its_address_never_comes_out(service: Service,
                                                                                  operator: httpx.Client) -> None:
    said = {"quiet_from": "22:00", "quiet_to": "07:00", "severities": ["critical"]}
    made = operator.post("/routes?base=mini", json=ROBOT | said)
    assert made.status_code == 201, made.text
    route = made.json()["id"]
    shown = operator.get("/routes?base=mini")
    assert "verysecret" not in shown.text and "SEC1" not in shown.text
    row = shown.json()["routes"][0]
    assert (row["name"], row["quiet_from"], row["quiet_to"], row["severities"], row["sent"]) == (
        "night", "22:00", "07:00", ["critical"], 0)
    assert operator.post("/routes?base=mini", json=ROBOT).status_code == 409
    changed = {k: v for k, v in ROBOT.items() if k not in ("target", "secret")} | {"name": "day", "digest_s": 600}
    assert operator.put(f"/routes/{route}?base=mini", json=changed).status_code == 200
    kept = service.conn.execute("SELECT name, target, secret, digest_s, quiet_from FROM route").fetchone()
    assert kept == ("day", ROBOT["target"], "SEC1", 600, None)
    assert operator.post(f"/routes/{route}/test?base=mini").status_code == 202
    assert service.conn.execute("SELECT test_asked_at IS NOT NULL FROM route").fetchone() == (True,)
    assert operator.delete(f"/routes/{route}?base=mini").status_code == 200
    assert operator.delete(f"/routes/{route}?base=mini").status_code == 404


@pytest.mark.parametrize(("wrong", "text"), [
    ({"target": None}, "needs the address"), ({"target": "https://10.0.0.7/x"}, "may send to oapi.dingtalk.com"),
    ({"target": "ftp://x"}, "the robot's address"),
    ({"kind": "email", "target": "smtp://nobody"}, "expected as target of email"), ({"quiet_from": "25:00"}, "quiet_from"),
    ({"quiet_from": "22:00"}, "need both"), ({"on_duty": True}, "needs person"), ({"severities": []}, "severities"),
])
def test_a_route_that_is_wrong_is_refused_with_its_reason(operator: httpx.Client, wrong: dict[str, Any], text: str) -> None:
    told = operator.post("/routes?base=mini", json={k: v for k, v in (ROBOT | wrong).items() if v is not None},
                         headers={"Accept-Language": "en"})
    assert told.status_code == 422 and text in told.text


@pytest.mark.parametrize(("kind", "target", "further", "fits"), [
    ("dingtalk", "https://oapi.dingtalk.com/robot/send?access_token=k", "", True),
    ("dingtalk", "https://oapi.dingtalk.com:8443/robot", "", False), ("dingtalk", "http://oapi.dingtalk.com/robot", "", False),
    ("dingtalk", "https://oapi.dingtalk.com@10.0.0.7/", "", False),
    ("dingtalk", "https://10.0.0.7\\@oapi.dingtalk.com/", "", False),
    ("wecom", "https://oapi.dingtalk.com/robot", "", False), ("feishu", "http://169.254.169.254/latest", "", False),
    ("wecom", "http://127.0.0.1:5432/", "", False), ("wecom", "https://[::1/", "", False),
    ("email", "smtp://a@smtp.exmail.qq.com:587/?from=a@b&to=c@d", "", True),
    ("email", "smtp://10.0.0.7:25/?from=a@b&to=c@d", "", False),
    ("email", "smtp://Mail.Park.example/?from=a@b&to=c@d", "robot.example, mail.park.example", True),
])
def test_a_route_made_over_http_sends_to_known_hosts_alone(kind: str, target: str, further: str, fits: bool) -> None:
    with contextlib.nullcontext() if fits else pytest.raises(InputError, match="target: "):
        check_target(kind, target, further)


def test_routes_and_duty_of_another_base_are_out_of_reach(service: Service, other: Connection) -> None:
    with service.client("operator", "other") as stranger:
        assert stranger.get("/routes?base=mini").status_code == 404
        assert stranger.post("/routes?base=mini", json=ROBOT).status_code == 404
        assert stranger.get("/out-of-service?base=mini").status_code == 404
        assert stranger.get("/cases?base=mini").status_code == 404
    with service.client("enterprise", "mini", enterprise="e1") as plant:     # an empty list would say that nobody is on duty
        assert plant.get("/duty?base=mini").status_code == 403 and plant.get("/out-of-service?base=mini").status_code == 403
    with service.client("auditor") as auditor:
        assert auditor.get("/routes?base=mini").status_code == 403
        assert auditor.get("/duty?base=mini").status_code == 200
        assert auditor.post("/duty?base=mini", json={"person": "wang", "start": at(0), "end": at(8)}).status_code == 403


def test_the_roster_tells_who_is_on_duty_and_repeats_a_shift(operator: httpx.Client) -> None:
    shift = {"person": "王磊", "phone": "138", "start": at(-1), "end": at(7), "every_days": 1, "times": 3}
    assert len(operator.post("/duty?base=mini", json=shift).json()["ids"]) == 3
    operator.post("/duty?base=mini", json={"person": "李敏", "start": at(-1), "end": at(7), "after_s": 900})
    told = operator.get("/duty?base=mini").json()
    assert told["on_duty_now"] == ["王磊", "李敏"] and len(told["duty"]) == 4 and not told["duty"][0]["reachable"]
    assert [d["now"] for d in told["duty"]] == [True, True, False, False]
    assert operator.post("/duty?base=mini", json=shift | {"end": at(-2)}).status_code == 422
    assert operator.delete(f"/duty/{told['duty'][0]['id']}?base=mini").status_code == 200
    assert operator.get("/duty?base=mini").json()["on_duty_now"] == ["李敏"]


def test_what_is_out_of_service_is_listed_with_who_why_and_until_when(operator: httpx.Client) -> None:
    said = {"point": "e1.stack.so2", "until": at(24), "reason": "analyser sent for repair"}
    made = operator.post("/out-of-service?base=mini", json=said)
    assert made.status_code == 201, made.text
    (row,) = operator.get("/out-of-service?base=mini").json()["out_of_service"]
    assert (row["point"], row["reason"], row["actor"], row["in_force"]) == (
        "e1.stack.so2", "analyser sent for repair", "operator of the test", True)
    for wrong in ({"point": "nowhere"}, {"point": None}, {"until": at(-1)}, {"until": at(24 * 400)}, {"reason": " "}):
        body = {k: v for k, v in (said | wrong).items() if v is not None}
        assert operator.post("/out-of-service?base=mini", json=body).status_code == 422, wrong
    assert operator.post(f"/out-of-service/{row['id']}/end?base=mini").status_code == 200
    assert operator.post(f"/out-of-service/{row['id']}/end?base=mini").status_code == 409
    assert operator.get("/out-of-service?base=mini").json()["out_of_service"] == []
    (row,) = operator.get("/out-of-service?base=mini&every=true").json()["out_of_service"]
    assert row["ended_by"] == "operator of the test"


def test_a_case_goes_from_dispatch_to_close_and_who_handled_it_cannot_verify_it(service: Service, operator: httpx.Client,
                                                                               raise_alert: Callable[..., int]) -> None:
    alert = raise_alert()
    told = operator.post("/cases?base=mini", json={"alert": alert, "handler": "永固轧钢环保科", "due_at": at(24)})
    assert told.status_code == 201, told.text
    case = told.json()["id"]
    assert operator.post("/cases?base=mini", json={"alert": alert, "handler": "x"}).status_code == 409

    def step(client: httpx.Client, name: str, **said: Any) -> int:
        return client.post(f"/cases/{case}/{name}?base=mini", json=said).status_code

    with service.client("enterprise", "mini", enterprise="e1") as plant:
        assert step(plant, "evidence", attachment="a.jpg", sha256=HASH) == 409         # not yet accepted
        assert step(plant, "accept") == 200
        assert step(plant, "handle") == 422 and step(plant, "handle", note="更换破损滤袋") == 200
        assert step(plant, "evidence", note="no file") == 422
        assert step(plant, "evidence", attachment="滤袋.jpg", sha256="12") == 422
        assert step(plant, "evidence", attachment="滤袋.jpg", sha256=HASH) == 200
        assert step(plant, "verify", note="fine") == 403
    with service.client("enterprise", "mini", enterprise="e2") as stranger:
        assert stranger.get("/cases?base=mini").json()["cases"] == []
        assert stranger.post(f"/cases/{case}/accept?base=mini").status_code == 404
    assert step(operator, "close") == 409
    assert step(operator, "refuse", note="照片看不清") == 200
    assert step(operator, "handle", note="operator helps") == 200
    assert step(operator, "evidence", attachment="b.jpg", sha256=HASH) == 200
    assert step(operator, "verify", note="ok") == 409                                  # he handled it himself
    with service.client("admin") as other:
        assert step(other, "verify", note="现场核实") == 200
        assert step(other, "close") == 409                                             # the condition is still present
        service.conn.execute("UPDATE alert SET active = false")
        assert step(other, "close") == 200 and step(other, "comment", note="later") == 200
    full = operator.get(f"/cases/{case}?base=mini").json()
    assert [s["step"] for s in full["steps"]] == ["dispatch", "accept", "handle", "evidence", "refuse", "handle", "evidence",
                                                  "verify", "close", "comment"]
    assert full["steps"][3]["attachment_hash"] == HASH and full["steps"][3]["document"] is None
    kept = operator.post("/evidence?base=mini&name=bag.csv", content=PHOTOGRAPH).json()
    assert operator.get(f"/cases/{case}?base=mini").json()["steps"][3]["document"] == kept["id"]
    assert (full["state"], full["verified_by"]) == ("closed", "admin of the test")
    table = operator.get("/cases?base=mini&state=all", headers={"Accept": "text/csv"})
    assert table.headers["content-type"].startswith("text/csv") and "永固轧钢环保科" in table.text
    assert operator.get("/cases?base=mini").json()["cases"] == []


def test_the_figures_of_the_alert_system_have_rate_grade_top_ten_and_time_to_acknowledge(
        operator: httpx.Client, mini: Connection, raise_alert: Callable[..., int]) -> None:
    alert = raise_alert()
    mini.execute("""INSERT INTO transition (base_id, alert_id, change, actor, at)
        SELECT base_id, alert_id, 'reraise', 'evaluator', date_bin('10 minutes', now(), 'epoch') - interval '20 minutes'
        FROM alert, generate_series(1, 11)""")
    operator.post(f"/alerts/{alert}/ack")
    told = operator.get("/alerts/kpi?base=mini&days=2").json()
    assert told["rate"]["peak_10min"] == 11 and told["rate"]["grade"] == "acceptable"
    assert "EEMUA" in told["rate"]["grade_source"] and told["rate"]["grade_verified"] is False
    assert [(c["what"], c["verified"]) for c in told["rate"]["counted_as"]] == [
        ("flood", False), ("chattering", False), ("stale", False)]
    assert 0 < told["rate"]["flood_share"] < 0.02 and 0 < told["rate"]["per_10min"] < 0.2
    assert told["acknowledging"]["acknowledged"] == 1 and told["acknowledging"]["median_s"] < 60
    assert (told["top"][0]["point"], told["top"][0]["raised"], told["top_share"]) == ("e1.stack.so2", 12, 1.0)
    assert told["severities"] == {"high": 12}
