"""Section 6: outlets over the whole year: hours by validity, means against limits, mass, transmission, events, cases."""

from __future__ import annotations

from reports import figures
from reports.context import Context, years_table
from reports.model import Block, Chart, Column, Paragraph, Rows, Section, Series, Table, Text, tidy
from reports.outlets import Emission, Event, Limit
from reports.rows import Year
from reports.sections import cases
from reports.words import named, quantity, said, source, word

MASSES = ("so2_t", "nox_t", "dust_t", "cod_t", "ammonia_t")
JUDGED = said("emission_judgement")
LISTED = 20


def section(ctx: Context) -> Section:
    """Pollution sources, the whole process."""
    year = ctx.year
    blocks: list[Block] = [Paragraph(JUDGED)]
    if ctx.several:
        blocks.append(years_table(ctx, "pollution-years", Text("各年主要污染物排放量", "Mass emitted by year"), MASSES))
    if not year.emission:
        blocks.append(Paragraph(Text("本期没有任何排口的在线监测数据。", "No outlet has monitoring data in the period.")))
    else:
        blocks += [_hours(year), _means(year), _mass(year)]
        chart = _chart(year)
        if chart.labels:
            blocks.append(chart)
        blocks.append(_transmission(year))
    blocks.append(_event_counts(year))
    if year.events:
        blocks.append(_event_list(ctx, year.events))
    blocks += cases.tables(ctx)
    return Section("pollution", Text("污染源全过程管理", "Pollution sources, the whole process"), tuple(blocks))


def outlet_name(e: Emission) -> Text:
    """Enterprise, outlet and quantity in one name."""
    q = quantity(e.quantity)
    zh, en = (f"{e.enterprise_zh} " if e.enterprise_zh else ""), (f"{e.enterprise_en}, " if e.enterprise_en else "")
    return Text(f"{zh}{e.name_zh} {q.zh}", f"{en}{e.name_en}: {q.en}")


def _figure(e: Emission, year: Year, field: str) -> str:
    return f"emission/{year.span.year}/{e.code}/{e.quantity}/{field}"


def due_hours(e: Emission, year: Year) -> int:
    """Hours of the year so far in which the source ran and was not exempt."""
    return max(0, year.span.hours - e.hours_stopped - e.hours_exempt)


def valid_share(e: Emission, year: Year) -> float | None:
    """Share of due hours that were valid: the coverage of every figure of the outlet."""
    return e.valid_share(year.span.hours)


def _hours(year: Year) -> Table:
    rows: Rows = []
    for e in year.emission:
        recorded = e.hours_valid + e.hours_stopped + e.hours_exempt + e.hours_missing
        absent = max(0, year.span.hours - recorded)
        share = valid_share(e, year)
        counts = (
            ("valid", e.hours_valid),
            ("stopped", e.hours_stopped),
            ("exempt", e.hours_exempt),
            ("missing", e.hours_missing + absent),
            ("exceeded", e.hours_exceeded),
        )
        rows.append(
            (
                outlet_name(e),
                *(figures.plain(_figure(e, year, f"hours_{n}"), float(v), "h", "count") for n, v in counts),
                figures.ratio(
                    _figure(e, year, "valid_share"),
                    float(e.hours_valid),
                    float(due_hours(e, year)),
                    "%",
                    share,
                    scale=100,
                    digits=1,
                    withhold=False,
                    absent=figures.NO_VALID_HOUR,
                ),
            )
        )
    return Table(
        "emission-hours",
        Text("排口监测时数", "Hours of the outlets"),
        (
            Column(Text("排口与因子", "Outlet and pollutant"), width=2.6),
            Column(Text("有效", "Valid"), "h", 0.9),
            Column(Text("停运", "Stopped"), "h", 0.9),
            Column(Text("豁免", "Exempt"), "h", 0.9),
            Column(Text("缺失或无效", "Missing or invalid"), "h", 1.0),
            Column(Text("超标", "Exceeded"), "h", 0.9),
            Column(Text("有效率", "Valid share"), "%", 0.9),
        ),
        tuple(rows),
        (said("valid_hour"),),
    )


def _limit(year: Year, e: Emission) -> Limit | None:
    wanted = ("day", "hour", "month") if e.medium == "water" else ("hour", "day", "month")
    if e.quantity == "ph":
        wanted = ("instant", "hour", "day")
    mine = {x.statistic: x for x in year.limits if x.unit_id == e.unit_id and x.quantity == e.quantity}
    return next((mine[s] for s in wanted if s in mine), None)


_STATISTICS = {
    "instant": Text("瞬时", "instant"),
    "hour": Text("小时均值", "hour"),
    "day": Text("日均值", "day"),
    "month": Text("月均值", "month"),
    "year": Text("年", "year"),
}
_RANKS = {"permit": Text("许可证", "permit"), "standard": Text("标准", "standard")}


