-- Queries of the console's panels. Parameters: base (base_id), enterprise (NULL: the whole base), now, zone.

-- name: base
-- The base of a code with its zone; no row when it does not exist or the session may not see it.
SELECT base_id, code, name_zh, name_en, timezone FROM base WHERE code = %(code)s

-- name: counters
-- The counters whose sum is the total of a carrier (docs/architecture.md), each with its factor to the carrier's unit.
WITH counter AS (
    SELECT p.point_id, p.code, p.carrier, p.direction, p.boundary, u.enterprise_id, c.at_gate_only, coalesce(c.unit, p.unit) AS unit,
           CASE WHEN coalesce(c.unit, p.unit) = p.unit THEN 1 ELSE coalesce(own.multiplier, every.multiplier) END AS multiplier,
           EXISTS (SELECT FROM flow f WHERE f.base_id = p.base_id AND f.kind = 'exchange' AND f.carrier = p.carrier
                   AND p.point_id IN (f.parent_id, f.child_id)) AS exchanged
    FROM point p
    LEFT JOIN unit u USING (base_id, unit_id)
    LEFT JOIN carrier c USING (carrier)
    LEFT JOIN unit_conversion own ON (own.carrier, own.source, own.target) = (p.carrier, p.unit, c.unit)
    LEFT JOIN unit_conversion every ON (every.carrier, every.source, every.target) = ('', p.unit, c.unit)
    WHERE p.base_id = %(base)s AND p.kind = 'counter' AND p.carrier IS NOT NULL AND p.removed_at IS NULL
)
SELECT point_id, carrier, unit, multiplier * CASE direction WHEN 'export' THEN -1 ELSE 1 END AS factor
FROM counter c
WHERE multiplier IS NOT NULL AND CASE
    WHEN %(enterprise)s::integer IS NOT NULL THEN boundary = 'enterprise' AND enterprise_id = %(enterprise)s
    WHEN EXISTS (SELECT FROM counter b WHERE b.carrier = c.carrier AND b.boundary = 'base' AND b.direction IN ('import', 'sum'))
    THEN boundary = 'base'
    ELSE boundary = 'base' OR boundary = 'enterprise' AND NOT exchanged AND at_gate_only IS NOT TRUE END
ORDER BY carrier, point_id

