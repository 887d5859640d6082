"""Commands of the stage; heavy imports stay inside the functions, so that `park --help` answers at once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

import typer

GROUPS: dict[str, str] = {"exempt": "Periods that a person takes out of judgement: who, when, why.",
                          "ledger": "Entries made by hand, by xlsx; every step is kept.",
                          "tariff": "Prices that come as a series.",
                          "baseline": "Expected energy (ISO 50006) and savings against it."}
Kind = Literal["start_up", "shut_down", "maintenance", "calibration", "fault", "emergency", "other", "out_of_control"]


def account(
    once: Annotated[bool, typer.Option("--once", help="One pass over everything that is due, then end.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Compute everything again and name each cell that differs.")] = False,
    recompute: Annotated[bool, typer.Option("--recompute", help="Compute the figures between --from and --to again.")] = False,
    base: Annotated[str | None, typer.Option("--base", help="Only this base; with --verify or --recompute.")] = None,
    since: Annotated[str | None, typer.Option("--from", help="2026-11-01T00:00:00+08:00, with --recompute.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="An instant; with --recompute.")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Answer Prometheus on this port.")] = None,
) -> None:
    """Turn readings into figures: intervals, energy, carbon, cost, emission hours, treatment events, indicators.

    Without an option it runs until it is stopped and follows every rollup. `--verify` is the proof that late readings have
    been accounted for: it ends with status 1 and the differing cells when a stored figure is not what a full computation gives.
    """
    from accounting import service
    from park.settings import load_settings

    if base is not None and not (verify or recompute):
        raise typer.BadParameter("goes with --verify or --recompute", param_hint="--base")
    if (since or until) and not recompute:
        raise typer.BadParameter("go with --recompute", param_hint="--from and --to")
    settings = load_settings()
    if verify:
        service.verify_and_print(settings.database_url, base)
    elif recompute:
        service.recompute_between(settings.database_url, base, since, until)
    elif once:
        service.run_once(settings.database_url)
    else:
        from park.heartbeat import heartbeat
        service.run(settings.database_url, settings.log_level, beat=heartbeat("account", metrics_port))


def bill(
    base: Annotated[str, typer.Argument(help="Code of the base.")],
    month: Annotated[str, typer.Argument(help="Such as 2026-10.")],
    enterprise: Annotated[str | None, typer.Option(help="Code of an enterprise; without it, the base's own gate.")] = None,
    output: Annotated[Literal["table", "json"], typer.Option("--format")] = "table",
) -> None:
    """The electricity bill of a month, line by line, as the meters and the tariff's terms give it.

    Energy by period, demand or capacity (90 % of the demand price from 260 kWh per kVA), additions and surcharges, power-factor
    adjustment. A demand is marked as a lower bound when a slot near the peak is not measured; notes say what is missing.
    """
    from accounting import billing
    from park.settings import load_settings

    billing.print_bill(load_settings().database_url, base, month, enterprise, output)


def balance(
    base: Annotated[str, typer.Argument(help="Code of the base.")],
    period: Annotated[str, typer.Argument(help="2026, 2026-Q3, 2026-11 or 2026-11-23.")],
    carrier: Annotated[str | None, typer.Option(help="Such as electricity or water.")] = None,
    output: Annotated[Literal["table", "json"], typer.Option("--format")] = "table",
) -> None:
    """Parent meters against their children: what is unaccounted for, and whether that is more than the meters' classes explain.

    Only days on which the parent and every child are known are balanced. The uncertainty is expanded (k = 2) from the accuracy
    classes; a meter without a class is taken with that of its carrier in GB 17167 and named.
    """
    from accounting import balance as balancing
    from park.settings import load_settings

    balancing.print_balances(load_settings().database_url, base, period, carrier, output)


def tariff_prices(
    base: Annotated[str, typer.Argument(help="Code of the base.")],
    tariff: Annotated[str, typer.Argument(help="Code of the tariff; its terms have `table: {}`.")],
    file: Annotated[Path, typer.Argument(help="CSV: start (base-local, 2026-03-01 00:15), price (CNY/kWh).")],
) -> None:
    """Market prices that vary by the hour, half hour or quarter: read a CSV into the tariff's table, whole days at a time.

    The tariff row gets a new version; the next accounting pass prices those days anew. A day without prices has no cost.
    """
    from accounting import market
    from park.settings import load_settings

    typer.echo(market.import_prices(load_settings().database_url, base, tariff, file))


def ledger_template(
    base: Annotated[str, typer.Argument(help="Code of the base.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path("ledger.xlsx"),
) -> None:
    """An empty xlsx template for manual entries: a row an entry, with choices of kinds, enterprises and actions."""
    from accounting import ledger_book
    from park.settings import load_settings

    ledger_book.write_template(load_settings().database_url, base, output)
    typer.echo(f"wrote {output}; fill the sheet `entries`, then `park ledger import {base} {output} --by NAME`")


def ledger_import(
    base: Annotated[str, typer.Argument(help="Code of the base.")],
    file: Annotated[Path, typer.Argument(help="A filled template.")],
    by: Annotated[str, typer.Option(help="Who books.")],
    check: Annotated[bool, typer.Option("--check", help="Only look for mistakes.")] = False,
    lang: Annotated[Literal["zh", "en"] | None, typer.Option(help="Language of mistakes; PARK_LANGUAGE without it.")] = None,
) -> None:
    """Book every entry of a filled template, or none of it: each mistake is told with the address of its cell."""
    from accounting import ledger_book
    from park.settings import load_settings

    settings = load_settings()
    entries = ledger_book.import_file(settings.database_url, base, file, by, check=check, lang=lang or settings.language)
    typer.echo(f"{len(entries)} entries {'without a mistake' if check else 'booked'}")


def ledger_audit(
    base: Annotated[str, typer.Argument(help="Code of the base.")],
    limit: Annotated[int, typer.Option(min=1, help="How many steps.")] = 100,
) -> None:
    """Who booked and corrected what, when and why, newest first."""
    from accounting import ledger_book
    from park.settings import load_settings

    ledger_book.print_audit(load_settings().database_url, base, limit)


def exempt_add(
    base: Annotated[str, typer.Argument(help="Code of the base.")],
    outlet: Annotated[str, typer.Argument(help="Code of the outlet.")],
    since: Annotated[str, typer.Option("--from", help="An instant such as 2026-11-01T08:00:00+08:00.")],
    until: Annotated[str, typer.Option("--to", help="An instant.")],
    kind: Annotated[Kind, typer.Option(help="out_of_control: data are invalid since the last check that was passed.")],
    reason: Annotated[str, typer.Option(help="Why, in words.")],
    by: Annotated[str, typer.Option(help="Who says so.")],
    quantity: Annotated[str | None, typer.Option(help="Only this pollutant, such as so2.")] = None,
    evidence: Annotated[str, typer.Option(help="Where the evidence is: a work order, a filing.")] = "",
) -> None:
    """Mark a period of an outlet: its hours are not judged against limits and count as transmitted. Data stays as it is."""
    from accounting import marks
    from park.settings import load_settings

    number = marks.add(load_settings().database_url, base, outlet, since, until, kind, reason, by, quantity, evidence)
    typer.echo(f"mark {number}; the next accounting pass applies it")


def exempt_list(base: Annotated[str, typer.Argument(help="Code of the base.")]) -> None:
    """Every mark of a base, withdrawn ones too."""
    from accounting import marks
    from park.settings import load_settings

    marks.print_marks(load_settings().database_url, base)


def exempt_withdraw(
    base: Annotated[str, typer.Argument(help="Code of the base.")],
    number: Annotated[int, typer.Argument(help="Number of the mark.")],
    reason: Annotated[str, typer.Option(help="Why, in words.")],
    by: Annotated[str, typer.Option(help="Who says so.")],
) -> None:
    """Withdraw a mark: its hours are judged again, and the mark stays in the record."""
    from accounting import marks
    from park.settings import load_settings

    marks.withdraw(load_settings().database_url, base, number, by, reason)


def baseline_fit(
    base: Annotated[str, typer.Argument(help="Code of the base.")],
    point: Annotated[str, typer.Argument(help="Code of the energy counter.")],
    first: Annotated[str, typer.Option("--from", help="First day of the baseline period, such as 2025-01-01.")],
    last: Annotated[str, typer.Option("--to", help="Last day.")],
    production: Annotated[list[str] | None, typer.Option(help="Code of a production counter; may be given again.")] = None,
    temperature: Annotated[str | None, typer.Option(help="Code of the air temperature.")] = None,
    reason: Annotated[str, typer.Option(help="Why a new baseline.")] = "",
) -> None:
    """Fit a counter's daily energy on production, degree days and the calendar, and keep it as its baseline."""
    from accounting import baselines
    from park.settings import load_settings

    baselines.print_fit(load_settings().database_url, base, point, _day(first), _day(last), production or [], temperature,
                        reason)


def baseline_savings(
    base: Annotated[str, typer.Argument(help="Code of the base.")],
    point: Annotated[str, typer.Argument(help="Code of the energy counter.")],
    first: Annotated[str, typer.Option("--from", help="First day of the reporting period.")],
    last: Annotated[str, typer.Option("--to", help="Last day.")],
) -> None:
    """Savings of a period against the counter's baseline, with a 95 % interval."""
    from accounting import baselines
    from park.settings import load_settings

    baselines.print_savings(load_settings().database_url, base, point, _day(first), _day(last))


def _day(text: str) -> date:
    from park.errors import InputError

    try:
        return date.fromisoformat(text)
    except ValueError as exc:
        raise InputError(f"expected a day such as 2026-01-01, got {text!r}") from exc


COMMANDS: dict[str, Callable[..., None]] = {
    "account": account, "bill": bill, "balance": balance, "tariff prices": tariff_prices,
    "ledger template": ledger_template, "ledger import": ledger_import, "ledger audit": ledger_audit,
    "exempt add": exempt_add, "exempt list": exempt_list, "exempt withdraw": exempt_withdraw,
    "baseline fit": baseline_fit, "baseline savings": baseline_savings}
