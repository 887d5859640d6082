"""Whether the platform itself hears anything: its own deafness is no silence of a device.

Ingest, broker, network or collectors may be down, or not yet up. A device is silent only over time in which something
else was heard; when nothing at all is heard, that is one alert a base (its object is the base) and not one a device.
What is heard: a reading whose own time is near the clock (history that is being loaded is not), or a word of a collector
about its devices, which comes about every ten seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from alerts.context import Context
from alerts.explain import clock_of, duration_en, duration_zh
from alerts.finding import Finding
from alerts.lifecycle import SEVERITIES
from alerts.rules import Rule

LIVE_S = 900.0      # a reading older than this when it comes tells nothing of the present
STALL_S = 90.0      # nothing at all for so long (or three times the usual step of the points) is deafness
FIRST_S = 900.0     # allowed to a platform that has just begun before it is said that nothing comes


@dataclass
class Hearing:
    """Epochs of the evaluator's clock: begin of this process, last word heard, since when words come without a stall."""

    started: float
    at: float = np.nan
    since: float = np.nan

    def hear(self, now: float, stall_s: float) -> None:
        """Something was heard now; after a stall the counting of silence begins anew."""
        if not now - self.at <= stall_s:
            self.since = now
        self.at = now

    @property
    def listened_s(self) -> float:
        """Seconds for which words have come without a stall."""
        return 0.0 if np.isnan(self.at) else self.at - self.since


def stall_s(context: Context) -> float:
    """How long nothing at all may come from anywhere."""
    steps = [p.expected_s for p in context.points]
    return max(STALL_S, 3.0 * float(np.median(steps))) if steps else STALL_S


def judge(context: Context, hearing: Hearing, now: datetime) -> list[Finding]:
    """One finding a base with stale rules: nothing at all comes, or something does; unknown until the first word."""
    never = np.isnan(hearing.at)
    last = hearing.started if never else hearing.at
    silent_s, allowed_s = now.timestamp() - last, max(FIRST_S, stall_s(context)) if never else stall_s(context)
    deaf = silent_s > allowed_s
    if never and not deaf:
        return []
    return [Finding(rule, deaf, now, value=silent_s, high=allowed_s, unit="s", channel="nothing_heard",
                    explanation=_explain(context, rule, last, now) if deaf else {})
            for rule in _speakers(context)]


def _speakers(context: Context) -> list[Rule]:
    """The most severe stale rule of each base, which speaks for the base as a whole."""
    ranked = sorted(context.of_kind("stale"), key=lambda r: (SEVERITIES.index(r.severity), r.rule_id), reverse=True)
    return list({r.base_id: r for r in ranked}.values())


def _explain(context: Context, rule: Rule, last: float, now: datetime) -> dict[str, Any]:
    since = datetime.fromtimestamp(last, UTC)
    at, long = clock_of(since, context.zones[rule.base_id]), now.timestamp() - last
    base = context.bases[rule.base_id]
    return {
        "zh": f"平台自 {at} 起已 {duration_zh(long)} 未收到基地 {base} 的任何数据:请检查网络、消息代理、采集与入库服务。",
        "en": f"Nothing at all has arrived since {at} ({duration_en(long)}), base {base}: look at network, broker, collectors "
              "and ingest.",
        "since": since.isoformat(), "contributor": {"base": base},
    }
