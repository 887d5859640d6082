-- Named queries of the reports. Parameters: base, first and last (days, inclusive). What they read are views that stand at
-- park.as_of: the same SQL says what is known now and what was known then.

-- name: base
-- The base itself.
SELECT base_id, code, name_zh, name_en, region, timezone, attributes FROM base WHERE code = %(code)s

-- name: bases
-- Codes of every base that this login sees.
SELECT code FROM base ORDER BY code

-- name: look_back
-- From here on this transaction sees what was known at an instant; the answer is the instant that could be taken.
SELECT known_instant(%(as_of)s, %(zone)s), set_config('park.as_of', known_instant(%(as_of)s, %(zone)s)::text, true)

-- name: look_at_present
-- This transaction sees what is known now.
SELECT set_config('park.as_of', '', true)

-- name: enterprises
-- Enterprises of the base in the order of their codes.
SELECT enterprise_id, code, name_zh, name_en, industry FROM enterprise_known WHERE base_id = %(base)s ORDER BY code

-- name: data_days
-- First and last day for which anything is accounted, to tell a user which years can be reported.
SELECT min(first), max(last) FROM (
    SELECT min(day) AS first, max(day) AS last FROM energy_total_1d WHERE base_id = %(base)s AND n_known > 0
    UNION ALL
    SELECT min(day), max(day) FROM emission_1d WHERE base_id = %(base)s AND hours_valid > 0) found

-- name: energy_month
-- Totals of a carrier by enterprise (NULL: the base) and month, with the factor rows that were used.
WITH d AS MATERIALIZED (
    SELECT *, extract(month FROM day)::integer AS month FROM energy_total_1d
    WHERE base_id = %(base)s AND day BETWEEN %(first)s AND %(last)s),
f AS MATERIALIZED (
    SELECT d.enterprise_id, d.carrier, d.month,
           array_agg(DISTINCT id ORDER BY id) FILTER (WHERE k.kind = 'tce_calorific') AS calorific,
           array_agg(DISTINCT id ORDER BY id) FILTER (WHERE k.kind = 'tce_equivalent') AS equivalent,
           array_agg(DISTINCT id ORDER BY id) FILTER (WHERE k.kind = 'co2') AS co2
    FROM d CROSS JOIN LATERAL unnest(d.factor_ids) AS named(id) JOIN factor k ON k.factor_id = named.id GROUP BY 1, 2, 3),
g AS MATERIALIZED (  -- summed before the join: without statistics the planner would sum the factors again for every day
SELECT enterprise_id, carrier, unit, month, count(DISTINCT day) AS days,
       sum(amount) AS amount, sum(generation) AS generation, sum(export) AS export, sum(estimated) AS estimated, sum(billed) AS billed,
       sum(n_expected)::bigint AS n_expected, sum(n_known)::bigint AS n_known, sum(n_good)::bigint AS n_good,
       sum(tce_calorific) AS tce_calorific, sum(tce_equivalent) AS tce_equivalent, sum(co2_kg) AS co2_kg, sum(cost) AS cost,
       count(*) FILTER (WHERE amount IS NOT NULL AND tce_calorific IS NULL)::integer AS without_tce_calorific,
       count(*) FILTER (WHERE amount IS NOT NULL AND tce_equivalent IS NULL)::integer AS without_tce_equivalent,
       count(*) FILTER (WHERE amount IS NOT NULL AND co2_kg IS NULL)::integer AS without_co2_kg,
       count(*) FILTER (WHERE amount IS NOT NULL AND cost IS NULL)::integer AS without_cost
FROM d GROUP BY 1, 2, 3, 4)
SELECT g.*, coalesce(f.calorific, '{}') AS factors_tce_calorific, coalesce(f.equivalent, '{}') AS factors_tce_equivalent,
       coalesce(f.co2, '{}') AS factors_co2_kg
FROM g LEFT JOIN f ON f.enterprise_id IS NOT DISTINCT FROM g.enterprise_id AND f.carrier = g.carrier AND f.month = g.month
ORDER BY g.enterprise_id NULLS FIRST, g.carrier, g.month

