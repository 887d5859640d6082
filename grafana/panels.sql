-- The SQL of every panel. Grafana's macros stand as Grafana writes them; {lang} becomes zh or en when boards are built.
-- Each panel reads board_* views or functions only: the login of Grafana sees nothing else.

-- name: bases
-- Bases this login may see, for the variable `base`.
SELECT code AS __value, name_{lang} AS __text FROM board_base ORDER BY code

-- name: enterprises
-- Enterprises of the base, for the variable `enterprise`.
SELECT enterprise AS __value, name_{lang} AS __text FROM board_enterprise WHERE base = '${base}' ORDER BY enterprise

-- name: outlets
-- Outlets of the base, for the variable `outlet`.
SELECT unit AS __value, name_{lang} AS __text FROM board_outlet WHERE base = '${base}' ORDER BY unit

-- name: points
-- Points of the base, for the variable `point`.
SELECT point AS __value, point || ' ' || name_{lang} AS __text FROM board_point WHERE base = '${base}' ORDER BY point

-- name: alert_annotation
-- Alerts raised in the window, as annotations on every time panel.
SELECT opened_at AS time, coalesce(returned_at, now()) AS timeend, name_{lang} || ' · ' || object AS text, severity AS tags
FROM board_alert WHERE base = '${base}' AND severity IN ('critical', 'high') AND $__timeFilter(opened_at)

-- name: energy_today
-- Energy of the base today in tce, equivalent value.
SELECT sum(tce_equivalent) AS value FROM board_energy_1d
WHERE base = '${base}' AND enterprise IS NULL AND day = board_today('${base}')

-- name: co2_today
-- CO2 of the base today in tonnes.
SELECT sum(co2_kg) / 1000 AS value FROM board_energy_1d
WHERE base = '${base}' AND enterprise IS NULL AND day = board_today('${base}')

-- name: cost_today
-- Energy cost of the base today.
SELECT sum(cost) AS value FROM board_energy_1d WHERE base = '${base}' AND enterprise IS NULL AND day = board_today('${base}')

-- name: electricity_today
-- Electricity of the base today in kWh.
SELECT sum(amount) AS value FROM board_energy_1d
WHERE base = '${base}' AND enterprise IS NULL AND carrier = 'electricity' AND day = board_today('${base}')

-- name: alerts_active
-- Alerts whose condition is present, by severity.
SELECT severity, count(*) AS n FROM board_alert WHERE base = '${base}' AND active AND closed_at IS NULL
GROUP BY severity ORDER BY min(rank)

-- name: points_online
-- Share of points that reported within three times their expected period.
SELECT 100.0 * count(*) FILTER (WHERE online) / nullif(count(*), 0) AS value FROM board_point WHERE base = '${base}' AND connected

-- name: coverage_today
-- Share of today's 15-minute slots whose consumption is known, over the counters that make the total.
SELECT 100.0 * sum(n_known) / nullif(sum(n_expected), 0) AS value FROM board_energy_1d
WHERE base = '${base}' AND enterprise IS NULL AND day = board_today('${base}')

-- name: park_load
-- Power at the gates of base and enterprises, from 15-minute consumption.
SELECT ts AS time, name_{lang} AS metric, kw AS value FROM board_load
WHERE base = '${base}' AND $__timeFilter(ts) ORDER BY ts

-- name: energy_by_enterprise
-- Energy of each enterprise in the window, tce equivalent value.
SELECT name_{lang} AS enterprise, sum(tce_equivalent) AS tce FROM board_energy_1d
WHERE base = '${base}' AND enterprise IS NOT NULL AND day BETWEEN board_day('${base}', $__timeFrom()) AND board_day('${base}', $__timeTo())
GROUP BY 1 ORDER BY 2 DESC NULLS LAST

-- name: emission_now
-- The last hour of each outlet and pollutant beside the limit in force.
SELECT name_{lang} AS outlet, quantity_{lang} AS pollutant, ts AS hour, converted AS value, limit_value AS "limit",
       100 * converted / nullif(limit_value, 0) AS share, n_valid AS "valid minutes", state
