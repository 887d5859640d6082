"""`park demo`: the whole platform on one machine, from an empty folder to a page; what `park up` (park/up.py) shares with it.

Steps: embedded PostgreSQL and broker where no other is named, migrations, catalogue, history (demo only), tokens,
then one process a stage under the supervisor. Everything lives in the data folder; a second start finds it again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shlex
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from park import database
from park.broker import Broker, Listen, free_port, host_port, is_embedded
from park.broker_access import OWN_SOURCE
from park.catalogue import Catalogue, read_catalogue
from park.catalogue_store import apply
from park.embedded import Postgres
from park.errors import SetupError
from park.lookout import lookouts, standing
from park.private import closed_to_others, write_private
from park.quantities import TABLES
from park.settings import Settings
from park.supervisor import Interrupted, Revival, Supervisor, interruptible

HISTORY_DAYS = 365
FIRST_DAYS = 14     # loaded before the stages start, so that the page has something to show at once
MODBUS_PORT = 15020
GATEWAYS = 16
HJ212_PORT = 9212
READY_S = 45.0


@dataclass(frozen=True)
class Ports:
    """TCP ports of a run on this machine."""

    http: int
    modbus: int
    hj212: int
    control: int


class Steps:
    """Prints what is being done: one line a step, with the time it took."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.start = time.monotonic()

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        """A step that prints its duration when it is done."""
        began = time.monotonic()
        self.console.print(f"[dim]{began - self.start:6.1f} s[/]  {text} …", soft_wrap=True)
        yield
        took = time.monotonic() - began
        if took > 0.5:
            self.console.print(f"[dim]          done in {took:.1f} s[/]")

    def say(self, text: str) -> None:
        """A line beside the steps."""
        self.console.print(f"[dim]{time.monotonic() - self.start:6.1f} s[/]  {text}", soft_wrap=True)


def demo(settings: Settings, *, days: int | None, port: int, data_dir: Path) -> None:
    """Run the simulated park until Ctrl-C; with `days`, that much history is loaded before the stages start."""
    steps = Steps(Console(stderr=False, highlight=False))
    ports = _ports(port)
    with platform(settings, data_dir, steps) as here:
        supervisor, url = here.supervisor, here.url
        (data_dir / "ports.json").write_text(json.dumps(asdict(ports)))
        from simulators.catalogue import write_catalogue
        with steps.step("simulated park: writing and applying its catalogue"):
            files = write_catalogue(data_dir / "catalogue", modbus_port=ports.modbus)
            catalogue = read_catalogue(files)
            bring(url, catalogue)
        first = FIRST_DAYS if days is None else days
        loaded = _history_loaded(data_dir)
        if first > loaded:
            _load_history(url, catalogue, data_dir, steps, first)
        tokens = tokens_of(url, data_dir, [catalogue])
        _fill_roster(url, catalogue)
        with steps.step("starting collectors, ingest, accounting, alerts, api"):
            supervisor.add("simulate", "simulate", "--modbus-port", str(ports.modbus), "--hj212", f"127.0.0.1:{ports.hj212}",
                           "--control-port", str(ports.control), "--data-dir", str(data_dir))
            behind(supervisor, ports, settings.host)
            # collectors after the devices: a refused connection is a finding in a real park, and would raise alerts here
            _wait_port(supervisor, ports.control)
            collect(supervisor, files, ports.hj212, "127.0.0.1")
            supervisor.add("alert", "alert")
            address = wait_ready(supervisor, settings.host, ports.http)
        greet(steps, address, tokens, data_dir, secrets=True)
        steps.say("Ctrl-C stops everything")
        if days is None and loaded < HISTORY_DAYS:
            _load_history(url, catalogue, data_dir, steps, HISTORY_DAYS, watch=supervisor)
        keep(here)


@dataclass(frozen=True)
class Platform:
    """What the stages of a run stand on; `broker` is None where PARK_MQTT_URL names another, `servers` are those embedded."""

    supervisor: Supervisor
    url: str
    mqtt_url: str
    broker: Broker | None
    servers: Sequence[Revival]


