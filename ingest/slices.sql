-- name: is_distributed
-- Whether the readings of this database lie on several workers.
SELECT EXISTS (SELECT FROM engine WHERE name = 'citus')

-- name: slice_tables
-- For this transaction: tables of this session under the names of readings and rollups.
CREATE TEMP TABLE reading (LIKE public.reading INCLUDING INDEXES) ON COMMIT DROP;
CREATE TEMP TABLE reading_1m (LIKE public.reading_1m INCLUDING INDEXES) ON COMMIT DROP;
CREATE TEMP TABLE reading_15m (LIKE public.reading_15m INCLUDING INDEXES) ON COMMIT DROP;
CREATE TEMP TABLE reading_1h (LIKE public.reading_1h INCLUDING INDEXES) ON COMMIT DROP;
CREATE TEMP TABLE reading_1d (LIKE public.reading_1d INCLUDING INDEXES) ON COMMIT DROP;
CREATE TEMP TABLE reading_1mo (LIKE public.reading_1mo INCLUDING INDEXES) ON COMMIT DROP

-- name: slice_windows
-- Runs of touched quarters, a row a base.
SELECT base_id, array_agg(point_id), array_agg(low), array_agg(high) FROM touched_run GROUP BY base_id

-- name: slice_next
-- The first usable reading after each run.
INSERT INTO pg_temp.reading (ts, value, point_id, base_id, quality)
SELECT r.ts, r.value, r.point_id, r.base_id, r.quality
FROM unnest(%(points)s::integer[], %(lows)s::timestamptz[], %(highs)s::timestamptz[]) AS w (point_id, low, high)
CROSS JOIN LATERAL (
    SELECT ts, value, point_id, base_id, quality FROM public.reading
    WHERE base_id = %(base_id)s::smallint AND point_id = w.point_id AND ts >= w.high
      AND quality < 10 AND value IS NOT NULL ORDER BY ts LIMIT 1) r
ON CONFLICT DO NOTHING

-- name: slice_before
-- The last usable reading before each run.
INSERT INTO pg_temp.reading (ts, value, point_id, base_id, quality)
SELECT r.ts, r.value, r.point_id, r.base_id, r.quality
FROM unnest(%(points)s::integer[], %(lows)s::timestamptz[], %(highs)s::timestamptz[]) AS w (point_id, low, high)
CROSS JOIN LATERAL (
    SELECT ts, value, point_id, base_id, quality FROM public.reading
    WHERE base_id = %(base_id)s::smallint AND point_id = w.point_id AND ts < w.low
      AND quality < 10 AND value IS NOT NULL ORDER BY ts DESC LIMIT 1) r
ON CONFLICT DO NOTHING

-- name: slice_readings
-- Readings of the runs.
INSERT INTO pg_temp.reading (ts, value, point_id, base_id, quality)
SELECT r.ts, r.value, r.point_id, r.base_id, r.quality
FROM unnest(%(points)s::integer[], %(lows)s::timestamptz[], %(highs)s::timestamptz[]) AS w (point_id, low, high)
CROSS JOIN LATERAL (
    SELECT ts, value, point_id, base_id, quality FROM public.reading
    WHERE base_id = %(base_id)s::smallint AND point_id = w.point_id AND ts >= w.low AND ts < w.high) r
ON CONFLICT DO NOTHING

-- name: slice_minutes
-- Minutes of the runs.
INSERT INTO pg_temp.reading_1m
SELECT r.* FROM unnest(%(points)s::integer[], %(lows)s::timestamptz[], %(highs)s::timestamptz[]) AS w (point_id, low, high)
CROSS JOIN LATERAL (
    SELECT * FROM public.reading_1m m
    WHERE m.base_id = %(base_id)s::smallint AND m.point_id = w.point_id
      AND m.bucket >= w.low AND m.bucket < w.high) r
ON CONFLICT DO NOTHING

-- name: slice_last
-- The last quarter with a value before each run: what is left where the reading itself went with a closed week.
INSERT INTO pg_temp.reading_15m
SELECT r.* FROM unnest(%(points)s::integer[], %(lows)s::timestamptz[], %(highs)s::timestamptz[]) AS w (point_id, low, high)
CROSS JOIN LATERAL (
    SELECT * FROM public.reading_15m q
    WHERE q.base_id = %(base_id)s::smallint AND q.point_id = w.point_id AND q.bucket < w.low AND q.last IS NOT NULL
    ORDER BY q.bucket DESC LIMIT 1) r
ON CONFLICT DO NOTHING

-- name: slice_spans
-- Hours, base-local days and months of the touched quarters, a row a base and grain: which rows of the finer grain they are
-- made from. Days come with their quarters too where the zone's midnight is not a whole hour of UTC.
WITH day AS (
    SELECT DISTINCT t.base_id, t.point_id, d.day AT TIME ZONE b.timezone AS low, (d.day + interval '1 day') AT TIME ZONE b.timezone AS high,
           date_trunc('month', d.day) AT TIME ZONE b.timezone AS month,
           (date_trunc('month', d.day) + interval '1 month') AT TIME ZONE b.timezone AS month_end
    FROM touched t JOIN base b USING (base_id)
    CROSS JOIN LATERAL (SELECT date_trunc('day', t.bucket AT TIME ZONE b.timezone) AS day) d
), span AS (
    SELECT DISTINCT 'reading_15m' AS grain, base_id, point_id, date_trunc('hour', bucket, 'UTC') AS low,
           date_trunc('hour', bucket, 'UTC') + interval '1 hour' AS high FROM touched
    UNION ALL SELECT 'reading_15m', base_id, point_id, low, high FROM day WHERE low <> date_trunc('hour', low, 'UTC')
                                                                             OR high <> date_trunc('hour', high, 'UTC')
    UNION ALL SELECT 'reading_1h', base_id, point_id, low, high FROM day
    UNION ALL SELECT DISTINCT 'reading_1d', base_id, point_id, month, month_end FROM day
    UNION ALL SELECT DISTINCT 'reading_1mo', base_id, point_id, month, month_end FROM day
)
SELECT grain, base_id, array_agg(point_id), array_agg(low), array_agg(high) FROM span GROUP BY grain, base_id

