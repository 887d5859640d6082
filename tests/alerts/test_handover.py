"""The note for the next shift."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from typer.testing import CliRunner

import simulators
from alerts import handover, roster
from park.cli import app
from park.errors import NotFound

Db = psycopg.Connection[Any]


def test_the_note_lists_what_is_open_waiting_and_shelved_and_what_was_said(
        mini: Db, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for device, severity, text in ((1, "medium", "甲"), (2, "critical", "乙"), (3, "low", "丙"), (4, "low", "丁")):
        mini.execute("""WITH a AS (INSERT INTO alert (base_id, rule_id, device_id, severity, opened_at, explanation)
                SELECT base_id, rule_id, %s, %s, now(), jsonb_build_object('zh', %s::text, 'en', %s::text)
                FROM rule RETURNING base_id, alert_id)
            INSERT INTO transition (base_id, alert_id, change, actor) SELECT base_id, alert_id, 'raise', 'evaluator' FROM a""",
                     (device, severity, text, f"en-{device}"))
    step = "SELECT alert_step(base_id, alert_id, %s, %s, %s, %s::jsonb) FROM alert WHERE device_id = %s"
    mini.execute(step, ("shelve", "wang", "更换滤袋", '{"minutes": 60}', 3))
    mini.execute(step, ("comment", "li", "已通知企业", "{}", 2))
    mini.execute(step, ("assign", "li", "", '{"to": "zhao"}', 2))
    mini.execute(step, ("return", "evaluator", "", "{}", 1))
    mini.execute(step, ("return", "evaluator", "", "{}", 4))
    mini.execute(step, ("ack", "wang", "", "{}", 4))
    now = datetime.now(UTC) + timedelta(seconds=1)
    text = handover.note(mini, "mini", now, timedelta(hours=8), "zh")
    lines = text.splitlines()
    assert lines[0].startswith("# 交接班记录 微型示范基地 ")
    assert lines[1] == "本班:发生 4,恢复 2,确认 1,关闭 1,未送达通知 0"
    at = lines.index("## 未恢复 (1)")
    assert "[紧急]" in lines[at + 1] and "乙 (未确认, 负责人 zhao)" in lines[at + 1]
    assert "甲" in lines[lines.index("## 已恢复待确认 (1)") + 1]
    assert "丙" in lines[lines.index("## 已搁置 (1)") + 1] and "wang: 更换滤袋 (至 " in text
    assert lines[lines.index("## 本班备注 (2)") + 2].endswith("comment: 已通知企业") and "丁" not in text
    early = handover.note(mini, "mini", now, timedelta(microseconds=1), "en")
    assert "0 raised, 0 returned" in early and "en-2" in early and "## Notes of the shift (0)\nnone" in early
    with pytest.raises(NotFound):
        handover.note(mini, "nowhere", now, timedelta(hours=8), "zh")
    monkeypatch.setenv("PARK_DATABASE_URL", database_url)
    done = CliRunner().invoke(app, ["handover", "mini", "--language", "en"])
    assert done.exit_code == 0 and "# Handover Mini base" in done.output
    assert CliRunner().invoke(app, ["handover", "mini", "--hours", "0"]).exit_code != 0


def test_the_note_tells_who_is_on_duty_what_is_out_of_service_and_which_cases_run(mini: Db) -> None:
    now = datetime.now(UTC) + timedelta(seconds=1)
    mini.execute("""INSERT INTO duty (base_id, person, phone, starts_at, ends_at, after_s, recorded_by)
        SELECT base_id, x.*, 'test' FROM base, (VALUES
                           ('王磊', '138', now() - interval '1 hour', now() + interval '7 hours', 0),
                           ('李敏', '', now() - interval '1 hour', now() + interval '7 hours', 900),
                           ('赵强', '', now() + interval '7 hours', now() + interval '15 hours', 0)) x""")
    mini.execute("""INSERT INTO out_of_service (base_id, point_id, until, reason, actor)
        SELECT base_id, point_id, now() + interval '1 day', '送检', '王磊' FROM point WHERE code = 'e1.stack.so2'""")
    mini.execute("""INSERT INTO alert (base_id, rule_id, point_id, severity, opened_at, out_of_service)
        SELECT base_id, rule_id, point_id, 'high', now(), true FROM rule JOIN point p USING (base_id)
        WHERE p.code = 'e1.stack.so2'""")
    mini.execute("""SELECT step_case(base_id, NULL, alert_id, 'dispatch', '王磊', '', '环保科', now() - interval '1 minute')
        FROM alert""")
    lines = handover.note(mini, "mini", now, timedelta(hours=8), "zh").splitlines()
    at = lines.index("## 值班 (3)")
    assert lines[at + 1].startswith("- 当前: 王磊 138 ") and lines[at + 2].endswith("(900 秒未确认后)")
    assert lines[at + 3].startswith("- 接班: 赵强")
    assert lines[lines.index("## 已停用 (1)") + 1].startswith("- e1.stack.so2 — 王磊: 送检 (至 ")
    assert "已派单, 环保科, 已超期" in lines[lines.index("## 处置单 (1)") + 1]
    assert "## 未恢复 (0)" in lines             # what is out of service stands there alone


def test_the_roster_is_kept_from_the_command_line_too(mini: Db, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARK_DATABASE_URL", database_url)

    def park(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["duty", *words])
        return done.exit_code, done.output

    start = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT20:00")
    assert park("add", "mini", "wang", start, "--times", "3", "--every", "1")[1] == "wang: 3 duties\n"
    status, text = park("list", "mini")
    assert status == 0 and len(text.splitlines()) == 4 and f"wang,,{start.replace('T', ' ')}," in text and ",none" in text
    assert mini.execute("SELECT max(ends_at - starts_at), count(DISTINCT starts_at::time) FROM duty").fetchone() == (
        timedelta(hours=8), 1)
    number = text.splitlines()[1].split(",")[0]
    assert park("remove", "mini", number)[0] == 0 and park("remove", "mini", number)[0] != 0
    for wrong in (("soon",), (start, "--severities", "loud"), (start, "--hours", "0"), (start, "--times", "0")):
        assert park("add", "mini", "wang", *wrong)[0] != 0


def test_daily_shifts_fill_an_empty_roster_once_and_somebody_is_always_on_duty(mini: Db) -> None:
    shifts = yaml.safe_load((Path(simulators.__file__).parent / "roster.yaml").read_text(encoding="utf-8"))
    now = datetime(2026, 11, 23, 20, 30, tzinfo=UTC)        # 04:30 of the 24th in Shanghai: the night shift of the 23rd
    assert roster.fill(mini, "mini", shifts, now, 14, "park demo") == 3 * 15
    assert roster.fill(mini, "mini", shifts, now, 14, "park demo") == 0
    for hour in range(24 * 14 - 5):
        on = mini.execute("SELECT person, after_s FROM duty WHERE starts_at <= %(at)s AND ends_at > %(at)s ORDER BY after_s",
                          {"at": now + timedelta(hours=hour)}).fetchall()
        assert [after for _, after in on] == [0, 900]
    assert mini.execute("SELECT person FROM duty WHERE starts_at <= %(at)s AND ends_at > %(at)s AND after_s = 0",
                        {"at": now}).fetchall() == [("李敏",)]
