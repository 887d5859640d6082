"""Commands of the floor that every stage stands on: demo, up, migrate, doctor, catalogue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from park import backup_commands

GROUPS = {"catalogue": "The YAML files that say what a park is made of: check, plan, apply, export."}

CHECKS: list[Callable[[list[Path]], object]] = []    # what stages say of a catalogue's files; park/cli.py fills it

Files = Annotated[list[Path], typer.Argument(help="YAML files of one catalogue; a folder stands for all its YAML files.",
                                             metavar="FILE")]


def demo(
    days: Annotated[int | None, typer.Option(min=0, max=3660, help="Days of history to load before the start. "
                                             "Without it a year is loaded while the platform already runs.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of console and API.")] = 8000,
    data_dir: Annotated[Path | None, typer.Option(help="Where database, spools, tokens and logs are kept.",
                                                  show_default="PARK_DATA_DIR, or park-data")] = None,
) -> None:
    """Run the whole platform here with a simulated park. 在本机运行整个平台和模拟园区。"""
    from park.demo import demo as run
    from park.settings import load_settings
    settings = load_settings()
    run(settings, days=days, port=port, data_dir=data_dir or settings.data_dir)


def init(
    folder: Annotated[Path, typer.Argument(help="Folder of the catalogue; made where it is not there.")],
) -> None:
    """Write a first catalogue to change: a base, a meter, its points, an alert. 生成初始台账。

    A file that is there already is never touched.
    """
    from park.errors import Conflict, SetupError
    from park.quantities import TABLES
    file = folder / "park.yaml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as fresh:
            fresh.write((TABLES / "first_park.yaml").read_text(encoding="utf-8"))
    except FileExistsError as exc:
        raise Conflict(f"{file if folder.is_dir() else folder} is there already, and is left as it is") from exc
    except OSError as exc:
        raise SetupError(f"{file} cannot be written: {exc.strerror}") from exc
    typer.echo(f"{file} is written: put your own names and addresses into it, then\n"
               f"  park catalogue check {folder}\n  park collect {folder} --once\n  park up {folder}")


def up(
    catalogue: Annotated[list[Path], typer.Argument(metavar="FILE", help="YAML files or a folder of one catalogue; or of "
                                                    "several bases, each with a file or folder of its own.")],
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of console and API.", metavar="PORT",
                                             show_default="PARK_PORT, or 8000")] = None,
    host: Annotated[str | None, typer.Option(metavar="ADDRESS",
                                             help="Address of console and API; 0.0.0.0 lets other machines in.",
                                             show_default="PARK_HOST, or 127.0.0.1")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where database, spools, tokens and logs are kept.", metavar="FOLDER",
                                                  show_default="PARK_DATA_DIR, or park-data")] = None,
    hj212_port: Annotated[int, typer.Option(min=0, max=65535, metavar="PORT", help="Port on which data loggers (HJ 212) "
                                            "connect, of a second base the next one; 0: any that is free.")] = 9212,
    mqtt_listen: Annotated[str | None, typer.Option(metavar="ADDRESS:PORT", show_default="this machine alone", help="Where the "
                                                    "embedded broker listens for MQTT devices; asks for a password.")] = None,
    mqtt_cert: Annotated[Path | None, typer.Option(metavar="FILE", show_default="not encrypted", help="With "
                                                   "--mqtt-listen: TLS with this certificate (PEM, its chain too).")] = None,
    mqtt_key: Annotated[Path | None, typer.Option(metavar="FILE", show_default="in the file of --mqtt-cert",
                                                  help="The certificate's key (PEM, no passphrase).")] = None,
) -> None:
    """Run every stage for a real park. 运行真实园区。

    Brings its own PostgreSQL and broker unless PARK_DATABASE_URL, PARK_MQTT_URL name others; runs until Ctrl-C, and the
    next start goes on where it was.
    """
    from park.settings import load_settings
    from park.up import up as run
    settings = load_settings()
    run(settings, catalogue, host=host or settings.host, port=port or settings.port, data_dir=data_dir or settings.data_dir,
        hj212_port=hj212_port, mqtt_listen=mqtt_listen, mqtt_cert=mqtt_cert, mqtt_key=mqtt_key,
        checks=CHECKS)


def migrate(
    grafana_password_env: Annotated[str | None, typer.Option(
        help="Environment variable with the password that Grafana's read-only login gets.", metavar="NAME")] = None,
    citus: Annotated[bool, typer.Option("--citus", help="Distribute the readings and their rollups over Citus workers by base.")
                     ] = False,
    worker: Annotated[list[str] | None, typer.Option(help="With --citus: a worker server, host or host:port, that has the "
                                                     "extension in a database of the same name; several times.")] = None,
    convert: Annotated[bool, typer.Option("--convert", help="Move readings of plain partitions into TimescaleDB's "
                                          "hypertables; stop the platform first.")] = False,
) -> None:
    """Bring the database at PARK_DATABASE_URL to this version's schema; safe to run again. 建库与升级。

    An empty database gets TimescaleDB's hypertables, compression and retention where the server has TimescaleDB loaded.
    """
    from park.database import connect
    from park.demo import prepare
    from park.engine import advice, engine_of
    from park.settings import load_settings
    url = load_settings().database_url
    done = prepare(url, citus=citus, convert=convert, workers=worker or [])
    if grafana_password_env is not None:
        _open_grafana_login(url, grafana_password_env)
    with connect(url) as conn:
        engine, said = engine_of(conn), advice(conn)
    typer.echo(f"{engine}: " + (f"ran {', '.join(done)}" if done else "the schema is up to date"))
    for line in said:
        typer.echo(line)


def _open_grafana_login(url: str, variable: str) -> None:
    import os

    from psycopg import sql

    from park.database import connect
    from park.errors import InputError
    password = os.environ.get(variable)
    if not password:
        raise InputError(f"the environment variable {variable} is empty: it must hold the password of park_grafana")
    with connect(url) as conn:
        # the server would write the statement into its log; it gets what it keeps anyway
        verifier = conn.pgconn.encrypt_password(password.encode(), b"park_grafana").decode()
        conn.execute(sql.SQL("ALTER ROLE park_grafana LOGIN PASSWORD {}").format(sql.Literal(verifier)))


def doctor() -> None:
    """Look at everything that a park needs on this machine; each finding comes with its remedy."""
    from park.doctor import examine
    from park.settings import load_settings
    findings = examine(load_settings())
    for finding in findings:
        typer.echo(str(finding))
    if not all(f.ok for f in findings):
        raise typer.Exit(1)


def catalogue_check(files: Files) -> None:
    """Find every mistake in catalogue files, with file and line; nothing is written."""
    from park.catalogue import read_catalogue
    catalogue = read_catalogue(files)
    for check in CHECKS:
        check(files)
    typer.echo(f"no mistakes: {len(catalogue.points)} points, {len(catalogue.devices)} devices, {len(catalogue.units)} units")


def catalogue_plan(files: Files, prune: Annotated[bool, typer.Option(help="Show what --prune would retire.")] = False) -> None:
    """Show what `apply` would change in the database, line by line; nothing is written."""
    from park.catalogue import read_catalogue
    from park.catalogue_store import plan
    from park.database import connect
    from park.settings import load_settings
    catalogue = read_catalogue(files)
    with connect(load_settings().database_url) as conn:
        changes = plan(conn, catalogue, prune=prune)
    for change in changes:
        typer.echo(str(change))
    typer.echo(f"{len(changes)} changes" if changes else "no changes")


def catalogue_apply(
    files: Files,
    prune: Annotated[bool, typer.Option(help="Retire devices, points and rules that are in no file; data stay.")] = False,
    by: Annotated[str, typer.Option(help="Who applies it; kept with ledger entries.")] = "catalogue",
) -> None:
    """Bring the database to the catalogue; doing it twice changes nothing."""
    from park.catalogue import read_catalogue
    from park.catalogue_store import apply
    from park.database import connect
    from park.settings import load_settings
    catalogue = read_catalogue(files)
    with connect(load_settings().database_url) as conn:
        changes = apply(conn, catalogue, by=by, prune=prune)
    typer.echo(f"{len(changes)} changes applied" if changes else "no changes")


def catalogue_export(base: Annotated[str | None, typer.Argument(help="Code of the base; not needed where there is only one.",
                                                                metavar="[BASE]")] = None) -> None:
    """Write the catalogue of a base as YAML to standard output; `apply` of it changes nothing."""
    import yaml

    from park.catalogue_store import export
    from park.database import connect
    from park.errors import InputError
    from park.settings import load_settings
    with connect(load_settings().database_url) as conn:
        bases = [str(code) for (code,) in conn.execute("SELECT code FROM base ORDER BY code")]
        if base is None and len(bases) != 1:
            raise InputError(f"say which base; there are {', '.join(bases) or 'none: apply a catalogue first'}")
        typer.echo(yaml.safe_dump(export(conn, base or bases[0]), allow_unicode=True, sort_keys=False), nl=False)


def limits(
    code: Annotated[str | None, typer.Argument(metavar="[SET]", help="Code of a set; without one, they are listed.")] = None,
    outlet: Annotated[str, typer.Option(help="Code of the outlet that the lines are for.", metavar="CODE")] = "e1.stack",
    first_day: Annotated[str | None, typer.Option("--from", help="First day on which they bind the outlet, 2026-01-01.",
                                                  metavar="DAY", show_default="always")] = None,
) -> None:
    """National emission limits to copy into a catalogue, each with its source. 国家排放限值。

    `?` stands behind what was not held against the standard's text. They judge nothing before they stand in the
    catalogue: which standard and table bind an outlet is in its permit.
    """
    from datetime import date

    from park.errors import InputError
    from park.limits import bounds, for_catalogue, limit_sets
    from park.settings import load_settings
    lang = load_settings().language
    if code is not None:
        try:
            day = None if first_day is None else date.fromisoformat(first_day)
        except ValueError as exc:
            raise InputError(f"--from: expected a day such as 2026-01-01, got {first_day!r}") from exc
        typer.echo(for_catalogue(code, outlet, day, lang))
        return
    for name, found in limit_sets().items():
        oxygen = f"  O2 {found['o2_reference']:g} %{'' if found['o2_verified'] else '?'}" if "o2_reference" in found else ""
        typer.echo(f"{name:<24}{found[lang]}\n{'':<24}{', '.join(map(bounds, found['limits']))}{oxygen}")


COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "init": init,
    "up": up,
    "migrate": migrate,
    "doctor": doctor,
    "limits": limits,
    "catalogue check": catalogue_check,
    "catalogue plan": catalogue_plan,
    "catalogue apply": catalogue_apply,
    "catalogue export": catalogue_export,
    **backup_commands.COMMANDS,
}
