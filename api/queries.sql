-- Queries of the API. Every one runs in a transaction that has taken the token's role, so row-level security already
-- keeps to its bases and its enterprise; a base given here narrows further.

-- name: take_role
-- The role, bases, enterprise and time-out of this transaction.
SELECT set_config('role', %(role)s, true), set_config('park.bases', %(bases)s, true),
       set_config('park.enterprise', %(enterprise)s, true), set_config('statement_timeout', %(timeout)s, true)

-- name: token_by_hash
-- A valid token with the ids of its bases; no bases in the row means every base, for admin and auditor.
SELECT token_id, name, role, enterprise_id,
       CASE WHEN cardinality(bases) > 0 THEN bases ELSE ARRAY(SELECT base_id FROM base) END AS bases
FROM token WHERE hash = %(hash)s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())

-- name: insert_token
-- A new token.
INSERT INTO token (hash, name, role, bases, enterprise_id, expires_at)
VALUES (%(hash)s, %(name)s, %(role)s, %(bases)s::smallint[], %(enterprise)s, %(expires)s)

-- name: is_live
-- Whether a token is valid and sees all of these bases.
SELECT FROM token t WHERE hash = %(hash)s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
  AND NOT EXISTS (SELECT FROM base b WHERE b.code = ANY (%(bases)s) AND b.base_id <> ALL (t.bases))

-- name: list_tokens
-- Every token, without its hash.
SELECT t.token_id, t.name, t.role, ARRAY(SELECT b.code FROM base b WHERE b.base_id = ANY (t.bases) ORDER BY 1),
       (SELECT e.code FROM enterprise e WHERE e.enterprise_id = t.enterprise_id), t.created_at, t.expires_at, t.revoked_at
FROM token t ORDER BY token_id

-- name: revoke_token
-- End a valid token.
UPDATE token SET revoked_at = now() WHERE token_id = %(id)s AND revoked_at IS NULL RETURNING token_id

-- name: enterprise_by_code
-- The id of an enterprise.
SELECT enterprise_id FROM enterprise WHERE base_id = %(base)s AND code = %(code)s

-- name: bases
-- The bases this token may see.
SELECT b.code, b.name_zh, b.name_en, b.region, b.timezone, b.attributes -> 'plan' AS plan,
       (SELECT count(*) FROM enterprise e WHERE e.base_id = b.base_id) AS enterprises,
       (SELECT count(*) FROM point p WHERE p.base_id = b.base_id AND p.removed_at IS NULL) AS points
FROM base b WHERE b.base_id = ANY (visible_bases()) ORDER BY b.code

-- name: base_by_code
-- A base this token may see.
SELECT base_id, code, name_zh, name_en, timezone FROM base WHERE code = %(code)s

-- name: enterprises
-- The enterprises of a base.
SELECT code, name_zh, name_en, industry FROM enterprise WHERE base_id = %(base)s ORDER BY enterprise_id

-- name: units
-- The tree of a base's units, parents by their code.
SELECT u.code, p.code AS parent, e.code AS enterprise, u.name_zh, u.name_en, u.role, u.attributes
FROM unit u
LEFT JOIN unit p ON p.base_id = u.base_id AND p.unit_id = u.parent_id
LEFT JOIN enterprise e ON e.base_id = u.base_id AND e.enterprise_id = u.enterprise_id
WHERE u.base_id = %(base)s ORDER BY u.unit_id

-- name: points
-- Points with their newest reading, after the cursor (base, code).
SELECT b.code AS base, p.code, p.name_zh, p.name_en, p.quantity, p.unit, p.kind, p.carrier, p.direction, p.boundary,
       u.code AS belongs_to, e.code AS enterprise, d.code AS device, p.device_key, p.low, p.high, p.expected_s,
       p.accuracy_class, p.attributes ->> 'formula' AS formula, l.ts AS latest_at, l.value AS latest_value, l.quality AS latest_quality
FROM point p
JOIN base b USING (base_id)
LEFT JOIN unit u ON u.base_id = p.base_id AND u.unit_id = p.unit_id
LEFT JOIN enterprise e ON e.base_id = p.base_id AND e.enterprise_id = u.enterprise_id
LEFT JOIN device d ON d.base_id = p.base_id AND d.device_id = p.device_id
LEFT JOIN latest l ON l.base_id = p.base_id AND l.point_id = p.point_id
WHERE p.removed_at IS NULL
  AND (%(base)s::text IS NULL OR b.code = %(base)s)
  AND (%(unit)s::text IS NULL OR u.code = %(unit)s)
  AND (%(enterprise)s::text IS NULL OR e.code = %(enterprise)s)
  AND (%(device)s::text IS NULL OR d.code = %(device)s)
  AND (%(quantity)s::text IS NULL OR p.quantity = %(quantity)s)
  AND (%(kind)s::text IS NULL OR p.kind = %(kind)s)
  AND (%(code)s::text[] IS NULL OR p.code = ANY (%(code)s))
  AND (%(after_base)s::text IS NULL OR (b.code, p.code) > (%(after_base)s, %(after_code)s))
ORDER BY b.code, p.code LIMIT %(limit)s

-- name: alerts
-- Alerts with what they are about, newest first, after the cursor (opened_at, alert_id).
SELECT a.alert_id AS id, b.code AS base, r.code AS rule, r.name_zh AS rule_zh, r.name_en AS rule_en, r.kind,
       p.code AS point, p.name_zh AS point_zh, p.name_en AS point_en, p.quantity,
       u.code AS unit_code, u.name_zh AS unit_zh, u.name_en AS unit_en, d.code AS device, e.code AS enterprise,
       a.severity, a.active, a.acknowledged, a.suppressed, a.shelved_until, a.assigned_to, a.opened_at, a.returned_at,
       a.acknowledged_at, a.closed_at, a.late, a.n_raised, a.out_of_service, a.first_out, a.value, a.expected, a.low, a.high, a.unit,
       a.channel, a.explanation,
       CASE WHEN a.closed_at IS NOT NULL THEN 'closed'
            WHEN a.out_of_service THEN 'out_of_service'
            WHEN a.shelved_until > now() THEN 'shelved'
            WHEN a.suppressed THEN 'suppressed'
            WHEN a.active AND a.acknowledged THEN 'acknowledged'
            WHEN a.active THEN 'unacknowledged'
            ELSE 'returned' END AS state
