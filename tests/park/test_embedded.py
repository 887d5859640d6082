"""The embedded server survives kill -9 of itself and of its parent, and changes nothing above its folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg
import pytest

from park.broker import Broker
from park.embedded import Postgres
from park.errors import SetupError

ROOT = Path(__file__).parent.parent.parent
HOLD = """
import sys, time
from pathlib import Path
from park.embedded import Postgres
server = Postgres(Path(sys.argv[1])).start()
print(server.pid, flush=True)
time.sleep(600)
"""


def _gone(pid: int, within_s: float = 15.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_a_committed_row_survives_kill_9_of_the_server(tmp_path: Path) -> None:
    with Postgres(tmp_path / "pg") as server:
        with psycopg.connect(server.url()) as conn:
            conn.execute("CREATE TABLE kept (v int)")
            conn.execute("INSERT INTO kept VALUES (7)")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        assert _gone(server.pid)
    with Postgres(tmp_path / "pg") as server, psycopg.connect(server.url()) as conn:
        assert conn.execute("SELECT v FROM kept").fetchall() == [(7,)]


def test_kill_9_of_the_parent_ends_the_server_and_the_next_start_works(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "pg")], stdout=subprocess.PIPE, cwd=ROOT)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    with Postgres(tmp_path / "pg") as server, psycopg.connect(server.url()) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
    assert _gone(pid)


def test_a_pid_file_of_somebody_else_does_not_block_the_start(tmp_path: Path) -> None:
    with Postgres(tmp_path / "pg"):
        pass
    (tmp_path / "pg" / "postmaster.pid").write_text(f"{os.getpid()}\n{tmp_path}/pg\n")
    with Postgres(tmp_path / "pg") as server:
        assert server.alive()


def test_folders_above_the_data_folder_keep_their_owner_and_mode(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    before = closed.stat()
    with Postgres(closed / "data" / "pg") as server:
        assert server.alive()
    after = closed.stat()
    assert (before.st_uid, before.st_mode) == (after.st_uid, after.st_mode)


def test_no_tcp_port_is_opened_and_no_socket_stays(tmp_path: Path) -> None:
    with Postgres(tmp_path / "pg") as server:
        assert server.pid is not None
        kinds = {c.family.name for c in psutil.Process(server.pid).net_connections(kind="all")}
        assert kinds <= {"AF_UNIX"}
    assert not server.socket_dir.exists()


def test_a_server_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="unrecognized configuration parameter"):
        Postgres(tmp_path / "pg", config={"no_such_setting": "1"}).start()


@pytest.mark.parametrize("kind", ["amqtt", "mosquitto"])
def test_both_brokers_start_and_stop(tmp_path: Path, kind: str) -> None:
    with Broker(tmp_path, kind=kind) as broker:
        pid = broker.pid
        assert broker.alive() and pid is not None
    assert _gone(pid)