-- name: begins_later
-- Counters of totals whose first day lies within the year; those of now, they have no former versions.
SELECT e.enterprise_id, b.carrier, b.point, b.day AS since
FROM begins_later(%(base)s::smallint, %(first)s, %(last)s) b
LEFT JOIN enterprise e ON e.base_id = %(base)s AND e.code = b.enterprise ORDER BY b.enterprise NULLS FIRST, b.carrier, b.point

-- name: balance
-- Parent against children by carrier and parent meter, with the uncertainty of the remainder.
SELECT b.carrier, p.code, coalesce(u.name_zh, p.name_zh) AS name_zh, coalesce(u.name_en, p.name_en) AS name_en, b.unit, b.days,
       b.parent_amount, b.children_amount, b.unaccounted, b.parent_balanced AS parent_compared, b.uncertainty,
       cardinality(b.assumed) AS assumed, b.n_expected, b.n_known
FROM balance_between(%(base)s::smallint, %(first)s, %(last)s) b
JOIN point_known p ON p.base_id = %(base)s AND p.point_id = b.parent_id
LEFT JOIN unit_known u ON u.base_id = p.base_id AND u.unit_id = p.unit_id ORDER BY b.carrier, p.code

-- name: account
-- The energy account of the base by carrier.
SELECT t.carrier, t.scope, t.unit, count(*) AS days, sum(t.amount) AS amount, sum(t.export) AS sold, sum(t.made_inside) AS made_inside,
       sum(t.feedstock) AS feedstock, sum(t.green) AS green, sum(t.billed) AS billed, sum(t.estimated) AS estimated,
       sum(t.n_expected)::bigint AS n_expected, sum(t.n_known)::bigint AS n_known,
       sum(t.tce_calorific_assessed) AS tce_calorific_assessed, sum(t.tce_equivalent_assessed) AS tce_equivalent_assessed,
       sum(t.co2_kg) AS co2_kg,
       CASE WHEN NOT bool_or(t.amount IS NOT NULL AND t.co2_market_kg IS NULL) THEN sum(t.co2_market_kg) END AS co2_market_kg,
       ARRAY(SELECT DISTINCT x FROM energy_total_1d d, unnest(d.factor_ids || d.market_factor_ids) x
             WHERE d.base_id = %(base)s AND d.enterprise_id IS NULL AND d.carrier = t.carrier
               AND d.day BETWEEN %(first)s AND %(last)s ORDER BY 1) AS factors,
       ARRAY(SELECT DISTINCT s.name || '=' || s.value::text FROM energy_total_1d d, unnest(d.setting_ids) x
             JOIN setting s ON s.base_id = %(base)s AND s.setting_id = x
             WHERE d.base_id = %(base)s AND d.enterprise_id IS NULL AND d.carrier = t.carrier
               AND d.day BETWEEN %(first)s AND %(last)s ORDER BY 1) AS settings
FROM energy_total_1d t WHERE t.base_id = %(base)s AND t.enterprise_id IS NULL AND t.day BETWEEN %(first)s AND %(last)s
GROUP BY 1, 2, 3 ORDER BY t.scope NULLS LAST, 1

-- name: bills
-- Bills of the base's own gate, a row a month.
SELECT b.month, b.total, b.energy_kwh, coalesce(l.energy, 0) AS energy_cost, b.demand_kw, coalesce(l.demand, 0) AS demand_cost, b.power_factor,
       l.adjustment, b.n_expected, b.n_known, b.complete
FROM bill_known b LEFT JOIN LATERAL (
    SELECT sum(x.amount) FILTER (WHERE x.item LIKE 'energy.%%' OR x.item LIKE 'addition.%%' OR x.item LIKE '%%_loss.%%') AS energy,
           sum(x.amount) FILTER (WHERE x.item LIKE 'demand%%' OR x.item = 'capacity') AS demand,
           sum(x.amount) FILTER (WHERE x.item = 'power_factor') AS adjustment
    FROM bill_line_known x WHERE x.base_id = b.base_id AND x.enterprise_id IS NOT DISTINCT FROM b.enterprise_id AND x.month = b.month) l ON true
WHERE b.base_id = %(base)s AND b.enterprise_id IS NULL AND b.month BETWEEN %(first)s AND %(last)s ORDER BY b.month

-- name: water
-- Water of the base and its enterprises.
SELECT e.code, e.name_zh, e.name_en, w.fresh, w.reclaimed, w.recirculated, w.discharged, w.hours_due, w.hours_known, w.consumed, w.reuse_rate,
       w.days, w.n_expected, w.n_known