FROM alert a
JOIN base b USING (base_id)
LEFT JOIN rule r ON r.base_id = a.base_id AND r.rule_id = a.rule_id
LEFT JOIN point p ON p.base_id = a.base_id AND p.point_id = a.point_id
LEFT JOIN unit u ON u.base_id = a.base_id AND u.unit_id = coalesce(a.unit_id, p.unit_id)
LEFT JOIN device d ON d.base_id = a.base_id AND d.device_id = a.device_id
LEFT JOIN enterprise e ON e.base_id = a.base_id AND e.enterprise_id = u.enterprise_id
WHERE (%(id)s::bigint[] IS NULL OR a.alert_id = ANY (%(id)s))
  AND (%(base)s::text IS NULL OR b.code = %(base)s)
  AND (%(severity)s::text[] IS NULL OR a.severity = ANY (%(severity)s))
  AND (%(since)s::timestamptz IS NULL OR a.opened_at >= %(since)s)
  AND CASE %(state)s::text
        WHEN 'all' THEN true
        WHEN 'open' THEN a.closed_at IS NULL
        WHEN 'closed' THEN a.closed_at IS NOT NULL
        WHEN 'shelved' THEN a.closed_at IS NULL AND a.shelved_until > now()
        WHEN 'suppressed' THEN a.closed_at IS NULL AND a.suppressed
        WHEN 'out_of_service' THEN a.closed_at IS NULL AND a.out_of_service
        WHEN 'unacknowledged' THEN a.closed_at IS NULL AND NOT a.acknowledged AND NOT a.suppressed AND NOT a.out_of_service
                                   AND (a.shelved_until > now()) IS NOT TRUE
        WHEN 'acknowledged' THEN a.closed_at IS NULL AND a.acknowledged
        WHEN 'active' THEN a.closed_at IS NULL AND a.active
        WHEN 'returned' THEN a.closed_at IS NULL AND NOT a.active END
  AND (%(after_at)s::timestamptz IS NULL OR (a.opened_at, a.alert_id) < (%(after_at)s, %(after_id)s::bigint))
ORDER BY a.opened_at DESC, a.alert_id DESC LIMIT %(limit)s

-- name: transitions_of_alert
-- Every step of an alert, oldest first.
SELECT t.transition_id AS id, t.at, t.change, t.actor, t.note, t.detail
FROM transition t WHERE t.alert_id = %(id)s ORDER BY t.transition_id

-- name: alert_step
-- One step of an operator; the function holds the table of states.
SELECT alert_step(a.base_id, a.alert_id, %(change)s, %(actor)s, %(note)s, %(detail)s) AS transition
FROM alert a WHERE a.alert_id = %(id)s

-- name: transitions
-- Transitions by their ids with whom they concern.
SELECT t.transition_id AS id, t.base_id, t.alert_id AS alert, t.at, t.change, t.actor, t.note, t.detail,
       coalesce(u.enterprise_id, v.enterprise_id, w.enterprise_id) AS enterprise_id
FROM transition t
JOIN alert a ON a.base_id = t.base_id AND a.alert_id = t.alert_id
LEFT JOIN unit u ON u.base_id = a.base_id AND u.unit_id = a.unit_id
LEFT JOIN point p ON p.base_id = a.base_id AND p.point_id = a.point_id
LEFT JOIN unit v ON v.base_id = a.base_id AND v.unit_id = p.unit_id
LEFT JOIN LATERAL (SELECT min(x.enterprise_id) AS enterprise_id FROM point q
                   JOIN unit x ON x.base_id = q.base_id AND x.unit_id = q.unit_id
                   WHERE q.base_id = a.base_id AND q.device_id = a.device_id
                   HAVING count(DISTINCT x.enterprise_id) = 1) w ON a.point_id IS NULL AND a.unit_id IS NULL
WHERE t.transition_id = ANY (%(ids)s) ORDER BY t.transition_id

-- name: transition_ids_after
-- Ids of the transitions after one, oldest first.
SELECT transition_id FROM transition WHERE transition_id > %(after)s ORDER BY transition_id LIMIT %(limit)s

-- name: newest_transition
-- The newest transition's id, or 0.
SELECT coalesce(max(transition_id), 0) AS id FROM transition

-- name: base_ids
-- Every base, for the listener that serves them all.
SELECT array_agg(base_id) AS ids FROM base

-- name: valid_tokens
-- Which of these tokens are still valid.
SELECT token_id FROM token
WHERE token_id = ANY (%(ids)s) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())

-- name: ready
-- How far the schema and the passes are.
SELECT (SELECT max(number) FROM migration) AS migration, now() AS at

-- name: points_by_code
-- Points by their codes, in one base or wherever the token may look.
SELECT p.point_id, p.base_id, b.code, p.code, p.quantity, p.unit, p.kind
FROM point p JOIN base b USING (base_id)
WHERE p.code = ANY (%(codes)s) AND (%(base)s::text IS NULL OR b.code = %(base)s)

-- name: readings_columns
-- The rows of one of the two queries below as one array a column, NULL as NaN: a page becomes numpy arrays without a Python
-- object a value.
SELECT {columns} FROM ({rows}) AS r

