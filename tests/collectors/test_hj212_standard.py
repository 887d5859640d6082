"""The whole way with a data logger that knows nothing of our code: written from the text of HJ 212-2017 and HJ 212-2025
(frame of 6.3, CRC of annex A, messages as the examples of annex C have them), against `park collect` and `park ingest`."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
import yaml

from park.broker import Broker
from park.catalogue_store import export
from tests.collectors.conftest import Collector
from tests.command import park

SHANGHAI = ZoneInfo("Asia/Shanghai")
MN, NEW = "010000A8900016F000169DC0", "320211FFEE0000AA00010001"


def crc16(data: bytes) -> str:
    """Annex A of the standard, line by line."""
    register = 0xFFFF
    for byte in data:
        register = (register >> 8) ^ byte
        for _ in range(8):
            check = register & 0x0001
            register >>= 1
            if check == 0x0001:
                register ^= 0xA001
    return f"{register:04X}"


def frame(segment: str) -> bytes:
    """`##`, four digits of length, data segment, CRC, CR LF."""
    data = segment.encode()
    return b"##" + f"{len(data):04d}".encode() + data + crc16(data).encode() + b"\r\n"


class FieldLogger:
    """A data logger: one connection, a thread that hears, answers to the platform's commands."""

    def __init__(self, port: int, mn: str = MN, pw: str = "123456", edition: int = 1) -> None:
        self.mn, self.pw, self.edition = mn, pw, edition
        self.link = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.heard: list[dict[str, str]] = []
        self._news = threading.Condition()
        self._last = 0
        self._thread = threading.Thread(target=self._hear, daemon=True)
        self._thread.start()

    def qn(self) -> str:
        """Milliseconds of local time, never twice the same."""
        self._last = max(self._last + 1, int(time.time() * 1000))
        at = datetime.fromtimestamp(self._last / 1000, SHANGHAI)
        return f"{at:%Y%m%d%H%M%S}{self._last % 1000:03d}"

    def segment(self, cn: str, cp: str, *, st: str = "31", ack: bool = True, qn: str = "", parts: str = "") -> str:
        flag = self.edition << 2 | bool(parts) << 1 | ack
        return f"QN={qn or self.qn()};ST={st};CN={cn};PW={self.pw};MN={self.mn};Flag={flag};{parts}CP=&&{cp}&&"

    def send(self, segment: str) -> str:
        """Send a data segment; its QN."""
        self.link.sendall(frame(segment))
        return segment[3:20]

    def answer_to(self, qn: str, cn: str = "9014", timeout_s: float = 10.0) -> dict[str, str]:
        with self._news:
            assert self._news.wait_for(lambda: self._found(qn, cn), timeout_s), (qn, cn, self.heard)
            return self._found(qn, cn)[0]

    def _found(self, qn: str, cn: str) -> list[dict[str, str]]:
        return [m for m in self.heard if m["QN"] == qn and m["CN"] == cn]

    def _hear(self) -> None:
        buffer = b""
        try:
            while part := self.link.recv(4096):
                buffer += part
                while b"\r\n" in buffer:
                    line, _, buffer = buffer.partition(b"\r\n")
                    size = int(line[2:6])
                    assert line[:2] == b"##" and len(line) == size + 10 and line[-4:].decode() == crc16(line[6:-4])
                    self._take(line[6:-4].decode())
        except OSError:
            pass

    def _take(self, text: str) -> None:
        head, _, rest = text.partition("CP=&&")
        message = dict(f.split("=", 1) for f in head.split(";") if f) | {"CP": rest.removesuffix("&&")}
        with self._news:
            self.heard.append(message)
            self._news.notify_all()
        if message["CN"][0] in "123":
            for cn, cp in (("9011", "QnRtn=1"), *self.results(message), ("9012", "ExeRtn=1")):
                self.link.sendall(frame(self.segment(cn, cp, qn=message["QN"], ack=False)))

    def results(self, message: dict[str, str]) -> list[tuple[str, str]]:
        """What a command gives back, between 9011 and 9012."""
        if message["CN"] == "1061":
            return [("1061", "RtdInterval=30")]
        return [("1063", "MinInterval=10")] if message["CN"] == "1063" else []

    def close(self) -> None:
        self.link.close()
        self._thread.join(5)