FROM water_between(%(base)s::smallint, %(first)s, %(last)s) w
LEFT JOIN enterprise_known e ON e.base_id = %(base)s AND e.enterprise_id = w.enterprise_id ORDER BY e.enterprise_id NULLS FIRST

-- name: waste
-- Stores of waste of the year; entries of its last days count although the year is not over.
SELECT e.code, e.name_zh, e.name_en, w.kind, w.item, w.opening, w.generated, w.received, w.used, w.disposed, w.moved, w.closing, w.stored_differs,
       EXISTS (SELECT FROM ledger_known l WHERE l.base_id = %(base)s AND l.kind = w.kind AND l.item = w.item AND l.last_day < %(first)s
               AND l.enterprise_id IS NOT DISTINCT FROM w.enterprise_id) AS booked_before,
       w.negative_days, coalesce((SELECT bool_or(l.status = 'preliminary') FROM ledger l WHERE l.base_id = %(base)s
                                  AND l.entry_id = ANY (w.entry_ids)), false) AS preliminary
FROM waste_between(%(base)s::smallint, %(first)s, %(year_end)s) w
LEFT JOIN enterprise_known e ON e.base_id = %(base)s AND e.enterprise_id = w.enterprise_id ORDER BY w.kind DESC, w.item, e.enterprise_id

-- name: passed
-- Exchanges of the ledger, once each: the giver's word, and the receiver's where both told it.
SELECT x.kind, x.item, g.name_zh AS from_zh, g.name_en AS from_en, g.code AS from_code, r.name_zh AS to_zh, r.name_en AS to_en, r.code AS to_code,
       x.unit, sum(x.amount) AS amount,
       sum(x.confirmed_amount) AS confirmed, bool_or(x.status = 'preliminary') AS preliminary
FROM exchange_booked x JOIN enterprise_known g ON g.base_id = x.base_id AND g.enterprise_id = x.giver_id
JOIN enterprise_known r ON r.base_id = x.base_id AND r.enterprise_id = x.receiver_id
WHERE x.base_id = %(base)s AND x.first_day >= %(first)s AND x.last_day <= %(year_end)s
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9 ORDER BY 1, 2, 5, 8

