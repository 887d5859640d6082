"""Who may stay connected to the HJ 212 port: bounds on connections, patience with silence and noise, dead letters kept.

Anybody can reach the port, so nothing here grows with what strangers do: the number of connections is bounded, and when all
places are taken the one that has waited longest without proving itself makes room, so that a data logger always gets in. A
connection proves itself by a good frame of a known logger. Pure decisions with the time passed in; sockets are the
server's.
"""

from __future__ import annotations

import logging
import resource
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

log = logging.getLogger(__name__)

FILES_KEPT_FREE = 512
"""Open files that the rest of the process may need beside the connections."""

TOLD_EVERY_S = 10.0
LETTERS_PER_SENDER = 20.0
LETTERS_TOGETHER = 1000.0
LETTERS_FILL_S = 3600.0
SENDERS_REMEMBERED = 2000


@dataclass(frozen=True)
class Limits:
    """Bounds of the port; times in seconds."""

    connections: int = 10_000
    unproven_per_address: int = 256
    """Connections of one address that have not yet given a good frame of a known logger; or twice as many as there are
    known loggers, if that is more: all of a park may come through one router, at once after it was down."""
    links_per_logger: int = 4
    """A logger that comes again leaves its broken connections behind: the oldest are closed."""
    first_frame_s: float = 120.0
    stranger_s: float = 600.0
    """Silence after which a logger that the catalogue lacks is hung up."""
    frame_s: float = 60.0
    """How long a frame may take from its first byte to its last."""
    idle_s: float = 3600.0
    drain_s: float = 30.0
    """How long a sender may leave its answers unread."""
    noise_bytes: int = 1 << 20
    """Bytes that are no frame, one after the other, after which a connection is closed."""
    noise_share: float = 0.2
    """Share of a processor that all noise together may cost."""