@pytest.mark.parametrize(("segment", "size", "crc"), [
    ("QN=20160801085857223;ST=32;CN=1062;PW=100000;MN=010000A8900016F000169DC0;Flag=5;CP=&&RtdInterval=30&&", "0101", "1C80"),
    ("QN=20240601085857223;ST=32;CN=1011;PW=123456;MN=010000A8900016F000169DC0;Flag=9;CP=&&&&", "0087", "2200")])
def test_the_loggers_frames_are_those_of_annex_a(segment: str, size: str, crc: str) -> None:
    assert frame(segment) == f"##{size}{segment}{crc}\r\n".encode()


CATALOGUE = """\
base: {{code: std, name: Std}}
devices:
  - {{code: d, protocol: hj212, mn: "{mn}", password: "123456", edition: "2017", crc: hj212}}
points:
"""
POINTS = {  # code of the point -> (key, quantity, unit, kind)
    "so2": ("a21026", "so2", "mg/m3", "gauge"), "so2.zs": ("a21026.zsrtd", "so2", "mg/m3", "gauge"),
    "so2.min": ("a21026.avg.minute", "so2", "mg/m3", "gauge"), "so2.min.max": ("a21026.max.minute", "so2", "mg/m3", "gauge"),
    "so2.h.zs": ("a21026.zsavg.hour", "so2", "mg/m3", "gauge"), "so2.d": ("a21026.avg.day", "so2", "mg/m3", "gauge"),
    "cod": ("w01018", "cod", "mg/L", "gauge"), "ammonia": ("w21003", "ammonia", "mg/L", "gauge"),
    "water": ("w00000.cou.hour", "wastewater_volume", "m3", "gauge"), "fan": ("SB1", "state", "state", "state"),
    "pump": ("SB1.rt.day", "state", "state", "state"), "volts": ("d20105", "voltage", "V", "gauge"),
    "amps": ("d30406", "current", "A", "gauge"), "kiln": ("p99101", "state", "state", "state"),
    "raw": ("a24088.raw", "nmhc", "mg/m3", "gauge"),
}


def _catalogue(folder: Path) -> Path:
    lines = CATALOGUE.format(mn=MN)
    for code, (key, quantity, unit, kind) in POINTS.items():
        lines += (f'  - {{code: {code}, quantity: {quantity}, unit: "{unit}", kind: {kind}, '
                  f'source: {{device: d, key: "{key}"}}}}\n')
    file = folder / "std.yaml"
    file.write_text(lines, encoding="utf-8")
    return file