-- name: readings_raw
-- Samples of points in the order given, from an instant (the cursor's for the first point) to another.
SELECT %(first)s::integer + p.place::integer - 1 AS place, r.ts AS at, r.value, r.quality
FROM unnest(%(points)s::integer[]) WITH ORDINALITY AS p (point_id, place)
CROSS JOIN LATERAL (
    SELECT ts, value, quality FROM reading_shown
    WHERE base_id = %(base)s::smallint AND point_id = p.point_id AND ts >= %(start)s AND ts < %(end)s
      AND (p.place > 1 OR %(after)s::timestamptz IS NULL OR ts > %(after)s)
    ORDER BY ts LIMIT %(limit)s
) r
LIMIT %(limit)s

-- name: readings_rollup
-- Buckets of points in the order given; the mean is over usable readings.
SELECT %(first)s::integer + p.place::integer - 1 AS place, r.bucket AS at, r.n, r.n_good, r.min, r.max,
       r.sum / nullif(r.n_usable, 0) AS mean, r.first, r.last, r.increment
FROM unnest(%(points)s::integer[]) WITH ORDINALITY AS p (point_id, place)
CROSS JOIN LATERAL (
    SELECT bucket, n, n_good, n_usable, min, max, sum, first, last, increment
    FROM {table}
    WHERE base_id = %(base)s::smallint AND point_id = p.point_id AND bucket >= %(start)s AND bucket < %(end)s
      AND (p.place > 1 OR %(after)s::timestamptz IS NULL OR bucket > %(after)s)
    ORDER BY bucket LIMIT %(limit)s
) r
LIMIT %(limit)s

-- name: look_back
-- From here on this transaction sees what was known at an instant; the answer is the instant that could be taken.
SELECT set_config('park.as_of', known_instant(%(as_of)s, %(zone)s)::text, true)::timestamptz AS as_of

-- name: energy_rows
-- Totals that count, summed over days: of the base (no enterprise asked or allowed) or of each enterprise, by carrier.
WITH d AS MATERIALIZED (
    SELECT * FROM energy_total_1d t
    WHERE t.base_id = %(base)s AND t.day BETWEEN %(first)s AND %(last)s
      AND (%(carrier)s::text IS NULL OR t.carrier = %(carrier)s)
      AND CASE WHEN %(own)s::integer IS NOT NULL THEN t.enterprise_id = %(own)s
               WHEN %(enterprises)s THEN t.enterprise_id IS NOT NULL
               ELSE t.enterprise_id IS NULL END
), f AS (
    SELECT enterprise_id, carrier, array_agg(DISTINCT id) AS ids FROM d CROSS JOIN LATERAL unnest(d.factor_ids) AS used (id)
    GROUP BY 1, 2
), x AS (
    SELECT enterprise_id, carrier, array_agg(DISTINCT id) AS ids FROM d CROSS JOIN LATERAL unnest(d.market_factor_ids) AS used (id)
    GROUP BY 1, 2
)
SELECT d.carrier, d.unit AS measure_unit, e.code AS enterprise, NULL AS unit, count(DISTINCT d.day)::integer AS days,
       sum(amount) AS amount, sum(generation) AS generation, sum(export) AS export, sum(estimated) AS estimated, sum(billed) AS billed,
       sum(n_expected)::bigint AS n_expected, sum(n_known)::bigint AS n_known, sum(n_good)::bigint AS n_good,
       sum(tce_calorific) AS tce_calorific, sum(tce_equivalent) AS tce_equivalent, sum(co2_kg) AS co2_kg, sum(cost) AS cost,
       bool_and(amount IS NULL OR tce_calorific IS NOT NULL) AS has_tce_calorific,
       bool_and(amount IS NULL OR tce_equivalent IS NOT NULL) AS has_tce_equivalent,
       bool_and(amount IS NULL OR co2_kg IS NOT NULL) AS has_co2_kg, bool_and(amount IS NULL OR cost IS NOT NULL) AS has_cost,
       sum(tce_calorific_assessed) AS tce_calorific_assessed, sum(tce_equivalent_assessed) AS tce_equivalent_assessed,
       sum(co2_market_kg) AS co2_market_kg, bool_and(amount IS NULL OR tce_calorific_assessed IS NOT NULL) AS has_tce_calorific_assessed,
       bool_and(amount IS NULL OR tce_equivalent_assessed IS NOT NULL) AS has_tce_equivalent_assessed,
       bool_and(amount IS NULL OR co2_market_kg IS NOT NULL) AS has_co2_market_kg,
       coalesce(max(f.ids), '{}') AS factor_ids, coalesce(max(x.ids), '{}') AS market_factor_ids
FROM d
LEFT JOIN f ON f.enterprise_id IS NOT DISTINCT FROM d.enterprise_id AND f.carrier = d.carrier
LEFT JOIN x ON x.enterprise_id IS NOT DISTINCT FROM d.enterprise_id AND x.carrier = d.carrier
LEFT JOIN enterprise e ON e.base_id = d.base_id AND e.enterprise_id = d.enterprise_id
GROUP BY d.carrier, d.unit, e.code ORDER BY e.code NULLS FIRST, d.carrier

-- name: unit_rows
-- Counters of units, summed over days, by unit and carrier. A unit's meter may include those of units below: not additive.
WITH d AS MATERIALIZED (
    SELECT t.*, CASE WHEN t.direction = 'export' THEN -1 WHEN t.direction = 'generation' AND t.carrier <> 'electricity' THEN 0
                     ELSE 1 END AS sign FROM energy_between(%(base)s::smallint, %(first)s, %(last)s) t
    WHERE t.unit_id IS NOT NULL AND (%(carrier)s::text IS NULL OR t.carrier = %(carrier)s)
      AND (%(own)s::integer IS NULL OR t.enterprise_id = %(own)s)
), f AS (
    SELECT unit_id, carrier, array_agg(DISTINCT id) AS ids
    FROM (SELECT DISTINCT unit_id, carrier, factor_ids FROM d) s CROSS JOIN LATERAL unnest(factor_ids) AS used (id) GROUP BY 1, 2
), seen AS (
    SELECT unit_id, carrier, unit, sum(n)::integer AS days
    FROM (SELECT unit_id, carrier, unit, month, bit_count(bit_or(days)::bit(31)) AS n FROM d GROUP BY 1, 2, 3, 4) m GROUP BY 1, 2, 3
)
SELECT d.carrier, d.unit AS measure_unit, e.code AS enterprise, u.code AS unit, max(seen.days) AS days,
       sum(amount * sign) AS amount, sum(amount) FILTER (WHERE d.direction = 'generation') AS generation,
       sum(amount) FILTER (WHERE d.direction = 'export') AS export, sum(estimated) AS estimated,
       sum(n_expected)::bigint AS n_expected, sum(n_known)::bigint AS n_known, sum(n_good)::bigint AS n_good,
       sum(tce_calorific * sign) AS tce_calorific, sum(tce_equivalent * sign) AS tce_equivalent, sum(co2_kg * sign) AS co2_kg,
       sum(cost) FILTER (WHERE d.direction IN ('import', 'sum')) AS cost,
       bool_and(has_tce_calorific) AS has_tce_calorific, bool_and(has_tce_equivalent) AS has_tce_equivalent,
       bool_and(has_co2_kg) AS has_co2_kg, bool_and(has_cost OR direction NOT IN ('import', 'sum')) AS has_cost,
       coalesce(max(f.ids), '{}') AS factor_ids
FROM d
JOIN unit u ON u.base_id = %(base)s AND u.unit_id = d.unit_id
LEFT JOIN enterprise e ON e.base_id = u.base_id AND e.enterprise_id = d.enterprise_id
LEFT JOIN f ON f.unit_id = d.unit_id AND f.carrier = d.carrier
LEFT JOIN seen ON seen.unit_id = d.unit_id AND seen.carrier = d.carrier AND seen.unit IS NOT DISTINCT FROM d.unit
GROUP BY d.carrier, d.unit, e.code, u.code, u.unit_id ORDER BY e.code NULLS FIRST, u.unit_id, d.carrier

-- name: begins_later
-- Counters that began within a period without a meter on record, by the total that they belong to.
SELECT enterprise, carrier, point, day AS since FROM begins_later(%(base)s::smallint, %(first)s, %(last)s) ORDER BY enterprise NULLS FIRST, point

-- name: emission_rows
-- Pollutants of outlets, summed over days.
SELECT u.code AS outlet, u.name_zh, u.name_en, u.attributes ->> 'medium' AS medium, en.code AS enterprise, e.quantity,
       count(*)::integer AS days, count(*) FILTER (WHERE e.valid)::integer AS days_valid,
       sum(hours_valid)::integer AS hours_valid, sum(hours_stopped)::integer AS hours_stopped,
       sum(hours_exempt)::integer AS hours_exempt, sum(hours_missing)::integer AS hours_missing,
       sum(mean_measured * hours_valid) / nullif(sum(hours_valid) FILTER (WHERE mean_measured IS NOT NULL), 0) AS mean_measured,
       sum(mean_converted * hours_valid) / nullif(sum(hours_valid) FILTER (WHERE mean_converted IS NOT NULL), 0) AS mean_converted,
       max(max_converted) AS max_converted, sum(mass_kg) AS mass_kg,
       sum(hours_substituted)::integer AS hours_substituted, sum(hours_exceeded)::integer AS hours_exceeded
FROM emission_1d e
JOIN unit u ON u.base_id = e.base_id AND u.unit_id = e.unit_id
LEFT JOIN enterprise en ON en.base_id = u.base_id AND en.enterprise_id = u.enterprise_id
WHERE e.base_id = %(base)s AND e.day BETWEEN %(first)s AND %(last)s
  AND (%(outlet)s::text IS NULL OR u.code = %(outlet)s) AND (%(quantity)s::text IS NULL OR e.quantity = %(quantity)s)
GROUP BY u.code, u.name_zh, u.name_en, 4, en.code, e.quantity ORDER BY u.code, e.quantity

-- name: emission_days
-- Days of an outlet's pollutants.
SELECT e.quantity, e.day, e.hours_valid, e.hours_stopped, e.hours_exempt, e.hours_missing, e.mean_measured, e.mean_converted,
       e.max_converted, e.mass_kg, e.hours_substituted, e.hours_exceeded, e.valid, e.limit_value, e.exceeded
FROM emission_1d e JOIN unit u ON u.base_id = e.base_id AND u.unit_id = e.unit_id
WHERE e.base_id = %(base)s AND e.day BETWEEN %(first)s AND %(last)s AND u.code = %(outlet)s
  AND (%(quantity)s::text IS NULL OR e.quantity = %(quantity)s) ORDER BY e.quantity, e.day

-- name: emission_months
-- Months of an outlet's pollutants.
SELECT e.quantity, e.month, e.days, e.days_due, e.days_valid, e.hours_valid, e.hours_stopped, e.hours_exempt, e.hours_missing,
       e.mean_measured, e.mean_converted, e.max_day, e.mass_kg, e.hours_substituted, e.hours_exceeded, e.days_exceeded, e.valid,
       e.limit_value, e.exceeded
FROM emission_1mo e JOIN unit u ON u.base_id = e.base_id AND u.unit_id = e.unit_id
WHERE e.base_id = %(base)s AND e.month BETWEEN %(first)s AND %(last)s AND u.code = %(outlet)s
  AND (%(quantity)s::text IS NULL OR e.quantity = %(quantity)s) ORDER BY e.quantity, e.month

-- name: emission_rates
-- Capture and transmission of the quarters that a period touches, with the rule of substitution that follows.
SELECT c.quantity, c.quarter, c.hours, c.hours_stopped, c.hours_valid, c.hours_exempt, c.hours_insufficient, c.hours_missing,
       c.hours_substituted, c.hours_without_mass, c.capture_rate, c.usable, c.rule, t.hours_due, t.hours_received, t.hours_marked,
       t.transmission_rate, t.valid_rate, t.effective_rate
FROM capture_rate_1q c JOIN transmission_rate_1q t USING (base_id, unit_id, quantity, quarter)
WHERE c.base_id = %(base)s AND c.unit_id = %(unit)s AND (%(quantity)s::text IS NULL OR c.quantity = %(quantity)s)
  AND c.quarter BETWEEN date_trunc('quarter', %(first)s::date)::date AND %(last)s ORDER BY c.quantity, c.quarter

-- name: emission_marks
-- Marks that share time with a period.
SELECT e.exempt_id AS id, e.quantity, e.started_at AS start, e.ended_at AS end, e.kind, e.reason, e.evidence, e.recorded_by, e.recorded_at
FROM exempt_period_known e
WHERE e.base_id = %(base)s AND e.unit_id = %(unit)s AND e.started_at < %(end)s AND e.ended_at > %(start)s
  AND (%(quantity)s::text IS NULL OR e.quantity IS NULL OR e.quantity = %(quantity)s) ORDER BY e.exempt_id

-- name: emission_exempt_year
-- Hours marked in the year by kind, beside what the outlet may have (attribute exempt_cap_h: {start_up: 60, ...}).
SELECT e.kind, sum(extract(epoch FROM least(e.ended_at, y.last) - greatest(e.started_at, y.first)) / 3600)::float8 AS hours,
       (u.attributes -> 'exempt_cap_h' ->> e.kind)::float8 AS cap
FROM exempt_period_known e JOIN unit u USING (base_id, unit_id) JOIN base b USING (base_id)
CROSS JOIN LATERAL (SELECT date_trunc('year', %(first)s::timestamp) AT TIME ZONE b.timezone AS first,
                           (date_trunc('year', %(first)s::timestamp) + interval '1 year') AT TIME ZONE b.timezone AS last) y
WHERE e.base_id = %(base)s AND e.unit_id = %(unit)s AND e.started_at < y.last AND e.ended_at > y.first
GROUP BY e.kind, u.attributes ORDER BY e.kind

-- name: emission_layers
-- The layers of each hour of an outlet's pollutants: what was sent (mean of every number, whatever its flag), how many readings
-- carried which flag, and samples that a later arrival replaced.
WITH own AS (
    SELECT DISTINCT ON (p.quantity) p.quantity, p.point_id FROM point p
    WHERE p.base_id = %(base)s AND p.unit_id = %(unit)s AND p.kind <> 'counter' AND p.removed_at IS NULL
      AND (%(quantity)s::text IS NULL OR p.quantity = %(quantity)s) ORDER BY p.quantity, p.point_id
), flagged AS (
    SELECT o.quantity, date_bin('1 hour', r.ts, '2000-01-01Z') AS at, q.word, count(*) AS n, sum(r.value) AS total, count(r.value) AS numbers
    FROM own o CROSS JOIN LATERAL (SELECT ts, value, quality FROM reading_shown r WHERE r.base_id = %(base)s
                                   AND r.point_id = o.point_id AND r.ts >= %(start)s AND r.ts < %(end)s OFFSET 0) r
    JOIN quality q ON q.code = r.quality GROUP BY 1, 2, 3
), replaced AS (
    SELECT o.quantity, date_bin('1 hour', v.ts, '2000-01-01Z') AS at, count(*) AS n, avg(v.value) AS former
    FROM own o JOIN reading_revision v ON v.base_id = %(base)s AND v.point_id = o.point_id AND v.ts >= %(start)s AND v.ts < %(end)s
    WHERE v.reason <> 'not_taken' GROUP BY 1, 2
)
SELECT f.quantity, f.at, sum(f.total) / nullif(sum(f.numbers), 0) AS raw, sum(f.n)::integer AS n, jsonb_object_agg(f.word, f.n) AS flags,
       coalesce(max(r.n), 0)::integer AS replaced, max(r.former) AS replaced_former
FROM flagged f LEFT JOIN replaced r USING (quantity, at) GROUP BY 1, 2 ORDER BY 1, 2

-- name: emission_former_hours
-- What finished hours of an outlet no longer say.
SELECT h.quantity, h.ts AS at, h.state, h.measured, h.converted, h.mass_kg, h.exceeded, h.exempt_id, h.recorded_at, h.superseded_at,
       h.superseded_by, h.reason
FROM emission_1h_history h
WHERE h.base_id = %(base)s AND h.unit_id = %(unit)s AND h.ts >= %(start)s AND h.ts < %(end)s
  AND (%(quantity)s::text IS NULL OR h.quantity = %(quantity)s)
  AND h.recorded_at >= h.ts + interval '1 hour' AND h.superseded_at <= (SELECT known_at()) ORDER BY h.quantity, h.ts, h.superseded_at

-- name: emission_hours
-- Hours of an outlet's pollutants with the limit that each was judged by.
SELECT e.quantity, e.ts AS at, e.state, e.n_valid, e.measured, e.converted, e.oxygen, e.flow, e.mass_kg, e.substituted,
       e.substitution, e.limit_id, e.limit_value, e.exceeded, e.exempt_id
FROM emission_1h_known e JOIN unit u ON u.base_id = e.base_id AND u.unit_id = e.unit_id
WHERE e.base_id = %(base)s AND e.ts >= %(start)s AND e.ts < %(end)s AND u.code = %(outlet)s
  AND (%(quantity)s::text IS NULL OR e.quantity = %(quantity)s) ORDER BY e.quantity, e.ts

-- name: outlet
-- Outlets of a code, in every base that the token may see.
SELECT u.unit_id, u.base_id, b.code AS base, b.timezone, u.code, u.name_zh, u.name_en, u.attributes ->> 'medium' AS medium,
       (u.attributes ->> 'o2_reference')::double precision AS o2_reference, coalesce(u.attributes ->> 'judged_by', 'hour') AS judged_by
FROM unit u JOIN base b USING (base_id)
WHERE u.code = %(outlet)s AND u.role = 'outlet' AND (%(base)s::text IS NULL OR b.code = %(base)s)

-- name: limits_of_unit
-- Limits of an outlet that hold at some time of a period.
SELECT limit_id, quantity, statistic, low, high, unit, rank, valid_from, valid_to, source, verified
FROM limit_value_known WHERE base_id = %(base)s AND unit_id = %(unit)s
  AND valid_from <= %(last)s AND (valid_to IS NULL OR valid_to > %(first)s) ORDER BY quantity, statistic, valid_from

-- name: factors
-- Factor rows by their ids.
SELECT factor_id AS id, carrier, kind, region, value, unit, edition, valid_from, valid_to, source, verified, recorded_at,
       recorded_by, superseded_at, base_id IS NOT NULL AS own
FROM factor WHERE factor_id = ANY (%(ids)s) ORDER BY carrier, kind, valid_from

-- name: accounted
-- How far the passes of a base have come.
SELECT pass, done_to, at FROM pass WHERE base_id = %(base)s ORDER BY pass

-- name: infrastructure_points
-- Points of a base by system: in the catalogue, bound to a device, online (a reading within three expected intervals), with
-- accuracy class; latency of the readings of the last ten minutes.
WITH judged AS (
    SELECT CASE WHEN u.role IN ('outlet', 'treatment') THEN 'pollution'
                WHEN p.carrier IN ('water', 'reclaimed_water') OR p.quantity IN ('water_volume', 'water_flow', 'production',
                     'production_count') THEN 'resource'
                ELSE 'energy' END AS system,
           p.device_id, NOT a.assumed AS has_class, p.kind, l.ts, l.quality,
           coalesce(l.ts >= now() - greatest(3 * p.expected_s, 120) * interval '1 second', false) AS online,
           CASE WHEN l.arrived_at >= now() - interval '10 minutes' THEN extract(epoch FROM l.arrived_at - l.ts) END AS latency_s
    FROM point p
    LEFT JOIN unit u ON u.base_id = p.base_id AND u.unit_id = p.unit_id
    LEFT JOIN latest l ON l.base_id = p.base_id AND l.point_id = p.point_id
    LEFT JOIN meter_accuracy(%(base)s::smallint, current_date) a ON a.point_id = p.point_id
    WHERE p.base_id = %(base)s AND p.removed_at IS NULL AND NOT p.attributes ? 'formula'   -- what is computed is no meter
)
SELECT system, count(*)::integer AS points, count(device_id)::integer AS bound, count(ts)::integer AS heard,
       (count(*) FILTER (WHERE online))::integer AS online, (count(*) FILTER (WHERE online AND quality < 10))::integer AS usable,
       (count(*) FILTER (WHERE kind = 'counter'))::integer AS counters,
       (count(*) FILTER (WHERE kind = 'counter' AND has_class))::integer AS counters_with_class,
       count(latency_s)::integer AS latency_n,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY latency_s)::double precision AS latency_p50_s,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY latency_s)::double precision AS latency_p95_s