def fitted(limits: Limits) -> Limits:
    """The limits as this process can keep them: the limit of open files is raised as far as allowed, and where that is not
    enough there are fewer places, which is logged."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.connections + FILES_KEPT_FREE
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    places = max(16, soft - FILES_KEPT_FREE)
    if places >= limits.connections:
        return limits
    log.warning("hj212: the limit of %d open files leaves room for %d connections, not %d; raise `ulimit -n`",
                soft, places, limits.connections)
    return replace(limits, connections=places)


@dataclass(eq=False)
class Visitor:
    """One connection. `proof`: 0 nothing yet, 1 a good frame of a stranger, 2 of a known logger."""

    address: str
    hang_up: Callable[[], None]
    opened: float
    proof: int = 0
    last_frame: float = 0.0
    unfinished_since: float | None = None
    noise: int = 0
    loggers: set[str] = field(default_factory=set)

    def deadline(self, limits: Limits) -> tuple[float, str]:
        """When it is hung up if nothing comes, and the reason to count."""
        if self.proof == 0:
            return self.opened + limits.first_frame_s, "no_frame"
        idle = self.last_frame + (limits.idle_s if self.proof == 2 else limits.stranger_s), "idle"
        if self.unfinished_since is None:
            return idle
        return min(idle, (self.unfinished_since + limits.frame_s, "slow_frame"))


class Door:
    """All connections of the port."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.loggers = 0  # how many are known
        self.open: set[Visitor] = set()
        self.refused: Counter[str] = Counter()
        self.closed: Counter[str] = Counter()
        self._unproven: dict[int, OrderedDict[Visitor, None]] = {0: OrderedDict(), 1: OrderedDict()}
        self._at_address: Counter[str] = Counter()
        self._of_logger: dict[str, deque[Visitor]] = {}
        self._quiet_from = 0.0
        self._told: dict[str, float] = {}

    def admit(self, address: str, hang_up: Callable[[], None], now: float) -> Visitor | None:
        """A place for a new connection; None when its address has too many that gave nothing yet, or all places are taken
        by loggers."""
        if self._at_address[address] >= max(self.limits.unproven_per_address, 2 * self.loggers):
            self._refuse("address", f"{address} has {self._at_address[address]} connections without a good frame", now)
            return None
        if len(self.open) >= self.limits.connections and not self._make_room(now):
            self._refuse("full", f"all {self.limits.connections} places are taken by known loggers", now)
            return None
        visitor = Visitor(address, hang_up, now)
        self.open.add(visitor)
        self._unproven[0][visitor] = None
        self._at_address[address] += 1
        return visitor

    def _make_room(self, now: float) -> bool:
        oldest = next((v for line in self._unproven.values() for v in line), None)
        if oldest is None:
            return False
        self.close(oldest, "made_room", now)
        return True

    def close(self, visitor: Visitor, reason: str, now: float) -> None:
        """Hang a connection up, and count why."""
        self.closed[reason] += 1
        if reason in ("made_room", "noise", "slow_frame", "unread"):
            self._tell(reason, f"{visitor.address} is hung up ({reason})", now)
        self.leave(visitor)
        visitor.hang_up()

    def leave(self, visitor: Visitor) -> None:
        """A connection has ended; may be said twice."""
        if visitor not in self.open:
            return
        self.open.discard(visitor)
        if visitor.proof < 2:
            self._forget_unproven(visitor)
        for mn in visitor.loggers:
            links = self._of_logger[mn]
            links.remove(visitor)
            if not links:
                del self._of_logger[mn]

    def _forget_unproven(self, visitor: Visitor) -> None:
        del self._unproven[visitor.proof][visitor]
        self._at_address[visitor.address] -= 1
        if not self._at_address[visitor.address]:
            del self._at_address[visitor.address]

    def prove(self, visitor: Visitor, mn: str | None, now: float) -> None:
        """A good frame came: of the known logger `mn`, or of a stranger (None)."""
        visitor.last_frame, visitor.noise = now, 0
        if visitor not in self.open:
            return
        if mn is None:
            if visitor.proof == 0:
                del self._unproven[0][visitor]
                self._unproven[1][visitor] = None
                visitor.proof = 1
            return
        if visitor.proof < 2:
            self._forget_unproven(visitor)
            visitor.proof = 2
        if mn not in visitor.loggers:
            visitor.loggers.add(mn)
            links = self._of_logger.setdefault(mn, deque())
            links.append(visitor)
            if len(links) > self.limits.links_per_logger:
                self.close(links[0], "superseded", now)

    def noise(self, visitor: Visitor, n: int, cost_s: float, now: float) -> float | None:
        """`n` bytes were no frame and cost so much time: how long to wait before more is read from that connection, None
        when it is hung up."""
        visitor.noise += n
        if visitor.noise > self.limits.noise_bytes:
            self.close(visitor, "noise", now)
            return None
        self._quiet_from = max(self._quiet_from, now) + cost_s / self.limits.noise_share
        return self._quiet_from - now

    def _refuse(self, reason: str, text: str, now: float) -> None:
        self.refused[reason] += 1
        self._tell(reason, text, now)

    def _tell(self, reason: str, text: str, now: float) -> None:
        if now - self._told.get(reason, -TOLD_EVERY_S) >= TOLD_EVERY_S:
            self._told[reason] = now
            log.warning("hj212: %s; %d connections, refused so far %s, closed so far %s", text, len(self.open),
                        dict(self.refused), dict(self.closed))


class Letters:
    """Which dead letters are kept: so many at once and in an hour for each sender, and for all together. What is beyond is
    counted only: or anybody could fill the spool."""

    def __init__(self) -> None:
        self.withheld = 0
        self._of: OrderedDict[str, tuple[float, float]] = OrderedDict()  # sender -> (left, when that was)

    def keep(self, sender: str, now: float) -> bool:
        """Whether one more of this sender (an MN, an address) is kept."""
        mine, all_ = self._left(sender, LETTERS_PER_SENDER, now), self._left("", LETTERS_TOGETHER, now)
        takes = mine >= 1 and all_ >= 1
        self._of[sender], self._of[""] = (mine - takes, now), (all_ - takes, now)
        self._of.move_to_end("")
        if len(self._of) > SENDERS_REMEMBERED:
            self._of.popitem(last=False)
        self.withheld += not takes
        return takes

    def _left(self, sender: str, most: float, now: float) -> float:
        left, at = self._of.pop(sender, (most, now))
        return min(most, left + (now - at) * most / LETTERS_FILL_S)