def test_every_message_of_the_annex_becomes_its_readings_and_is_answered(
        tmp_path: Path, broker: Broker, collect: Callable[..., Collector], ear: Callable[[str], Any], until: Any) -> None:
    listener, collector = ear(broker.url), collect(broker.url, _catalogue(tmp_path))
    until(lambda: "listening" in collector.log())
    logger = FieldLogger(collector.hj212_port)
    now = datetime.now(SHANGHAI).replace(microsecond=0)
    hour = now.replace(minute=0, second=0) - timedelta(hours=1)
    day = now.replace(hour=0, minute=0, second=0) - timedelta(days=1)
    minute = now.replace(second=0) - timedelta(minutes=10)
    sent: list[tuple[str, str, datetime, str, dict[str, float | None]]] = [  # (ST, CN, time, rest of CP, {point: value})
        ("31", "2011", now, "a21026-Rtd=12.5,a21026-ZsRtd=15.1,a21026-Flag=N", {"so2": 12.5, "so2.zs": 15.1}),
        ("31", "2051", minute, "a21026-Min=1.0,a21026-Avg=2.5,a21026-Max=4.0,a21026-Flag=N",
         {"so2.min": 2.5, "so2.min.max": 4.0}),
        ("31", "2061", hour, "a21026-ZsAvg=20.25,a21026-Flag=N", {"so2.h.zs": 20.25}),
        ("31", "2031", day, "a21026-Avg=3.75,a21026-Flag=N", {"so2.d": 3.75}),
        ("32", "2011", now, "w01018-Rtd=41.2,w01018-Flag=N;060-Rtd=1.1,060-Flag=D", {"cod": 41.2, "ammonia": None}),
        ("32", "2061", hour, "w00000-Cou=120.5,w00000-Flag=N", {"water": 120.5}),
        ("31", "2021", now, "SB1-RS=1", {"fan": 1.0}),
        ("31", "2041", day, "SB1-RT=22.5", {"pump": 22.5}),
        ("44", "2011", now, "d20105-Rtd=220.20,d20105-Flag=N;d30406-Rtd=0.04,d30406-Flag=N", {"volts": 220.2, "amps": 0.04}),
        ("45", "2011", now, "p99101-Rtd=St,p99101-Flag=N", {"kiln": 2.0}),
        ("27", "2013", now, "SampleType=1;a24088-Rtd=1.23,a24088-Flag=N;SpectrumFile=VOC.cdf", {"raw": 1.23}),
    ]
    expected: dict[str, tuple[int, float | None]] = {}
    for st, cn, at, rest, values in sent:
        qn = logger.send(logger.segment(cn, f"DataTime={at:%Y%m%d%H%M%S};{rest}", st=st))
        answer = logger.answer_to(qn)
        assert (answer["ST"], answer["MN"], answer["CP"], answer["Flag"]) == ("91", MN, "", "4")
        expected |= {point: (int(at.timestamp() * 1000), value) for point, value in values.items()}
    got = until(lambda: (rows := {p: (at, v) for p, at, v in listener.rows()}).keys() == expected.keys() and rows)
    assert got == expected, "times are those of the start of the period"
    # a message in two parts: each has its own QN and its own answer
    for number in (1, 2):
        part = logger.segment("2051", f"DataTime={hour:%Y%m%d%H%M%S};a21026-{'Avg' if number == 1 else 'Max'}={number}.5",
                              parts=f"PNUM=2;PNO={number};")
        logger.answer_to(logger.send(part))
    until(lambda: {("so2.min", 1.5), ("so2.min.max", 2.5)} <= {(p, v) for p, _, v in listener.rows()})
    # the time is asked for and given, and the logger's result is told
    qn = logger.send(logger.segment("1013", "PolId=a21026"))
    logger.answer_to(qn, "9013")
    given = until(lambda: [m for m in logger.heard if m["CN"] == "1012"])[0]
    text = given["CP"].removeprefix("PolId=a21026;SystemTime=")
    set_to = datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=SHANGHAI)
    assert abs(set_to - datetime.now(SHANGHAI)) < timedelta(seconds=10)
    until(lambda: 'park_hj212_times_set_total{state="done"} 1.0' in collector.metrics())
    # heartbeat, start of the logger, a sample that was kept
    for cn, cp in (("9015", ""), ("2081", f"DataTime={now:%Y%m%d%H%M%S};RestartTime={now:%Y%m%d%H%M%S}"),
                   ("3015", f"DataTime={now:%Y%m%d%H%M%S};VaseNo=3"), ("3019", "PolId=a21026,a21026-SN=X1")):
        logger.answer_to(logger.send(logger.segment(cn, cp)))
    # nothing that is damaged is answered, and what comes behind it is
    whole = frame(logger.segment("2011", f"DataTime={now:%Y%m%d%H%M%S};a21026-Rtd=99"))
    logger.link.sendall(whole[:40] + b"\xff##12x4" + whole.replace(b"Rtd=99", b"Rtd=88"))
    logger.answer_to(logger.send(logger.segment("2011", f"DataTime={now:%Y%m%d%H%M%S};w01018-Rtd=42.0,w01018-Flag=N")))
    assert {v for p, _, v in listener.rows() if p == "so2"} == {12.5}
    health = until(lambda: [h for h in listener.of("health") if h["hj212"]["rejected"].get("bad_crc")])[-1]
    (device,) = health["devices"]
    assert device["state"] == "online" and device["notes"]["notices"]["3015"].endswith("VaseNo=3")
    assert device["notes"]["time_set"]["state"] == "done" and health["hj212"]["notices"]["9015"] == 1
    logger.close()


def _park(folder: Path, url: str, *words: str) -> tuple[int, str]:
    done = park(*words, PARK_DATA_DIR=str(folder / "data"), PARK_DATABASE_URL=url, PARK_LANGUAGE="en")
    return done.returncode, done.stdout + done.stderr