-- name: slice_rollup
-- Rows of a grain within spans.
INSERT INTO pg_temp.{table}
SELECT r.* FROM unnest(%(points)s::integer[], %(lows)s::timestamptz[], %(highs)s::timestamptz[]) AS w (point_id, low, high)
CROSS JOIN LATERAL (
    SELECT * FROM public.{table} q
    WHERE q.base_id = %(base_id)s::smallint AND q.point_id = w.point_id AND q.bucket >= w.low AND q.bucket < w.high) r
ON CONFLICT DO NOTHING

-- name: push_minutes
-- Minutes of touched quarters into the distributed table, where they changed.
INSERT INTO public.reading_1m AS q (bucket, min, max, sum, first, last, increment, point_id, n, n_good, n_usable, base_id)
SELECT s.bucket, s.min, s.max, s.sum, s.first, s.last, s.increment, s.point_id, s.n, s.n_good, s.n_usable, s.base_id
FROM touched t JOIN pg_temp.reading_1m s ON s.base_id = t.base_id AND s.point_id = t.point_id AND s.bucket >= t.bucket
                                        AND s.bucket < t.bucket + interval '15 minutes'
ON CONFLICT (base_id, point_id, bucket) DO UPDATE
SET min = excluded.min, max = excluded.max, sum = excluded.sum, first = excluded.first, last = excluded.last,
    increment = excluded.increment, n = excluded.n, n_good = excluded.n_good, n_usable = excluded.n_usable
WHERE (q.min, q.max, q.sum, q.first, q.last, q.increment, q.n, q.n_good, q.n_usable) IS DISTINCT FROM
      (excluded.min, excluded.max, excluded.sum, excluded.first, excluded.last, excluded.increment, excluded.n, excluded.n_good,
       excluded.n_usable)

-- name: push_quarters
-- Touched quarters into the distributed table, where they changed.
INSERT INTO public.reading_15m AS q (bucket, min, max, sum, first, last, increment, point_id, n, n_good, n_usable, base_id, alone)
SELECT s.bucket, s.min, s.max, s.sum, s.first, s.last, s.increment, s.point_id, s.n, s.n_good, s.n_usable, s.base_id, s.alone
FROM touched t JOIN pg_temp.reading_15m s ON s.base_id = t.base_id AND s.point_id = t.point_id AND s.bucket = t.bucket
ON CONFLICT (base_id, point_id, bucket) DO UPDATE
SET min = excluded.min, max = excluded.max, sum = excluded.sum, first = excluded.first, last = excluded.last,
    increment = excluded.increment, n = excluded.n, n_good = excluded.n_good, n_usable = excluded.n_usable,
    alone = excluded.alone
WHERE (q.min, q.max, q.sum, q.first, q.last, q.increment, q.n, q.n_good, q.n_usable, q.alone) IS DISTINCT FROM
      (excluded.min, excluded.max, excluded.sum, excluded.first, excluded.last, excluded.increment, excluded.n, excluded.n_good,
       excluded.n_usable, excluded.alone)

-- name: push_periods
-- Touched hours, days or months into the distributed table, where they changed.
INSERT INTO public.{table} AS q (bucket, min, max, sum, first, last, increment, point_id, n, n_good, n_usable, base_id)
SELECT s.bucket, s.min, s.max, s.sum, s.first, s.last, s.increment, s.point_id, s.n, s.n_good, s.n_usable, s.base_id
FROM {touched} t JOIN pg_temp.{table} s ON s.base_id = t.base_id AND s.point_id = t.point_id AND s.bucket = t.bucket
ON CONFLICT (base_id, point_id, bucket) DO UPDATE
SET min = excluded.min, max = excluded.max, sum = excluded.sum, first = excluded.first, last = excluded.last,
    increment = excluded.increment, n = excluded.n, n_good = excluded.n_good, n_usable = excluded.n_usable
WHERE (q.min, q.max, q.sum, q.first, q.last, q.increment, q.n, q.n_good, q.n_usable) IS DISTINCT FROM
      (excluded.min, excluded.max, excluded.sum, excluded.first, excluded.last, excluded.increment, excluded.n, excluded.n_good,
       excluded.n_usable)

-- name: gone_buckets
-- Touched buckets of a grain that have no row any more, a row a base.
SELECT base_id, array_agg(point_id), array_agg(bucket) FROM {touched} t
WHERE NOT EXISTS (SELECT FROM pg_temp.{table} s WHERE s.base_id = t.base_id AND s.point_id = t.point_id AND s.bucket = t.bucket)
GROUP BY base_id

-- name: gone_minutes
-- Minutes that this pass found without readings, a row a base.
SELECT base_id, array_agg(point_id), array_agg(bucket) FROM doomed WHERE minute GROUP BY base_id

-- name: drop_buckets
-- Rows of a base that are gone.
DELETE FROM public.{table} q USING unnest(%(points)s::integer[], %(buckets)s::timestamptz[]) AS w (point_id, bucket)
WHERE q.base_id = %(base_id)s::smallint AND q.point_id = w.point_id AND q.bucket = w.bucket
