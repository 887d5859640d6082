"""`park hj212 ...`: commands to data loggers through the running collector, and loggers that the catalogue lacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

Source = Annotated[str, typer.Option(help="Name of the running collector, as `park collect --source` has it.")]
GROUP = "Data loggers (HJ 212): give commands, see and adopt unknown ones."


def send(
    mn: Annotated[str, typer.Argument(help="MN of the data logger.")],
    command: Annotated[str, typer.Argument(help="CN of the command, such as 1011; `park hj212 commands` lists them.")],
    fields: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE...]", help="Fields of the data area.")] = None,
    source: Source = "collector",
    format_: Annotated[Literal["table", "json"], typer.Option("--format")] = "table",
) -> None:
    """Give a data logger a command and show its answer. Exit status 1 when it was not carried out."""
    import json

    from collectors.control import ask, control_path
    from park.errors import InputError
    from park.settings import load_settings

    given = {}
    for text in fields or []:
        name, eq, value = text.partition("=")
        if not eq:
            raise InputError(f"expected KEY=VALUE, got {text!r}")
        given[name] = value
    settings = load_settings()
    path = control_path(settings.data_dir, source)
    outcome = ask(path, {"op": "send", "mn": mn, "cn": command, "fields": given, "language": settings.language})
    if format_ == "json":
        print(json.dumps(outcome, ensure_ascii=False, indent=2))
    else:
        _show_outcome(outcome)
    if outcome["state"] != "done":
        raise typer.Exit(1)


def _show_outcome(outcome: dict[str, Any]) -> None:
    texts = [f"{name} {outcome[key]} ({outcome[key + '_text']})" for name, key in (("QnRtn", "qn_rtn"), ("ExeRtn", "exe_rtn"))
             if outcome[key] is not None]
    print(f"{outcome['state']}: QN {outcome['qn'] or '-'}, sent {outcome['sent']} times" + "".join(f", {t}" for t in texts))
    for row in outcome["data"]:
        print("  " + ", ".join(f"{k}={v}" for k, v in row.items()))


def commands() -> None:
    """List the commands that can be given, and the fields each needs."""
    from rich.table import Table

    from collectors.commands import _console
    from collectors.hj212_command import commands as table_of

    table = Table("CN", "command", "指令", "fields", "gives data")
    for c in table_of().values():
        table.add_row(c.cn, c.en, c.zh, ", ".join(c.fields), "yes" if c.data else "")
    _console().print(table)


def strangers(source: Source = "collector") -> None:
    """List data loggers that send to the running collector and are not in its catalogue."""
    from datetime import UTC, datetime

    from rich.table import Table

    from collectors.commands import _console
    from collectors.control import ask, control_path
    from park.settings import load_settings

    found = ask(control_path(load_settings().data_dir, source), {"op": "strangers"})["strangers"]
    if not found:
        print("no unknown data logger has sent anything since the collector's start")
        return
    table = Table("MN", "from", "messages", "last (UTC)", "edition", "CRC", "ST", "keys, notices")
    for s in found:
        last = datetime.fromtimestamp(s["last_ms"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        shown = [*s["keys"], *(f"{cn}: {text}" for cn, text in s["notices"].items())]
        table.add_row(s["mn"], s["peer"], str(s["n"]), last, s["edition"], "encrypted" if s["encrypted"] else s["crc"],
                      " ".join(s["systems"]), " ".join(shown))
    _console().print(table)


def adopt(
    mn: Annotated[str, typer.Argument(help="MN of the unknown logger.")],
    base: Annotated[str, typer.Option(help="Code of the base that takes it in.")],
    code: Annotated[str | None, typer.Option(help="Code of the new device; without it, made of the MN.")] = None,
    belongs_to: Annotated[str | None, typer.Option(help="Unit (such as an outlet) that its points belong to.")] = None,
    password: Annotated[str | None, typer.Option(help="PW that it must send; ${NAME} is read from the environment.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write YAML here, not to the database.")] = None,
    source: Source = "collector",
) -> None:
    """Take an unknown data logger into the catalogue, with a point for each factor it sends that has a known quantity.

    Keys without one are listed; check the units with the logger's own display before figures are used.
    """
    import yaml

    from collectors.control import ask, control_path
    from collectors.hj212_data import standard_units
    from collectors.hj212_strangers import adoption
    from park.errors import NotFound
    from park.settings import load_settings

    settings = load_settings()
    found = ask(control_path(settings.data_dir, source), {"op": "strangers"})["strangers"]
    stranger = next((s for s in found if s["mn"] == mn), None)
    if stranger is None:
        seen = ", ".join(s["mn"] for s in found) or "none"
        raise NotFound(f"no unknown logger with MN {mn!r} has sent anything; seen: {seen}")
    rows, unknown = adoption(stranger, code or f"hj212.{mn[-12:]}", belongs_to=belongs_to, password=password)
    if output is not None:
        output.write_text(yaml.safe_dump(rows, allow_unicode=True, sort_keys=False), encoding="utf-8")
        print(f"written to {output}: `park catalogue apply` it with the other files of {base}")
    else:
        _apply(settings.database_url, base, rows)
        print("in the database: collectors that read it (that of `park up` does) hear it from now on, one that reads files "
              "alone once it stands in them: -o FILE")
    print(f"{rows['devices'][0]['code']}: {len(rows['points'])} points; no quantity known for: {', '.join(unknown) or 'none'}")
    for point in rows["points"]:
        code = point["source"]["key"].partition(".")[0]
        if code in standard_units() and ".cou" not in point["source"]["key"]:
            print(f"{point['code']} is taken in {point['unit']}; the standard's unit is {standard_units()[code]}: say what "
                  f"the logger sends, `attributes: {{units: {{{code}: ...}}}}`")
    if stranger["encrypted"]:
        print("its data are encrypted: give the device `attributes: {sm4_key: \"${NAME}\"}`; its factors then show as values "
              "that no point takes")


def _apply(url: str, base: str, rows: dict[str, Any]) -> None:
    from park.catalogue import Catalogue
    from park.catalogue_store import apply, base_id_of, export
    from park.database import connect

    with connect(url, autocommit=True, name="park hj212 adopt") as conn:
        base_id_of(conn, base)
        apply(conn, Catalogue.model_validate({"base": export(conn, base)["base"], **rows}), by="park hj212 adopt")


COMMANDS: dict[str, Callable[..., None]] = {
    "hj212 send": send, "hj212 commands": commands, "hj212 strangers": strangers, "hj212 adopt": adopt}