FROM judged GROUP BY system

-- name: infrastructure_rates
-- Hours that are over, with a reading and with a good one, by system over days.
SELECT CASE WHEN u.role IN ('outlet', 'treatment') THEN 'pollution'
            WHEN p.carrier IN ('water', 'reclaimed_water') OR p.quantity IN ('water_volume', 'water_flow', 'production',
                 'production_count') THEN 'resource'
            ELSE 'energy' END AS system,
       sum(a.n_expected)::bigint AS n_expected, sum(a.n)::bigint AS n, sum(a.n_good)::bigint AS n_good
FROM availability_between(%(base)s::smallint, %(first)s, %(last)s) a
JOIN point p ON p.base_id = %(base)s AND p.point_id = a.point_id
LEFT JOIN unit u ON u.base_id = p.base_id AND u.unit_id = p.unit_id
WHERE NOT p.attributes ? 'formula' GROUP BY 1

-- name: infrastructure_equipping
-- What should be metered and whether it is: carriers at the gate of each enterprise, electricity of each production and
-- treatment facility, each pollutant of an outlet that has a limit.
WITH counter AS (
    SELECT p.carrier, p.boundary, u.enterprise_id FROM point p
    JOIN unit u ON u.base_id = p.base_id AND u.unit_id = p.unit_id
    WHERE p.base_id = %(base)s AND p.kind = 'counter' AND p.carrier IS NOT NULL AND p.removed_at IS NULL
      AND p.direction IN ('import', 'sum') AND u.enterprise_id IS NOT NULL AND NOT p.attributes ? 'formula'
), gate AS (
    SELECT enterprise_id, 'electricity' AS carrier FROM enterprise WHERE base_id = %(base)s
    UNION SELECT enterprise_id, carrier FROM counter WHERE boundary IN ('enterprise', 'unit')
)
SELECT 'enterprise_gate' AS level, e.code || ' ' || g.carrier AS item,
       EXISTS (SELECT FROM counter c WHERE c.enterprise_id = g.enterprise_id AND c.carrier = g.carrier
               AND c.boundary IN ('enterprise', 'base')) AS installed
