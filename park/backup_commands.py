"""`park backup` and `park restore` as a user calls them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

JobsOption = Annotated[int, typer.Option(min=1, max=64, help="Tables that are written or read at the same time.")]


def backup(
    destination: Annotated[Path, typer.Argument(help="Folder below which the backup gets a folder of its own.")],
    jobs: JobsOption = 2,
    quick: Annotated[bool, typer.Option("--quick", help="Note only the rows of each table, not a number over their values: "
                                                        "`park restore` then compares rows alone.")] = False,
) -> None:
    """Back the whole database up while it runs: data, roles, checksums, rows and figures of every table. 备份数据库。

    Uses pg_dump of PARK_PG_BIN, of the embedded server or of PATH. The folder may hold password verifiers: keep it closed.
    """
    from park.backup import back_up
    from park.clock import utc_now
    from park.settings import load_settings

    settings = load_settings()
    with _progress() as told:
        folder = back_up(settings.database_url, destination, now=utc_now(), jobs=jobs, figures=not quick,
                         bin_dir=settings.pg_bin, told=told)
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    typer.echo(f"{folder}: {size / 1e6:,.1f} MB")


def restore(
    folder: Annotated[Path, typer.Argument(help="A folder that `park backup` wrote.", exists=True, file_okay=False)],
    verify: Annotated[bool, typer.Option("--verify", help="Only rehearse: restore into a database beside the present one, "
                                                          "compare every table, drop it again.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Put the backup in the place of a database that is not empty; "
                                                            "that one is kept under another name.")] = False,
    jobs: JobsOption = 2,
) -> None:
    """Restore a backup into PARK_DATABASE_URL; every table is compared before it is put in place. 恢复数据库。"""
    from park.clock import utc_now
    from park.restore import restore as run
    from park.settings import load_settings

    settings = load_settings()
    with _progress() as told:
        done = run(settings.database_url, folder, now=utc_now(), replace=replace, verify=verify, jobs=jobs,
                   bin_dir=settings.pg_bin, told=told)
    typer.echo(f"{done.tables} tables with {done.rows:,} rows are as they were backed up" +
               ("; the database is as it was" if verify else f"; they are the database {done.database} now"))
    if done.former is not None:
        typer.echo(f"the former database is kept as {done.former}: drop it when you no longer need it")


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """One line on standard error that says what is being done."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = BarColumn(20), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("looking", total=None)

        def told(what: str, done: int, total: int) -> None:
            progress.update(task, description=f"{what} ({done} of {total})" if total else what, total=total or None,
                            completed=done)
        yield told


COMMANDS: dict[str, Callable[..., None]] = {"backup": backup, "restore": restore}
