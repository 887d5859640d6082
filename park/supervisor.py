"""Runs the stages as processes: started together, watched, restarted with back-off, stopped within a bound.

Every child dies with this process, even with kill -9 of it: the kernel sends SIGTERM (PR_SET_PDEATHSIG). Start and
restart from the main thread only, since the kernel ties the child to the thread that made it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from park.embedded import die_with_parent
from park.errors import SetupError

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 30.0
STEADY_S = 60.0
STOP_S = 6.0
LOG_BYTES = 50_000_000      # of a service's log; what goes beyond it becomes NAME.log.1, and the one before is forgotten


@dataclass
class Service:
    """One stage as a process: `park <arguments>`, with its log file."""

    name: str
    arguments: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    wait_s: float = FIRST_WAIT_S
    due: float = 0.0
    restarts: int = 0


@dataclass
class Supervisor:
    """Starts services with one environment and keeps them running until `stop`."""

    log_dir: Path
    environment: dict[str, str]
    say: Callable[[str], None]
    services: list[Service] = field(default_factory=list)

    def add(self, name: str, *arguments: str) -> None:
        """Start `park <arguments>` as a service."""
        service = Service(name, arguments)
        self.services.append(service)
        self._start(service)

    def watch(self) -> None:
        """One look at every service: restart what ended, later each time while it keeps ending early."""
        now = time.monotonic()
        for service in self.services:
            self._bound_log(service)
            if service.process is not None and service.process.poll() is not None:
                status, service.process = service.process.returncode, None
                steady = now - service.started > STEADY_S
                service.wait_s = FIRST_WAIT_S if steady else min(service.wait_s * 2, LONGEST_WAIT_S)
                service.due = now + service.wait_s
                service.restarts += 1
                self.say(f"{service.name} ended with status {status}; starting again in {service.wait_s:.0f} s "
                         f"(see {self.log_dir / (service.name + '.log')})")
            elif service.process is None and now >= service.due:
                self._start(service)

    def stop(self) -> None:
        """SIGTERM to all at once, SIGKILL to what has not ended after STOP_S."""
        running = [s.process for s in self.services if s.process is not None and s.process.poll() is None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + STOP_S
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.services.clear()

    def _bound_log(self, service: Service) -> None:
        """Begin a log anew that has grown too long. It is copied and cut: the service appends to the file that it has open."""
        path = self.log_dir / f"{service.name}.log"
        with contextlib.suppress(OSError):      # a full disk must not end the services
            if path.stat().st_size > LOG_BYTES:
                shutil.copyfile(path, path.with_name(f"{path.name}.1"))
                os.truncate(path, 0)

    def _start(self, service: Service) -> None:
        self.log_dir.mkdir(parents=True, exist_ok=True)
        with (self.log_dir / f"{service.name}.log").open("ab") as log:
            service.process = subprocess.Popen(
                [sys.executable, "-m", "park.cli", *service.arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True, preexec_fn=die_with_parent, env=os.environ | self.environment)
        service.started = time.monotonic()


class Server(Protocol):
    """An embedded server that this process started itself: PostgreSQL, the broker."""

    def alive(self) -> bool:
        """Whether its process runs."""

    def start(self) -> object:
        """Run it; SetupError when it does not come up."""


@dataclass
class Revival:
    """Starts an embedded server again that ended on its own or was killed: later each time while it does not come up."""

    name: str
    server: Server
    say: Callable[[str], None]
    wait_s: float = FIRST_WAIT_S
    due: float = 0.0
    lost_at: float | None = None

    def watch(self) -> None:
        """One look. The stages need nothing told: they go on asking until it answers."""
        now = time.monotonic()
        if self.server.alive() or now < self.due:
            return
        self.say(f"{self.name} has ended; starting it again")
        self.lost_at = time.monotonic() if self.lost_at is None else self.lost_at
        try:
            self.server.start()
            self.wait_s = FIRST_WAIT_S
            self.say(f"{self.name} is back after {time.monotonic() - self.lost_at:.0f} s")
            self.lost_at = None
        except SetupError as exc:
            self.wait_s = min(self.wait_s * 2, LONGEST_WAIT_S)
            self.due = time.monotonic() + self.wait_s
            self.say(f"{self.name} does not come up, next try in {self.wait_s:.0f} s: {exc}")


class Interrupted(Exception):
    """SIGINT or SIGTERM reached the supervisor."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into Interrupted while the block runs; the former handlers return afterwards."""
    def stop(signum: int, frame: object) -> None:
        for s in (signal.SIGINT, signal.SIGTERM):
            signal.signal(s, signal.SIG_IGN)  # a second Ctrl-C must not cut the clean stop in half
        raise Interrupted

    former = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in former.items():
            signal.signal(signum, handler)