def _means(year: Year) -> Table:
    rows: Rows = []
    for e in year.emission:
        limit, share = _limit(year, e), valid_share(e, year)
        unit = limit.unit if limit else ("pH" if e.quantity == "ph" else "mg/L" if e.medium == "water" else "mg/m3")
        cells = [
            figures.known(_figure(e, year, name), v, unit, share, absent=figures.NO_VALID_HOUR)
            for name, v in (
                ("mean_measured", e.mean_measured),
                ("mean_converted", e.mean_converted),
                ("max_converted", e.max_converted),
            )
        ]
        high = limit.high if limit else None
        bound = figures.plain(_figure(e, year, "limit"), high, unit, "reference", digits=1, reason=figures.NO_LIMIT)
        kind = _limit_kind(limit)
        used = figures.ratio(
            _figure(e, year, "of_limit"),
            e.mean_converted,
            None if e.quantity == "ph" else high,
            "%",
            share,
            scale=100,
            digits=1,
            withhold=False,
            absent=figures.NOT_APPLICABLE
            if e.quantity == "ph"
            else figures.NO_LIMIT
            if high is None
            else figures.NO_VALID_HOUR,
        )
        rows.append((outlet_name(e), word("units", unit), *cells, bound, kind, used))
    return Table(
        "emission-means",
        Text("排放浓度与限值", "Concentrations against limits"),
        (
            Column(Text("排口与因子", "Outlet and pollutant"), width=2.2),
            Column(Text("单位", "Unit"), width=0.8),
            Column(Text("实测均值", "Measured mean"), width=1.0),
            Column(Text("折算均值", "Converted mean"), width=1.0),
            Column(Text("最大小时值", "Highest hour"), width=1.0),
            Column(Text("限值", "Limit"), width=0.9),
            Column(Text("限值类型", "Kind"), width=1.0),
            Column(Text("均值占限值", "Of limit"), "%", 0.9),
        ),
        tuple(rows),
        _limit_notes(year),
    )


def _limit_kind(limit: Limit | None) -> Text:
    if limit is None:
        return Text("—", "—")
    s, r = (
        _STATISTICS.get(limit.statistic, Text(limit.statistic, limit.statistic)),
        _RANKS.get(limit.rank, Text(limit.rank, limit.rank)),
    )
    low = f" ≥{limit.low:g}" if limit.low is not None else ""
    return Text(f"{r.zh}，{s.zh}{low}", f"{r.en}, {s.en}{low}")


def _limit_notes(year: Year) -> tuple[Text, ...]:
    used = {limit.source: limit for e in year.emission if (limit := _limit(year, e)) is not None}
    return tuple(
        Text(
            f"限值来源：{source(s).zh}（{'已核验' if x.verified else '未核验'}）。",
            f"Limit from {source(s).en} ({'verified' if x.verified else 'not verified'}).",
        )
        for s, x in sorted(used.items())
    )


def _mass(year: Year) -> Table:
    rows: Rows = []
    for e in year.emission:
        if e.mass_kg is None and e.quantity in ("ph", "o2"):
            continue
        share, running = valid_share(e, year), e.hours_valid + e.hours_missing
        mass = figures.known(
            _figure(e, year, "mass"),
            e.mass_kg,
            "kg",
            share,
            absent=Text("无流量或无有效浓度", "no flow or no valid concentration"),
            grade=e.grade(year.span.hours),
            quality="substituted" if e.hours_substituted else "good",
            digits=1,
        )
        rows.append(
            (
                outlet_name(e),
                mass,
                figures.plain(_figure(e, year, "hours_substituted"), float(e.hours_substituted), "h", "count"),
                figures.ratio(
                    _figure(e, year, "substituted_share"),
                    float(e.hours_substituted),
                    float(running),
                    "%",
                    share,
                    scale=100,
                    digits=1,
                    withhold=False,
                ),
            )
        )
    return Table(
        "emission-mass",
        Text("污染物排放量", "Mass emitted"),
        (
            Column(Text("排口与因子", "Outlet and pollutant"), width=2.6),
            Column(Text("排放量", "Mass"), "kg", 1.4),
            Column(Text("替代小时", "Hours substituted"), "h", 1.1),
            Column(Text("替代占比", "Share substituted"), "%", 1.1),
        ),
        tuple(rows),
        (said("mass_meaning"), *_inside(year)),
    )


def _inside(year: Year) -> tuple[Text, ...]:
    """Which outlets flow to another of the base: the base's total leaves them out."""
    inside = [e for e in year.emission if e.inside]
    if not inside:
        return ()
    zh = "、".join(dict.fromkeys(f"{e.enterprise_zh or ''} {e.name_zh}".strip() for e in inside))
    en = "; ".join(dict.fromkeys(f"{e.enterprise_en or ''} {e.name_en}".strip() for e in inside))
    return (
        Text(f"{zh}排入园区内其他排口，不计入园区合计。", f"Not in the base's total, flowing to another outlet of it: {en}."),
    )