-- name: stock
-- Land (ha, newest entry of each use) and waste heat (GJ, by the share of each entry's days) of the year.
SELECT * FROM (
    SELECT DISTINCT ON (l.enterprise_id, l.item) 'land' AS what, e.code, e.name_zh, e.name_en, l.item, l.value * k.multiplier AS amount, 'ha' AS unit,
           l.status = 'preliminary' AS preliminary
    FROM ledger_known l JOIN unit_conversion k ON k.carrier = '' AND k.source = l.unit AND k.target = 'ha'
    LEFT JOIN enterprise_known e ON e.base_id = l.base_id AND e.enterprise_id = l.enterprise_id
    WHERE l.base_id = %(base)s AND l.kind = 'land' AND l.first_day <= %(year_end)s AND l.last_day >= %(first)s
    ORDER BY l.enterprise_id, l.item, l.last_day DESC, l.entry_id DESC) land
UNION ALL
SELECT 'waste_heat', e.code, e.name_zh, e.name_en, l.action, sum(l.value * CASE l.unit WHEN 'MJ' THEN 0.001 ELSE 1 END
           * (least(l.last_day, %(year_end)s) - greatest(l.first_day, %(first)s) + 1) / (l.last_day - l.first_day + 1)), 'GJ',
       bool_or(l.status = 'preliminary')
FROM ledger_known l LEFT JOIN enterprise_known e ON e.base_id = l.base_id AND e.enterprise_id = l.enterprise_id
WHERE l.base_id = %(base)s AND l.kind = 'waste_heat' AND l.first_day <= %(year_end)s AND l.last_day >= %(first)s
GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 5

-- name: exchange
-- What went from one meter's owner to another's, by the flows of kind exchange and cascade.
WITH day AS MATERIALIZED (
    SELECT * FROM energy_1d WHERE base_id = %(base)s AND day BETWEEN %(first)s AND %(last)s AND ts >= %(start)s AND ts < %(end)s
      AND point_id = ANY (ARRAY(SELECT child_id FROM flow_known WHERE base_id = %(base)s AND kind IN ('exchange', 'cascade')))),
named AS MATERIALIZED (  -- names once for each flow, not for each of its days
    SELECT f.carrier, f.kind, coalesce(seller.name_zh, parent.name_zh) AS from_zh, coalesce(seller.name_en, parent.name_en) AS from_en,
           coalesce(buyer.name_zh, child.name_zh) AS to_zh, coalesce(buyer.name_en, child.name_en) AS to_en, child.code, f.child_id,
           f.valid_from, f.valid_to
    FROM flow_known f
    JOIN point_known parent ON parent.base_id = f.base_id AND parent.point_id = f.parent_id
    JOIN point_known child ON child.base_id = f.base_id AND child.point_id = f.child_id
    LEFT JOIN unit_known pu ON pu.base_id = f.base_id AND pu.unit_id = parent.unit_id
    LEFT JOIN enterprise_known seller ON seller.base_id = f.base_id AND seller.enterprise_id = pu.enterprise_id
    LEFT JOIN unit_known cu ON cu.base_id = f.base_id AND cu.unit_id = child.unit_id
    LEFT JOIN enterprise_known buyer ON buyer.base_id = f.base_id AND buyer.enterprise_id = cu.enterprise_id
    WHERE f.base_id = %(base)s AND f.kind IN ('exchange', 'cascade'))
SELECT n.carrier, n.kind, n.from_zh, n.from_en, n.to_zh, n.to_en, n.code, e.unit, count(DISTINCT e.day) AS days, sum(e.amount) AS amount,
       sum(e.n_expected)::bigint AS n_expected, sum(e.n_known)::bigint AS n_known, sum(e.n_good)::bigint AS n_good
FROM named n JOIN day e ON e.point_id = n.child_id AND e.day >= n.valid_from AND (n.valid_to IS NULL OR e.day < n.valid_to)
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 ORDER BY 1, 3, 5

-- name: cost_by_period
-- Electricity and its cost by tariff period of the counters that stand for the whole base; days with any price at all.
WITH gate AS (
    SELECT point_id FROM point_known p WHERE base_id = %(base)s AND carrier = 'electricity' AND direction = 'import'
      AND boundary = CASE WHEN EXISTS (SELECT FROM point_known q WHERE q.base_id = p.base_id AND q.carrier = 'electricity'
                                       AND q.boundary = 'base' AND q.direction = 'import')
                          THEN 'base' ELSE 'enterprise' END),
priced AS MATERIALIZED (
    SELECT c.period, c.day, c.amount, c.cost FROM cost_1d_known c JOIN gate USING (point_id)
    WHERE c.base_id = %(base)s AND c.day BETWEEN %(first)s AND %(last)s)
SELECT period, sum(amount) AS amount, sum(cost) AS cost, (SELECT count(DISTINCT day) FROM priced) AS days FROM priced GROUP BY 1

-- name: emission
-- Hours, means, mass and exceedances of each outlet and quantity.
SELECT u.unit_id, u.code, u.name_zh, u.name_en, u.attributes ->> 'medium' AS medium, u.attributes ? 'discharges_to' AS inside, e.quantity,
       en.name_zh AS enterprise_zh, en.name_en AS enterprise_en, count(*) AS days, count(*) FILTER (WHERE e.valid) AS days_valid,
       sum(hours_valid)::bigint AS hours_valid, sum(hours_stopped)::bigint AS hours_stopped,
       sum(hours_exempt)::bigint AS hours_exempt, sum(hours_missing)::bigint AS hours_missing,
       sum(mean_measured * hours_valid) / nullif(sum(hours_valid) FILTER (WHERE mean_measured IS NOT NULL), 0) AS mean_measured,
       sum(mean_converted * hours_valid) / nullif(sum(hours_valid) FILTER (WHERE mean_converted IS NOT NULL), 0) AS mean_converted,
       max(max_converted) AS max_converted, sum(mass_kg) AS mass_kg,
       sum(hours_substituted)::bigint AS hours_substituted, sum(hours_exceeded)::bigint AS hours_exceeded
FROM emission_1d e
JOIN unit_known u ON u.base_id = e.base_id AND u.unit_id = e.unit_id
LEFT JOIN enterprise_known en ON en.base_id = u.base_id AND en.enterprise_id = u.enterprise_id
WHERE e.base_id = %(base)s AND e.day BETWEEN %(first)s AND %(last)s
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9 ORDER BY u.code, e.quantity

-- name: limits
-- Limits in force on the last day as known then; the strictest rank first (permit over standard).
SELECT DISTINCT ON (unit_id, quantity, statistic) unit_id, quantity, statistic, low, high, unit, rank, source, verified
FROM limit_value_known
WHERE base_id = %(base)s AND valid_from <= %(last)s AND (valid_to IS NULL OR valid_to > %(last)s)
  AND rank <> 'internal'
ORDER BY unit_id, quantity, statistic, CASE rank WHEN 'permit' THEN 0 ELSE 1 END, valid_from DESC

-- name: treatment_events
-- Events of the treatment trace that touch the year, the open ones counted to its end.
SELECT t.kind, pu.name_zh AS production_zh, pu.name_en AS production_en, tu.name_zh AS treatment_zh, tu.name_en AS treatment_en,
       t.started_at, t.ended_at,
       extract(epoch FROM least(coalesce(t.ended_at, %(end)s), %(end)s) - greatest(t.started_at, %(start)s))::double precision
           / 3600 AS hours
FROM treatment_event_known t
LEFT JOIN unit_known pu ON pu.base_id = t.base_id AND pu.unit_id = t.production_id
LEFT JOIN unit_known tu ON tu.base_id = t.base_id AND tu.unit_id = t.treatment_id
WHERE t.base_id = %(base)s AND t.started_at < %(end)s AND coalesce(t.ended_at, %(end)s) > %(start)s
ORDER BY hours DESC, t.started_at

-- name: availability
-- Expected, received and good hours by system and month.
SELECT CASE
           WHEN u.role IN ('outlet', 'treatment') THEN 'pollution'
           WHEN p.carrier IN ('water', 'reclaimed_water') OR p.quantity IN ('water_volume', 'water_flow', 'production', 'production_count')
               THEN 'resource'
           ELSE 'energy' END AS system,
       extract(month FROM a.month)::integer AS month, sum(a.n_expected)::bigint AS n_expected, sum(a.n)::bigint AS n,
       sum(a.n_good)::bigint AS n_good
FROM availability_between(%(base)s::smallint, %(first)s, %(last)s) a
JOIN point p ON p.base_id = %(base)s AND p.point_id = a.point_id
LEFT JOIN unit u ON u.base_id = p.base_id AND u.unit_id = p.unit_id
GROUP BY 1, 2 ORDER BY 1, 2

-- name: points
-- Points in the catalogue by system, and those that have never reported in the period.
WITH classed AS (
    SELECT p.base_id, p.point_id, u.enterprise_id, CASE
        WHEN u.role IN ('outlet', 'treatment') THEN 'pollution'
        WHEN p.carrier IN ('water', 'reclaimed_water') OR p.quantity IN ('water_volume', 'water_flow', 'production', 'production_count')
            THEN 'resource'
        ELSE 'energy' END AS system
    FROM point_known p LEFT JOIN unit_known u ON u.base_id = p.base_id AND u.unit_id = p.unit_id
    WHERE p.base_id = %(base)s AND (p.removed_at IS NULL OR p.removed_at > %(end)s)),
heard AS (
    SELECT point_id FROM classed c WHERE EXISTS (
        SELECT FROM reading_1d_shown r WHERE r.base_id = c.base_id AND r.point_id = c.point_id AND r.n > 0
        AND r.bucket >= %(start)s AND r.bucket < %(end)s))
SELECT system, count(*) AS points, count(heard.point_id) AS heard, count(DISTINCT enterprise_id) AS enterprises
FROM classed LEFT JOIN heard USING (point_id) GROUP BY 1 ORDER BY 1

-- name: indicators
-- Indicators of a period.
SELECT indicator, value, unit, coverage, grade, inputs, computed_at FROM indicator_value_known
WHERE base_id = %(base)s AND period = %(period)s

-- name: forecasts
-- Where accounting expects the running year to end, with the interval that holds nine times in ten.
SELECT indicator, value, low, high, unit, until, target_likely, threshold_likely FROM indicator_forecast_known
WHERE base_id = %(base)s AND year = %(period)s::integer AND value IS NOT NULL

-- name: programmes
-- Indicators that definitions give (sets of programmes and of the base), with the value of the period.
SELECT d.set_code, d.code, d.name_zh, d.name_en, d.unit, d.sense, d.source, d.verified, d.note, v.value, v.coverage, v.grade, v.inputs
FROM (SELECT DISTINCT ON (code) * FROM indicator_definition_known
      WHERE (base_id = %(base)s OR base_id IS NULL) AND valid_from <= %(year_end)s AND (valid_to IS NULL OR valid_to > %(year_end)s)
      ORDER BY code, base_id IS NULL, valid_from DESC) d
LEFT JOIN indicator_value_known v ON v.base_id = %(base)s AND v.indicator = d.code AND v.period = %(period)s
ORDER BY d.set_code, d.definition_id

-- name: targets
-- Targets of the base's plan as known then, every year.
SELECT indicator, name_zh, name_en, year, value, unit, sense, baseline, baseline_year, responsible, source, verified
FROM target_known
WHERE base_id = %(base)s
ORDER BY indicator, year

-- name: alerts_since
-- Since when alerts were raised: the first rule, or an alert before it; what data that came late raised says nothing.
SELECT least((SELECT min(recorded_at) FROM (SELECT recorded_at FROM rule WHERE base_id = %(base)s
                                            UNION ALL SELECT recorded_at FROM rule_history WHERE base_id = %(base)s) r),
             (SELECT min(opened_at) FROM alert WHERE base_id = %(base)s AND NOT late)) AS since

-- name: alert_counts
-- Alerts of the period by severity: raised, acknowledged, closed, still open, hours to acknowledge and to return.
SELECT severity, count(*) AS raised, count(acknowledged_at) AS acknowledged,
       count(*) FILTER (WHERE closed_at IS NOT NULL AND closed_at < %(end)s) AS closed,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM acknowledged_at - opened_at) / 60)
           FILTER (WHERE acknowledged_at IS NOT NULL) AS minutes_to_ack,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM closed_at - opened_at) / 3600)
           FILTER (WHERE closed_at IS NOT NULL AND closed_at < %(end)s) AS hours_to_close