-- name: energy_hours
-- Each hour of the local day per carrier, beside the quartiles of the same hour on like days of the six weeks before.
-- Like days: the same weekday and calendar class; with fewer than three of them, every day of today's class. What is estimated by
-- more than a twentieth, such as a gap split evenly over its hours, says nothing of an hour and is no part of the quartiles.
WITH counter AS (
    SELECT * FROM unnest(%(points)s::integer[], %(carriers)s::text[], %(factors)s::double precision[])
           AS c (point_id, carrier, factor)
),
size AS (SELECT carrier, count(*)::integer AS n FROM counter GROUP BY carrier),
class AS (
    SELECT day, min(class) AS class FROM calendar
    WHERE base_id = %(base)s AND day BETWEEN %(day)s::date - 42 AND %(day)s GROUP BY day
),
past AS (
    SELECT d::date AS day, extract(isodow FROM d) = extract(isodow FROM %(day)s::date) AS same_weekday
    FROM generate_series(%(day)s::date - 42, %(day)s::date - 1, interval '1 day') AS d
    WHERE coalesce((SELECT class FROM class WHERE class.day = d::date),
                   CASE WHEN extract(isodow FROM d) >= 6 THEN 'weekend' ELSE 'working' END)
        = coalesce((SELECT class FROM class WHERE class.day = %(day)s),
                   CASE WHEN extract(isodow FROM %(day)s::date) >= 6 THEN 'weekend' ELSE 'working' END)
),
like_day AS (
    SELECT day::timestamp AT TIME ZONE %(zone)s AS low, (day + 1)::timestamp AT TIME ZONE %(zone)s AS high FROM past
    WHERE same_weekday OR (SELECT count(*) FROM past WHERE same_weekday) < 3
),
before AS (
    SELECT c.carrier, i.ts, sum(i.amount * c.factor) AS amount
    -- each counter's days by the whole key: by base and time alone a server before PostgreSQL 18 reads the index from end to end
    FROM like_day d CROSS JOIN counter c
    CROSS JOIN LATERAL (SELECT ts, amount, estimated, n_known, n_good, n_expected FROM interval_1h i
                        WHERE i.base_id = %(base)s AND i.point_id = c.point_id AND i.ts >= d.low AND i.ts < d.high OFFSET 0) i
    GROUP BY c.carrier, i.ts
    HAVING count(*) FILTER (WHERE i.n_known >= i.n_expected) = (SELECT n FROM size WHERE size.carrier = c.carrier)
       AND sum(i.n_good) > 0 AND abs(sum(i.estimated * c.factor)) <= 0.05 * abs(sum(i.amount * c.factor))
),
expected AS (
    SELECT carrier, extract(hour FROM ts AT TIME ZONE %(zone)s)::integer AS hour, count(*)::integer AS n_days,
           percentile_cont(ARRAY[0.25, 0.5, 0.75]) WITHIN GROUP (ORDER BY amount) AS quartile
    FROM before GROUP BY 1, 2
),
today AS (
    SELECT c.carrier, i.ts, sum(i.amount * c.factor) AS amount, sum(i.estimated * c.factor) AS estimated,
           sum(i.n_known)::integer AS n_known, sum(i.n_good)::integer AS n_good
    FROM counter c
    JOIN interval_1h i ON i.base_id = %(base)s AND i.point_id = c.point_id AND i.ts >= %(start)s AND i.ts < %(end)s
    GROUP BY c.carrier, i.ts
)
SELECT s.carrier, h.ts, s.n AS n_counters, t.amount, coalesce(t.estimated, 0) AS estimated,
       coalesce(t.n_known, 0) AS n_known, coalesce(t.n_good, 0) AS n_good, coalesce(e.n_days, 0) AS n_days,
       e.quartile[1] AS low, e.quartile[2] AS expected, e.quartile[3] AS high
FROM size s
CROSS JOIN generate_series(%(start)s::timestamptz, %(end)s::timestamptz - interval '1 hour', interval '1 hour') AS h (ts)
LEFT JOIN today t ON t.carrier = s.carrier AND t.ts = h.ts
LEFT JOIN expected e ON e.carrier = s.carrier AND e.hour = extract(hour FROM h.ts AT TIME ZONE %(zone)s)
ORDER BY s.carrier, h.ts

-- name: day_totals
-- What today counts as so far, a row a carrier: tonnes of coal equivalent, CO2 and cost.
SELECT carrier, unit, amount, generation, export, estimated, n_expected, n_known,
       tce_calorific, tce_equivalent, co2_kg, cost
FROM energy_total_1d
WHERE base_id = %(base)s AND day = %(day)s AND enterprise_id IS NOT DISTINCT FROM %(enterprise)s
ORDER BY carrier

