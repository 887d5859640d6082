"""The spool: durable, in order, numbers that never repeat, bounded, and what it does with a damaged file."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from collectors.disk_reserve import DiskReserve
from collectors.health import SpoolAlarm
from collectors.intake import SpoolIntake
from collectors.readings import DeadLetter, Readings
from collectors.spool import Spool, SpoolSize
from park.errors import SetupError, StorageError
from park.wire import decode_batch

START = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)


OPENED: list[Spool] = []


@pytest.fixture(autouse=True)
def _close_spools() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def _spool(tmp_path: Path, **options: Any) -> Spool:
    OPENED.append(Spool(tmp_path / "s.sqlite", "col", **({"clock": lambda: START} | options)))
    return OPENED[-1]


def _readings(n: int = 2, value: float = 1.5) -> Readings:
    return Readings("b", [f"p{i}" for i in range(n)], [1000 + i for i in range(n)], [value] * n, ["good"] * n)


def test_batches_come_back_in_order_with_their_topic_and_number(tmp_path: Path) -> None:
    spool = _spool(tmp_path)
    spool.append([_readings(2), _readings(3)])
    spool.append([DeadLetter("b", "bad_crc", "x", b"\x00raw")])
    first, second, third = spool.after(0, 10)
    assert [b.seq for b in (first, second, third)] == [first.seq, first.seq + 1, first.seq + 2]
    assert first.topic == "park/v1/b/col/readings" and third.topic == "park/v1/b/col/deadletter"
    assert decode_batch(first.payload).seq == first.seq and len(decode_batch(second.payload).point) == 3
    assert b'"payload":"AHJhdw=="' in third.payload
    assert [b.seq for b in spool.after(first.seq, 1)] == [second.seq]


def test_a_reading_without_value_keeps_its_quality_on_the_way(tmp_path: Path) -> None:
    spool = _spool(tmp_path)
    spool.append([Readings("b", ["p", "q"], [1, 2], [None, 3.0], ["missing", "good"])])
    batch = decode_batch(spool.after(0, 1)[0].payload)
    assert list(batch.value) == [None, 3.0] and list(batch.quality or []) == ["missing", "good"]


def test_numbers_go_on_after_a_restart_even_when_everything_was_sent(tmp_path: Path) -> None:
    spool = _spool(tmp_path)
    spool.append([_readings()] * 5)
    last = spool.after(0, 10)[-1].seq
    spool.delete([b.seq for b in spool.after(0, 10)])
    spool.close()
    again = _spool(tmp_path, clock=lambda: START - timedelta(days=400))  # and the clock was set back
    again.append([_readings()])
    assert again.after(0, 10)[0].seq == last + 1


def test_numbers_do_not_repeat_when_the_file_is_lost_or_an_old_copy_comes_back(tmp_path: Path) -> None:
    spool = _spool(tmp_path)
    spool.append([_readings()] * 100)
    last = spool.after(0, 200)[-1].seq
    spool.close()
    (tmp_path / "s.sqlite").unlink()
    later = _spool(tmp_path, clock=lambda: START + timedelta(minutes=1))
    later.append([_readings()])
    assert later.after(0, 10)[0].seq > last


def test_a_full_spool_drops_its_oldest_batches_and_counts_them(tmp_path: Path) -> None:
    spool = _spool(tmp_path, max_bytes=5_000)
    for n in range(60):
        spool.append([_readings(5, float(n))])
    size = spool.size()
    assert size.bytes <= 5_000
    assert size.batches + size.dropped_batches == 60 and size.dropped_readings == 5 * size.dropped_batches > 0
    values = [decode_batch(b.payload).value[0] for b in spool.after(0, 100)]
    assert values == [float(n) for n in range(60 - size.batches, 60)]
    spool.close()
    assert _spool(tmp_path, max_bytes=5_000).size() == size, "the counters outlive a restart"


def test_the_size_is_known_again_after_a_restart(tmp_path: Path) -> None:
    spool = _spool(tmp_path)
    spool.append([_readings()] * 3)
    size = spool.size()
    spool.close()
    assert _spool(tmp_path).size() == size


def test_a_damaged_file_is_kept_aside_and_a_new_one_begins(tmp_path: Path) -> None:
    (tmp_path / "s.sqlite").write_bytes(b"this is no database" * 100)
    spool = _spool(tmp_path)
    spool.append([_readings()])
    assert spool.size().batches == 1
    (broken,) = tmp_path.glob("s.sqlite.broken-*")
    assert broken.read_bytes().startswith(b"this is no database")


def test_two_processes_cannot_share_a_spool(tmp_path: Path) -> None:
    spool = _spool(tmp_path)
    with pytest.raises(SetupError, match="another collector holds the spool"):
        _spool(tmp_path)
    spool.close()
    _spool(tmp_path).close()


def test_a_disk_that_refuses_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    spool = _spool(tmp_path)
    spool.append([_readings()])
    spool._db.execute("PRAGMA max_page_count = 8")  # SQLite's own "database or disk is full"
    with pytest.raises(StorageError, match="did not take"):
        spool.append([_readings(500)] * 20)
    assert spool.size().batches == 1 == len(spool.after(0, 100))
    spool._db.execute("PRAGMA max_page_count = 1073741823")
    spool.append([_readings(500)] * 20)
    assert spool.size().batches == 21


def test_a_batch_that_cannot_be_forgotten_is_still_counted(tmp_path: Path) -> None:
    spool = _spool(tmp_path)
    spool.append([_readings()])
    before, (batch,) = spool.size(), spool.after(0, 10)
    spool._db.execute("PRAGMA query_only = 1")
    with pytest.raises(StorageError, match="cannot forget"):
        spool.delete([batch.seq])
    assert spool.size() == before
    spool._db.execute("PRAGMA query_only = 0")
    assert spool.delete([batch.seq]) == (1, 2) and spool.size().bytes == 0


def test_an_empty_spool_gives_its_room_back_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectors.spool.SHRINK_FROM_PAGES", 2048)
    spool = _spool(tmp_path)
    for _ in range(30):
        spool.append([_readings(10_000)] * 4)
    file = tmp_path / "s.sqlite"
    assert file.stat().st_size > 8 << 20
    last = spool.newest
    spool.delete([b.seq for b in spool.after(0, 1000)])
    assert file.stat().st_size < 1 << 20
    spool.append([_readings()])
    assert spool.newest == last + 1


def test_the_reserve_is_taken_again_when_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reserve = DiskReserve(tmp_path / "r", 1 << 20)
    assert reserve.held and reserve.path.stat().st_size == 1 << 20
    reserve.release()
    assert not reserve.path.exists()
    monkeypatch.setattr(reserve, "free_bytes", lambda: (2 << 20) - 1)
    reserve.hold()
    assert not reserve.held, "half of what is free stays free"
    monkeypatch.undo()
    reserve.hold()
    assert reserve.held and DiskReserve(tmp_path / "r", 1 << 20).held, "a former process left it"
    monkeypatch.setattr(DiskReserve, "free_bytes", lambda _: 4096)
    again = DiskReserve(tmp_path / "r", 1 << 20)
    assert again.held and again.size == 1 << 20, "also when the disk is full at the start"


WRITER = """
import sys
from pathlib import Path
from collectors.readings import Readings
from collectors.spool import Spool, SpoolSize
spool = Spool(Path(sys.argv[1]), "col")
n = 0
while True:
    spool.append([Readings("b", ["p"], [n], [float(n)], ["good"])])
    print(n, flush=True)
    n += 1