FROM alert WHERE base_id = %(base)s AND opened_at >= %(start)s AND opened_at < %(end)s GROUP BY 1

-- name: alert_systems
-- Alerts of the period by system of their point or unit; those of a device or the platform (NULL) belong to none.
SELECT CASE
           WHEN u.role IN ('outlet', 'treatment') THEN 'pollution'
           WHEN p.carrier IN ('water', 'reclaimed_water') OR p.quantity IN ('water_volume', 'water_flow', 'production', 'production_count')
               THEN 'resource'
           WHEN p.point_id IS NOT NULL OR u.unit_id IS NOT NULL THEN 'energy' END AS system,
       count(*) AS raised, count(*) FILTER (WHERE a.closed_at IS NOT NULL AND a.closed_at < %(end)s) AS closed
FROM alert a
LEFT JOIN point p ON p.base_id = a.base_id AND p.point_id = a.point_id
LEFT JOIN unit u ON u.base_id = a.base_id AND u.unit_id = coalesce(a.unit_id, p.unit_id)
WHERE a.base_id = %(base)s AND a.opened_at >= %(start)s AND a.opened_at < %(end)s GROUP BY 1

-- name: alert_months
-- Alerts raised by month of the base's time and severity.
SELECT extract(month FROM opened_at AT TIME ZONE %(zone)s)::integer AS month, severity, count(*) AS raised
FROM alert WHERE base_id = %(base)s AND opened_at >= %(start)s AND opened_at < %(end)s GROUP BY 1, 2

