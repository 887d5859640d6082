"""The note for the next shift: who is on duty, what is open, shelved or out of service and why, which cases run, what was said,
and what did not reach anybody."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from psycopg.rows import dict_row

from alerts.store import Connection, Q
from alerts.words import table
from park.errors import NotFound

WORDS = table(section="handover")
RANKS = table(section="message")


def note(conn: Connection, base: str, now: datetime, shift: timedelta, language: str) -> str:
    """Markdown of the base's alerts at `now` and of the shift that ends then; NotFound when there is no such base."""
    with conn.cursor(row_factory=dict_row) as cur:
        key = {"base": base, "since": now - shift, "now": now}
        counts = cur.execute(Q["handover_counts"], key).fetchone()
        if counts is None:
            raise NotFound(f"there is no base {base!r}")
        alerts = cur.execute(Q["handover_alerts"], key).fetchall()
        said = cur.execute(Q["handover_notes"], key).fetchall()
        duty = cur.execute(Q["handover_duty"], key).fetchall()
        out = cur.execute(Q["handover_out_of_service"], key).fetchall()
        cases = cur.execute(Q["handover_cases"], key).fetchall()
    words, zone = WORDS[language], ZoneInfo(counts["timezone"])

    def at(instant: datetime) -> str:
        return instant.astimezone(zone).strftime("%m-%d %H:%M")

    hushed = [a for a in alerts if a["shelved_until"] is not None]
    plain = [a for a in alerts if a["shelved_until"] is None]
    parts = [
        f"# {words['title']} {counts[f'name_{language}'] or base} {at(now - shift)} – {at(now)}",
        words["counts"].format(**counts),
        *_section(words, "duty", (_duty(words, d, at) for d in duty)),
        *_section(words, "active", (_alert(words, language, a, at(a["opened_at"])) for a in plain if a["active"])),
        *_section(words, "returned", (_alert(words, language, a, at(a["opened_at"])) for a in plain if not a["active"])),
        *_section(words, "shelved", (f"{_alert(words, language, a, at(a['opened_at']))} — {a['shelved_by']}: {a['reason']} "
                                     f"({words['until']} {at(a['shelved_until'])})" for a in hushed)),
        *_section(words, "service", (f"{o['what']} — {o['actor']}: {o['reason']} ({words['until']} {at(o['until'])})"
                                     for o in out)),
        *_section(words, "cases", (_case(words, language, c, at) for c in cases)),
        *_section(words, "notes", (f"{at(n['at'])} {n['actor']} #{n['alert_id']} {n['change']}: {n['note']}" for n in said)),
    ]
    return "\n".join(parts)


def _duty(words: dict[str, str], d: dict[str, Any], at: Callable[[datetime], str]) -> str:
    when = words["now" if d["now"] else "next"]
    after = f" ({words['after'].format(s=d['after_s'])})" if d["after_s"] else ""
    return f"{when}: {d['person']} {d['phone']} {at(d['starts_at'])} – {at(d['ends_at'])}{after}"


def _case(words: dict[str, str], language: str, c: dict[str, Any], at: Callable[[datetime], str]) -> str:
    place = c[f"unit_{language}"] or c["point"] or ""
    due = "" if c["due_at"] is None else f", {words['overdue' if c['overdue'] else 'due']} {at(c['due_at'])}"
    return f"#{c['case_id']} {c[f'name_{language}']} {place} — {words[c['state']]}, {c['handler']}{due}"


def _section(words: dict[str, str], name: str, lines: Iterable[str]) -> list[str]:
    shown = [f"- {line}" for line in lines]
    return ["", f"## {words[name]} ({len(shown)})", *(shown or [words["none"]])]


def _alert(words: dict[str, str], language: str, a: dict[str, Any], opened: str) -> str:
    text = a["explanation"].get(language) or a[f"name_{language}"] or a["rule"]
    state = words["acked" if a["acknowledged"] else "unacked"]
    assigned = f", {words['assigned']} {a['assigned_to']}" if a["assigned_to"] else ""
    return f"#{a['alert_id']} [{RANKS[language][a['severity']]}] {opened} {text} ({state}{assigned})"