FROM board_emission_latest WHERE base = '${base}' ORDER BY share DESC NULLS LAST

-- name: alerts_open
-- Open alerts, worst and newest first.
SELECT severity, name_{lang} AS alert, object, opened_at AS since, active, acknowledged, explanation_{lang} AS explanation
FROM board_alert WHERE base = '${base}' AND closed_at IS NULL ORDER BY rank, opened_at DESC LIMIT 200

-- name: energy_daily_by_carrier
-- Energy a day by carrier, tce equivalent value.
SELECT day_at AS time, carrier AS metric, sum(tce_equivalent) AS value FROM board_energy_1d
WHERE base = '${base}' AND enterprise IS NULL AND $__timeFilter(day_at) GROUP BY 1, 2 ORDER BY 1

-- name: electricity_daily_by_enterprise
-- Electricity a day by enterprise.
SELECT day_at AS time, name_{lang} AS metric, amount AS value FROM board_energy_1d
WHERE base = '${base}' AND enterprise IS NOT NULL AND carrier = 'electricity' AND $__timeFilter(day_at) ORDER BY 1

-- name: energy_table
-- Energy, carbon and cost of the window by carrier, with coverage and the estimated share.
SELECT carrier, unit, sum(amount) AS amount, sum(tce_calorific) AS "tce 当量", sum(tce_equivalent) AS "tce 等价",
       sum(co2_kg) / 1000 AS "tCO2", sum(cost) AS cost, 100.0 * sum(n_known) / nullif(sum(n_expected), 0) AS "coverage %",
       100.0 * sum(estimated) / nullif(sum(amount), 0) AS "estimated %"
FROM board_energy_1d
WHERE base = '${base}' AND enterprise IS NULL AND day BETWEEN board_day('${base}', $__timeFrom()) AND board_day('${base}', $__timeTo())
GROUP BY 1, 2 ORDER BY 5 DESC NULLS LAST

-- name: cost_by_period
-- Electricity cost a day by tariff period.
SELECT day_at AS time, period AS metric, sum(cost) AS value FROM board_cost_1d
WHERE base = '${base}' AND carrier = 'electricity' AND $__timeFilter(day_at) GROUP BY 1, 2 ORDER BY 1

-- name: balance
-- Parent minus children a day, as a share of the parent.
SELECT day_at AS time, parent AS metric, 100 * unaccounted / nullif(parent_amount, 0) AS value FROM board_balance_1d
WHERE base = '${base}' AND $__timeFilter(day_at) ORDER BY 1

-- name: indicators
-- Indicators of the year beside their targets.
SELECT indicator, name_{lang} AS name, value, unit, target, baseline, 100 * coverage AS "coverage %", grade, responsible
FROM board_indicator WHERE base = '${base}' AND year = extract(year FROM board_day('${base}', $__timeTo())) ORDER BY indicator

-- name: series
-- Chosen points; raw readings or the rollup that fits the panel's interval.
SELECT ts AS time, point AS metric, value
FROM board_series('${base}', ARRAY[${point:sqlstring}]::text[], $__timeFrom(), $__timeTo(), $__interval_ms) ORDER BY ts

-- name: emission_hourly
-- Hour means at reference oxygen of the chosen outlet, and their limits.
SELECT ts AS time, quantity_{lang} AS metric, converted AS value FROM board_emission_1h
WHERE base = '${base}' AND unit = '${outlet}' AND state = 'valid' AND $__timeFilter(ts)
UNION ALL
SELECT ts, quantity_{lang} || ' {limit}', limit_value FROM board_emission_1h
WHERE base = '${base}' AND unit = '${outlet}' AND limit_value IS NOT NULL AND $__timeFilter(ts)
ORDER BY 1

-- name: emission_validity
-- Valid minutes of each hour; fewer than 45 make no valid hour (HJ 76-2017 Annex B).
SELECT ts AS time, quantity_{lang} AS metric, n_valid AS value FROM board_emission_1h
WHERE base = '${base}' AND unit = '${outlet}' AND $__timeFilter(ts) ORDER BY 1