-- name: alert_rates
-- The busiest ten minutes and day of the period, and how many alerts stayed open longer than a day.
SELECT (SELECT max(n) FROM (SELECT count(*) AS n FROM alert WHERE base_id = %(base)s AND opened_at >= %(start)s
            AND opened_at < %(end)s GROUP BY date_bin('10 minutes', opened_at, '2000-01-01+00')) a)::integer AS peak_10min,
       (SELECT max(n) FROM (SELECT count(*) AS n FROM alert WHERE base_id = %(base)s AND opened_at >= %(start)s
            AND opened_at < %(end)s GROUP BY (opened_at AT TIME ZONE %(zone)s)::date) a)::integer AS peak_day,
       (SELECT count(*) FROM alert WHERE base_id = %(base)s AND opened_at >= %(start)s AND opened_at < %(end)s
            AND coalesce(closed_at, %(end)s) - opened_at > interval '1 day')::integer AS longer_than_day

-- name: alert_list
-- Critical and high alerts of the period, open ones first, then by severity and time.
SELECT a.alert_id, a.severity, a.opened_at, a.acknowledged_at, a.returned_at, a.closed_at, r.name_zh AS rule_zh, r.name_en AS rule_en,
       coalesce(u.name_zh, p.name_zh, d.code, '') AS object_zh, coalesce(u.name_en, p.name_en, d.code, '') AS object_en,
       coalesce(p.code, u.code, d.code, '') AS object_code, a.value, a.unit, a.assigned_to,
       (a.closed_at IS NULL OR a.closed_at >= %(end)s) AS open
