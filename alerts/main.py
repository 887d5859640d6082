"""What the commands of the stage do: the evaluator and the notifier as one service, a single pass, the check of rules."""

from __future__ import annotations

import logging
import re
import signal
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

from alerts import handover, mail, notify, routes, service
from alerts.context import load
from alerts.meters import Tally
from alerts.mqtt_channel import MqttChannel
from alerts.part import WHOLE, Part
from alerts.store import Q
from park.catalogue_store import base_id_of
from park.clock import parse_period, utc_now
from park.database import connect
from park.errors import CatalogueError, InputError, NotFound
from park.heartbeat import heartbeat
from park.settings import load_settings

log = logging.getLogger("park.alerts")


def _log_to_stderr(level: str) -> None:
    logging.basicConfig(stream=sys.stderr, level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s")


def serve(metrics_port: int | None = None, part: Part = WHOLE) -> None:
    """Evaluator in this thread, notifier beside it, until SIGTERM or SIGINT; with a port, /metrics there."""
    settings = load_settings()
    _log_to_stderr(settings.log_level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    channels: list[notify.Channel] = [MqttChannel(settings.mqtt_url)]
    if settings.webhook_url:
        channels.append(notify.Webhook(settings.webhook_url, settings.webhook_secret))
    url, console = settings.database_url, settings.public_url
    notifier = threading.Thread(target=notify.run, args=(url, channels, stop, time.monotonic, console), daemon=True)
    router = threading.Thread(target=routes.run, args=(url, stop, time.monotonic, console), daemon=True)
    notifier.start()
    router.start()
    told = Tally()
    service.run(settings.database_url, stop, beat=heartbeat("alert", metrics_port, told.registry), part=part, told=told)
    notifier.join(2.0)
    router.join(0.5)
    log.info("stopped")


def once() -> None:
    """One pass over the newest readings; prints the number of transitions."""
    settings = load_settings()
    _log_to_stderr(settings.log_level)
    with connect(settings.database_url, autocommit=True, name="park alert") as conn:
        e = service.start(conn, utc_now())
        n = service.step(conn, e, utc_now() + timedelta(microseconds=1))
        print(f"{len(e.context.rules)} rules over {len(e.context.pairs)} pairs: {n} transitions")


def detect_file(file: Path, onsets: Path | None, scores: Path | None, weather: Path | None, together: bool,
                budget: float, holidays: str | None = None) -> None:
    """Read, judge, write; says on standard error what it read and found."""
    from alerts import detect
    from alerts.series import read_series

    series = read_series(file)
    outside = read_series(weather) if weather else []
    if len(outside) > 1:
        raise InputError(f"--weather: expected one series (columns time,value), got {len(outside)} in {weather}")
    moved = sum(s.n_moved for s in series)
    if moved:
        print(f"{moved} rows were not on the regular step of their series and count for the nearest one", file=sys.stderr)
    registers = [s.name or "the series" for s in series if s.is_register]
    if registers:
        print(f"{', '.join(registers[:5])}{' and others' * (len(registers) > 5)}: only grows, as a register does; give the "
              "increments of each step instead, what is found below says little", file=sys.stderr)
    scored = detect.detect(series, budget, together, outside[0] if outside else None, holidays)
    n = detect.write_onsets(onsets, scored)
    if scores is not None:
        detect.write_scores(scores, scored)
    steps = sum(len(s.score) for s in scored)
    print(f"{len(series)} series, {steps} steps judged: {n} onsets at {budget:g} false alarms allowed per series-month",
          file=sys.stderr)
    print(detect.warm_up(scored, together), file=sys.stderr)


def backtest_rules(base: str, first: str, last: str, rule: str | None, candidates: Path | None, onsets: Path | None,
                   chart: Path | None, language: str) -> None:
    """Write every episode as CSV, the figures of each rule to standard error, a chart where one is asked for."""
    from alerts import backtest_chart, backtest_report
    from alerts.backtest import backtest, candidate_rules

    if chart is not None and chart.suffix not in (".html", ".svg"):
        raise InputError(f"--chart: expected a file that ends in .html or .svg, got {chart}")
    with connect(load_settings().database_url, autocommit=True, name="park backtest") as conn:
        base_id = base_id_of(conn, base)
        context = load(conn, utc_now())
        zone = context.zones[base_id]
        begin, end = parse_period(first, zone).start, parse_period(last, zone).end
        if begin >= end:
            raise InputError(f"expected --from before --to, got {first} and {last}")
        proposed = None if candidates is None else candidate_rules(conn, context, base_id, candidates)
        outcome = backtest(conn, base, begin, end, rule if proposed is None else None)
        other = None if proposed is None else backtest(conn, base, begin, end, rule, proposed)
    if other is not None:       # beside a candidate only the rules that it has count
        outcome = outcome.only({r.code for r in other.rules})
    text = ("" if other is None else "rules,") + "rule,object,raised,returned,minutes,severity,channel\n"
    text += backtest_report.episode_csv(outcome.episodes, "" if other is None else "now")
    text += "" if other is None else backtest_report.episode_csv(other.episodes, "candidate")
    if onsets is None:
        sys.stdout.write(text)
    else:
        onsets.write_text(text, encoding="utf-8")
    if chart is not None:
        draw = backtest_chart.page if chart.suffix == ".html" else backtest_chart.picture
        chart.write_text(draw(outcome, other, base, begin, end, zone, language), encoding="utf-8")
    print("\n".join(backtest_report.summary(outcome, begin, end, other)), file=sys.stderr)


def print_handover(base: str, hours: float, language: str) -> None:
    """Print the note for the next shift."""
    if not 0 < hours <= 168:
        raise InputError(f"--hours: expected more than 0 and at most 168, got {hours:g}")
    with connect(load_settings().database_url, autocommit=True, name="park handover") as conn:
        print(handover.note(conn, base, utc_now(), timedelta(hours=hours), language))


def add_route(base: str, name: str, kind: str, target: str, secret: str, language: str, severities: str, quiet: str,
              digest_s: int, after_s: int, person: str = "", on_duty: bool = False) -> None:
    """Write a route; InputError names what is wrong."""
    if on_duty and not person:
        raise InputError("--on-duty: needs --person, the name that stands in the roster")
    hours = quiet.split("-") if quiet else [None, None]
    if len(hours) != 2 or (quiet and not all(re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", h or "") for h in hours)):
        raise InputError(f"--quiet: expected two times such as 22:00-07:00, got {quiet!r}")
    if kind == "email":
        mail.target_of(target)
    elif not target.startswith(("https://", "http://")):
        raise InputError("target: expected the robot's address, https://...")
    if digest_s < 0 or after_s < 0:
        raise InputError(f"--digest, --after: expected 0 or more seconds, got {min(digest_s, after_s)}")
    with connect(load_settings().database_url, autocommit=True, name="park route") as conn:
        conn.execute(Q["add_route"], {
            "base": base_id_of(conn, base), "name": name, "kind": kind, "target": target, "secret": secret,
            "language": language, "severities": severities.split(","), "quiet_from": hours[0], "quiet_to": hours[1],
            "digest_s": digest_s, "after_s": after_s, "person": person, "on_duty": on_duty})


def list_routes() -> None:
    """Print the routes as CSV."""
    with connect(load_settings().database_url, autocommit=True, name="park route") as conn:
        print("base,name,kind,person,on_duty,language,severities,quiet,digest_s,after_s,sent,due,dead,last_error")
        for row in conn.execute(Q["list_routes"]).fetchall():
            print(",".join(str(cell) for cell in row))


def remove_route(base: str, name: str) -> None:
    """Delete a route; NotFound when there is none of the name."""
    with connect(load_settings().database_url, autocommit=True, name="park route") as conn:
        if not conn.execute(Q["remove_route"], {"base": base_id_of(conn, base), "name": name}).rowcount:
            raise NotFound(f"base {base} has no route {name!r}")


def test_route(base: str, name: str) -> None:
    """Send a test message; NotDelivered or NotFound when it did not go."""
    with connect(load_settings().database_url, autocommit=True, name="park route") as conn:
        found = [r for r in routes.read(conn) if (r.base, r.name) == (base, name)]
    if not found:
        raise NotFound(f"base {base} has no route {name!r}")
    routes.try_out(found[0])
    print(f"{name}: delivered")


def check_files(files: list[Path]) -> None:
    """Check the rules of catalogue files; CatalogueError with file and line of every mistake."""
    from alerts import rule_files

    print(f"{rule_files.check_files(files)} rules, no mistake")


def check_rules() -> None:
    """Print what each rule covers; CatalogueError with every mistake."""
    with connect(load_settings().database_url, autocommit=True, name="park alert --check") as conn:
        context = load(conn, utc_now())
    n = {r.rule_id: 0 for r in context.rules}
    for pair in context.pairs:
        n[pair.rule.rule_id] += pair.point is not None
    for rule in context.rules:
        covered = f", points: {n[rule.rule_id]}" if n[rule.rule_id] else ""
        print(f"{context.bases[rule.base_id]} {rule.code}: {rule.kind}, {rule.severity}{covered}")
    if context.mistakes:
        raise CatalogueError(context.mistakes)