-- name: outlet_points
-- Pollutants measured at outlets: newest reading, and this hour's valid minutes with their mean, also at reference oxygen
-- (converted minute by minute; near the oxygen of air, in start, stop or leak, the conversion says nothing).
WITH measured AS (
    SELECT p.point_id, p.code, p.unit_id, p.quantity, p.unit, p.expected_s
    FROM point p JOIN unit u USING (base_id, unit_id)
    WHERE p.base_id = %(base)s AND p.removed_at IS NULL AND p.kind = 'gauge' AND u.role = 'outlet'
      AND (%(enterprise)s::integer IS NULL OR u.enterprise_id = %(enterprise)s)
      AND p.quantity = ANY (%(quantities)s)
),
minute AS (
    SELECT m.point_id, date_trunc('minute', r.ts) AS minute, avg(r.value) AS value
    FROM measured m
    CROSS JOIN LATERAL (SELECT ts, value FROM reading_shown r WHERE r.base_id = %(base)s AND r.point_id = m.point_id
                        AND r.ts >= %(hour)s AND r.ts <= %(now)s AND r.quality IN (0, 1) AND r.value IS NOT NULL OFFSET 0) r
    GROUP BY 1, 2
),
hour AS (
    SELECT n.point_id, avg(n.value) AS mean, count(*)::integer AS minutes,
           avg(n.value * (21 - (u.attributes ->> 'o2_reference')::double precision) / (21 - o.value)) FILTER (WHERE o.value < 20) AS converted
    FROM minute n
    JOIN measured m USING (point_id)
    JOIN unit u ON u.base_id = %(base)s AND u.unit_id = m.unit_id
    LEFT JOIN measured oxygen ON oxygen.unit_id = m.unit_id AND oxygen.quantity = 'o2'
    LEFT JOIN minute o ON o.point_id = oxygen.point_id AND o.minute = n.minute
    GROUP BY n.point_id
)
SELECT m.point_id, m.code, m.unit_id, m.quantity, m.unit, m.expected_s,
       l.ts AS latest_at, l.value AS latest, l.quality AS latest_quality, h.mean, h.converted, coalesce(h.minutes, 0) AS minutes
FROM measured m
LEFT JOIN latest l ON l.base_id = %(base)s AND l.point_id = m.point_id
LEFT JOIN hour h ON h.point_id = m.point_id
ORDER BY m.unit_id, m.point_id

-- name: outlets
-- Outlets with what their figures are referred to.
SELECT u.unit_id, u.code, u.name_zh, u.name_en, e.name_zh AS enterprise_zh, e.name_en AS enterprise_en,
       u.attributes ->> 'medium' AS medium, (u.attributes ->> 'o2_reference')::double precision AS o2_reference
FROM unit u LEFT JOIN enterprise e USING (base_id, enterprise_id)
WHERE u.base_id = %(base)s AND u.role = 'outlet'
  AND (%(enterprise)s::integer IS NULL OR u.enterprise_id = %(enterprise)s)
ORDER BY e.enterprise_id, u.code

-- name: limits
-- Limits in force today, the permit's before the standard's.
SELECT DISTINCT ON (unit_id, quantity, statistic)
       unit_id, quantity, statistic, low, high, unit, rank, source, verified
FROM limit_value
WHERE base_id = %(base)s AND superseded_at IS NULL
  AND valid_from <= %(day)s AND (valid_to IS NULL OR valid_to > %(day)s)
ORDER BY unit_id, quantity, statistic, array_position(ARRAY['permit', 'standard', 'internal'], rank), valid_from DESC

-- name: emission_hours
-- The last 24 hours of every pollutant of an outlet, oldest first.
SELECT e.unit_id, e.quantity, e.ts, e.n_valid, e.state, e.measured, e.converted, e.flow, e.exceeded
FROM emission_1h e JOIN unit u USING (base_id, unit_id)
WHERE e.base_id = %(base)s AND e.ts >= %(since)s AND e.ts <= %(hour)s
  AND (%(enterprise)s::integer IS NULL OR u.enterprise_id = %(enterprise)s)
ORDER BY e.unit_id, e.quantity, e.ts