def test_a_stranger_is_adopted_commanded_and_stored_once_over_a_restart(
        tmp_path: Path, broker: Broker, mini: psycopg.Connection[Any], database_url: str, collect: Callable[..., Collector],
        ingest: Callable[[str], None], until: Any) -> None:
    ingest(broker.url)
    files = tmp_path / "mini.yaml"
    files.write_text("base: {code: mini, name: Mini}\n", encoding="utf-8")     # no logger stands in what `park up` reads
    collector = collect(broker.url, files, "--also-database", PARK_DATABASE_URL=database_url)
    until(lambda: "listening" in collector.log())
    logger = FieldLogger(collector.hj212_port, NEW, edition=2)
    at = datetime.now(SHANGHAI).replace(microsecond=0)
    message = logger.segment("2011", f"DataTime={at:%Y%m%d%H%M%S};a21026-Rtd=7.25,a21026-Flag=N")
    logger.send(message)
    until(lambda: NEW in _park(tmp_path, database_url, "hj212", "strangers")[1])
    code, said = _park(tmp_path, database_url, "hj212", "adopt", NEW, "--base", "mini", "--code", "d.new",
                       "--password", "123456", "--belongs-to", "e1.stack")
    assert code == 0 and "d.new: 1 points" in said, said
    assert mini.execute("SELECT count(*) FROM reading").fetchone() == (0,), "what came before it was adopted is no reading"

    def is_taken() -> bool:
        logger.send(message)
        time.sleep(0.2)
        return any(m["CN"] == "9014" for m in logger.heard)
    until(is_taken)
    stored = "SELECT p.code, r.ts, r.value FROM reading r JOIN point p USING (base_id, point_id)"
    until(lambda: mini.execute(stored).fetchall() == [("d.new.a21026", at, 7.25)])
    for cn, fields, text in (("1062", ("RtdInterval=30",), "done"), ("1061", (), "RtdInterval=30"), ("1011", (), "done"),
                             ("1012", (), "done"), ("1063", (), "MinInterval=10"), ("1064", ("MinInterval=10",), "done"),
                             ("3011", ("PolId=a21026",), "done")):
        code, said = _park(tmp_path, database_url, "hj212", "send", NEW, cn, *fields)
        assert code == 0 and text in said, (cn, said)
        command = [m for m in logger.heard if m["CN"] == cn][-1]
        assert (command["ST"], command["PW"], command["MN"], command["Flag"]) == ("31", "123456", NEW, "9")
    logger.close()
    flow = FieldLogger(collector.hj212_port, NEW[:-1] + "2")
    flow.send(flow.segment("2011", f"DataTime={at:%Y%m%d%H%M%S};a00000-Rtd=5.5,a00000-Flag=N"))
    until(lambda: flow.mn in _park(tmp_path, database_url, "hj212", "strangers")[1])
    code, said = _park(tmp_path, database_url, "hj212", "adopt", flow.mn, "--base", "mini", "-o", str(tmp_path / "new.yaml"))
    assert code == 0 and "the standard's unit is m3/s" in said, "a flow in the wrong unit is wrong by 3,600"
    flow.close()
    assert collector.stop() < 5
    collector.start()
    until(lambda: collector.log().count("listening") == 2)
    logger = FieldLogger(collector.hj212_port, NEW, edition=2)
    logger.answer_to(logger.send(message), timeout_s=20)
    outcomes = "SELECT outcome, sum(n)::int FROM ingest_counter GROUP BY 1"
    until(lambda: dict(mini.execute(outcomes).fetchall()).get("duplicate", 0) >= 1)
    assert mini.execute(stored).fetchall() == [("d.new.a21026", at, 7.25)], "sent again over a restart, and stored once"
    assert dict(mini.execute(outcomes).fetchall())["stored"] == 1
    kept = "SELECT count(*) FROM dead_letter WHERE reason = 'unknown_device' AND payload LIKE '%7.25%'"
    assert mini.execute(kept).fetchone() == (1,), "the stranger's message lies there once, however often it came"
    more = tmp_path / "more.yaml"
    now = export(mini, "mini")      # another file is applied
    now["points"].append({"code": "d.new.zs", "quantity": "so2", "unit": "mg/m3", "kind": "gauge",
                          "source": {"device": "d.new", "key": "a21026.zsrtd"}})
    more.write_text(yaml.safe_dump(now, allow_unicode=True), encoding="utf-8")
    code, said = _park(tmp_path, database_url, "catalogue", "apply", str(more))
    assert code == 0, said

    def has_the_new_point() -> bool:
        logger.send(logger.segment("2011", f"DataTime={at:%Y%m%d%H%M%S};a21026-ZsRtd=8.5,a21026-Flag=N"))
        time.sleep(0.2)
        return ("d.new.zs", at, 8.5) in mini.execute(stored).fetchall()
    until(has_the_new_point)
    logger.close()
