"""Findings into alerts and transitions, set-wise, in one transaction with the evaluator's memory.

The unique index on open alerts makes every write repeatable: raising what is active, or returning what has returned,
writes nothing. So a crash between two ticks, or a second evaluator, neither loses nor doubles a transition.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from psycopg.types.json import Jsonb

from alerts.finding import Finding, Key, finite
from alerts.part import WHOLE, Part
from park.database import queries

Q = queries(Path(__file__).parent / "queries.sql")
Connection = psycopg.Connection[Any]
Row = tuple[Any, ...]


def write(conn: Connection, findings: Sequence[Finding], snapshot: tuple[str, bytes] | None = None,
          hushed: Hushed | None = None) -> list[Row]:
    """(transition_id, alert_id, change) of every transition that the findings led to, committed with the snapshot; with
    `hushed` those of `look_after` too."""
    present = [f for f in findings if f.present]
    gone = [f for f in findings if not f.present]
    done: list[Row] = []
    with conn.transaction():
        if present:
            done += conn.execute(Q["raise_alerts"], {"rows": Jsonb([_raised(f) for f in _distinct(present)])}).fetchall()
        if gone:
            done += conn.execute(Q["return_alerts"], {"rows": Jsonb([_returned(f) for f in gone])}).fetchall()
        if done:
            raised = [alert for _, alert, change in done if change == "raise"]
            done += look_after(conn, hushed) if hushed is not None else []
            if raised:
                conn.execute(Q["first_out"], {"raised": raised})
        if snapshot is not None:
            conn.execute(Q["save_snapshot"], {"shard": snapshot[0], "state": snapshot[1]})
    return done


@dataclass(frozen=True)
class Hushed:
    """Alerts whose rule plant or calendar put out of force, among those of the bases that an evaluator looks after."""

    gated: Sequence[int]
    bases: Sequence[int]

    @property
    def key(self) -> dict[str, list[int]]:
        """As the queries take it."""
        return {"gated": list(self.gated), "bases": list(self.bases)}


def look_after(conn: Connection, hushed: Hushed) -> list[Row]:
    """Suppress by design and take out of service what is to be so now, and bring the others back; the transitions."""
    out: list[Row] = conn.execute(Q["suppress_covered"], hushed.key).fetchall()
    return out + conn.execute(Q["out_of_service"], hushed.key).fetchall()


def _distinct(findings: Sequence[Finding]) -> list[Finding]:
    """One finding a key (the last): a statement cannot touch an open alert twice."""
    return list({f.key: f for f in findings}.values())


def _raised(f: Finding) -> dict[str, Any]:
    return {
        "base_id": f.rule.base_id, "rule_id": f.rule.rule_id, "point_id": f.point_id, "unit_id": f.unit_id,
        "device_id": f.device_id, "severity": f.rank, "active": f.returned_at is None, "opened_at": f.at.isoformat(),
        "returned_at": f.returned_at.isoformat() if f.returned_at else None, "late": f.late,
        "auto_close": bool(f.rule.params["auto_close"]), "value": finite(f.value), "expected": finite(f.expected),
        "low": finite(f.low), "high": finite(f.high), "unit": f.unit, "channel": f.channel or f.rule.kind,
        "explanation": dict(f.explanation),
    }


def _returned(f: Finding) -> dict[str, Any]:
    return {"base_id": f.rule.base_id, "rule_id": f.rule.rule_id, "point_id": f.point_id, "unit_id": f.unit_id,
            "device_id": f.device_id, "value": finite(f.value), "note": f.note,
            "latch": f.latched}


def open_alerts(conn: Connection, part: Part = WHOLE) -> dict[Key, tuple[bool, str]]:
    """(active, severity) of each open alert of a part's bases by its key."""
    return {(b, rule, point, unit, device): (active, severity)
            for b, _, rule, point, unit, device, active, severity, _ in conn.execute(Q["open_alerts"]).fetchall()
            if part.has(b)}


def alert_ids(conn: Connection) -> dict[Key, int]:
    """The id of each open alert by its key."""
    return {(b, rule, point, unit, device): alert
            for b, alert, rule, point, unit, device, _, _, _ in conn.execute(Q["open_alerts"]).fetchall()}


def pack(arrays: dict[str, np.ndarray[Any, Any]]) -> bytes:
    """Arrays as bytes without pickle."""
    out = io.BytesIO()
    np.savez(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def unpack(data: bytes) -> dict[str, np.ndarray[Any, Any]]:
    """What `pack` wrote."""
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