FROM gate g JOIN enterprise e ON e.base_id = %(base)s AND e.enterprise_id = g.enterprise_id
UNION ALL
SELECT 'facility', u.code, EXISTS (
    SELECT FROM point p WHERE p.base_id = u.base_id AND p.unit_id = u.unit_id AND p.removed_at IS NULL
    AND p.quantity IN ('active_energy', 'active_power') AND NOT p.attributes ? 'formula')
FROM unit u WHERE u.base_id = %(base)s AND u.role IN ('production', 'treatment')
UNION ALL
SELECT 'outlet', u.code || ' ' || l.quantity, EXISTS (
    SELECT FROM point p WHERE p.base_id = l.base_id AND p.unit_id = l.unit_id AND p.quantity = l.quantity AND p.removed_at IS NULL
    AND NOT p.attributes ? 'formula')
FROM (SELECT DISTINCT base_id, unit_id, quantity FROM limit_value
      WHERE base_id = %(base)s AND superseded_at IS NULL AND valid_from <= %(last)s AND (valid_to IS NULL OR valid_to > %(last)s)) l
JOIN unit u ON u.base_id = l.base_id AND u.unit_id = l.unit_id
ORDER BY 1, 2

-- name: infrastructure_devices
-- Devices of a base by what they last said.
SELECT coalesce(s.state, 'unknown') AS state, count(*)::integer AS n
FROM device d LEFT JOIN device_state s USING (base_id, device_id)
WHERE d.base_id = %(base)s AND d.removed_at IS NULL GROUP BY 1