-- name: point_health
-- Points per system by how fresh they are: online within three expected intervals, stale within a day, else offline.
-- Systems as in /infrastructure: outlets and treatment facilities; water and production; the rest is energy.
WITH judged AS (
    SELECT CASE WHEN u.role IN ('outlet', 'treatment') THEN 'pollution'
                WHEN p.carrier IN ('water', 'reclaimed_water') OR p.quantity IN ('water_volume', 'water_flow', 'production',
                     'production_count') THEN 'resource'
                ELSE 'energy' END AS system,
           CASE WHEN l.ts IS NULL OR l.ts < %(now)s::timestamptz - interval '1 day' THEN 'offline'
                WHEN l.ts < %(now)s::timestamptz - greatest(3 * p.expected_s, 120) * interval '1 second' THEN
                     CASE WHEN s.state IN ('offline', 'error') THEN 'offline' ELSE 'stale' END
                ELSE 'online' END AS state,
           l.quality >= 10 AS unusable
    FROM point p
    LEFT JOIN unit u USING (base_id, unit_id)
    LEFT JOIN latest l USING (base_id, point_id)
    LEFT JOIN device_state s USING (base_id, device_id)
    WHERE p.base_id = %(base)s AND p.removed_at IS NULL AND NOT p.attributes ? 'formula'   -- what is computed sends nothing
      AND (%(enterprise)s::integer IS NULL OR u.enterprise_id = %(enterprise)s)
)
SELECT system, count(*)::integer AS total,
       (count(*) FILTER (WHERE state = 'online'))::integer AS online,
       (count(*) FILTER (WHERE state = 'stale'))::integer AS stale,
       (count(*) FILTER (WHERE state = 'offline'))::integer AS offline,
       (count(*) FILTER (WHERE state = 'online' AND unusable))::integer AS unusable
FROM judged GROUP BY system

-- name: devices
-- Devices with their last answer, how far their clocks are ahead and how many of their points are fresh; what needs attention first.
SELECT d.code, d.protocol, d.template, coalesce(s.state, 'unknown') AS state, s.last_answer, s.latency_ms, s.errors, s.at, s.clock_offset_s,
       p.n_points, p.n_fresh, p.newest
FROM device d
LEFT JOIN device_state s USING (base_id, device_id)
JOIN LATERAL (
    SELECT count(*)::integer AS n_points, max(l.ts) AS newest,
           (count(*) FILTER (WHERE l.ts >= %(now)s::timestamptz - greatest(3 * p.expected_s, 120) * interval '1 second'))::integer
               AS n_fresh
    FROM point p LEFT JOIN latest l USING (base_id, point_id) LEFT JOIN unit u USING (base_id, unit_id)
    WHERE p.base_id = d.base_id AND p.device_id = d.device_id AND p.removed_at IS NULL
      AND (%(enterprise)s::integer IS NULL OR u.enterprise_id = %(enterprise)s)
) p ON %(enterprise)s::integer IS NULL OR p.n_points > 0
WHERE d.base_id = %(base)s AND d.removed_at IS NULL
ORDER BY (p.n_fresh = p.n_points AND coalesce(s.state, 'online') IN ('online', 'unknown')
          AND coalesce(abs(s.clock_offset_s) <= %(clock_tolerance_s)s, true)), d.code

-- name: ingest_lag
-- How long readings that came in the last ten minutes were under way, and when the newest came.
SELECT max(arrived_at) AS newest, count(*) FILTER (WHERE fresh)::integer AS n,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM arrived_at - ts)) FILTER (WHERE fresh) AS p50_s,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM arrived_at - ts)) FILTER (WHERE fresh) AS p95_s
FROM (SELECT ts, arrived_at, arrived_at >= %(now)s::timestamptz - interval '10 minutes' AS fresh
      FROM latest WHERE base_id = %(base)s) AS l

-- name: dead_letters
-- Messages that could not be stored and wait for someone, by reason.
SELECT reason, count(*)::integer AS n, (count(*) FILTER (WHERE received_at >= %(now)s::timestamptz - interval '1 day'))::integer AS n_day,
       max(received_at) AS newest
FROM dead_letter
WHERE replayed_at IS NULL AND (base_id = %(base)s OR base_id IS NULL)
GROUP BY reason ORDER BY n DESC, reason

-- name: outcomes
-- What became of the readings of this UTC day, the day by which ingest counts.
SELECT outcome, n FROM ingest_counter
WHERE base_id = %(base)s AND day = (%(now)s::timestamptz AT TIME ZONE 'UTC')::date ORDER BY n DESC

