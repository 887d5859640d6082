-- Rollups with their live tail: what the rollup pass has not done yet is computed from raw while it is read, so that a
-- query is right at every moment and not only after the next pass. For readers who cannot wait two seconds, and for the
-- columns that rollups do not store: coverage and the time-weighted mean. Rights are those of the tables below.

-- dates only
GRANT SELECT ON closed_week TO park_operator, park_contractor, park_enterprise, park_auditor, park_admin;

-- What a counter's register adds from one usable value to the next: see `recompute` in ingest/queries.sql.
CREATE FUNCTION register_step(former double precision, now double precision, rollover double precision)
RETURNS double precision LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN former IS NULL OR now IS NULL THEN NULL
                WHEN now >= former - abs(former) * 2.0::double precision ^ -22 THEN now - former
                WHEN former > 0.9 * rollover AND now < 0.1 * rollover THEN rollover - former + now
                ELSE now END
$$;

-- Quarters of an hour that wait for the pass: the marked ones, and for counters those whose increment leans on them.
CREATE VIEW waiting_quarter WITH (security_invoker = true) AS
WITH marked AS (
    SELECT DISTINCT base_id, point_id, date_bin('15 minutes', bucket, TIMESTAMPTZ '2000-01-01 00:00:00Z') AS bucket FROM dirty
), touched AS (
    SELECT base_id, point_id, bucket FROM marked
    UNION
    SELECT m.base_id, m.point_id, date_bin('15 minutes', n.ts, TIMESTAMPTZ '2000-01-01 00:00:00Z')
    FROM marked m JOIN point p ON p.base_id = m.base_id AND p.point_id = m.point_id AND p.kind = 'counter'
    CROSS JOIN LATERAL (
        SELECT ts FROM reading r
        WHERE r.base_id = m.base_id AND r.point_id = m.point_id AND r.ts >= m.bucket + interval '15 minutes'
          AND r.quality < 10 AND r.value IS NOT NULL
        ORDER BY ts LIMIT 1) n
)
SELECT base_id, point_id, bucket FROM touched t
WHERE NOT EXISTS (SELECT FROM closed_weeks() AS c (low) WHERE t.bucket >= c.low AND t.bucket < c.low + interval '7 days');

-- Readings of the waiting quarters with what each adds to a counter.
CREATE VIEW waiting_reading WITH (security_invoker = true) AS
SELECT w.base_id, w.point_id, w.bucket AS quarter, s.ts, s.v, s.quality, s.step
FROM waiting_quarter w JOIN point p ON p.base_id = w.base_id AND p.point_id = w.point_id
CROSS JOIN LATERAL (
    SELECT x.ts, x.v, x.quality, x.before,
           CASE WHEN p.kind = 'counter' THEN register_step(
               lag(x.v) OVER (PARTITION BY x.v IS NOT NULL ORDER BY x.ts, x.before DESC), x.v, p.rollover) END AS step
    FROM (
        SELECT r.ts, CASE WHEN r.quality < 10 THEN r.value END AS v, r.quality, false AS before FROM reading r
        WHERE r.base_id = w.base_id AND r.point_id = w.point_id AND r.ts >= w.bucket AND r.ts < w.bucket + interval '15 minutes'
        UNION ALL
        (SELECT r.ts, r.value, r.quality, true FROM reading r
         WHERE p.kind = 'counter' AND r.base_id = w.base_id AND r.point_id = w.point_id AND r.ts < w.bucket
           AND r.quality < 10 AND r.value IS NOT NULL
         ORDER BY r.ts DESC LIMIT 1)
        UNION ALL
        (SELECT q.bucket + interval '15 minutes' - interval '1 microsecond', q.last, 0, true FROM reading_15m q
         WHERE p.kind = 'counter' AND q.base_id = w.base_id AND q.point_id = w.point_id AND q.bucket < w.bucket
           AND q.last IS NOT NULL AND q.bucket < (SELECT max(low) + interval '7 days' FROM closed_weeks() AS c (low))
           AND date_trunc('week', q.bucket, 'UTC') IN (SELECT low FROM closed_weeks() AS c (low))
         ORDER BY q.bucket DESC LIMIT 1)
    ) x
) s
WHERE NOT s.before;

CREATE VIEW live_1m WITH (security_invoker = true) AS
SELECT base_id, point_id, bucket, n, n_good, n_usable, min, max, sum, first, last, increment FROM reading_by_minute m
WHERE NOT EXISTS (SELECT FROM waiting_quarter w WHERE w.base_id = m.base_id AND w.point_id = m.point_id
                  AND w.bucket = date_bin('15 minutes', m.bucket, TIMESTAMPTZ '2000-01-01 00:00:00Z'))
UNION ALL
SELECT base_id, point_id, date_trunc('minute', ts, 'UTC'), count(*)::integer,
       (count(*) FILTER (WHERE quality IN (0, 1)))::integer, count(v)::integer, min(v), max(v), sum(v),
       (array_agg(v ORDER BY ts) FILTER (WHERE v IS NOT NULL))[1],
       (array_agg(v ORDER BY ts DESC) FILTER (WHERE v IS NOT NULL))[1], sum(step)
FROM waiting_reading GROUP BY 1, 2, 3;

CREATE VIEW live_15m WITH (security_invoker = true) AS
SELECT base_id, point_id, bucket, n, n_good, n_usable, min, max, sum, first, last, increment FROM reading_15m m
WHERE NOT EXISTS (SELECT FROM waiting_quarter w WHERE w.base_id = m.base_id AND w.point_id = m.point_id AND w.bucket = m.bucket)
UNION ALL
SELECT base_id, point_id, quarter, count(*)::integer,
       (count(*) FILTER (WHERE quality IN (0, 1)))::integer, count(v)::integer, min(v), max(v), sum(v),
       (array_agg(v ORDER BY ts) FILTER (WHERE v IS NOT NULL))[1],
       (array_agg(v ORDER BY ts DESC) FILTER (WHERE v IS NOT NULL))[1], sum(step)
