"""Commands of the stage; heavy imports stay inside the functions, so that `park --help` answers at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer


def ingest(
    verify: Annotated[bool, typer.Option("--verify", help="Compare every rollup with a recomputation from raw, "
                                                          "then end.")] = False,
    replay: Annotated[bool, typer.Option("--replay", help="Store dead letters whose points the catalogue knows by now, "
                                                          "then end.")] = False,
    reason: Annotated[list[str] | None, typer.Option(help="With --replay: only letters of this reason; may be repeated. "
                                                          "too_late and bad_time are replayed only so.")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Answer Prometheus on this port.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Writers, each with its own database connection; "
                                                           "from two on, two sessions share the rollups.")] = 1,
    client_id: Annotated[str, typer.Option(help="MQTT session; two ingest processes at one broker need two "
                                                "names.")] = "park-ingest",
    group: Annotated[str, typer.Option(help="Share the messages with every ingest of this group (shared subscription); the "
                                            "broker deals them out, so those of one source may be written out of order.")] = "",
) -> None:
    """Take readings from the broker into the database and keep the rollups; runs until SIGTERM. 入库与汇总。"""
    import logging

    from park.settings import load_settings

    settings = load_settings()
    if verify:
        _verify(settings.database_url)
    elif replay:
        _replay(settings.database_url, reason)
    else:
        from ingest.service import serve

        logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        serve(settings, client_id=client_id, workers=workers, metrics_port=metrics_port, group=group)


def _verify(url: str) -> None:
    from ingest.verify import verify

    found = verify(url)
    for d in found:
        typer.echo(f"reading_{d.grain} base {d.base_id} point {d.point_id} at {d.bucket}: stored {d.stored}, "
                   f"recomputed {d.recomputed}")
    if found:
        raise typer.Exit(1)
    typer.echo("every rollup equals its recomputation from raw readings")


def _replay(url: str, reasons: list[str] | None) -> None:
    from ingest.replay import REPLAYABLE, replay

    done = replay(url, reasons or REPLAYABLE)
    typer.echo(f"{done.letters} dead letters replayed: {done.stored} readings stored, {done.left} letters still wait")


def import_(
    file: Annotated[Path, typer.Argument(help="CSV with a header, or Parquet: point,at,value[,quality].", exists=True,
                                         dir_okay=False)],
    base: Annotated[str | None, typer.Option(help="Code of the base; not needed where there is only one.")] = None,
    catalogue: Annotated[Path | None, typer.Option(help="Apply this catalogue first.", exists=True, dir_okay=False)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only judge the rows; store nothing.")] = False,
    local_time: Annotated[bool, typer.Option(
        "--local-time", help="Times without an offset (2025/1/1 0:15) are the base's own.")] = False,
) -> None:
    """Load readings from a file; again after an interruption, it goes on where it was. 导入历史数据。

    `at` is an instant with offset (2026-11-23T03:00:00Z) or epoch milliseconds; an empty value is a missing one.
    What a spreadsheet saves is read too: GB18030, heads such as 测点, 时间, 数值, numbers such as "1,234.5", and with
    --local-time times of the base. Rows that cannot be stored are written to FILE.rejected.csv with their line and the
    reason; exit status 1 then.
    """
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from ingest.importing import import_file
    from park.settings import load_settings

    url = load_settings().database_url
    code = _base(url, base, None if dry_run else catalogue)
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TextColumn("rows"),
                  TimeElapsedColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(file.name, total=None)
        done = import_file(url, code, file, lambda n: progress.advance(task, n), dry_run=dry_run,
                           local_time=local_time)
    typer.echo(f"{done.rows} rows read, {done.rejected} rejected, " +
               ("nothing stored (dry run)" if dry_run else f"{done.stored} new to the database"))
    if done.aside is not None:
        typer.echo(f"rejected rows, with line and reason: {done.aside}")
        raise typer.Exit(1)


def _base(url: str, base: str | None, catalogue: Path | None) -> str:
    """The base to load into, after applying a catalogue if there is one to apply."""
    from park.catalogue import read_catalogue
    from park.catalogue_store import apply
    from park.database import connect
    from park.errors import InputError

    with connect(url, autocommit=True) as conn:
        if catalogue is not None:
            read = read_catalogue([catalogue])
            apply(conn, read)
            base = base or (read.base.code if read.base else None)
        bases = [str(code) for (code,) in conn.execute("SELECT code FROM base ORDER BY code")]
    if base is None and len(bases) != 1:
        raise InputError(f"say --base CODE; there are {', '.join(bases) or 'no bases: apply a catalogue first'}")
    return base or bases[0]


PointsOption = Annotated[list[str] | None, typer.Option("--point", help="Code of a point; may be repeated. None: all.")]
StartOption = Annotated[str, typer.Option("--from", "--start", help="First instant, with offset: 2026-01-01T00:00:00+08:00; "
                                               "or a base-local day.")]
EndOption = Annotated[str, typer.Option("--to", "--end", help="First instant that is not in it any more.")]
OutOption = Annotated[Path, typer.Option("--output", "-o", help="File to write.")]
FormOption = Annotated[Literal["csv", "parquet"] | None, typer.Option("--format", show_default="by the file's name")]
BaseOption = Annotated[str | None, typer.Option("--base", help="Code of the base; not needed where there is only one.")]


def export_readings(output: OutOption, start: StartOption, end: EndOption, base: BaseOption = None,
                    point: PointsOption = None, form: FormOption = None) -> None:
    """Write raw readings to a file that `park import` reads again. 导出原始数据。"""
    from ingest import exporting
    from park.settings import load_settings

    url = load_settings().database_url
    code = _base(url, base, None)
    first, after = exporting.span(url, code, start, end)
    n = exporting.export_readings(url, code, point or [], first, after, output, form or exporting.form_of(output))
    typer.echo(f"{n} readings in {output}")


def export_aggregates(output: OutOption, start: StartOption, end: EndOption, base: BaseOption = None,
                      point: PointsOption = None,
                      grain: Annotated[Literal["1m", "15m", "1h", "1d", "1mo"], typer.Option("--resolution", "--grain")] = "1h",
                      form: FormOption = None) -> None:
    """Write rollups to a file: count, mean, minimum, maximum, sum, first, last and increment. 导出汇总数据。"""
    from ingest import exporting
    from park.settings import load_settings

    url = load_settings().database_url
    code = _base(url, base, None)
    first, after = exporting.span(url, code, start, end)
    n = exporting.export_aggregates(url, code, point or [], first, after, output, form or exporting.form_of(output), grain)
    typer.echo(f"{n} rows in {output}")


def deadletters(reason: Annotated[str | None, typer.Option(help="Only this reason.")] = None,
                limit: Annotated[int, typer.Option(min=1)] = 50) -> None:
    """List what could not be stored and waits; `park ingest --replay` stores what can be stored by now. 死信列表。"""
    from rich.console import Console
    from rich.table import Table

    from ingest.directory import QUERIES
    from park.database import connect
    from park.settings import load_settings

    with connect(load_settings().database_url, autocommit=True) as conn:
        reasons = conn.execute(QUERIES["letter_reasons"]).fetchall()
        rows = conn.execute(QUERIES["list_letters"], {"reason": reason, "limit": limit}).fetchall()
    table = Table("received", "base", "source", "seq", "reason", "detail", "bytes", "came again")
    for at, *cells in rows:
        table.add_row(at.isoformat(timespec="seconds"), *("" if c is None else str(c) for c in cells))
    console = Console()
    if rows:
        console.print(table)
    console.print(", ".join(f"{n} {word}" for word, n in reasons) or "no dead letters wait")


WeekArgument = Annotated[str, typer.Argument(help="ISO week, such as 2026-W40.")]
ArchiveOption = Annotated[Path | None, typer.Option(help="Write the week here as Parquet first (PARK_ARCHIVE_DIR).")]


def retention_show() -> None:
    """List the weeks of raw readings: open, closed or dropped, their size, and where they were archived. 原始数据周分区。"""
    from rich.console import Console
    from rich.table import Table

    from ingest.retention import is_due, weeks
    from park.clock import utc_now
    from park.database import connect
    from park.settings import load_settings

    settings = load_settings()
    with connect(settings.database_url, autocommit=True) as conn:
        found = weeks(conn)
    table = Table("week", "from", "state", "MB", "archive")
    for w in found:
        due = settings.keep_readings_days and is_due(w, settings.keep_readings_days, utc_now())
        table.add_row(w.name, f"{w.monday:%Y-%m-%d}", f"{w.state}, due" if due else w.state, f"{w.bytes / 1e6:,.1f}", w.archive)
    Console().print(table)
    typer.echo(f"raw readings are kept for {settings.keep_readings_days} days" if settings.keep_readings_days
               else "raw readings are kept for ever (PARK_KEEP_READINGS_DAYS is 0)")


def retention_run(
    days: Annotated[int | None, typer.Option(help="Keep this many days, instead of PARK_KEEP_READINGS_DAYS.")] = None,
    archive: ArchiveOption = None,
) -> None:
    """Drop the weeks of raw readings whose time is over, as ingest does every hour; rollups and figures stay. 清理到期数据。

    A week is first closed: what comes for it afterwards becomes a dead letter `too_late`. It waits while rollups or
    figures still need its readings.
    """
    from ingest.directory import QUERIES
    from ingest.retention import retire
    from park.clock import utc_now
    from park.database import connect
    from park.errors import InputError
    from park.settings import load_settings

    settings = load_settings()
    keep_days = settings.keep_readings_days if days is None else days
    if not keep_days:
        raise InputError("raw readings are kept for ever: say --days N, or set PARK_KEEP_READINGS_DAYS")
    with connect(settings.database_url, autocommit=True, name="park retention") as conn:
        conn.execute(QUERIES["note_upkeep"], {"now": utc_now()})     # somebody has looked: the hourly upkeep goes on from here
        done = retire(conn, settings.database_url, keep_days=keep_days, archive=archive or settings.archive_dir, now=utc_now())
    for week, said in done:
        typer.echo(f"{week.name}: {said}")
    typer.echo(f"{sum(said == 'dropped' for _, said in done)} weeks dropped")
    if any(said != "dropped" for _, said in done):
        raise typer.Exit(1)


def retention_reopen(
    week: WeekArgument,
    file: Annotated[list[Path] | None, typer.Argument(help="The week's archives, BASE_2026-W40.parquet.", exists=True,
                                                      dir_okay=False)] = None,
) -> None:
    """Let a closed week take readings again, from its archive where its readings were dropped. 重新开放已归档的周。

    Its rollups are computed again. `park ingest --replay --reason too_late` then stores what came for it meanwhile.
    """
    from ingest.retention import parse_week, reopen
    from park.database import connect
    from park.settings import load_settings

    files = {path.name.removesuffix(f"_{week}.parquet"): path for path in file or []}
    with connect(load_settings().database_url, autocommit=True, name="park retention") as conn:
        n = reopen(conn, parse_week(week), files)
    typer.echo(f"{week} takes readings again; {n} came back from the archive")


GROUPS: dict[str, str] = {"retention": "Weeks of raw readings: what is kept, what goes, what comes back. 数据保留。",
                          "export": "Readings or rollups to CSV or Parquet. 数据导出。"}
COMMANDS: dict[str, Callable[..., None]] = {
    "ingest": ingest, "import": import_, "export readings": export_readings, "export aggregates": export_aggregates,
    "deadletters": deadletters, "retention show": retention_show, "retention run": retention_run,
    "retention reopen": retention_reopen}
