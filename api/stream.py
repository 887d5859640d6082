"""GET /alerts/stream: every transition of an alert to every listener that may see it, as Server-Sent Events.

One dedicated connection LISTENs on `park_transition` and reads; a transition is read and encoded once, then written to the
sockets of those who may see it: one write a listener, no task woken (decision 041). What a socket does not take waits in a
bounded queue, which a task of its own sends with back-pressure. A ring of the newest events answers most reconnects
(`Last-Event-ID`); older ones come from the table.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from psycopg.rows import dict_row
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.alerts import NO_FILTER, shown, with_shelf
from api.answers import Language, dump
from api.guard import Meters
from api.problems import TooMany
from api.store import SQL, Principal, Store, as_principal

log = logging.getLogger("park.api.stream")
Connection = psycopg.AsyncConnection[Any]

HEARTBEAT_S = 15.0
RING = 5_000            # events that a reconnect finds in memory
BACKLOG = 2_000         # events that one reconnect is told; beyond that it must read /alerts again
QUEUE = 256             # events that a listener may be behind before it is let go
WARM = 6                # psycopg prepares a statement at its sixth time
AHEAD_BYTES = 65536     # what may wait in a socket's buffer before the queue is used
LANGUAGES: tuple[Language, ...] = ("zh", "en")


@dataclass(frozen=True)
class Frame:
    """Bytes for every listener of a language: lines of the stream, and the same as a chunk of HTTP/1.1."""

    plain: bytes
    chunk: bytes

    @staticmethod
    def of(plain: bytes) -> Frame:
        return Frame(plain, b"%x\r\n%b\r\n" % (len(plain), plain))


@dataclass(frozen=True)
class Event:
    """A transition, encoded once for each language, and whom it concerns; a comment of the stream has id 0."""

    id: int
    base_id: int
    enterprise_id: int | None
    frames: dict[Language, Frame]


RESET = b"event: reset\ndata: {\"reason\": \"too far behind\"}\n\n"
HEARTBEAT = Event(0, 0, None, dict.fromkeys(LANGUAGES, Frame.of(b": still here\n\n")))


@dataclass(eq=False)
class Listener:
    """One open stream; `behind` is bounded, and a listener that does not read is let go. `socket` takes what can be written at
    once; None, or `busy`: everything goes through the queue."""

    who: Principal
    lang: Language
    behind: deque[Event] = field(default_factory=deque)
    ended: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    cut: asyncio.Event = field(default_factory=asyncio.Event)
    socket: asyncio.WriteTransport | None = None
    busy: bool = True                                   # until the replay is sent, and while the queue is being sent
    told: set[int] = field(default_factory=set)         # ids of the replay: they may be published after it was read

    def may_see(self, event: Event) -> bool:
        """Whether the event is of a base, and of the enterprise, of this listener's token."""
        return event.base_id in self.who.bases and (
            self.who.role != "enterprise" or event.enterprise_id == self.who.enterprise_id)

    def tell(self, what: Event) -> bool:
        """Write an event or a comment, or queue it; False when the listener is too far behind."""
        if self.told and what.id in self.told:
            return True
        if not self.busy and self.socket is not None and self.socket.get_write_buffer_size() < AHEAD_BYTES:
            self.socket.write(what.frames[self.lang].chunk)
            return True
        if len(self.behind) >= QUEUE:
            return False
        self.behind.append(what)
        self.busy = True
        self.wake.set()
        return True

    def end(self) -> None:
        """Let the stream close after what is queued."""
        self.ended = True
        self.wake.set()

    def drop(self) -> None:
        """Close the stream although its client does not take what is being sent."""
        self.behind.clear()
        self.cut.set()


