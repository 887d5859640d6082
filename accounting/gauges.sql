-- name: gauge_formulas
-- Virtual gauges with their step in seconds and plausible range.
SELECT point_id, code, unit, attributes ->> 'formula', expected_s, coalesce(low, '-infinity'), coalesce(high, 'infinity') FROM point
WHERE base_id = %(base)s AND kind = 'gauge' AND attributes ? 'formula' AND removed_at IS NULL ORDER BY code

-- name: read_steps
-- Mean of the usable readings of each point in each step, with their worst quality; of a step without one the worst word it has.
COPY (
    SELECT ARRAY[w.point_id], array_agg(s.ts), array_agg(coalesce(s.mean, 'NaN')),
           array_agg(CASE WHEN s.mean IS NOT NULL THEN s.usable WHEN s.worst >= 10 THEN s.worst ELSE 16 END::smallint)
    FROM unnest(%(points)s::integer[]) AS w (point_id)
    CROSS JOIN LATERAL (
        SELECT date_bin(%(step)s, r.ts, '2000-01-01 00:00+00') AS ts, avg(r.value) FILTER (WHERE r.quality < 10) AS mean,
               max(r.quality) FILTER (WHERE r.quality < 10 AND r.value IS NOT NULL) AS usable, max(r.quality) AS worst
        FROM reading r WHERE r.base_id = %(base)s AND r.point_id = w.point_id AND r.ts >= %(low)s AND r.ts < %(high)s GROUP BY 1) s
    GROUP BY w.point_id
) TO STDOUT (FORMAT binary)

-- name: closed_weeks
-- Mondays of the weeks that keep what they have.
SELECT low FROM closed_weeks() AS c (low)

-- name: ensure_weeks
-- The partitions from the first to the last instant.
SELECT ensure_reading_partitions(%(low)s, %(high)s)

-- name: keep_former
-- Values that a virtual gauge no longer has.
INSERT INTO reading_revision (base_id, point_id, ts, value, quality, by_source, reason)
SELECT %(base)s, %(point)s, f.ts, nullif(f.value, 'NaN'), f.quality, 'park account', 'corrected'
FROM unnest(%(ts)s::timestamptz[], %(value)s::float8[], %(quality)s::smallint[]) AS f (ts, value, quality)

-- name: write_gauge
-- Values of a virtual gauge as readings, new or changed; the quarters they lie in wait for their rollups.
WITH computed AS (
    SELECT * FROM unnest(%(ts)s::timestamptz[], %(value)s::float8[], %(quality)s::smallint[]) AS c (ts, value, quality)
), marked AS (
    INSERT INTO dirty (base_id, point_id, bucket)
    SELECT DISTINCT %(base)s::smallint, %(point)s::integer, date_bin('15 minutes', ts, '2000-01-01 00:00+00') FROM computed
), newest AS (
    INSERT INTO latest AS l (base_id, point_id, ts, value, quality, arrived_at)
    SELECT %(base)s, %(point)s, ts, nullif(value, 'NaN'), quality, now() FROM computed ORDER BY ts DESC LIMIT 1
    ON CONFLICT (base_id, point_id) DO UPDATE
    SET ts = excluded.ts, value = excluded.value, quality = excluded.quality, arrived_at = excluded.arrived_at
    WHERE excluded.ts >= l.ts
       OR (l.ts > now() + interval '1 minute' AND (excluded.ts >= l.arrived_at OR l.arrived_at > now()))
)
INSERT INTO reading (ts, value, point_id, base_id, quality)
SELECT ts, nullif(value, 'NaN'), %(point)s, %(base)s, quality FROM computed
ON CONFLICT (base_id, point_id, ts) DO UPDATE SET value = excluded.value, quality = excluded.quality

-- name: mark_points
-- Put what points have between two instants on the list of work again.
INSERT INTO account_todo AS t (base_id, point_id, day, first, last)
SELECT %(base)s, p, d::date, d AT TIME ZONE 'UTC', d AT TIME ZONE 'UTC' + interval '23 hours'
FROM unnest(%(points)s::integer[]) p
CROSS JOIN generate_series(date_trunc('day', %(low)s AT TIME ZONE 'UTC'), %(high)s AT TIME ZONE 'UTC', interval '1 day') d
ON CONFLICT (base_id, point_id, day) DO UPDATE
SET first = least(t.first, excluded.first), last = greatest(t.last, excluded.last)
