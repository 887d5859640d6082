"""The note for the next shift."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from alerts import handover
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
    assert "[critical]" in lines[at + 1] and "乙 (未确认, 负责人 zhao)" in lines[at + 1]
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