"""


def test_what_was_appended_survives_kill_9(tmp_path: Path) -> None:
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "s.sqlite")], stdout=subprocess.PIPE,
                                  cwd=Path(__file__).parent.parent.parent)
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(40)]
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged += [int(line) for line in writer.stdout.read().split()]
        writer.wait()
        writer.stdout.close()
        spool = Spool(tmp_path / "s.sqlite", "col")
        kept = [int(decode_batch(b.payload).at[0]) for b in spool.after(0, 100_000)]
        assert kept[:len(acknowledged)] == acknowledged and len(kept) - len(acknowledged) in (0, 1)
        spool.delete([b.seq for b in spool.after(0, 100_000)])
        spool.close()


def _with_intake(tmp_path: Path, script: Any, **options: Any) -> SpoolIntake:
    spool = _spool(tmp_path)
    intake = SpoolIntake(spool, **options)

    async def run() -> None:
        task = asyncio.create_task(intake.run())
        await script(intake)
        await intake.stop()
        await task
    asyncio.run(asyncio.wait_for(run(), 20))
    return intake


def test_store_returns_when_the_readings_are_on_disk(tmp_path: Path) -> None:
    async def script(intake: SpoolIntake) -> None:
        await intake.store([_readings(3)])
        assert sum(b.n for b in intake.spool.after(0, 10)) == 3
    _with_intake(tmp_path, script, flush_s=60.0)


def test_readings_of_a_moment_become_batches_of_at_most_the_given_rows(tmp_path: Path) -> None:
    async def script(intake: SpoolIntake) -> None:
        for _ in range(130):
            intake.add(_readings(10))
    intake = _with_intake(tmp_path, script, flush_s=60.0, batch_rows=500)
    assert [b.n for b in intake.spool.after(0, 10)] == [500, 500, 300]


def test_while_the_disk_refuses_readings_wait_and_their_senders_are_told(tmp_path: Path) -> None:
    async def script(intake: SpoolIntake) -> None:
        intake.spool._db.execute("PRAGMA max_page_count = 8")
        intake.add(_readings(500))
        with pytest.raises(StorageError):
            await intake.store([_readings(5000)])
        intake.spool._db.execute("PRAGMA max_page_count = 1073741823")
        assert await intake.flush()
        assert sum(b.n for b in intake.spool.after(0, 1000)) == 500, "what was refused to its sender comes again from there"
    _with_intake(tmp_path, script, flush_s=60.0)


def test_beyond_the_bound_on_memory_readings_are_counted_as_dropped(tmp_path: Path) -> None:
    async def script(intake: SpoolIntake) -> None:
        for _ in range(30):
            intake.add(_readings(10))
    intake = _with_intake(tmp_path, script, flush_s=60.0, batch_rows=10_000, max_pending=200)
    assert intake.taken_readings == 200 and intake.dropped_readings == 100


def test_a_disk_with_little_room_gets_smaller_pieces(tmp_path: Path) -> None:
    async def script(intake: SpoolIntake) -> None:
        intake.spool._db.execute("PRAGMA max_page_count = 40")
        for _ in range(40):
            intake.add(_readings(500))
        assert not await intake.flush()
        for _ in range(20):
            await intake.flush()
        kept = intake.spool.size().batches
        assert kept > 2, "what fits is safe"
        intake.spool.delete([b.seq for b in intake.spool.after(0, 100)])
        assert await intake.flush()
        assert intake.spool.size().batches > 0
        intake.spool._db.execute("PRAGMA max_page_count = 1073741823")
    intake = _with_intake(tmp_path, script, flush_s=60.0)
    assert intake.pending_readings == 0 and intake.taken_readings == 20_000


def test_one_batch_that_cannot_be_written_costs_only_itself(tmp_path: Path) -> None:
    class Poison(DeadLetter):
        def __len__(self) -> int:
            return 3

        def encode(self, seq: int) -> bytes:
            raise RuntimeError("a surprise")

    async def script(intake: SpoolIntake) -> None:
        intake.add(Poison("b", "x", "y", b""))
        await intake.store([_readings(4)])
    intake = _with_intake(tmp_path, script, flush_s=60.0)
    assert intake.dropped_readings == 3 and [b.n for b in intake.spool.after(0, 10)] == [4]


def test_a_full_spool_that_keeps_its_oldest_refuses_the_new_and_counts_what_is_given_up(tmp_path: Path) -> None:
    async def script(intake: SpoolIntake) -> None:
        intake.add(_readings(30))
        assert await intake.flush()
        kept = intake.spool.after(0, 10)
        intake.add(_readings(40))
        with pytest.raises(StorageError, match="full"):
            await intake.store([_readings(50)])
        assert intake.spool.after(0, 10) == kept, "the oldest stay"
        assert intake.spool.size().dropped_readings == 40, "a logger keeps what got no answer and sends it again"
    spool = _spool(tmp_path, max_bytes=1000, full="newest")
    intake = SpoolIntake(spool, flush_s=60.0)

    async def run() -> None:
        task = asyncio.create_task(intake.run())
        await script(intake)
        await intake.stop()
        await task
    asyncio.run(asyncio.wait_for(run(), 20))


def test_the_alarm_of_a_spool_tells_filling_and_dropping_and_ends(tmp_path: Path) -> None:
    alarm, base = SpoolAlarm(), SpoolSize(1, 0, 0, 0, 100)
    words = [alarm.judge(replace(base, bytes=b), None, 0.0) for b in (79, 80, 75, 69, 75)]
    assert words == ["", "filling", "filling", "", ""]
    assert alarm.judge(base, None, 0.0, refused=True) == "refusing" and alarm.judge(base, None, 0.0) == ""
    assert alarm.judge(base, 1000.0, 1001.0) == "dropping" and alarm.judge(base, 1000.0, 1000.0 + 3601) == ""
    spool = _spool(tmp_path, max_bytes=500)
    for _ in range(5):
        spool.append([_readings(5)])
    assert spool.dropped_at == START.timestamp()
