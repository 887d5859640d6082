"""What becomes of a frame of a data logger: CRC, grammar, MN and PW judged; readings, notices, requests and answers.

Decisions without sockets; `hj212_server` stores what comes out of here and sends the answers when it is on disk. What does
not pass becomes a dead letter with its reason, without the password.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping

from collectors.hj212_clock import told_offset_ms
from collectors.hj212_command import Commander
from collectors.hj212_data import NOTICES, PERIODS, to_readings
from collectors.hj212_door import Letters
from collectors.hj212_frame import PASSWORD, Message, RawFrame, crc_kinds, parse_message
from collectors.hj212_logger import Hj212Counters, Logger
from collectors.hj212_sm4 import is_clear, opened
from collectors.hj212_strangers import Strangers, notice_text
from collectors.readings import DeadLetter, Readings
from park.errors import FrameError, ParkError

log = logging.getLogger(__name__)

TIMES_WAITING = 8
"""Requests for the time of one logger (one for each instrument) that may be under way."""

_MN = re.compile(rb"(?:^|;)MN=([^;]*)")
_AREA = re.compile(rb"CP=&&(.*)&&", re.DOTALL)


class Reception:
    """Judges frames with the loggers of the present catalogue."""

    def __init__(self, loggers: Mapping[str, Logger], base: str, clock_ms: Callable[[], int], commander: Commander) -> None:
        self.loggers = dict(loggers)
        self.base = base
        self.counters = Hj212Counters()
        self.strangers = Strangers()
        self.letters = Letters()
        self.commander = commander
        self._clock_ms = clock_ms
        self._setting: set[asyncio.Task[None]] = set()

    # ---- who sent it

    def judge(self, frame: RawFrame, peer: str) -> tuple[Logger, Message] | DeadLetter | None:
        """The logger and its message; or a dead letter, None when it is counted only."""
        found = _MN.search(frame.data)
        mn = found[1].decode("ascii", "replace").strip() if found else ""
        logger = self.loggers.get(mn)
        if logger is None:
            return self._of_stranger(frame, mn, peer)
        try:
            clear = self._in_clear(frame, logger)
            message = parse_message(clear.data)
        except FrameError as exc:
            logger.health.errors[exc.reason] += 1
            reason = exc.reason if frame.crc or exc.reason == "cipher" else "bad_crc"
            return self.reject(reason, frame.data, f"{logger.code}: {exc}", sender=mn)
        if message.mn != mn:
            return self.reject("grammar", frame.data, f"two MN in one frame: {mn[:40]} and {message.mn[:40]}", sender=peer)
        return self._checked(clear, message, logger)

    def _checked(self, frame: RawFrame, message: Message, logger: Logger) -> tuple[Logger, Message] | DeadLetter | None:
        """CRC of the kind, and PW, that belong to the logger."""
        wanted = logger.crc or frame.crc
        if logger.crc != "none" and (wanted is None or not frame.fits(wanted)):
            logger.health.errors["bad_crc"] += 1
            got = frame.crc_text.decode(errors="replace")
            fits = ", ".join(crc_kinds(frame.data, frame.crc_text)) or "none"
            return self.reject("bad_crc", frame.data, f"{logger.code}: expected CRC {logger.crc or 'any'}, got {got!r}"
                               f" (fits: {fits})", sender=message.mn)
        logger.crc_seen["none" if logger.crc == "none" and frame.crc is None else str(wanted)] += 1
        if logger.password is not None and message.pw != logger.password:
            logger.health.errors["bad_password"] += 1
            return self.reject("bad_password", frame.data, f"{logger.code}: wrong PW", sender=message.mn)
        return logger, message

    def _in_clear(self, frame: RawFrame, logger: Logger) -> RawFrame:
        """The frame with its area decrypted where the logger has a key in the catalogue: Flag alone decides nothing. While
        a key is being changed the former one is tried as well, and the one that fits is answered with."""
        if not logger.ciphers:
            return frame
        refusal: FrameError | None = None
        for cipher in logger.ciphers:
            try:
                clear = opened(frame, cipher)
            except FrameError as exc:
                refusal = exc
                continue
            if clear is None:
                if b"CN=20" in frame.data:
                    logger.health.errors["not_encrypted"] += 1
                return frame
            if clear.crc is None and logger.crc != "none" and cipher is not logger.ciphers[-1]:
                continue
            self.counters.decrypted += 1
            logger.cipher = cipher
            return clear
        raise refusal or FrameError("cipher", "no key of the device opens this data area")

    def _of_stranger(self, frame: RawFrame, mn: str, peer: str) -> DeadLetter | None:
        """Frames of an MN that the catalogue lacks: described for `park hj212 strangers`, the first ones kept."""
        area = _AREA.search(frame.data)
        secret = bool(mn and not frame.crc and area and len(area[1]) >= 16 and not is_clear(area[1]))
        if not frame.crc and not secret:
            return self.reject("bad_crc", frame.data, f"MN {mn[:40] or 'none'}, not in the catalogue", sender=peer)
        try:
            message = parse_message(frame.data if not secret or area is None else frame.data[:area.start()] + b"CP=&&&&")
        except FrameError as exc:
            return self.reject(exc.reason, frame.data, str(exc), sender=peer)
        now = self._clock_ms()
        stranger = self.strangers.hear(message, frame.crc or "", peer, now, encrypted=secret)
        if stranger.n == 1:
            log.warning("hj212: MN %s is not in the catalogue; its data become dead letters", message.mn[:40])
        return self.reject("unknown_device", frame.data, f"MN {message.mn[:40]} is not in the catalogue"
                           + (", its data are encrypted" if secret else ""), sender=f"{peer} unknown")

    def reject(self, reason: str, data: bytes, detail: str, *, sender: str) -> DeadLetter | None:
        """Count a frame that is not taken; a dead letter of it as far as those of its sender are kept."""
        self.counters.rejected[reason] += 1
        if not data or not self.letters.keep(sender, self._clock_ms() / 1000):
            return None
        return DeadLetter(self.base, reason, detail[:500], PASSWORD.sub(b"PW=***", data))

    # ---- what it says

    def read(self, logger: Logger, message: Message) -> Readings | DeadLetter | None:
        """Readings of a data message, or a dead letter for one without a time."""
        now = self._clock_ms()
        offset_ms = told_offset_ms(message, logger.station.watch, logger.station.zone, now)
        try:
            readings = to_readings(message, logger.station, now)
        except FrameError as exc:
            logger.health.errors[exc.reason] += 1
            return self.reject(exc.reason, _shown(message), f"{logger.code}: {exc}", sender=message.mn)
        logger.health.answered(now)
        logger.health.readings += len(readings)
        logger.health.clock.note(offset_ms)
        logger.health.notes |= {"crc": dict(logger.crc_seen), "duplicates": logger.station.duplicates,
                                "resent": logger.station.resent, "unmapped": sorted(logger.station.unmapped)[:20]}
        self.counters.readings += len(readings)
        return readings

    def respond(self, logger: Logger, message: Message) -> tuple[list[bytes], DeadLetter | None]:
        """What is answered to a message without readings, and a dead letter when nobody knows its command."""
        logger.health.answered(self._clock_ms())
        cn = message.cn
        if cn == "1013":
            self._set_time(logger, message)
            return [self.answer(logger, message, "9013")] if message.wants_answer else [], None
        if cn in NOTICES:
            self._note(logger, message)
            own = logger.station.device.device.attributes.get("heartbeat_answer") if cn == "9015" else None
            return [self.answer(logger, message, str(own or NOTICES[cn]["answer"]))] if message.wants_answer else [], None
        if cn in ("9011", "9012", "9013", "9014"):
            self.counters.rejected["unasked_answer"] += cn in ("9011", "9012")
            return [], None
        detail = f"{logger.code}: the command {cn[:20]!r} is not known"
        return [], self.reject("unknown_command", _shown(message), detail, sender=message.mn)

    def _note(self, logger: Logger, message: Message) -> None:
        """Keep the newest notice of each kind with the logger's health."""
        self.counters.notices[message.cn] += 1
        if message.cn != "9015":
            text = notice_text(message)
            logger.health.notes["notices"] = logger.health.notes.get("notices", {}) | {message.cn: text}
            log.info("hj212: %s: %s: %s", logger.code, NOTICES[message.cn]["en"], text)

    def _set_time(self, logger: Logger, message: Message) -> None:
        """Give the time that was asked for (1012), and note how the logger takes it."""
        if logger.times_asked >= TIMES_WAITING:
            self.counters.rejected["time_asked_too_often"] += 1
            return
        logger.times_asked += 1
        policy = message.field("PolId")
        task = asyncio.get_running_loop().create_task(self._give_time(logger, {"PolId": policy} if policy else {}))
        self._setting.add(task)
        task.add_done_callback(self._setting.discard)

    async def _give_time(self, logger: Logger, fields: Mapping[str, str]) -> None:
        try:
            outcome = await self.commander.send(logger, "1012", fields)
        except ParkError as exc:  # the fields come from the logger
            log.warning("hj212: %s asked for the time with %s: %s", logger.code, dict(fields), exc)
            logger.health.errors["time_set"] += 1
            return
        finally:
            logger.times_asked -= 1
        self.counters.times_set[outcome.state] += 1
        logger.health.notes["time_set"] = {"at": self._clock_ms(), "state": outcome.state, "exe_rtn": outcome.exe_rtn}
        if outcome.state != "done":
            logger.health.errors["time_set"] += 1

    def answer(self, logger: Logger, message: Message, cn: str) -> bytes:
        """9013 or 9014 under the QN of the message; ST 91 is the system's own."""
        self.counters.answers += 1
        return logger.frame(message.qn, "91", cn, message.pw, message.mn, message.flag & ~3, "")

    async def close(self) -> None:
        """End what is under way."""
        for task in self._setting:
            task.cancel()
        await asyncio.gather(*self._setting, return_exceptions=True)


def is_data(message: Message) -> bool:
    """Whether a message carries values; an answer to a command may have the CN of a data command without any."""
    return message.cn in PERIODS


def _shown(message: Message) -> bytes:
    """A message as text for a dead letter, without its password."""
    groups = ";".join(",".join(f"{k}={v}" for k, v in g.items()) for g in message.groups)
    return f"QN={message.qn};ST={message.st};CN={message.cn};MN={message.mn};Flag={message.flag};CP=&&{groups}&&".encode()