-- name: backlog
-- What rollup and accounting still have before them, and the oldest mark of each.
SELECT (SELECT count(*) FROM dirty WHERE base_id = %(base)s)::integer AS rollup,
       (SELECT min(marked_at) FROM dirty WHERE base_id = %(base)s) AS rollup_since,
       (SELECT count(*) FROM dirty_account WHERE base_id = %(base)s)::integer
           + (SELECT count(*) FROM account_todo WHERE base_id = %(base)s)::integer AS account,
       (SELECT min(marked_at) FROM dirty_account WHERE base_id = %(base)s) AS account_since

-- name: running
-- Units of the treatment trace, each with the points that tell whether it runs: a state, its power, or an outlet's flow.
-- The newest learned power band decides; without one a tenth of the largest value of the last week, in hours without doubtful ones.
SELECT u.unit_id, u.code, u.name_zh, u.name_en, u.role, u.enterprise_id, e.name_zh AS enterprise_zh, e.name_en AS enterprise_en,
       coalesce(u.attributes -> 'treats', '[]') AS treats, coalesce(u.attributes -> 'outlet_of', '[]') AS outlet_of,
       p.code AS point, p.kind, p.unit, l.ts, l.value, l.quality,
       l.ts >= %(now)s::timestamptz - greatest(3 * p.expected_s, 120) * interval '1 second' AS fresh,
       coalesce(band.on_above, 0.1 * week.largest) AS on_above
FROM unit u
LEFT JOIN enterprise e USING (base_id, enterprise_id)
LEFT JOIN point p ON p.base_id = u.base_id AND p.unit_id = u.unit_id AND p.removed_at IS NULL AND p.kind <> 'counter'
     AND (p.kind = 'state' OR p.quantity = CASE WHEN u.role = 'outlet' THEN 'flue_gas_flow' ELSE 'active_power' END
          OR u.role = 'outlet' AND p.quantity = 'wastewater_flow')
LEFT JOIN latest l ON l.base_id = p.base_id AND l.point_id = p.point_id
LEFT JOIN LATERAL (
    SELECT max(r.max) FILTER (WHERE r.n_good = r.n_usable) AS largest FROM reading_1h_shown r
    WHERE r.base_id = p.base_id AND r.point_id = p.point_id AND r.bucket >= %(now)s::timestamptz - interval '7 days'
) week ON p.kind = 'gauge'
LEFT JOIN LATERAL (
    SELECT b.on_above FROM power_band b
    WHERE b.base_id = p.base_id AND b.point_id = p.point_id ORDER BY b.valid_from DESC LIMIT 1
) band ON p.kind = 'gauge'
WHERE u.base_id = %(base)s AND u.role IN ('production', 'treatment', 'outlet')
  AND (%(enterprise)s::integer IS NULL OR u.enterprise_id = %(enterprise)s)
ORDER BY e.enterprise_id, u.unit_id, p.kind DESC, p.point_id

-- name: open_events
-- Events of the treatment trace that have not ended.
SELECT kind, production_id, treatment_id, outlet_id, started_at
FROM treatment_event WHERE base_id = %(base)s AND ended_at IS NULL ORDER BY started_at

-- name: links
-- What each ingest says of its broker and its database: there or not, since when, and when last away.
SELECT substr(pass, 8) AS ingest, at, detail -> 'broker' AS broker, detail -> 'database' AS database
FROM pass WHERE base_id = %(base)s AND starts_with(pass, 'ingest:') ORDER BY pass

-- name: spools
-- What collectors' spools hold, where ingest has noted it: pass `collector:SOURCE` with {"batches": ...} as its detail.
SELECT substr(pass, 11) AS source, at, (detail ->> 'batches')::bigint AS batches, (detail ->> 'bytes')::bigint AS bytes,
       (detail ->> 'max_bytes')::bigint AS max_bytes, (detail ->> 'dropped_readings')::bigint AS dropped_readings,
       nullif(detail ->> 'alarm', '') AS alarm
FROM pass WHERE base_id = %(base)s AND starts_with(pass, 'collector:') ORDER BY pass
