"""`park up`: every stage on one machine for a real park; what it shares with `park demo` is in park/demo.py.

The embedded broker listens on loopback, or where `mqtt_listen` says: then it asks for passwords (park/broker_access.py).
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from park.broker import Listen, free_port, host_port
from park.broker_access import DEVICE, GATEWAY, LOOPBACK, listen_address, users
from park.broker_tls import Certificate, read_certificate, why
from park.catalogue import Catalogue
from park.demo import (
    HJ212_PORT,
    Platform,
    Ports,
    Steps,
    behind,
    bring,
    collect,
    greet,
    is_free,
    keep,
    named_servers,
    platform,
    tokens_of,
    usable,
    wait_ready,
)
from park.errors import InputError
from park.mqtt import refusal
from park.settings import Settings
from park.sites import keep_places, placed, read_sites

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")     # of a password in the catalogue


def up(settings: Settings, files: Sequence[Path], *, host: str, port: int, data_dir: Path, hj212_port: int = HJ212_PORT,
       mqtt_listen: str | None = None, mqtt_cert: Path | None = None, mqtt_key: Path | None = None,
       checks: Sequence[Callable[[list[Path]], object]] = ()) -> None:
    """Run every stage for the real park, or the several parks, that `files` describe, until Ctrl-C.

    What `checks` find wrong with devices and rules is said and keeps nothing from starting: a park that runs must come
    back after a power cut, whatever one device's line says.
    """
    steps = Steps(Console(highlight=False))
    sites, wrong = read_sites(files)
    sites = placed(sites, data_dir)
    listen = _listen(data_dir, mqtt_listen, mqtt_cert, mqtt_key, [site.code for site in sites])
    ports = Ports(usable(port, "--port", host), 0, 0, 0)
    loggers = {site.code: _hj212_port(site.catalogue, hj212_port and hj212_port + site.place) for site in sites}
    with platform(settings, data_dir, steps, listen) as here:
        keep_places(sites, data_dir)
        for site in sites:
            with steps.step(f"applying the catalogue of {site.code}"):
                bring(here.url, site.catalogue)
        tokens = tokens_of(here.url, data_dir, [site.catalogue for site in sites])
        with steps.step("starting collectors, ingest, accounting, alerts, api"):
            behind(here.supervisor, ports, host)
            for site in sites:      # loggers in the field connect to us
                collect(here.supervisor, site.files, loggers[site.code], "0.0.0.0", site.source)
            here.supervisor.add("alert", "alert")
            address = wait_ready(here.supervisor, host, ports.http)
        greet(steps, address, tokens, data_dir, secrets=steps.console.is_terminal)
        _say_where(steps, here, ports, host, listen, loggers)
        for line in wrong:
            steps.say(f"[bold red]mistake[/] {escape(line)}")
        if wrong:
            steps.say("[bold red]a catalogue with mistakes is left out[/], its devices are not read: mend it, and start again")
        for site in sites:
            _say_mistakes(steps, site.files, site.catalogue, checks)
        steps.say("Ctrl-C stops everything")
        keep(here)


def _listen(data_dir: Path, text: str | None, cert: Path | None, key: Path | None, bases: Sequence[str]) -> Listen | None:
    """Where the embedded broker listens for devices elsewhere, checked as far as can be; None: nowhere."""
    if text is None:
        if cert or key:
            raise InputError("--mqtt-cert and --mqtt-key are for devices elsewhere: say where with --mqtt-listen 0.0.0.0:8883")
        return None
    if key and not cert:
        raise InputError("--mqtt-key needs --mqtt-cert beside it")
    if named_servers(data_dir)[1] is not None:
        raise InputError("--mqtt-listen is for the broker that `park up` brings itself, and PARK_MQTT_URL names another one: "
                         "leave one of them out")
    host, port = listen_address(text, 8883 if cert else 1883)
    return Listen(host, usable(port, "--mqtt-listen", host), bases, read_certificate(cert, key or cert) if cert else None)


def _hj212_port(catalogue: Catalogue, wanted: int) -> int:
    if wanted and any(d.protocol == "hj212" for d in catalogue.devices):
        return usable(wanted, "--hj212-port", "0.0.0.0")
    return wanted if wanted and is_free(wanted) else free_port()  # open all the same: strangers are heard and can be adopted


def _say_where(steps: Steps, here: Platform, ports: Ports, host: str, listen: Listen | None,
               loggers: Mapping[str, int]) -> None:
    """Where people, data loggers and MQTT devices reach this machine from elsewhere."""
    near = own_address()
    if host in LOOPBACK:
        steps.say("the console listens on this machine alone; --host 0.0.0.0 opens it to others")
    else:
        steps.say(f"the console from other machines: http://{near if host in ('0.0.0.0', '::') else host}:{ports.http}")
    for code, port in loggers.items():
        steps.say(f"data loggers (HJ 212){f' of {code}' if len(loggers) > 1 else ''} connect to {near} port {port}")
    if here.broker is None:
        say_trouble(steps, here.mqtt_url)
        return
    if listen is None:
        steps.say("the broker listens on this machine alone; --mqtt-listen 0.0.0.0:1883 opens it to devices, with passwords")
        return
    at = near if listen.host in ("0.0.0.0", "::") else listen.host
    steps.say(f"MQTT devices publish to {at} port {listen.port}{' with TLS' if listen.certificate else ''}, a collector "
              "elsewhere too, each with its user")
    for name, password in users(here.broker.users_file).items():
        if name in (DEVICE, GATEWAY) and steps.console.is_terminal:     # the journal of a service must not keep them
            steps.say(f"  user {name:<12}password {escape(password)}")
    steps.say(f"passwords are in {here.broker.users_file}" + ("" if listen.certificate else
              "; they cross the network in clear: --mqtt-cert encrypts, or let it be a network of the plant's own"))
    if listen.certificate:
        say_certificate(steps, listen.certificate, at)
    if here.broker.kind == "amqtt":
        steps.say("this broker is amqtt, which forgets what it holds when it ends: install mosquitto for a real park")


def say_certificate(steps: Steps, shown: Certificate, address: str) -> None:
    """What will keep clients from trusting it, or when it ends."""
    names, left = ", ".join(shown.names) or "nothing", shown.ends - datetime.now(UTC)
    if not shown.names:
        steps.say(f"[bold red]certificate[/] {shown.file} has no subjectAltName: no client will trust it as {address}")
    if left < timedelta(days=30):
        steps.say(f"[bold red]certificate[/] {shown.file} {'ended' if left < timedelta() else 'ends'} on "
                  f"{shown.ends:%Y-%m-%d}: renew it, and start again; clients refuse one that is over")
    else:
        steps.say(f"the certificate is of {names} and ends on {shown.ends:%Y-%m-%d}")


def say_trouble(steps: Steps, mqtt_url: str) -> None:
    """One line where the broker that PARK_MQTT_URL names is away or lets nobody in; nothing where all is well."""
    where = "{}:{}".format(*host_port(mqtt_url))      # without its password
    try:
        refused = refusal(mqtt_url)
    except OSError as exc:
        wrong = f"does not answer ({why(exc)}): start it, or leave PARK_MQTT_URL out and `park up` brings its own"
    else:
        if refused is None:
            return
        wrong = f"refuses its user ({refused}): PARK_MQTT_URL=mqtt://user:password@host:port"
    steps.say(f"[bold red]broker[/] {where} of PARK_MQTT_URL {escape(wrong)}; until then readings wait in the spool, none is "
              "lost")


def _say_mistakes(steps: Steps, files: Sequence[Path], catalogue: Catalogue,
                  checks: Sequence[Callable[[list[Path]], object]]) -> None:
    for check in checks:
        try:
            check(list(files))
        except InputError as exc:
            for line in str(exc).splitlines():
                steps.say(f"[bold red]mistake[/] {escape(line)}")
    wanted = {name for d in catalogue.devices for text in (d.password, *d.attributes.values()) if isinstance(text, str)
              for name in VARIABLE.findall(text)}
    for name in sorted(wanted - os.environ.keys()):
        steps.say(f"[bold red]mistake[/] the environment has no {name}, which the catalogue names as a password: its device "
                  "is not heard")


def own_address() -> str:
    """The address by which other machines most likely reach this one; loopback where there is no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))   # sends nothing: the kernel only chooses the interface of its default route
        except OSError:
            return "127.0.0.1"
        address: str = s.getsockname()[0]
        return address
