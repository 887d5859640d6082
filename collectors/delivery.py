"""What was sent, what the broker took and what ingest committed: the publisher's decisions, without network or clock.

A batch leaves the spool when ingest confirms that it is committed (`park/v1/{base}/{source}/committed`), so that nothing
hangs on the broker's memory. Until a confirmation has ever come the mode is `waiting`; when none comes for
`confirm_after_s` (an older ingest, another consumer) it is `puback`: the broker's acknowledgement counts. A source that was
once confirmed stays `committed`.

Live batches overtake a backlog: two cursors run over the spool, and the older part may only have so many batches under way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from collectors.spool import Spool, Spooled

WAITING, COMMITTED, PUBACK = "waiting", "committed", "puback"


@dataclass(frozen=True)
class Terms:
    """Bounds of the delivery; times in seconds."""

    window: int = 100
    """Batches sent and not yet acknowledged by the broker."""
    unconfirmed: int = 2000
    """Batches taken by the broker and not yet confirmed by ingest: beyond it the rest waits in the spool."""
    backlog: int = 200
    """Of these, how many may be older than the live ones: what a live batch may have to wait behind."""
    overtake_from: int = 100
    """So many batches behind, and the new ones go first."""
    confirm_after_s: float = 300.0
    """0: the broker's acknowledgement counts at once."""
    resend_s: float = 15.0
    resend_most_s: float = 300.0
    ack_timeout_s: float = 30.0


@dataclass(frozen=True)
class Sent:
    """A batch under way; `at` is when it was sent last, `tries` how often before."""

    seq: int
    n: int
    at: float
    tries: int = 0


@dataclass
class Delivery:
    """One source's batches under way. `mode` and `confirmed` outlive a connection, the rest does not."""

    terms: Terms
    mode: str = WAITING
    sent: dict[int, Sent] = field(default_factory=dict)  # mid -> batch, not yet acknowledged by the broker
    taken: dict[int, Sent] = field(default_factory=dict)  # seq -> batch, acknowledged and not yet confirmed
    taken_since: float | None = None  # first acknowledgement without any confirmation
    live: int = 0  # newest seq that was sent as live
    back: int = 0  # newest seq of the backlog that was sent
    split: int = 0  # the backlog ends here; 0: there is none
    early: set[int] = field(default_factory=set)  # confirmed before the broker's acknowledgement came

    def begin(self, newest: int, batches: int) -> None:
        """A new connection: everything in the spool goes again, a long backlog behind what comes from now on."""
        self.sent.clear()
        self.taken.clear()
        self.early.clear()
        self.taken_since = None
        self.again()
        if batches > self.terms.overtake_from:
            self.split = self.live = newest

    def again(self) -> None:
        """Look through the spool from its oldest batch; what is under way is passed over."""
        self.live = self.back = self.split = 0

    def next_rows(self, spool: Spool) -> list[Spooled]:
        """Batches to send now: live ones first, then backlog."""
        room = min(self.terms.window - len(self.sent), self.terms.unconfirmed - len(self.taken))
        if room <= 0 or len(self.sent) > self.terms.window // 2:
            return []
        if self.live and spool.newest - self.live > self.terms.overtake_from:
            self.back = self.back if self.split else self.live
            self.split = self.live = spool.newest
        if spool.newest <= self.live and not self.split:
            return []
        under_way = self._under_way()
        rows: list[Spooled] = []
        if spool.newest > self.live:
            found = spool.after(self.live, room)
            self.live = found[-1].seq if found else spool.newest
            rows = [r for r in found if r.seq not in under_way]
        older = sum(seq <= self.split for seq in under_way) if self.split else 0
        room = min(room - len(rows), self.terms.backlog - older)
        if self.split and room > 0:
            found = spool.after(self.back, room, upto=self.split)
            self.back, self.split = (found[-1].seq, self.split) if found else (0, 0)
            rows += [r for r in found if r.seq not in under_way]
        return rows

    def _under_way(self) -> set[int]:
        return self.taken.keys() | {s.seq for s in self.sent.values()}

    def was_sent(self, mid: int, row: Spooled, now: float) -> None:
        """Note a batch handed to the client under its message number."""
        before = self.taken.pop(row.seq, None)
        self.sent[mid] = Sent(row.seq, row.n, now, before.tries + 1 if before else 0)

    def was_taken(self, mid: int, now: float) -> Sent | None:
        """The broker acknowledged a message; the batch, or None when it is not one of this connection."""
        batch = self.sent.pop(mid, None)
        if batch is not None and batch.seq in self.early:
            self.early.discard(batch.seq)
        elif batch is not None and self.mode != PUBACK:
            self.taken[batch.seq] = replace(batch, at=now)
            if self.taken_since is None:
                self.taken_since = now
        return batch

    def was_confirmed(self, seqs: Iterable[int]) -> bool:
        """Ingest has committed these; True when that is news about ingest itself."""
        sent = {s.seq for s in self.sent.values()}
        for seq in seqs:
            if self.taken.pop(seq, None) is None and seq in sent:
                self.early.add(seq)
        news, self.mode = self.mode != COMMITTED, COMMITTED
        return news

    def falls_back(self, now: float) -> list[Sent]:
        """The batches that count as delivered because no confirmation has ever come; the mode is then `puback`."""
        if self.mode != WAITING or self.taken_since is None or now - self.taken_since < self.terms.confirm_after_s:
            return []
        self.mode = PUBACK
        done = list(self.taken.values())
        self.taken.clear()
        return done

    def overdue(self, now: float) -> Sequence[int]:
        """Batches to send again: unconfirmed for too long, the wait doubling with each try; oldest first, a few at a time."""
        due = [b.seq for b in self.taken.values()
               if now - b.at > min(self.terms.resend_s * 2.0**min(b.tries, 10), self.terms.resend_most_s)]
        return sorted(due)[:self.terms.window]

    def unanswered(self, now: float) -> int:
        """How many messages the broker leaves without an acknowledgement for too long."""
        return sum(now - b.at > self.terms.ack_timeout_s for b in self.sent.values())