FROM waiting_reading GROUP BY 1, 2, 3;

-- Each coarser grain: stored periods without a waiting quarter, and the others summed up from the next finer grain (days
-- from quarters, because midnight is not a whole hour of UTC everywhere).
DO $$
DECLARE
    grain text[];
BEGIN
    FOREACH grain SLICE 1 IN ARRAY ARRAY[
        ['1h', 'live_15m', 'date_trunc(''hour'', w.bucket, ''UTC'')', 'date_trunc(''hour'', w.bucket, ''UTC'') + interval ''1 hour'''],
        ['1d', 'live_15m', 'date_trunc(''day'', w.bucket, b.timezone)',
         '(date_trunc(''day'', w.bucket AT TIME ZONE b.timezone) + interval ''1 day'') AT TIME ZONE b.timezone'],
        ['1mo', 'live_1d', 'date_trunc(''month'', w.bucket, b.timezone)',
         '(date_trunc(''month'', w.bucket AT TIME ZONE b.timezone) + interval ''1 month'') AT TIME ZONE b.timezone']] LOOP
        EXECUTE format('CREATE VIEW live_%1$s WITH (security_invoker = true) AS
            WITH period AS (SELECT DISTINCT w.base_id, w.point_id, %3$s AS low, %4$s AS high
                            FROM waiting_quarter w JOIN base b ON b.base_id = w.base_id)
            SELECT base_id, point_id, bucket, n, n_good, n_usable, min, max, sum, first, last, increment FROM reading_%1$s m
            WHERE NOT EXISTS (SELECT FROM period p WHERE p.base_id = m.base_id AND p.point_id = m.point_id AND p.low = m.bucket)
            UNION ALL
            SELECT p.base_id, p.point_id, p.low, sum(f.n)::integer, sum(f.n_good)::integer, sum(f.n_usable)::integer,
                   min(f.min), max(f.max), sum(f.sum),
                   (array_agg(f.first ORDER BY f.bucket) FILTER (WHERE f.first IS NOT NULL))[1],
                   (array_agg(f.last ORDER BY f.bucket DESC) FILTER (WHERE f.last IS NOT NULL))[1], sum(f.increment)
            FROM period p JOIN %2$I f ON f.base_id = p.base_id AND f.point_id = p.point_id
                                     AND f.bucket >= p.low AND f.bucket < p.high
            GROUP BY 1, 2, 3', grain[1], grain[2], grain[3], grain[4]);
    END LOOP;
END $$;

-- Mean of a point over [low, high) weighted with the time for which each minute's mean stands: until the next minute that
-- has a reading, three expected intervals at most; a reading without a usable value ends it. NULL where nothing stands.
CREATE FUNCTION time_mean(of_base smallint, of_point integer, low timestamptz, high timestamptz) RETURNS double precision
LANGUAGE sql STABLE AS $$
    SELECT sum(v * s) / nullif(sum(s), 0) FROM (
        SELECT m.sum / nullif(m.n_usable, 0) AS v,
               extract(epoch FROM least(lead(m.bucket) OVER (ORDER BY m.bucket), m.bucket + h.hold, high)
                                  - greatest(m.bucket, low))::double precision AS s
        FROM (SELECT greatest(3 * expected_s, 60) * interval '1 second' AS hold FROM point
              WHERE base_id = of_base AND point_id = of_point) h
        JOIN live_1m m ON m.base_id = of_base AND m.point_id = of_point AND m.bucket >= low - h.hold AND m.bucket < high
    ) held WHERE v IS NOT NULL AND s > 0
$$;

-- What readers take: rollups with the live tail, coverage (usable readings over those that were due in what is over of the
-- bucket, at most 1), the mean of the usable readings, and the time-weighted mean, which is computed only where it is asked for.
DO $$
DECLARE
    grain text[];
BEGIN
    FOREACH grain SLICE 1 IN ARRAY ARRAY[
        ['1m', 'r.bucket + interval ''1 minute'''], ['15m', 'r.bucket + interval ''15 minutes'''],
        ['1h', 'r.bucket + interval ''1 hour'''],
        ['1d', '(r.bucket AT TIME ZONE b.timezone + interval ''1 day'') AT TIME ZONE b.timezone'],
        ['1mo', '(r.bucket AT TIME ZONE b.timezone + interval ''1 month'') AT TIME ZONE b.timezone']] LOOP
        EXECUTE format('CREATE VIEW rolled_%1$s WITH (security_invoker = true) AS
            SELECT r.base_id, r.point_id, r.bucket, %2$s AS until, r.n, r.n_good, r.n_usable,
                   least(1, r.n_usable * p.expected_s
                            / nullif(extract(epoch FROM least(%2$s, greatest(now(), r.bucket + interval ''1 second'')) - r.bucket)
                                     ::double precision, 0)) AS coverage,
                   r.min, r.max, r.sum, r.sum / nullif(r.n_usable, 0) AS mean,
                   time_mean(r.base_id, r.point_id, r.bucket, %2$s) AS time_mean, r.first, r.last, r.increment
            FROM live_%1$s r JOIN point p ON p.base_id = r.base_id AND p.point_id = r.point_id
            JOIN base b ON b.base_id = r.base_id', grain[1], grain[2]);
        EXECUTE format('GRANT SELECT ON live_%1$s, rolled_%1$s TO PUBLIC', grain[1]);
    END LOOP;
    GRANT SELECT ON waiting_quarter, waiting_reading TO PUBLIC;
END $$;
