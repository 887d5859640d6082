"""Commands of the stage; heavy imports stay inside the functions, so that `park --help` answers at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from park.choices import some_of

GROUPS: dict[str, str] = {"duty": "Who is on duty, and who hears of what nobody acknowledges. 值班表。",
                          "route": "Who is told of alerts by e-mail, DingTalk, WeCom or Feishu. 报警通知线路。"}
Severities = Annotated[str, typer.Option(help="Which of critical, high, medium, low, by commas.",
                                         callback=lambda text: some_of(text, ("critical", "high", "medium", "low")))]


def alert(
    once: Annotated[bool, typer.Option("--once", help="One pass over what is there, then stop.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Check the rules of the catalogue and name every mistake.")] = False,
    check_file: Annotated[list[Path] | None, typer.Option(
        help="Check the rules of catalogue files before they are applied, each mistake with its line; several times.")] = None,
    metrics_port: Annotated[int | None, typer.Option(
        help="Port of /metrics: park_alert_round_timestamp_seconds says when it last finished a round.")] = None,
    part: Annotated[str, typer.Option(help="2/4: the second of four evaluators that share the bases; a base whose lock "
                                           "another one holds is waited for.")] = "1/1",
) -> None:
    """Evaluate the rules of the catalogue over the live readings, and send what changes. Runs until stopped.

    Rules are rows of the catalogue (`rules:`): kind, severity, scope, params. `park alert --check` says what is wrong with
    them before they are needed. 实时报警: 规则取自台账, `--check` 先行校验。
    """
    from alerts import main
    from alerts.part import part_of

    if check_file:
        main.check_files(check_file)
    elif check:
        main.check_rules()
    elif once:
        main.once()
    else:
        main.serve(metrics_port, part_of(part))


def detect(
    file: Annotated[Path, typer.Argument(help="CSV: time,value or time,series,value, at a regular step; .gz too; "
                                              "- is standard input.")],
    onsets: Annotated[Path | None, typer.Option("-o", "--onsets", help="Where the onsets go; else standard output.")] = None,
    scores: Annotated[Path | None, typer.Option(help="Where the score of every step goes.")] = None,
    weather: Annotated[Path | None, typer.Option(help="CSV time,value of the outdoor temperature in °C.")] = None,
    group: Annotated[bool, typer.Option("--group", help="Judge all series together, as sensors of one process.")] = False,
    budget: Annotated[float, typer.Option(help="Allowed false alarms per series-month.")] = 0.3,
    holidays: Annotated[str | None, typer.Option(
        help="cn: public holidays of China and the weekends worked for them, or a file with a date a line: days that are "
             "judged by jumps and runs of one value alone. 法定节假日及调休.")] = None,
) -> None:
    """The alerting core on any series of a file: when something began, of what kind, and how sure.

    Writes series,start,end,kind,channel,score,p_value,expected,low,high. A score of 1 is the alarm threshold; the score at a
    time uses nothing after it. Nothing is fitted to the file but its own past. 对任意时序做异常检测。
    """
    from alerts import main

    main.detect_file(file, onsets, scores, weather, group, budget, holidays)


InLanguage = Annotated[Literal["zh", "en"] | None, typer.Option("--lang", "--language", help="zh or en.",
                                                                show_default="PARK_LANGUAGE, or zh")]


def _language(asked: Literal["zh", "en"] | None) -> Literal["zh", "en"]:
    from park.settings import load_settings
    return asked or load_settings().language


def backtest(
    base: Annotated[str, typer.Argument(help="Code of the base.")],
    start: Annotated[str, typer.Option("--from", help="First base-local day, 2026-11-01.")],
    end: Annotated[str, typer.Option("--to", help="Last base-local day, 2026-11-30.")],
    rule: Annotated[str | None, typer.Option(help="Code of one rule; all of them when not given.")] = None,
    rules: Annotated[Path | None, typer.Option(help="YAML with `rules:`: candidates, shown beside the present ones.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Where the CSV goes; else standard output.")] = None,
    chart: Annotated[Path | None, typer.Option(help="A page (.html) or picture (.svg): series, bands, raises.")] = None,
    language: InLanguage = None,
) -> None:
    """What rules would have done over stored readings: every raise and return as CSV, raises a month of each rule.

    All kinds of rules; nothing is written to the database. With `--rules FILE` the present rules and the candidates of
    the file side by side. 用历史数据回放现行规则, 并与候选规则比较。
    """
    from alerts import main

    main.backtest_rules(base, start, end, rule, rules, output, chart, _language(language))


def handover(
    base: Annotated[str, typer.Argument(help="Code of the base.")],
    hours: Annotated[float, typer.Option(help="Length of the shift that ends now.")] = 8.0,
    language: InLanguage = None,
) -> None:
    """The note for the next shift, as Markdown: open, waiting and shelved alerts, what was said, what reached nobody.

    交接班记录: 未恢复、待确认、已搁置的报警及本班备注。
    """
    from alerts import main

    main.print_handover(base, hours, _language(language))


def route_add(
    base: Annotated[str, typer.Argument(help="Code of the base.")],
    name: Annotated[str, typer.Argument(help="Name of the route; a second one of the name replaces the first.")],
    kind: Annotated[Literal["email", "dingtalk", "wecom", "feishu"], typer.Argument()],
    target: Annotated[str, typer.Argument(help="The robot's address; of email smtp://user@host:587/?from=a@b&to=c@d,e@f.")],
    secret: Annotated[str, typer.Option(help="Key of the robot's signature, password of the mail server.",
                                        envvar="PARK_ROUTE_SECRET")] = "",
    language: InLanguage = None,
    severities: Severities = "critical,high,medium,low",
    quiet: Annotated[str, typer.Option(help="22:00-07:00, base-local: only critical alerts then, the rest afterwards.")] = "",
    digest: Annotated[int, typer.Option(help="Gather for so many seconds; critical alerts go at once.")] = 0,
    after: Annotated[int, typer.Option(help="Escalation: only what nobody acknowledged for so many seconds.")] = 0,
    person: Annotated[str, typer.Option(help="Whose route it is; the base's own when not given.")] = "",
    on_duty: Annotated[bool, typer.Option("--on-duty", help="Only while the person is on duty (`park duty`).")] = False,
) -> None:
    """Tell somebody of alerts. The running `park alert` takes it up within seconds; `park route test` tries it out."""
    from alerts import main

    main.add_route(base, name, kind, target, secret, _language(language), severities, quiet, digest, after, person, on_duty)
    typer.echo(f"{name} of {base} is told from now on; `park route test {base} {name}` sends a test message")


def route_list() -> None:
    """Every route: what it is sent and how its deliveries stand. Addresses and secrets are not shown."""
    from alerts import main

    main.list_routes()


def route_remove(base: Annotated[str, typer.Argument(help="Code of the base.")],
                 name: Annotated[str, typer.Argument(help="Name of the route.")]) -> None:
    """Tell them no more."""
    from alerts import main

    main.remove_route(base, name)
    typer.echo(f"{name} of {base} is told no more")


def route_test(base: Annotated[str, typer.Argument(help="Code of the base.")],
               name: Annotated[str, typer.Argument(help="Name of the route.")]) -> None:
    """Send a test message now, and say what the other side answered if it did not take it."""
    from alerts import main

    main.test_route(base, name)


def route_dead(base: Annotated[str, typer.Argument(help="Code of the base.")],
               name: Annotated[str | None, typer.Argument(help="Name of a route, webhook or mqtt; all when not given.")] = None,
               ) -> None:
    """What was given up after eight tries: time, alert and why, as CSV."""
    from alerts import dead

    dead.show(base, name)


def route_resend(base: Annotated[str, typer.Argument(help="Code of the base.")],
                 name: Annotated[str, typer.Argument(help="Name of the route, or webhook, or mqtt.")]) -> None:
    """Send what was given up once more, with all its tries: after an address or a key is mended."""
    from alerts import dead

    dead.resend(base, name)


def duty_add(
    base: Annotated[str, typer.Argument(help="Code of the base.")],
    person: Annotated[str, typer.Argument(help="The name that his routes carry (`park route add --person`).")],
    start: Annotated[str, typer.Argument(help="2026-11-23T20:00, base-local, or with an offset.")],
    hours: Annotated[float, typer.Option(help="Length of the shift.")] = 8.0,
    after: Annotated[int, typer.Option(help="Told only of what nobody acknowledged for so many seconds; 0: at once.")] = 0,
    severities: Severities = "critical,high",
    every: Annotated[int, typer.Option(help="Repeated every so many days ...")] = 7,
    times: Annotated[int, typer.Option(help="... so many times in all.")] = 1,
    phone: Annotated[str, typer.Option(help="For the note of the next shift.")] = "",
) -> None:
    """Put somebody on the roster. Local times stay the same when the zone's clock changes. 排班。"""
    from alerts import roster

    roster.add(base, person, start, hours, after, severities, every, times, phone)


def duty_list(base: Annotated[str, typer.Argument(help="Code of the base.")],
              days: Annotated[int, typer.Option(help="From now on.")] = 14) -> None:
    """The roster as CSV, base-local."""
    from alerts import roster

    roster.show(base, days)


def duty_remove(base: Annotated[str, typer.Argument(help="Code of the base.")],
                number: Annotated[int, typer.Argument(help="Number of the duty, as `park duty list` shows it.")]) -> None:
    """Take a duty that is not over off the roster."""
    from alerts import roster

    roster.remove(base, number)


def check_catalogue(files: list[Path]) -> None:
    """What the alerts say of a catalogue's files: CatalogueError with the line of every mistake in a rule."""
    from alerts.rule_files import check_files

    check_files(files)


CATALOGUE_CHECKS = (check_catalogue,)
COMMANDS: dict[str, Callable[..., Any]] = {
    "alert": alert, "detect": detect, "backtest": backtest, "handover": handover,
    "duty add": duty_add, "duty list": duty_list, "duty remove": duty_remove,
    "route add": route_add, "route list": route_list, "route remove": route_remove, "route test": route_test,
    "route dead": route_dead, "route resend": route_resend}