-- name: infrastructure_outcomes
-- What became of the readings that arrived on these days.
SELECT outcome, sum(n)::bigint AS n FROM ingest_counter
WHERE base_id = %(base)s AND day BETWEEN %(first)s AND %(last)s GROUP BY 1 ORDER BY 2 DESC, 1

-- name: kpi_days
-- Key figures of the alert system by base-local day, as the view of the alerts has them.
SELECT day, raised, closed, acknowledged, mean_ack_s, peak_10min, floods, chattering, stale_24h
FROM alert_kpi_1d WHERE base_id = %(base)s AND day BETWEEN %(first)s AND %(last)s ORDER BY day

-- name: kpi_open
-- Alerts that are open now, by severity.
SELECT severity, count(*)::integer AS open, (count(*) FILTER (WHERE NOT acknowledged))::integer AS unacknowledged,
       (count(*) FILTER (WHERE shelved_until > now()))::integer AS shelved, (count(*) FILTER (WHERE suppressed))::integer AS suppressed,
       (count(*) FILTER (WHERE active AND now() - opened_at > interval '24 hours'))::integer AS stale_24h
FROM alert WHERE base_id = %(base)s AND closed_at IS NULL GROUP BY severity
ORDER BY array_position(ARRAY['critical', 'high', 'medium', 'low'], severity)

-- name: kpi_rules
-- The rules that raise most.
SELECT r.code AS rule, r.name_zh, r.name_en, sum(a.n_raised)::integer AS raised, count(*)::integer AS alerts
FROM alert a JOIN rule r ON r.base_id = a.base_id AND r.rule_id = a.rule_id
WHERE a.base_id = %(base)s AND a.opened_at >= %(start)s AND a.opened_at < %(end)s
GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1 LIMIT 10

-- name: tell_catalogue
-- The ledger is part of what figures are computed with: let every stage know.
SELECT pg_notify('park_catalogue', %(base)s)

-- name: report_versions
-- Sealed versions of a report, newest first.
SELECT version, hash, as_of, sealed_at, sealed_by, reason FROM report
WHERE base_id = %(base)s AND kind = %(kind)s AND year = %(year)s ORDER BY version DESC

-- name: report_data
-- The data of sealed versions.
SELECT version, hash, as_of, sealed_at, sealed_by, reason, data FROM report
WHERE base_id = %(base)s AND kind = %(kind)s AND year = %(year)s AND version = ANY (%(versions)s)

-- name: is_bound
-- Whether row-level security binds the login of the service itself: not its owner, nor a superuser.
SELECT row_security_active('energy_total') AS bound

-- name: report_mark
-- What people change in a report, in a short text: a made file is not shown again after such a change.
SELECT concat_ws('|', (SELECT max(version) FROM report WHERE base_id = %(base)s AND kind = %(kind)s AND year = %(year)s),
                 (SELECT max(entry_id) FROM ledger WHERE base_id = %(base)s),
                 (SELECT max(recorded_at) FROM target WHERE base_id = %(base)s)) AS mark

-- name: trace_counters
-- The counters behind an energy figure, summed over days: those that count for the base or enterprise, or those of the unit
-- or point. Only primary generation of electricity (PV) adds up: what is made from another carrier is in that one's account.
-- The points are named first, and days by their instants: so the days are found by their index.
SELECT e.point_id, p.code AS point, p.name_zh, p.name_en, e.carrier, e.direction, e.boundary, e.unit, p.unit AS register_unit,
       p.ratio, p.attributes ->> 'formula' AS formula,
       CASE WHEN e.direction = 'export' THEN -1
            WHEN e.direction = 'generation' AND (e.carrier <> 'electricity' OR p.attributes ? 'made_from') THEN 0 ELSE 1 END AS sign,
       count(*)::integer AS days, sum(e.amount) AS amount, sum(e.estimated) AS estimated, sum(e.n_expected)::bigint AS n_expected,
       sum(e.n_known)::bigint AS n_known, sum(e.n_good)::bigint AS n_good, sum(e.tce_calorific) AS tce_calorific,
       sum(e.tce_equivalent) AS tce_equivalent, sum(e.co2_kg) AS co2_kg
FROM energy_1d e JOIN point_known p ON p.base_id = e.base_id AND p.point_id = e.point_id
WHERE e.base_id = %(base)s AND e.ts >= %(start)s AND e.ts < %(end)s AND e.point_id = ANY (ARRAY(
    SELECT q.point_id FROM point_known q
    LEFT JOIN unit_known u ON u.base_id = q.base_id AND u.unit_id = q.unit_id
    LEFT JOIN unit_enterprise o ON o.base_id = q.base_id AND o.unit_id = q.unit_id
    LEFT JOIN enterprise n ON n.base_id = o.base_id AND n.enterprise_id = o.enterprise_id
    WHERE q.base_id = %(base)s AND q.kind = 'counter' AND (%(carrier)s::text IS NULL OR q.carrier = %(carrier)s)
      AND CASE %(scope)s::text
            WHEN 'base' THEN q.point_id IN (SELECT m.point_id FROM energy_member m WHERE m.base_id = %(base)s AND m.enterprise_id IS NULL)
            WHEN 'enterprise' THEN q.boundary = 'enterprise' AND n.code = %(code)s
            WHEN 'unit' THEN u.code = %(code)s
            ELSE q.code = %(code)s END))
GROUP BY e.point_id, p.code, p.name_zh, p.name_en, e.carrier, e.direction, e.boundary, e.unit, p.unit, p.ratio, p.attributes
ORDER BY p.code

-- name: trace_days
-- Days of counters with what is known of each.
SELECT e.point_id, e.day, e.amount, e.estimated, e.n_expected, e.n_known, e.n_good, e.factor_ids
FROM energy_1d e
WHERE e.base_id = %(base)s AND e.point_id = ANY (%(points)s) AND e.ts >= %(start)s AND e.ts < %(end)s
ORDER BY e.point_id, e.day LIMIT %(limit)s

-- name: trace_intervals
-- Quarter-hours of counters with quality and method (0 measured, 1 rollover, 2 swap, 3 reset, 4 gap split, 5 spike removed, 6 formula),
-- each as it was known at the instant looked back to.
SELECT point_id, ts AS at, amount, quality, method FROM slots_known(%(base)s::smallint, %(points)s, %(start)s, %(end)s)
ORDER BY point_id, at LIMIT %(limit)s

-- name: codes_of_points
-- Codes of points.
SELECT point_id, code FROM point WHERE base_id = %(base)s AND point_id = ANY (%(points)s)

-- name: trace_slot_revisions
-- Values that quarter-hours no longer have, oldest first: until when, replaced by whom and why.
SELECT point_id, ts AS at, amount, quality, method, superseded_at, superseded_by, reason FROM interval_15m_history
WHERE base_id = %(base)s AND point_id = ANY (%(points)s) AND ts >= %(start)s AND ts < %(end)s AND superseded_at <= (SELECT known_at())
ORDER BY superseded_at, point_id, ts LIMIT %(limit)s