class Stream:
    """The one source of events of this process and its listeners."""

    def __init__(self, store: Store, meters: Meters, *, heartbeat_s: float = HEARTBEAT_S, of_token: int = 50) -> None:
        self._store = store
        self._meters = meters
        self._heartbeat_s = heartbeat_s
        self._of_token = of_token
        self._listeners: set[Listener] = set()
        self._of_base: defaultdict[int, set[Listener]] = defaultdict(set)
        self._all = Principal(0, "stream", "admin", ())         # who reads for everybody
        self._ring: OrderedDict[int, Event] = OrderedDict()
        self._newest = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self.listening = False

    def start(self) -> None:
        """Begin to listen; returns at once."""
        self._tasks = [asyncio.create_task(self._listen_for_ever()), asyncio.create_task(self._beat_for_ever())]

    def end_listeners(self) -> None:
        """Close every stream: the service stops, and clients come back with their Last-Event-ID."""
        self._stopping = True
        for listener in list(self._listeners):
            listener.end()

    async def stop(self) -> None:
        """Close every stream and the connection."""
        self.end_listeners()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def join(self, who: Principal, lang: Language) -> Listener:
        """A new listener, told everything from now on; TooMany beyond the streams that one token may hold."""
        if sum(other.who.token_id == who.token_id for other in self._listeners) >= self._of_token:
            raise TooMany(f"this token has {self._of_token} open streams already", 10)
        listener = Listener(who, lang)
        if self._stopping:
            listener.end()
        self._listeners.add(listener)
        for base in who.bases:
            self._of_base[base].add(listener)
        self._meters.listeners.set(len(self._listeners))
        return listener

    def leave(self, listener: Listener) -> None:
        """Forget a listener."""
        self._listeners.discard(listener)
        for base in listener.who.bases:
            self._of_base[base].discard(listener)
        self._meters.listeners.set(len(self._listeners))

    async def missed(self, listener: Listener, last: int) -> list[Event] | None:
        """What `listener` missed since event `last`, in the order of their commits where the ring still has it; None: too
        much."""
        if last in self._ring:
            ids = list(self._ring)
            return [e for i in ids[ids.index(last) + 1:] if listener.may_see(e := self._ring[i])]
        async with self._store.session(listener.who) as db:
            rows = await (await db.execute(SQL["transition_ids_after"], {"after": last, "limit": BACKLOG + 1})).fetchall()
            if len(rows) > BACKLOG:
                return None
            events = await _events(db, [row["transition_id"] for row in rows])
        return [e for e in events if listener.may_see(e)]

    def greeting(self, last: int | None) -> bytes:
        """The first lines of a stream: how soon to come back, and the id from which a reconnect replays."""
        start = self._newest if last is None else last
        return b"retry: 2000\nid: %d\nevent: ready\ndata: {\"newest\": %d}\n\n" % (start, self._newest)

    # ---- from the database

    async def _listen_for_ever(self) -> None:
        wait_s = 0.2
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                        self._store.url, autocommit=True, application_name="park api stream", connect_timeout=10) as conn:
                    await conn.execute("LISTEN park_transition")
                    await self._catch_up(conn)
                    self.listening, wait_s = True, 0.2
                    while True:
                        got = [n.payload async for n in conn.notifies(timeout=30.0, stop_after=1)]
                        if got:     # any login may NOTIFY, and say what it likes
                            await self._publish(conn, [int(p) for p in got if p.isascii() and p.isdigit() and len(p) < 19])
                        else:
                            await conn.execute("SELECT 1")  # a connection that died in silence shows itself here
            except (psycopg.Error, OSError, TimeoutError) as exc:
                log.warning("no transitions from the database, next try in %.1f s: %s", wait_s, str(exc).split("\n", 1)[0])
            finally:
                self.listening = False
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, 5.0)

    async def _know_bases(self, conn: Connection) -> None:
        row = await (await conn.cursor(row_factory=dict_row).execute(SQL["base_ids"])).fetchone()
        self._all = replace(self._all, bases=tuple((row or {}).get("ids") or ()))

    async def _catch_up(self, conn: Connection) -> None:
        """After a (re)connect: what was committed meanwhile. At the first start only where the table ends."""
        await self._know_bases(conn)
        async with as_principal(conn, self._all) as db:
            if not self._newest:
                row = await (await db.execute(SQL["newest_transition"])).fetchone()
                self._newest = int(row["id"]) if row else 0
                for _ in range(WARM):       # the first listener to be told does not wait for plans and caches
                    await _events(db, [self._newest])
                return
            # ids are not in the order of commits: look a little back, the ring knows what was told
            rows = await (await db.execute(SQL["transition_ids_after"],
                                           {"after": self._newest - 500, "limit": RING})).fetchall()
        started = min(self._ring, default=self._newest)
        await self._publish(conn, [i for row in rows if (i := row["transition_id"]) > started])

    async def _publish(self, conn: Connection, ids: Sequence[int]) -> None:
        fresh = [i for i in dict.fromkeys(ids) if i not in self._ring]
        events = await self._read(conn, fresh) if fresh else []
        if len(events) < len(fresh):        # of a base that is new
            await self._know_bases(conn)
            events = await self._read(conn, fresh)
        for event in events:
            self._ring[event.id] = event
            self._newest = max(self._newest, event.id)
            if len(self._ring) > RING:
                self._ring.popitem(last=False)
            self._tell(event, [one for one in self._of_base.get(event.base_id, ()) if one.may_see(event)])
        self._meters.pushed.inc(len(events))

    async def _read(self, conn: Connection, ids: Sequence[int]) -> list[Event]:
        async with as_principal(conn, self._all) as db:
            return await _events(db, ids)

    # ---- to the listeners

    def _tell(self, what: Event, listeners: Iterable[Listener]) -> None:
        for listener in [one for one in listeners if not one.tell(what)]:
            log.warning("a stream of token %r is let go: %d events behind", listener.who.name, QUEUE)
            self._meters.dropped.inc()
            self.leave(listener)
            listener.drop()

    async def _beat_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_s)
            self._tell(HEARTBEAT, list(self._listeners))
            try:
                await self._end_revoked()
            except (psycopg.Error, OSError) as exc:
                log.warning("tokens of open streams could not be checked: %s", str(exc).split("\n", 1)[0])

    async def _end_revoked(self) -> None:
        """A token that was revoked or has expired loses its open streams too."""
        ids = {listener.who.token_id for listener in self._listeners}
        if not ids:
            return
        async with self._store.own() as cursor:
            rows = await (await cursor.execute(SQL["valid_tokens"], {"ids": list(ids)})).fetchall()
        valid = {row["token_id"] for row in rows}
        for listener in list(self._listeners):
            if listener.who.token_id not in valid:
                listener.drop()