FROM alert a
LEFT JOIN rule r ON r.base_id = a.base_id AND r.rule_id = a.rule_id
LEFT JOIN point p ON p.base_id = a.base_id AND p.point_id = a.point_id
LEFT JOIN unit u ON u.base_id = a.base_id AND u.unit_id = coalesce(a.unit_id, p.unit_id)
LEFT JOIN device d ON d.base_id = a.base_id AND d.device_id = a.device_id
WHERE a.base_id = %(base)s AND a.opened_at >= %(start)s AND a.opened_at < %(end)s AND a.severity IN ('critical', 'high')
ORDER BY open DESC, CASE a.severity WHEN 'critical' THEN 0 ELSE 1 END, a.opened_at DESC
LIMIT %(limit)s

-- name: alert_rules
-- The ten rules that raised most alerts.
SELECT r.name_zh, r.name_en, r.code, count(*) AS raised, count(*) FILTER (WHERE a.closed_at IS NULL) AS open
FROM alert a JOIN rule r ON r.base_id = a.base_id AND r.rule_id = a.rule_id
WHERE a.base_id = %(base)s AND a.opened_at >= %(start)s AND a.opened_at < %(end)s
GROUP BY 1, 2, 3 ORDER BY raised DESC, r.code LIMIT 10

-- name: cases
-- Cases of pollution alerts that were open in the period, with the steps known at the instant looked back to.
SELECT c.case_id, r.name_zh AS rule_zh, r.name_en AS rule_en, u.name_zh AS unit_zh, u.name_en AS unit_en, e.name_zh AS enterprise_zh,
       e.name_en AS enterprise_en, c.opened_by, c.opened_at, c.handler, c.due_at, s.*
FROM pollution_case c
JOIN alert a ON a.base_id = c.base_id AND a.alert_id = c.alert_id
LEFT JOIN rule r ON r.base_id = a.base_id AND r.rule_id = a.rule_id
LEFT JOIN point p ON p.base_id = a.base_id AND p.point_id = a.point_id
LEFT JOIN unit u ON u.base_id = a.base_id AND u.unit_id = coalesce(a.unit_id, p.unit_id)
LEFT JOIN enterprise e ON e.base_id = u.base_id AND e.enterprise_id = u.enterprise_id
CROSS JOIN LATERAL (
    SELECT max(x.at) FILTER (WHERE x.step = 'accept') AS accepted_at,
           (array_agg(x.actor ORDER BY x.step_id DESC) FILTER (WHERE x.step = 'accept'))[1] AS accepted_by,
           max(x.at) FILTER (WHERE x.step = 'handle') AS handled_at,
           (array_agg(x.actor ORDER BY x.step_id DESC) FILTER (WHERE x.step = 'handle'))[1] AS handled_by,
           max(x.at) FILTER (WHERE x.step = 'evidence') AS evidenced_at,
           (count(*) FILTER (WHERE x.step = 'evidence'))::integer AS n_evidence,
           max(x.at) FILTER (WHERE x.step = 'verify') AS verified_at,
           (array_agg(x.actor ORDER BY x.step_id DESC) FILTER (WHERE x.step = 'verify'))[1] AS verified_by,
           coalesce((array_agg(x.note ORDER BY x.step_id DESC) FILTER (WHERE x.step = 'verify'))[1], '') AS outcome,
           (count(*) FILTER (WHERE x.step = 'refuse'))::integer AS n_refused, max(x.at) FILTER (WHERE x.step = 'close') AS closed_at
    FROM case_step x WHERE x.base_id = c.base_id AND x.case_id = c.case_id
      AND x.at <= known_at()) s