def _chart(year: Year) -> Chart:
    shown = [
        (e, limit.high)
        for e in year.emission
        if e.quantity != "ph" and (limit := _limit(year, e)) is not None and limit.high and e.mean_converted is not None
    ]
    return Chart(
        "chart-of-limit",
        Text("年均浓度占限值比例", "Yearly mean as a share of the limit"),
        "bars",
        "%",
        tuple(outlet_name(e) for e, _ in shown),
        (
            Series(
                Text("折算均值占限值", "Converted mean of limit"),
                tuple(tidy(100 * (e.mean_converted or 0.0) / high) for e, high in shown if high),
            ),
        ),
        limit=100.0,
    )


def _transmission(year: Year) -> Table:
    rows: Rows = []
    for t in year.transmission:
        due = max(0, year.span.hours * t.quantities - t.excluded)
        coverage = min(1.0, t.valid / due) if due else None
        name, values = (
            f"transmission/{year.span.year}/{t.code}",
            (("rate", t.received, due), ("valid", t.valid, t.received), ("effective", t.valid, due)),
        )
        zh, en = (f"{t.enterprise_zh} " if t.enterprise_zh else ""), (f"{t.enterprise_en}, " if t.enterprise_en else "")
        rows.append(
            (
                Text(f"{zh}{t.name_zh}", f"{en}{t.name_en}"),
                figures.plain(f"{name}/due", float(due), "h", "count"),
                *(
                    figures.ratio(
                        f"{name}/{n}",
                        float(top),
                        float(bottom),
                        "%",
                        coverage,
                        scale=100,
                        withhold=False,
                        absent=figures.NO_VALID_HOUR,
                    )
                    for n, top, bottom in values
                ),
            )
        )
    return Table(
        "transmission",
        Text("传输率、有效率与传输有效率", "Transmission rate, valid rate and effective transmission rate"),
        (
            Column(Text("排口", "Outlet"), width=2.2),
            Column(Text("应传小时×因子", "Due hours x pollutants"), "h", 1.2),
            Column(Text("传输率", "Transmission rate"), "%", 1.0),
            Column(Text("有效率", "Valid rate"), "%", 1.0),
            Column(Text("传输有效率", "Effective rate"), "%", 1.1),
        ),
        tuple(rows),
        (said("transmission_meaning"),),
    )


def _event_counts(year: Year) -> Table:
    rows: Rows = []
    for kind in dict.fromkeys(e.kind for e in year.events):
        own = [e for e in year.events if e.kind == kind]
        rows.append(
            (
                word("events", kind),
                figures.plain(f"events/{kind}/n", float(len(own)), "events", "count"),
                figures.plain(f"events/{kind}/hours", sum(e.hours for e in own), "h", "count", digits=1),
                figures.plain(f"events/{kind}/open", float(sum(e.ended_at is None for e in own)), "events", "count"),
            )
        )
    if not rows:
        heard = any(p.heard for p in year.points if p.system == "pollution")
        silent = None if heard else Text("没有治理设施或排口的数据", "no facility or outlet has data")
        name = (
            Text("本期平台未记录治理联动事件", "The platform recorded no treatment event in the period")
            if heard
            else Text("未作判断", "Not judged")
        )
        values = (
            figures.plain(f"events/none/{f}", 0.0 if heard else None, u, "count", reason=silent)
            for f, u in (("n", "events"), ("hours", "h"), ("open", "events"))
        )
        rows.append((name, *values))
    return Table(
        "events",
        Text("治理设施联动事件", "Treatment events"),
        (
            Column(Text("类型", "Kind"), width=2.4),
            Column(Text("起数", "Events"), width=0.9),
            Column(Text("累计时长", "Total"), "h", 1.0),
            Column(Text("未结束", "Open"), width=0.9),
        ),
        tuple(rows),
    )


def _event_list(ctx: Context, events: list[Event]) -> Table:
    rows = tuple(
        (
            word("events", e.kind),
            named(e.production_zh, e.production_en),
            named(e.treatment_zh, e.treatment_en),
            ctx.local(e.started_at),
            ctx.local(e.ended_at),
            figures.plain(f"events/longest/{n}", e.hours, "h", "count", digits=1),
        )
        for n, e in enumerate(events[:LISTED], 1)
    )
    title = Text(
        f"持续时间最长的联动事件（{len(rows)}/{len(events)} 起）", f"Longest treatment events ({len(rows)} of {len(events)})"
    )
    return Table(
        "event-list",
        title,
        (
            Column(Text("类型", "Kind"), width=2.1),
            Column(Text("生产设施", "Production"), width=1.2),
            Column(Text("治理设施", "Treatment"), width=1.2),
            Column(Text("开始", "Start"), width=1.4),
            Column(Text("结束", "End"), width=1.4),
            Column(Text("时长", "Hours"), "h", 0.8),
        ),
        rows,
    )