-- name: trace_day_revisions
-- Amounts that finished days no longer have.
SELECT h.point_id, (h.ts AT TIME ZONE b.timezone)::date AS day, h.amount, h.estimated, h.n_expected, h.n_known, h.n_good,
       h.recorded_at, h.superseded_at, h.superseded_by, h.reason
FROM interval_1d_history h JOIN base b USING (base_id)
WHERE h.base_id = %(base)s AND h.point_id = ANY (%(points)s) AND h.ts >= %(start)s AND h.ts < %(end)s
  AND h.recorded_at >= h.ts + interval '1 day' AND h.superseded_at <= (SELECT known_at())
ORDER BY h.superseded_at, h.point_id, h.ts LIMIT %(limit)s

-- name: trace_total_revisions
-- Totals that finished days of the base or an enterprise no longer have.
SELECT h.day, h.carrier, h.amount, h.tce_calorific, h.tce_equivalent, h.co2_kg, h.cost, h.billed, h.tce_calorific_assessed,
       h.tce_equivalent_assessed, h.co2_market_kg, h.n_expected, h.n_known, h.factor_ids, h.market_factor_ids, h.setting_ids,
       h.ledger_ids, h.recorded_at, h.superseded_at, h.superseded_by, h.reason
FROM energy_total_history h JOIN base b USING (base_id) LEFT JOIN enterprise e USING (base_id, enterprise_id)
WHERE h.base_id = %(base)s AND h.day BETWEEN %(first)s AND %(last)s AND (%(carrier)s::text IS NULL OR h.carrier = %(carrier)s)
  AND CASE %(scope)s::text WHEN 'base' THEN h.enterprise_id IS NULL WHEN 'enterprise' THEN e.code = %(code)s ELSE false END
  AND h.recorded_at >= (h.day + 1)::timestamp AT TIME ZONE b.timezone AND h.superseded_at <= (SELECT known_at())
ORDER BY h.superseded_at, h.day LIMIT %(limit)s

-- name: trace_reading_revisions
-- Samples that were replaced or not taken in, with their former or refused value.
SELECT point_id, ts AS at, value, quality, replaced_at, by_source, reason FROM reading_revision
WHERE base_id = %(base)s AND point_id = ANY (%(points)s) AND ts >= %(start)s AND ts < %(end)s AND replaced_at <= (SELECT known_at())
ORDER BY replaced_at, point_id, ts LIMIT %(limit)s

-- name: trace_factor_revisions
-- Rows that the factor rows used have superseded.
SELECT f.factor_id AS id, f.carrier, f.kind, f.region, f.value, f.unit, f.edition, f.valid_from, f.valid_to, f.source, f.verified,
       f.recorded_at, f.recorded_by, f.superseded_at
FROM factor f
WHERE f.superseded_at <= (SELECT known_at()) AND EXISTS (
    SELECT FROM factor u WHERE u.factor_id = ANY (%(ids)s) AND u.factor_id <> f.factor_id AND u.carrier = f.carrier AND u.kind = f.kind
      AND u.region = f.region AND u.valid_from = f.valid_from AND u.base_id IS NOT DISTINCT FROM f.base_id)
ORDER BY f.superseded_at, f.factor_id

-- name: trace_hour_revisions
-- What finished hours of an outlet and pollutant no longer say.
SELECT h.ts AS at, h.state, h.n_valid, h.measured, h.converted, h.flow, h.mass_kg, h.substituted, h.substitution, h.limit_id,
       h.limit_value, h.exceeded, h.exempt_id, h.recorded_at, h.superseded_at, h.superseded_by, h.reason
FROM emission_1h_history h JOIN unit u ON u.base_id = h.base_id AND u.unit_id = h.unit_id
WHERE h.base_id = %(base)s AND u.code = %(outlet)s AND h.quantity = %(quantity)s AND h.ts >= %(start)s AND h.ts < %(end)s
  AND h.recorded_at >= h.ts + interval '1 hour' AND h.superseded_at <= (SELECT known_at())
ORDER BY h.superseded_at, h.ts LIMIT %(limit)s

-- name: trace_indicator_revisions
-- Values that an indicator no longer has.
SELECT value, unit, coverage, grade, recorded_at, superseded_at, superseded_by, reason FROM indicator_value_history
WHERE base_id = %(base)s AND indicator = %(indicator)s AND period = %(period)s AND superseded_at <= (SELECT known_at())
ORDER BY superseded_at DESC LIMIT 200

-- name: trace_ledger
-- Ledger entries by their ids, and those that they supersede, newest first.
WITH RECURSIVE chain AS (
    SELECT l.* FROM ledger l WHERE l.base_id = %(base)s AND l.entry_id = ANY (%(ids)s)
    UNION SELECT l.* FROM chain c JOIN ledger l ON l.base_id = c.base_id AND l.entry_id = c.supersedes
)
SELECT entry_id AS id, kind, item, action, first_day, last_day, value, unit, status, evidence, note, recorded_by, recorded_at,
       supersedes
FROM chain ORDER BY entry_id DESC

-- name: trace_registers
-- The samples at the edges of the period: the last at or before its start, the last before its end.
SELECT p.point_id, a.ts AS first_at, a.value AS first_value, a.quality AS first_quality, b.ts AS last_at, b.value AS last_value,
       b.quality AS last_quality
FROM unnest(%(points)s::integer[]) AS p (point_id)
LEFT JOIN LATERAL (SELECT ts, value, quality FROM reading_shown WHERE base_id = %(base)s AND point_id = p.point_id AND quality < 10
                   AND ts <= %(start)s AND ts > %(start)s::timestamptz - interval '7 days' ORDER BY ts DESC LIMIT 1) a ON true
LEFT JOIN LATERAL (SELECT ts, value, quality FROM reading_shown WHERE base_id = %(base)s AND point_id = p.point_id AND quality < 10
                   AND ts < %(end)s AND ts >= %(start)s ORDER BY ts DESC LIMIT 1) b ON true

-- name: trace_meters
-- The meters that stood at counters in the period; a swap is a record.
SELECT m.point_id, m.serial, m.installed_at, m.removed_at, m.initial_register, m.final_register, m.ratio, m.source
FROM meter_known m WHERE m.base_id = %(base)s AND m.point_id = ANY (%(points)s) AND m.installed_at < %(end)s
  AND (m.removed_at IS NULL OR m.removed_at > %(start)s) ORDER BY m.point_id, m.installed_at

-- name: trace_costs
-- Cost of counters by tariff period.
SELECT c.point_id, c.period, sum(c.amount) AS amount, sum(c.cost) AS cost, array_agg(DISTINCT c.tariff_id) AS tariffs
FROM cost_1d_known c WHERE c.base_id = %(base)s AND c.point_id = ANY (%(points)s) AND c.day BETWEEN %(first)s AND %(last)s
GROUP BY 1, 2 ORDER BY 1, 2