WHERE c.base_id = %(base)s AND c.opened_at < %(end)s AND coalesce(c.closed_at, %(end)s) >= %(start)s
  AND c.opened_at <= known_at()
ORDER BY c.opened_at, c.case_id

-- name: ledger
-- Entries in force as known then (a correction replaces what it supersedes) that touch the period.
SELECT l.kind, l.item, l.action, l.unit, e.name_zh AS enterprise_zh, e.name_en AS enterprise_en,
       l.value, l.status, l.evidence,
       l.first_day, l.last_day, (l.first_day >= %(first)s AND l.last_day <= %(year_end)s) AS inside
FROM ledger_known l
LEFT JOIN enterprise_known e ON e.base_id = l.base_id AND e.enterprise_id = l.enterprise_id
WHERE l.base_id = %(base)s AND l.first_day <= %(year_end)s AND l.last_day >= %(first)s
ORDER BY l.kind, l.item, l.action, e.code, l.first_day

-- name: factors
-- Factor rows by their ids.
SELECT factor_id, base_id, carrier, kind, region, value, unit, edition, valid_from, valid_to, source, verified, recorded_at
FROM factor WHERE factor_id = ANY (%(ids)s) ORDER BY carrier, kind, valid_from

-- name: ingest_outcomes
-- What became of every reading that arrived in the period.
SELECT outcome, sum(n)::bigint AS n FROM ingest_counter
WHERE base_id = %(base)s AND day BETWEEN %(first)s AND %(last)s GROUP BY 1 ORDER BY 2 DESC, 1

-- name: lock_reports
-- One sealing at a time for a base, until the transaction ends.
SELECT pg_advisory_xact_lock(hashtext('park report'), %(base)s)

-- name: versions
-- Sealed versions of a report, oldest first, without their data.
SELECT version, hash, sealed_at, sealed_by, as_of, reason FROM report
WHERE base_id = %(base)s AND kind = %(kind)s AND year = %(year)s ORDER BY version

-- name: sealed
-- One sealed version with its data.
SELECT version, hash, sealed_at, sealed_by, as_of, reason, data::text AS data FROM report
WHERE base_id = %(base)s AND kind = %(kind)s AND year = %(year)s AND version = %(version)s

-- name: seal
-- A sealed version; never updated.
INSERT INTO report (base_id, kind, year, version, data, hash, as_of, sealed_at, sealed_by, reason)
VALUES (%(base)s, %(kind)s, %(year)s, %(version)s, %(data)s, %(hash)s, %(as_of)s, %(sealed_at)s, %(sealed_by)s, %(reason)s)

-- name: transmission
-- Hours of each outlet that were due, that arrived at all, and that were valid: transmission rate x valid rate.
WITH counted AS MATERIALIZED (
    SELECT unit_id, quantity, sum(hours_valid + hours_stopped + hours_exempt + hours_missing) AS recorded,
           sum(hours_stopped + hours_marked) AS excluded,
           sum(hours_valid + hours_exempt + hours_missing - hours_marked - hours_lost) AS received, sum(hours_valid) AS valid
    FROM emission_1d WHERE base_id = %(base)s AND day BETWEEN %(first)s AND %(last)s GROUP BY 1, 2)
SELECT u.code, u.name_zh, u.name_en, en.name_zh AS enterprise_zh, en.name_en AS enterprise_en, count(*)::integer AS quantities,
       sum(e.recorded)::bigint AS recorded, sum(e.excluded)::bigint AS excluded, sum(e.received)::bigint AS received,
       sum(e.valid)::bigint AS valid
FROM counted e
JOIN unit_known u ON u.base_id = %(base)s AND u.unit_id = e.unit_id
LEFT JOIN enterprise_known en ON en.base_id = u.base_id AND en.enterprise_id = u.enterprise_id
GROUP BY 1, 2, 3, 4, 5 ORDER BY 1
