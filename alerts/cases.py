"""The life of a pollution case as a pure decision; the SQL function `step_case` holds the same table, and a test runs both.

dispatch → accept → handle → evidence → verify → close. Evidence may be given again, a refusal sends the case back to its
handler, and nobody verifies what he handled himself. A case closes only once the condition of its alert is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from park.errors import Conflict, InputError

STATES = ("dispatched", "accepted", "handling", "evidenced", "verified", "closed")
STEPS = ("dispatch", "accept", "handle", "evidence", "verify", "refuse", "close", "comment")
TABLE: Mapping[str, Mapping[str, str]] = {      # step: state before -> state after
    "dispatch": {"none": "dispatched", "dispatched": "dispatched", "accepted": "dispatched"},
    "accept": {"dispatched": "accepted"},
    "handle": {"accepted": "handling", "handling": "handling"},
    "evidence": {"handling": "evidenced", "evidenced": "evidenced"},
    "verify": {"evidenced": "verified"},
    "refuse": {"evidenced": "handling"},
    "close": {"verified": "closed"},
    "comment": {state: state for state in STATES},
}
NOTED = ("handle", "verify", "refuse", "comment")


@dataclass(frozen=True)
class Case:
    """What decides about a case: its state (`none`: not yet open), who handled it, whether its alert is still active."""

    state: str
    handled_by: frozenset[str]
    alert_active: bool


def next_state(case: Case, step: str, actor: str, *, note: str = "", attachment: str = "", handler: str = "") -> Case:
    """The case after a step; Conflict when its state or the person forbids it, InputError when the step lacks something."""
    after = TABLE.get(step, {}).get(case.state)
    if after is None:
        raise Conflict(f"{step} is not possible: it is {case.state}")
    if step in ("verify", "refuse") and actor in case.handled_by:
        raise Conflict("who handled it or gave the evidence cannot verify it")
    if step == "close" and case.alert_active:
        raise Conflict("the condition of its alert is still present")
    if step == "dispatch" and not handler.strip():
        raise InputError("dispatch needs a handler, a name")
    if step in NOTED and not note.strip():
        raise InputError(f"{step} needs a note that says what was done or found")
    if step == "evidence" and not attachment:
        raise InputError("evidence needs the name of a file and its SHA-256 in hex")
    by = case.handled_by | {actor} if step in ("handle", "evidence") else case.handled_by
    return replace(case, state=after, handled_by=by)
