"""The note for the next shift: what is open, what is shelved and why, what was said, and what did not reach anybody."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from psycopg.rows import dict_row

from alerts.store import Connection, Q
from park.errors import NotFound

WORDS = {
    "zh": {"title": "交接班记录", "counts": "本班:发生 {raised},恢复 {returned},确认 {acked},关闭 {closed},未送达通知 {dead}",
           "active": "未恢复", "returned": "已恢复待确认", "shelved": "已搁置", "notes": "本班备注", "none": "无",
           "unacked": "未确认", "acked": "已确认", "until": "至", "assigned": "负责人"},
    "en": {"title": "Handover", "counts": "Shift: {raised} raised, {returned} returned, {acked} acknowledged, {closed} closed, "
           "{dead} notifications not delivered", "active": "Active", "returned": "Returned, to be acknowledged",
           "shelved": "Shelved", "notes": "Notes of the shift", "none": "none", "unacked": "not acknowledged",
           "acked": "acknowledged", "until": "until", "assigned": "assigned to"},
}


def note(conn: Connection, base: str, now: datetime, shift: timedelta, language: str) -> str:
    """Markdown of the base's alerts at `now` and of the shift that ends then; NotFound when there is no such base."""
    with conn.cursor(row_factory=dict_row) as cur:
        key = {"base": base, "since": now - shift, "now": now}
        counts = cur.execute(Q["handover_counts"], key).fetchone()
        if counts is None:
            raise NotFound(f"there is no base {base!r}")
        alerts = cur.execute(Q["handover_alerts"], key).fetchall()
        said = cur.execute(Q["handover_notes"], key).fetchall()
    words, zone = WORDS[language], ZoneInfo(counts["timezone"])

    def at(instant: datetime) -> str:
        return instant.astimezone(zone).strftime("%m-%d %H:%M")

    hushed = [a for a in alerts if a["shelved_until"] is not None]
    plain = [a for a in alerts if a["shelved_until"] is None]
    parts = [
        f"# {words['title']} {counts[f'name_{language}'] or base} {at(now - shift)} – {at(now)}",
        words["counts"].format(**counts),
        *_section(words, "active", (_alert(words, language, a, at(a["opened_at"])) for a in plain if a["active"])),
        *_section(words, "returned", (_alert(words, language, a, at(a["opened_at"])) for a in plain if not a["active"])),
        *_section(words, "shelved", (f"{_alert(words, language, a, at(a['opened_at']))} — {a['shelved_by']}: {a['reason']} "
                                     f"({words['until']} {at(a['shelved_until'])})" for a in hushed)),
        *_section(words, "notes", (f"{at(n['at'])} {n['actor']} #{n['alert_id']} {n['change']}: {n['note']}" for n in said)),
    ]
    return "\n".join(parts)


def _section(words: dict[str, str], name: str, lines: Iterable[str]) -> list[str]:
    shown = [f"- {line}" for line in lines]
    return ["", f"## {words[name]} ({len(shown)})", *(shown or [words["none"]])]


def _alert(words: dict[str, str], language: str, a: dict[str, Any], opened: str) -> str:
    text = a["explanation"].get(language) or a[f"name_{language}"] or a["rule"]
    state = words["acked" if a["acknowledged"] else "unacked"]
    assigned = f", {words['assigned']} {a['assigned_to']}" if a["assigned_to"] else ""
    return f"#{a['alert_id']} [{a['severity']}] {opened} {text} ({state}{assigned})"
