"""HJ 212-2017 data loggers of the simulated outlets: TCP clients of the collector.

2011 real-time data every 30 s, 2051 minute data, 2061 hour data; each waits for 9014 with its own QN, is sent again
when none comes, and is kept for later when the link is gone. DataTime is local: the instant of 2011, the start of the
period of 2051 and 2061. CRC of HJ 212 (not Modbus CRC). Flags: N, F stopped, M maintenance, C calibration.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from park.catalogue import Device
from park.quality import Quality
from simulators.field import Field
from simulators.model import NO_READING, Qualities
from simulators.noise import Floats
from simulators.sky import ZONE_S

log = logging.getLogger(__name__)

REALTIME_S = 30
ANSWER_S = 5.0
TRIES = 3
KEPT = 4_000
FLAGS = {Quality.GOOD: "N", Quality.STOPPED: "F", Quality.MAINTENANCE: "M", Quality.CALIBRATION: "C"}
CONVERTED = ("a21026", "a21002", "a34013")     # SO2, NOx, dust: also at reference oxygen
OXYGEN = "a19001"


def crc(data: bytes) -> str:
    """CRC of HJ 212: 4 hexadecimal digits."""
    value = 0xFFFF
    for byte in data:
        value = (value >> 8) ^ byte
        for _ in range(8):
            value = (value >> 1) ^ 0xA001 if value & 1 else value >> 1
    return f"{value:04X}"


def frame(segment: str) -> bytes:
    """`##`, length in bytes, data segment, CRC, CR LF."""
    data = segment.encode()
    return b"##%04d%s%s\r\n" % (len(data), data, crc(data).encode())


def local_text(at: float, pattern: str = "%Y%m%d%H%M%S") -> str:
    """An instant as base-local text."""
    return (datetime.fromtimestamp(at, UTC) + timedelta(seconds=ZONE_S)).strftime(pattern)


def segment(device: Device, command: str, qn: str, cp: str, flag: int = 5) -> str:
    """The data segment of a message; Flag 5: edition 2017, answer wanted."""
    return f"QN={qn};ST={device.st};CN={command};PW={device.password};MN={device.mn};Flag={flag};CP=&&{cp}&&"


def realtime_cp(at: float, keys: list[str], value: Floats, quality: Qualities, o2_reference: float | None) -> str:
    """CP of 2011: one value a factor, with the converted value of gas pollutants."""
    groups = [f"DataTime={local_text(at)}"]
    oxygen = value[keys.index(OXYGEN)] if OXYGEN in keys else None
    for key, v, q in zip(keys, value, quality, strict=True):
        if q == NO_READING:
            continue
        zs = _converted(key, v, oxygen, o2_reference)
        extra = f"{key}-ZsRtd={zs:.3f}," if zs is not None else ""
        groups.append(f"{key}-Rtd={v:.3f},{extra}{key}-Flag={FLAGS.get(Quality(int(q)), 'N')}")
    return ";".join(groups)


def period_cp(start: float, keys: list[str], value: Floats, quality: Qualities, o2_reference: float | None) -> str:
    """CP of 2051 and 2061 from samples (T, K) of the period: Min, Avg, Max of the good ones, flag of most of the rest."""
    groups = [f"DataTime={local_text(start)}"]
    oxygen = _mean(value, quality, keys.index(OXYGEN)) if OXYGEN in keys else None
    for i, key in enumerate(keys):
        delivered = quality[:, i] != NO_READING
        if not delivered.any():
            continue
        good = delivered & (quality[:, i] == Quality.GOOD)
        word = Quality.GOOD if good.sum() * 4 >= delivered.sum() * 3 else Quality(int(quality[delivered & ~good, i][0]))
        chosen = value[good if good.any() else delivered, i]
        zs = _converted(key, float(chosen.mean()), oxygen, o2_reference)
        extra = f"{key}-ZsAvg={zs:.3f}," if zs is not None else ""
        groups.append(f"{key}-Min={chosen.min():.3f},{key}-Avg={chosen.mean():.3f},{key}-Max={chosen.max():.3f},"
                      f"{extra}{key}-Flag={FLAGS.get(word, 'N')}")
    return ";".join(groups)


def _mean(value: Floats, quality: Qualities, column: int) -> float:
    good = quality[:, column] == Quality.GOOD
    return float(value[good if good.any() else slice(None), column].mean())


def _converted(key: str, value: float, oxygen: float | None, reference: float | None) -> float | None:
    """Concentration at reference oxygen: C (21 - reference) / (21 - O2), with the oxygen held below 20 %."""
    if key not in CONVERTED or oxygen is None or reference is None:
        return None
    return float(value) * (21.0 - reference) / (21.0 - min(float(oxygen), 20.0))


@dataclass
class Logger:
    """One data logger: what it has to send, and what became of it."""

    device: Device
    o2_reference: float | None = None
    waiting: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=KEPT))     # (QN, segment)
    answers: dict[str, asyncio.Event] = field(default_factory=dict)
    sent: int = 0
    resent: int = 0
    confirmed: int = 0
    last_qn_ms: int = 0

    def next_qn(self, now: float) -> str:
        """A QN in milliseconds that never repeats."""
        self.last_qn_ms = max(round(now * 1000), self.last_qn_ms + 1)
        return local_text(self.last_qn_ms / 1000) + f"{self.last_qn_ms % 1000:03d}"

    def queue(self, command: str, cp: str, now: float) -> None:
        """Put a message behind those that wait; the oldest is dropped when the memory is full."""
        qn = self.next_qn(now)
        self.waiting.append((qn, segment(self.device, command, qn, cp)))


def loggers(field_: Field) -> list[Logger]:
    """The HJ 212 loggers of the field, with the reference oxygen of the outlet whose points they feed."""
    reference = {u.code: u.o2_reference for u in field_.park.catalogue.units}
    found = []
    for device in field_.devices.values():
        if device.protocol == "hj212" and device.code in field_.points:
            unit = next((p.belongs_to for _, p in field_.points[device.code].values() if p.belongs_to), None)
            found.append(Logger(device, reference.get(unit) if unit else None))
    return found


def make_due(logger: Logger, field_: Field, due: int, now: float) -> None:
    """Queue the messages of the whole second `due` (a multiple of 30 s): 2011, and 2051 and 2061 of a period just ended."""
    code = logger.device.code
    if field_.is_dark(code):
        return
    told = field_.clock_of(code, float(due))
    shift = told - due
    keys, value, quality = field_.readings_of(code, [told])
    logger.queue("2011", realtime_cp(told, keys, value[0], quality[0], logger.o2_reference), now + shift)
    if due % 60 == 0:
        keys, value, quality = field_.readings_of(code, list(np.arange(told - 60, told, 5)))
        logger.queue("2051", period_cp(told - 60, keys, value, quality, logger.o2_reference), now + shift)
    if due % 3600 == 0:
        keys, value, quality = field_.readings_of(code, list(np.arange(told - 3600, told, 60)))
        logger.queue("2061", period_cp(told - 3600, keys, value, quality, logger.o2_reference), now + shift)


async def run_logger(logger: Logger, field_: Field, host: str, port: int) -> None:
    """Connect, send what waits, reconnect with growing pauses; ends by cancellation."""
    pause = 1.0
    while True:
        try:
            reader, writer = await asyncio.open_connection(host, port)
        except OSError as exc:
            log.warning("logger %s: no collector at %s:%d: %s", logger.device.code, host, port, exc)
            await asyncio.sleep(pause)
            pause = min(15.0, pause * 2)
            continue
        pause = 1.0
        listener = asyncio.create_task(_listen(logger, reader, writer))
        try:
            await _send(logger, field_, writer, listener)
        except (OSError, TimeoutError) as exc:
            log.warning("logger %s: link lost: %s", logger.device.code, exc)
        finally:
            listener.cancel()
            writer.close()
            await asyncio.gather(listener, return_exceptions=True)     # it ends in an error when the collector hangs up
        await asyncio.sleep(pause)


async def _send(logger: Logger, field_: Field, writer: asyncio.StreamWriter, listener: asyncio.Task[None]) -> None:
    """Send the oldest message until it is confirmed; back to the caller when the link is gone."""
    while not listener.done():
        if not logger.waiting or field_.is_late(logger.device.code) or field_.is_dark(logger.device.code):
            await asyncio.sleep(0.1)
            continue
        qn, text = logger.waiting[0]
        answered = logger.answers[qn] = asyncio.Event()
        for attempt in range(TRIES):
            writer.write(frame(text))
            await writer.drain()
            logger.sent += 1
            logger.resent += attempt > 0
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(answered.wait(), ANSWER_S)
            if answered.is_set() or listener.done():
                break
        logger.answers.pop(qn, None)
        if not answered.is_set():
            raise TimeoutError(f"no 9014 for QN {qn} after {TRIES} tries")
        logger.confirmed += 1
        if logger.waiting and logger.waiting[0][0] == qn:
            logger.waiting.popleft()


async def _listen(logger: Logger, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the collector's frames: 9014 confirms, commands are answered with 9011 and 9012."""
    while True:
        head = await reader.readexactly(1)
        if head != b"#":
            continue
        if await reader.readexactly(1) != b"#":
            continue
        length = int(await reader.readexactly(4))
        text = (await reader.readexactly(length)).decode("utf-8", "replace")
        await reader.readexactly(4)
        fields = fields_of(text)
        event = logger.answers.get(fields.get("QN", ""))
        if fields.get("CN") == "9014" and event is not None:
            event.set()
        elif fields.get("CN", "").startswith(("1", "2", "3")):
            result = command_result(fields["CN"])
            for command, cp in (("9011", "QnRtn=1"), *([(fields["CN"], result)] if result else []), ("9012", "ExeRtn=1")):
                writer.write(frame(segment(logger.device, command, fields["QN"], cp, flag=4)))


def command_result(command: str) -> str:
    """What a request of the platform gives back before 9012; empty for settings."""
    return {"1011": f"SystemTime={local_text(time.time())}", "1061": f"RtdInterval={REALTIME_S}",
            "1063": "MinInterval=1"}.get(command, "")


def fields_of(text: str) -> Mapping[str, str]:
    """QN, ST, CN ... of a data segment; what stands in CP is under `CP`."""
    head, _, rest = text.partition("CP=&&")
    fields = dict(part.split("=", 1) for part in head.split(";") if "=" in part)
    return fields | {"CP": rest.rpartition("&&")[0]}