@contextlib.contextmanager
def platform(settings: Settings, data_dir: Path, steps: Steps,
             listen: Listen | None = None) -> Iterator[Platform]:
    """Database and broker (embedded unless the environment names others), migrated; a supervisor; all stopped at the end.

    With `listen` the embedded broker listens there, and asks everybody for a password.
    """
    with contextlib.ExitStack() as stack, interruptible():
        try:
            stack.enter_context(closed_to_others(data_dir))
        except OSError as exc:
            raise SetupError(f"the data folder {data_dir} cannot be made: {exc.strerror}; choose another with "
                             "--data-dir") from exc
        stack.enter_context(_only_one(data_dir))
        try:
            url, mqtt_url = named_servers(data_dir)
            postgres = None
            if url is None:
                with steps.step("embedded PostgreSQL"):
                    postgres = stack.enter_context(Postgres(data_dir / "postgres").start())
                    url = postgres.url()
            with steps.step("schema and national factors"):
                prepare(url)
            broker = None
            if mqtt_url is None:
                with steps.step("embedded MQTT broker"):
                    inside = None if listen and not listen.certificate else _broker_port(data_dir)
                    broker = stack.enter_context(Broker(data_dir / "broker", inside, listen=listen).start())
                    mqtt_url = broker.url
                    steps.say("broker: {} at {}:{}".format(broker.kind, *host_port(mqtt_url)))   # without its password
            environment = {"PARK_DATABASE_URL": url, "PARK_MQTT_URL": mqtt_url, "PARK_DATA_DIR": str(data_dir.absolute())}
            write_private(data_dir / "env", "".join(f"export {k}={shlex.quote(v)}\n" for k, v in environment.items()))
            supervisor = Supervisor(data_dir / "logs", environment, steps.say)
            stack.callback(supervisor.stop)
            stack.enter_context(standing(lookouts(*named_servers(data_dir)), steps.say))
            embedded = {"PostgreSQL": postgres, "the broker": broker}
            yield Platform(supervisor, url, mqtt_url, broker,
                           [Revival(name, server, steps.say) for name, server in embedded.items() if server is not None])
        except Interrupted:
            steps.say("stopping every process")
    steps.say("stopped; the data stay in " + str(data_dir))


def named_servers(data_dir: Path) -> tuple[str | None, str | None]:
    """Database and broker that the environment names; None also for those of this data folder, whose file `env` was read
    into the shell after an earlier start."""
    url, mqtt_url = os.environ.get("PARK_DATABASE_URL"), os.environ.get("PARK_MQTT_URL")
    return (None if url == Postgres(data_dir / "postgres").url() else url,
            None if mqtt_url is not None and is_embedded(data_dir / "broker", mqtt_url) else mqtt_url)


def prepare(url: str, *, citus: bool = False, convert: bool = False, workers: Sequence[str] = ()) -> list[str]:
    """Migrate, and bring the national factors, accuracy classes and indicators to the shipped tables; the names of the
    migrations that ran."""
    done = database.migrate(url, citus=citus, convert=convert, workers=workers)
    for table in ("factors.yaml", "accuracies.yaml", "indicators.yaml"):
        bring(url, read_catalogue([TABLES / table]))
    return done


def bring(url: str, catalogue: Catalogue) -> None:
    """Bring the database to the catalogue."""
    with database.connect(url) as conn:
        apply(conn, catalogue)


def behind(supervisor: Supervisor, ports: Ports, host: str) -> None:
    """The stages behind the broker, of all bases, but for alerts."""
    supervisor.add("ingest", "ingest")
    supervisor.add("serve", "serve", "--host", host, "--port", str(ports.http))
    supervisor.add("account", "account")


def collect(supervisor: Supervisor, catalogue: Sequence[Path], port: int, host: str, source: str = OWN_SOURCE) -> None:
    """The stage before the broker, for one base."""
    name, own = ("collect", []) if source == OWN_SOURCE else (f"collect-{source}", ["--source", source])
    supervisor.add(name, "collect", *map(str, catalogue), "--also-database", "--hj212-host", host,
                   "--hj212-port", str(port), *own)


def _wait_port(supervisor: Supervisor, port: int) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        supervisor.watch()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise SetupError(f"the simulated park does not open its port {port}; see {supervisor.log_dir / 'simulate.log'}")


def keep(here: Platform) -> None:
    """Watch the embedded servers and the stages until something stops this process."""
    while True:
        for server in here.servers:
            server.watch()
        here.supervisor.watch()
        time.sleep(0.5)


def wait_ready(supervisor: Supervisor, host: str, port: int) -> str:
    """The console's address as soon as the API is ready; SetupError when it takes longer than READY_S."""
    address = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        supervisor.watch()
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError), \
                urllib.request.urlopen(f"{address}/readyz", timeout=2) as answer:
            if answer.status == 200:
                return address
        time.sleep(0.1)
    raise SetupError(f"the API at {address} is not ready after {READY_S:.0f} s; see {supervisor.log_dir}")


def greet(steps: Steps, address: str, tokens: dict[str, str], data_dir: Path, *, secrets: bool) -> None:
    """Where the console is, and how to get in. The tokens of a real park (not `secrets`) are for a terminal alone: the journal
    of a service would keep them."""
    steps.say(f"[bold green]ready[/]: [bold]{address}/{'#token=' + tokens['operator'] if secrets else ''}[/]")
    for role, token in tokens.items() if secrets else ():
        steps.say(f"  token {role:<11}{token}")
    steps.say(f"tokens are in {data_dir / 'tokens.json'}, logs in {data_dir / 'logs'}")
    steps.say(f"for other commands of park in another shell: . {data_dir / 'env'}")


def tokens_of(url: str, data_dir: Path, catalogues: Sequence[Catalogue]) -> dict[str, str]:
    """The tokens of `tokens.json` in the data folder, made where they are not there yet."""
    from api.tokens import ready_tokens
    with database.connect(url, autocommit=True) as conn:
        return ready_tokens(conn, data_dir / "tokens.json", catalogues)


