"""What the commands of the stage do: the evaluator and the notifier as one service, a single pass, the check of rules."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from alerts import notify, service
from alerts.context import load
from alerts.mqtt_channel import MqttChannel
from park.clock import parse_period, utc_now
from park.database import connect
from park.errors import CatalogueError, InputError
from park.heartbeat import heartbeat
from park.settings import load_settings

log = logging.getLogger("park.alerts")


def _log_to_stderr(level: str) -> None:
    logging.basicConfig(stream=sys.stderr, level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s")


def serve(metrics_port: int | None = None) -> None:
    """Evaluator in this thread, notifier beside it, until SIGTERM or SIGINT; with a port, /metrics there."""
    settings = load_settings()
    _log_to_stderr(settings.log_level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    channels: list[notify.Channel] = [MqttChannel(settings.mqtt_url)]
    if settings.webhook_url:
        channels.append(notify.Webhook(settings.webhook_url, settings.webhook_secret))
    notifier = threading.Thread(target=notify.run, args=(settings.database_url, channels, stop), daemon=True)
    notifier.start()
    service.run(settings.database_url, stop, beat=heartbeat("alert", metrics_port))
    notifier.join(2.0)
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
                budget: float) -> None:
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
    scored = detect.detect(series, budget, together, outside[0] if outside else None)
    n = detect.write_onsets(onsets, scored)
    if scores is not None:
        detect.write_scores(scores, scored)
    steps = sum(len(s.score) for s in scored)
    print(f"{len(series)} series, {steps} steps judged: {n} onsets at {budget:g} false alarms allowed per series-month",
          file=sys.stderr)


def backtest_rules(base: str, first: str, last: str, rule: str | None) -> None:
    """Print every episode and the number of raises a day."""
    from alerts.backtest import backtest, table
    from park.catalogue_store import base_id_of

    with connect(load_settings().database_url, autocommit=True, name="park backtest") as conn:
        base_id = base_id_of(conn, base)
        zone = load(conn, utc_now()).zones[base_id]
        begin, end = parse_period(first, zone).start, parse_period(last, zone).end
        if begin >= end:
            raise InputError(f"expected --from before --to, got {first} and {last}")
        outcome = backtest(conn, base, begin, end, rule)
    offset = begin.astimezone(ZoneInfo(zone)).utcoffset() or timedelta()
    print("rule,object,raised,returned,minutes")
    for row in table(outcome, offset):
        print(",".join(row))
    days = (end - begin) / timedelta(days=1)
    print(f"{outcome.n_readings} readings in {outcome.n_ticks} ticks over {days:g} days: {len(outcome.episodes)} raises, "
          f"{len(outcome.episodes) / days:.2f} a day", file=sys.stderr)


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
