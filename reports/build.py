"""The data object from the database: reads the years, picks the period, writes the sections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from park.errors import InputError
from reports import facts
from reports.context import Context
from reports.goals import Target
from reports.model import (
    BaseCard,
    Block,
    Change,
    Chart,
    Kind,
    Paragraph,
    Report,
    Sealing,
    Section,
    Table,
    Text,
    places,
)
from reports.rows import Base
from reports.sections import annex, energy, operation, outlook, overview, plan, pollution, resources

OF_LAST_YEAR = ("energy", "resources", "pollution", "operation", "incidents")
PERIOD_YEARS = 5
"""Build period of a demonstration base (notice 发改办环资〔2020〕519号)."""
Progress = Callable[[str], None]


def read(
    conn: facts.Connection,
    base_code: str,
    kind: Kind,
    year: int,
    as_of: datetime,
    *,
    pinned: bool = False,
    progress: Progress = lambda _: None,
) -> Context:
    """What the report of a base is made of. NotFound for an unknown base, InputError for a year without data.

    `pinned`: the user asked for the instant `as_of` (aware), so every figure, factor, target, limit and ledger entry is taken
    as known then; availability of readings, first days of meters and statistics of alerts have no former versions and are
    those of now.
    """
    base = facts.find_base(conn, base_code)
    with facts.looking_back(conn, base, as_of, pinned=pinned) as taken:
        targets = facts.targets(conn, base)
        if facts.span_of(year, base.timezone, taken).days == 0:
            raise InputError(f"no whole day of {year} was over at {taken:%Y-%m-%dT%H:%M:%SZ}: there is nothing to report yet")
        years = {}
        for y in years_of(kind, year, base, targets):
            progress(str(y))
            years[y] = facts.read_year(conn, base, y, taken)
        if not years[year].has_data:
            raise InputError(_no_data(conn, base, year, taken if pinned else None))
        former = years.get(year - 1)
        if former is None:
            progress(str(year - 1))
            former = facts.read_former(conn, base, year - 1, taken)
        used = {f for y in years.values() for r in y.energy for f in r.factor_ids}
        return Context(
            base,
            kind,
            years[year],
            former if former.has_data else None,
            years,
            facts.enterprises(conn, base),
            targets,
            facts.factors(conn, used),
            taken,
            pinned,
        )


def assemble(ctx: Context, history: Sequence[Sealing] = (), restated: Sequence[Change] = ()) -> Report:
    """The sections of a context as one object; `history` are the sealed versions, `restated` what differs from the last."""
    body: tuple[Section, ...] = (
        overview.section(ctx),
        plan.targets(ctx),
        plan.tasks(ctx),
        energy.section(ctx),
        resources.section(ctx),
        pollution.section(ctx),
        operation.section(ctx),
        operation.incidents(ctx),
        outlook.section(ctx),
    )
    if ctx.several:
        body = tuple(_dated(s, ctx.year.span.year) if s.id in OF_LAST_YEAR else s for s in body)
    span, first = ctx.year.span, next(iter(ctx.years.values())).span.first
    card = BaseCard(ctx.base.code, Text(ctx.base.name_zh, ctx.base.name_en), ctx.base.region, ctx.base.timezone)
    report = Report(
        base=card,
        kind=ctx.kind,
        year=span.year,
        years=tuple(ctx.years),
        first_day=first,
        last_day=span.last,
        through=span.through,
        as_of=ctx.as_of,
        sections=body,
        history=tuple(history),
        restated=tuple(restated),
    )
    extra = annex.sections(ctx, list(places(report)), history, restated)
    return msgspec.structs.replace(report, sections=(*body, *extra))


def _dated(section: Section, year: int) -> Section:
    """The section of a report over several years with the year in the captions of what is about the last one alone."""
    return msgspec.structs.replace(section, blocks=tuple(_dated_block(b, year) for b in section.blocks))


def _dated_block(block: Block, year: int) -> Block:
    if isinstance(block, Table | Chart) and not block.id.endswith("-years"):
        return msgspec.structs.replace(block, title=Text(f"{block.title.zh}（{year}年）", f"{block.title.en}, {year}"))
    if isinstance(block, Paragraph):
        zh = block.text.zh.replace("本年", f"{year}年").replace("本期", f"{year}年")
        en = block.text.en.replace("of the year", f"of {year}").replace("in the period", f"in {year}")
        return msgspec.structs.replace(block, text=Text(zh, en))
    return block


def years_of(kind: Kind, year: int, base: Base, targets: Sequence[Target]) -> list[int]:
    """Years of the report: the year itself, or the build period up to it.

    The period begins with `attributes.period: [first, last]` of the base, else with the first year of its plan or targets;
    without either, a midterm report looks two and a final one four years back.
    """
    if kind == "annual":
        return [year]
    given = base.attributes.get("period")
    planned = sorted({t.year for t in targets} | {int(y) for y in base.attributes.get("plan", {})})
    if isinstance(given, list) and len(given) == 2:
        first = int(given[0])
    else:
        back = year - (PERIOD_YEARS - 1 if kind == "final" else 2)
        first = min(planned[0], back) if planned and kind == "final" else planned[0] if planned else back
    if first > year:
        raise InputError(f"the build period of {base.code} starts in {first}: a {kind} report cannot end in {year}")
    return list(range(max(first, year - PERIOD_YEARS + 1), year + 1))


def _no_data(conn: facts.Connection, base: Base, year: int, as_of: datetime | None) -> str:
    """Why there is no report, and what there is."""
    first, last = facts.data_days(conn, base)
    if as_of is not None:
        known = "nothing was" if first is None else f"data from {first} to {last} were"
        return f"no accounted data of {base.code} in {year} were known at {as_of:%Y-%m-%dT%H:%M:%SZ}; {known} known then"
    if first is None:
        return f"there are no accounted data of {base.code} at all: run `park account` once readings are stored"
    if first.year == year:
        return (f"no whole day of {base.code} in {year} is accounted yet: the first data are of {first}; "
                "a report takes days that are over, ask again tomorrow")
    return f"there are no accounted data of {base.code} in {year}; there are some from {first} to {last}"