async def _events(db: psycopg.AsyncCursor[Any], ids: Sequence[int]) -> list[Event]:
    """Transitions with their alerts, encoded, in the order of `ids`."""
    if not ids:
        return []
    transitions = await (await db.execute(SQL["transitions"], {"ids": list(ids)})).fetchall()
    wanted = list({row["alert"] for row in transitions})
    alerts = await with_shelf(db, await (await db.execute(SQL["alerts"], NO_FILTER | {"id": wanted})).fetchall())
    by_id = {row["id"]: row for row in alerts}
    found = {row["id"]: _event(row, by_id[row["alert"]]) for row in transitions if row["alert"] in by_id}
    return [found[i] for i in ids if i in found]


def _event(transition: dict[str, Any], alert: dict[str, Any]) -> Event:
    told = {k: v for k, v in transition.items() if k not in ("base_id", "enterprise_id")}
    frames: dict[Language, Frame] = {}
    for lang in LANGUAGES:
        body = dump(told | {"base": alert["base"], "alert": shown(dict(alert), lang)})
        frames[lang] = Frame.of(b"id: %d\nevent: transition\ndata: %s\n\n" % (transition["id"], body))
    return Event(transition["id"], transition["base_id"], transition["enterprise_id"], frames)


class EventAnswer(Response):
    """The endless answer of one listener; nothing but bytes that are ready passes here."""

    media_type = "text/event-stream"

    def __init__(self, stream: Stream, listener: Listener, last: int | None) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._stream, self._listener, self._last = stream, listener, last
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the client goes, the listener is let go, or the service stops."""
        sender = asyncio.create_task(self._send(send, scope.get("state", {}).get("transport")))
        gone = asyncio.create_task(_disconnect(receive))
        cut = asyncio.create_task(self._listener.cut.wait())
        tasks = (sender, gone, cut)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stream.leave(self._listener)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, send: Send, socket: asyncio.WriteTransport | None) -> None:
        listener, lang = self._listener, self._listener.lang
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        first = [self._stream.greeting(self._last)]
        if self._last is not None:
            replayed = await self._stream.missed(listener, self._last)
            first += [RESET] if replayed is None else [e.frames[lang].plain for e in replayed]
            listener.told = {e.id for e in replayed or ()}
        await send({"type": "http.response.body", "body": b"".join(first), "more_body": True})
        # what came while the replay was read may be in both
        listener.behind = deque(e for e in listener.behind if e.id not in listener.told)
        listener.socket = socket
        while not listener.ended or listener.behind:
            due = list(listener.behind)
            listener.behind.clear()
            if due:
                body = b"".join(e.frames[lang].plain for e in due)
                await send({"type": "http.response.body", "body": body, "more_body": True})
                continue
            listener.busy = False       # nothing is between here and the socket
            listener.wake.clear()
            await listener.wake.wait()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