-- name: trace_tariffs
-- Tariff rows by their ids.
SELECT tariff_id AS id, code, carrier, unit, terms, valid_from, valid_to, source, verified, recorded_at, recorded_by,
       superseded_at FROM tariff
WHERE base_id = %(base)s AND tariff_id = ANY (%(ids)s)

-- name: trace_indicator
-- An indicator as accounting computed it, with what it was computed from.
SELECT indicator, period, value, unit, coverage, grade, inputs, computed_at, recorded_at FROM indicator_value_known
WHERE base_id = %(base)s AND indicator = %(indicator)s AND period = %(period)s

-- name: indicator_rows
-- Everything that a base is measured by in a period: definitions in force, computed values, targets, forecasts.
WITH definition AS (
    SELECT DISTINCT ON (code) * FROM indicator_definition_known
    WHERE (base_id = %(base)s OR base_id IS NULL) AND valid_from <= %(last)s AND (valid_to IS NULL OR valid_to > %(last)s)
    ORDER BY code, base_id IS NULL, valid_from DESC
), value AS (
    SELECT * FROM indicator_value_known WHERE base_id = %(base)s AND period = %(period)s
), goal AS (
    SELECT * FROM target_known WHERE base_id = %(base)s AND year = %(year)s AND %(is_year)s
), named AS (
    SELECT DISTINCT ON (indicator) indicator, name_zh, name_en FROM target_known WHERE base_id = %(base)s ORDER BY indicator, year DESC
), codes AS (
    SELECT code FROM definition UNION SELECT indicator FROM value UNION SELECT indicator FROM goal
)
SELECT c.code, coalesce(d.set_code, CASE WHEN n.indicator IS NOT NULL THEN 'plan' ELSE 'computed' END) AS set_code,
       coalesce(d.name_zh, n.name_zh) AS name_zh, coalesce(d.name_en, n.name_en) AS name_en, d.formula,
       coalesce(d.unit, v.unit, g.unit) AS unit, coalesce(d.sense, g.sense) AS sense, d.source, d.verified, d.note,
       v.value, v.coverage, v.grade, v.inputs, v.recorded_at, g.value AS target, g.unit AS target_unit, g.sense AS target_sense,
       g.baseline AS target_baseline, g.baseline_year, g.responsible, g.source AS target_source, f.until AS forecast_until,
       f.value AS forecast, f.low AS forecast_low, f.high AS forecast_high, f.threshold AS forecast_threshold, f.threshold_likely,
       f.target_likely, f.method, f.why,
       CASE WHEN v.indicator IS NOT NULL THEN b.code || '/' || %(period)s || '/indicator/' || c.code END AS figure
FROM codes c JOIN base b ON b.base_id = %(base)s
LEFT JOIN definition d ON d.code = c.code
LEFT JOIN value v ON v.indicator = c.code
LEFT JOIN goal g ON g.indicator = c.code
LEFT JOIN named n ON n.indicator = c.code
LEFT JOIN indicator_forecast_known f ON f.base_id = %(base)s AND f.indicator = c.code AND f.year = %(year)s AND %(is_year)s
ORDER BY d.set_code NULLS FIRST, d.definition_id, c.code

-- name: exemptions
-- Marks that take hours of outlets out of judgement, newest first.
SELECT e.exempt_id AS id, u.code AS outlet, e.quantity, e.started_at AS start, e.ended_at AS end, e.kind, e.reason, e.evidence,
       e.recorded_by, e.recorded_at, e.withdrawn_by, e.withdrawn_at, e.withdrawn_reason
FROM exempt_period e JOIN unit u USING (base_id, unit_id)
WHERE e.base_id = %(base)s AND (%(outlet)s::text IS NULL OR u.code = %(outlet)s) AND (%(withdrawn)s OR e.withdrawn_at IS NULL)
  AND (%(id)s::integer IS NULL OR e.exempt_id = %(id)s)
ORDER BY e.exempt_id DESC LIMIT 2000

-- name: insert_exemption
-- A mark on an outlet that measures the pollutant, or on all of its pollutants.
INSERT INTO exempt_period (base_id, unit_id, quantity, started_at, ended_at, kind, reason, evidence, recorded_by)
SELECT base_id, unit_id, %(quantity)s::text, %(start)s, %(end)s, %(kind)s, %(reason)s, %(evidence)s, %(by)s FROM unit u
WHERE base_id = %(base)s AND code = %(outlet)s AND role = 'outlet' AND (%(quantity)s::text IS NULL OR EXISTS (
    SELECT FROM point p WHERE p.base_id = u.base_id AND p.unit_id = u.unit_id AND p.quantity = %(quantity)s::text))
RETURNING exempt_id

-- name: withdraw_exemption
-- A mark that no longer holds; it stays in the record.
UPDATE exempt_period SET withdrawn_at = now(), withdrawn_by = %(by)s, withdrawn_reason = %(reason)s
WHERE base_id = %(base)s AND exempt_id = %(id)s AND withdrawn_at IS NULL

-- name: baselines
-- Baselines of counters, the newest of each first.
SELECT b.baseline_id AS id, p.code AS point, p.name_zh, p.name_en, b.unit, b.first_day, b.last_day, b.variables, b.n, b.r2, b.cv_rmse,
       b.residual_sd, b.autocorrelation, b.static_factors, b.reason, b.recorded_at, b.recorded_by, b.superseded_at
FROM baseline b JOIN point p USING (base_id, point_id)
WHERE b.base_id = %(base)s AND (%(point)s::text IS NULL OR p.code = %(point)s)
  AND b.recorded_at <= (SELECT known_at()) AND (%(superseded)s OR b.superseded_at IS NULL OR b.superseded_at > (SELECT known_at()))
ORDER BY p.code, b.baseline_id DESC

-- name: baseline_savings
-- Savings against baselines by month and year.
SELECT baseline_id, period, days, days_unknown, days_outside, expected, actual, saving, half_width FROM baseline_saving_known
WHERE base_id = %(base)s AND baseline_id = ANY (%(ids)s) ORDER BY baseline_id, period

-- name: points_named
-- Points by their codes, with what leads on from them.
SELECT code, kind, carrier, attributes ->> 'formula' AS formula FROM point_known WHERE base_id = %(base)s AND code = ANY (%(codes)s)

-- name: pollutants_measured
-- Outlets and the pollutants that have hours there.
SELECT DISTINCT u.code, p.quantity FROM unit_known u JOIN point_known p ON p.base_id = u.base_id AND p.unit_id = u.unit_id
WHERE u.base_id = %(base)s AND u.role = 'outlet' AND p.kind = 'gauge'
  AND EXISTS (SELECT FROM emission_1h_known e WHERE e.base_id = u.base_id AND e.unit_id = u.unit_id AND e.quantity = p.quantity)
ORDER BY 1, 2

-- name: trace_outlet_points
-- The points at an outlet.
SELECT p.code, p.quantity, p.unit, p.attributes ->> 'formula' AS formula
FROM point p JOIN unit u ON u.base_id = p.base_id AND u.unit_id = p.unit_id
WHERE p.base_id = %(base)s AND u.code = %(outlet)s AND p.removed_at IS NULL ORDER BY p.code