-- name: emission_mass
-- Mass a day by pollutant over all outlets.
SELECT day_at AS time, quantity_{lang} AS metric, sum(mass_kg) AS value FROM board_emission_1d
WHERE base = '${base}' AND mass_kg IS NOT NULL AND $__timeFilter(day_at) GROUP BY 1, 2 ORDER BY 1

-- name: emission_states
-- Hours of the window by outlet and pollutant: valid, stopped, exempt, missing, exceeded.
SELECT name_{lang} AS outlet, quantity_{lang} AS pollutant, sum(hours_valid) AS valid, sum(hours_stopped) AS stopped,
       sum(hours_exempt) AS exempt, sum(hours_missing) AS missing, sum(hours_exceeded) AS exceeded,
       sum(hours_substituted) AS substituted, sum(mass_kg) AS "mass kg"
FROM board_emission_1d WHERE base = '${base}' AND $__timeFilter(day_at) GROUP BY 1, 2 ORDER BY 1, 2

-- name: exceedances
-- Every exceeding hour of the window.
SELECT ts AS hour, name_{lang} AS outlet, quantity_{lang} AS pollutant, converted AS value, limit_value AS "limit", n_valid
FROM board_emission_1h WHERE base = '${base}' AND exceeded AND $__timeFilter(ts) ORDER BY ts DESC LIMIT 500

-- name: treatment_events
-- Production that ran while its treatment did not.
SELECT started_at AS "from", ended_at AS "to", kind, production_{lang} AS production, treatment_{lang} AS treatment
FROM board_treatment_event WHERE base = '${base}' AND started_at <= $__timeTo() AND coalesce(ended_at, now()) >= $__timeFrom()
ORDER BY started_at DESC LIMIT 500

-- name: alerts_daily
-- Alerts raised a day by severity.
SELECT $__timeGroup(opened_at, '1d') AS time, severity AS metric, count(*)::float8 AS value FROM board_alert
WHERE base = '${base}' AND $__timeFilter(opened_at) GROUP BY 1, 2 ORDER BY 1

-- name: alerts_rate
-- Alerts raised in each 10 minutes; more than 10 is a flood (EEMUA 191).
SELECT $__timeGroup(opened_at, '10m') AS time, count(*)::float8 AS value FROM board_alert
WHERE base = '${base}' AND $__timeFilter(opened_at) GROUP BY 1 ORDER BY 1

-- name: alerts_top
-- The ten rules that raised most often in the window.
SELECT name_{lang} AS alert, object, count(*) AS raised, avg(extract(epoch FROM acknowledged_at - opened_at)) AS "s to acknowledge"
FROM board_alert WHERE base = '${base}' AND $__timeFilter(opened_at) GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 10

-- name: stale_points
-- Points that are silent, longest first.
SELECT point, name_{lang} AS name, object_{lang} AS unit, last_at, last_quality AS quality FROM board_point
WHERE base = '${base}' AND connected AND NOT online ORDER BY last_at NULLS FIRST LIMIT 300

-- name: devices
-- What each device last said of itself.
SELECT device, protocol, state, last_answer, latency_ms, clock_offset_s AS "clock ahead (s)", errors FROM board_device WHERE base = '${base}' ORDER BY state DESC, device

-- name: ingest_outcomes
-- Readings a day by what became of them: stored, corrected, duplicate, dead.
SELECT day::timestamptz AS time, outcome AS metric, n::float8 AS value FROM board_ingest
WHERE base = '${base}' AND $__timeFilter(day::timestamptz) ORDER BY 1

-- name: dead_letters
-- Dead letters not yet replayed, by reason.
SELECT reason, count(*) AS n, max(received_at) AS newest FROM board_dead_letter WHERE base = '${base}' GROUP BY 1 ORDER BY 2 DESC

-- name: availability
-- Share of expected readings that came, a day over all points.
SELECT day_at AS time, 100.0 * sum(least(n, n_expected)) / nullif(sum(n_expected), 0) AS received,
       100.0 * sum(least(n_good, n_expected)) / nullif(sum(n_expected), 0) AS good
FROM board_availability_1d WHERE base = '${base}' AND $__timeFilter(day_at) GROUP BY 1 ORDER BY 1