def _fill_roster(url: str, catalogue: Catalogue) -> None:
    """People on duty in the simulated park for two weeks, unless somebody keeps the roster."""
    import yaml

    import simulators
    from alerts import roster
    assert catalogue.base is not None
    shifts = yaml.safe_load((Path(simulators.__file__).parent / "roster.yaml").read_text(encoding="utf-8"))
    with database.connect(url, autocommit=True) as conn:
        roster.fill(conn, catalogue.base.code, shifts, datetime.now(UTC), 14, "park demo")


def _history_loaded(data_dir: Path) -> int:
    path = data_dir / "history.json"
    return int(json.loads(path.read_text())["days"]) if path.exists() else 0


def _load_history(url: str, catalogue: Catalogue, data_dir: Path, steps: Steps, days: int,
                  watch: Supervisor | None = None) -> None:
    """Load `days` of simulated history up to the first start, newest first; what is there already is skipped."""
    from ingest.bulk import load_blocks
    from simulators.history import blocks
    path = data_dir / "history.json"
    fresh = {"days": 0, "end": datetime.now(UTC).isoformat()}
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else fresh
    end = datetime.fromisoformat(known["end"])
    assert catalogue.base is not None
    steps.say(f"history: {days} days of {len(catalogue.points)} points")
    began, rows = time.monotonic(), 0
    with _progress(steps.console) as progress:
        expected = _expected_readings(catalogue, days, known["days"])
        task = progress.add_task("history", total=expected)

        def advance(n: int) -> None:
            nonlocal rows
            tenth_before, rows = 10 * rows // expected, rows + n
            progress.update(task, completed=min(rows, expected))
            if not steps.console.is_terminal and 10 * rows // expected > tenth_before:
                steps.say(f"  {rows:,} of about {expected:,} readings")
            if watch is not None:
                watch.watch()

        load_blocks(url, catalogue.base.code, blocks(days, end, skip_days=known["days"], newest_first=True), advance)
        progress.update(task, completed=expected)
    path.write_text(json.dumps({"days": days, "end": known["end"]}))
    took = time.monotonic() - began
    steps.say(f"history loaded: {rows:,} readings in {took:.1f} s ({rows / max(took, 0.001):,.0f} a second)")


def _expected_readings(catalogue: Catalogue, days: int, known_days: int) -> int:
    """About how many readings the days hold: 96 quarters a day and point, minutes at outlets in the newest three days."""
    outlets = {u.code for u in catalogue.units if u.role == "outlet"}
    by_minute = sum(1 for p in catalogue.points if p.belongs_to in outlets) if known_days == 0 else 0
    return len(catalogue.points) * 96 * (days - known_days) + by_minute * (1440 - 96) * min(days, 3)


def _progress(console: Console) -> Progress:
    return Progress(TextColumn("          "), BarColumn(), MofNCompleteColumn(), TextColumn("readings"), TimeElapsedColumn(),
                    TimeRemainingColumn(), console=console, disable=not console.is_terminal)


@contextlib.contextmanager
def _only_one(data_dir: Path) -> Iterator[None]:
    """A lock on the data folder that the kernel frees even after kill -9."""
    try:
        lock = (data_dir / "lock").open("w")
    except OSError as exc:
        raise SetupError(f"the data folder {data_dir} cannot be written: {exc.strerror}; choose another with "
                         "--data-dir") from exc
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise SetupError(f"another park demo or park up runs over {data_dir}; stop it, or choose --data-dir") from exc
        yield


def _ports(http: int) -> Ports:
    modbus = MODBUS_PORT
    while not all(is_free(modbus + k) for k in range(GATEWAYS)):
        modbus += GATEWAYS
    return Ports(usable(http, "--port"), modbus, HJ212_PORT if is_free(HJ212_PORT) else free_port(), free_port())


def _broker_port(data_dir: Path) -> int:
    """The same port at each start where it is free: devices of a real park are set to it."""
    path = data_dir / "broker.port"
    port = int(path.read_text()) if path.exists() else 1883
    if not is_free(port):
        port = free_port()
    path.write_text(str(port))
    return port


def usable(port: int, option: str, host: str = "127.0.0.1") -> int:
    """The port, when it can be listened on; SetupError that names the option otherwise."""
    reason = _taken(port, host)
    if reason == errno.EADDRNOTAVAIL:
        raise SetupError(f"{host} is no address of this machine; choose another with {option}")
    if reason == errno.EACCES:
        raise SetupError(f"port {port} needs the rights of root; choose one from 1024 on with {option}")
    if reason:
        raise SetupError(f"port {port} is taken by another program; choose another with {option}")
    return port


def is_free(port: int) -> bool:
    """Whether nothing listens on the port of loopback."""
    return _taken(port, "127.0.0.1") == 0


def _taken(port: int, host: str) -> int:
    """0, or the error number with which the address refuses a listener."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((host, port))
        except socket.gaierror:
            return errno.EADDRNOTAVAIL
        except OSError as exc:
            return exc.errno or errno.EADDRINUSE
        return 0
