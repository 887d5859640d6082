-- Hours with data of days that are over, a row a point and day: availability of a year is read from 365 rows a point instead of
-- 8,760. Accounting keeps it; a point that lacks a day here, or was removed within it, is counted from its hours as before.
CREATE TABLE availability_day (
    base_id smallint NOT NULL,
    point_id integer NOT NULL,
    day date NOT NULL,                           -- base-local
    hours smallint NOT NULL,                     -- whole hours of the day
    n smallint NOT NULL,                         -- of them with a reading
    n_good smallint NOT NULL,                    -- of them with a good one
    PRIMARY KEY (base_id, point_id, day)
);
SELECT secure_tables();

-- Count the days that are over between two days for some points: all of them, or those that have no row.
CREATE OR REPLACE FUNCTION count_hours(base smallint, points integer[], first_day date, last_day date, only_missing boolean)
RETURNS void LANGUAGE sql AS $$
    WITH alive AS MATERIALIZED (
        SELECT p.point_id, f.first, date_trunc('hour', coalesce(p.removed_at, now())) AS last
        FROM point p CROSS JOIN LATERAL (
            SELECT min(bucket) AS first FROM reading_1d r WHERE r.base_id = base AND r.point_id = p.point_id) f
        WHERE p.base_id = base AND p.point_id = ANY (points)
    ), day AS MATERIALIZED (
        SELECT d::date AS day, d AT TIME ZONE b.timezone AS low, (d + interval '1 day') AT TIME ZONE b.timezone AS high
        FROM base b CROSS JOIN (SELECT min(first) AS first FROM alive) f CROSS JOIN LATERAL generate_series(
            CASE WHEN f.first IS NOT NULL THEN greatest(first_day, (f.first AT TIME ZONE b.timezone)::date)::timestamp END,
            last_day::timestamp, interval '1 day') d
        WHERE b.base_id = base
    ), due AS MATERIALIZED (
        SELECT a.point_id, d.day, floor(extract(epoch FROM d.high - d.low) / 3600) AS hours
        FROM alive a JOIN day d ON d.high > a.first AND d.high <= a.last
        WHERE NOT only_missing
           OR NOT EXISTS (SELECT FROM availability_day k WHERE k.base_id = base AND k.point_id = a.point_id AND k.day = d.day)
    ), found AS (      -- put together by grouping, not by a join: the planner does not know how many there are
        SELECT d.point_id, d.day, d.hours, 0 AS n, 0 AS n_good FROM due d
        UNION ALL
        SELECT r.point_id, (r.bucket AT TIME ZONE b.timezone)::date, NULL, 1, (r.n_good > 0)::integer
        FROM (SELECT DISTINCT point_id FROM due) w JOIN base b ON b.base_id = base
        JOIN reading_1h r ON r.base_id = base AND r.point_id = w.point_id
        WHERE r.bucket >= (SELECT min(low) FROM day) AND r.bucket < (SELECT max(high) FROM day)
    )
    INSERT INTO availability_day AS t (base_id, point_id, day, hours, n, n_good)
    SELECT base, point_id, f.day, max(f.hours), sum(f.n), sum(f.n_good)
    FROM found f GROUP BY f.point_id, f.day HAVING max(f.hours) IS NOT NULL
    ON CONFLICT (base_id, point_id, day) DO UPDATE SET hours = excluded.hours, n = excluded.n, n_good = excluded.n_good
    WHERE (t.hours, t.n, t.n_good) IS DISTINCT FROM (excluded.hours, excluded.n, excluded.n_good)
$$;
REVOKE EXECUTE ON FUNCTION count_hours(smallint, integer[], date, date, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION count_hours(smallint, integer[], date, date, boolean) TO park_service;

-- What `availability_1d` says of a base, summed by point and month: from the days kept, and where a month lacks one (today among
-- them) from the hours.
CREATE OR REPLACE FUNCTION availability_between(base smallint, first_day date, last_day date)
RETURNS TABLE (point_id integer, month date, n_expected bigint, n bigint, n_good bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = 'force_custom_plan' AS $$
    WITH due AS MATERIALIZED (
        SELECT p.point_id, greatest((coalesce(f.first, now()) AT TIME ZONE b.timezone)::date, first_day) AS first,
               least((coalesce(p.removed_at, now()) AT TIME ZONE b.timezone)::date, last_day) AS last
        FROM point p JOIN base b ON b.base_id = p.base_id CROSS JOIN LATERAL (
            SELECT min(bucket) AS first FROM reading_1d r WHERE r.base_id = base AND r.point_id = p.point_id) f
        WHERE p.base_id = base AND base = ANY ((SELECT visible_bases())::smallint[])
          AND (current_setting('role') <> 'park_enterprise' OR p.unit_id IN (
              SELECT u.unit_id FROM unit u WHERE u.base_id = base AND u.enterprise_id = visible_enterprise()))
    ), kept AS MATERIALIZED (
        SELECT k.point_id, date_trunc('month', k.day::timestamp)::date AS month, count(*) AS days,
               sum(k.hours) AS hours, sum(k.n) AS n, sum(k.n_good) AS n_good
        FROM availability_day k WHERE k.base_id = base AND k.day BETWEEN first_day AND last_day GROUP BY 1, 2
    ), told AS MATERIALIZED (
        SELECT d.point_id, m.month, least(d.last, m.last) - greatest(d.first, m.month) + 1 = k.days AS whole, k.hours, k.n, k.n_good
        FROM due d JOIN (
            SELECT g::date AS month, (g + interval '1 month')::date - 1 AS last
            FROM generate_series(date_trunc('month', first_day::timestamp), last_day::timestamp, interval '1 month') g) m
            ON d.first <= m.last AND d.last >= m.month
        LEFT JOIN kept k ON k.point_id = d.point_id AND k.month = m.month
        WHERE d.first <= d.last
    )
    SELECT t.point_id, t.month, t.hours::bigint, t.n::bigint, t.n_good::bigint FROM told t WHERE t.whole
    UNION ALL
    SELECT t.point_id, t.month, sum(a.n_expected), sum(a.n), sum(a.n_good)
    FROM availability_1d a JOIN told t ON t.point_id = a.point_id AND t.month = date_trunc('month', a.day::timestamp)::date
    WHERE t.whole IS NOT TRUE AND a.base_id = base
      AND a.point_id = ANY (ARRAY(SELECT DISTINCT t.point_id FROM told t WHERE t.whole IS NOT TRUE))
      AND a.day BETWEEN greatest(first_day, (SELECT min(t.month) FROM told t WHERE t.whole IS NOT TRUE)) AND last_day
    GROUP BY 1, 2
$$;
REVOKE EXECUTE ON FUNCTION availability_between(smallint, date, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION availability_between(smallint, date, date)
    TO park_operator, park_contractor, park_enterprise, park_auditor, park_admin, park_service;

DO $$
BEGIN
    IF to_regclass('pg_dist_partition') IS NULL THEN      -- Citus counts no days ahead (engines/citus.sql) and plans no such query
        PERFORM count_hours(base_id, array_agg(point_id), '1970-01-01', current_date, false) FROM point GROUP BY base_id;
    END IF;
END $$;
