-- Sums over long periods from months: a month of a counter keeps all that its days tell, so that a year of every counter of a park
-- is twelve rows each, and the sum is that of the days. Only energy as it stands now has months; for a past instant days are read.

ALTER TABLE interval_1mo
    ADD COLUMN days integer NOT NULL DEFAULT 0,             -- bit n - 1: day n of the month has a row in interval_1d
    ADD COLUMN cost double precision,                       -- CNY of its days in cost_1d; NULL: none has a cost
    ADD COLUMN days_unpriced integer NOT NULL DEFAULT 0;    -- days with an amount and without a cost

-- Months (first day, base-local) of points from their days and costs; pairs of the two arrays. Only what changed is written.
CREATE FUNCTION roll_months(base smallint, points integer[], months date[]) RETURNS void LANGUAGE sql AS $$
    WITH wanted AS MATERIALIZED (
        SELECT p.point_id, p.month, (p.month + interval '1 month')::date AS next, b.timezone AS zone,
               p.month::timestamp AT TIME ZONE b.timezone AS low,
               (p.month + interval '1 month')::timestamp AT TIME ZONE b.timezone AS high
        FROM unnest(points, months) AS p (point_id, month) JOIN base b ON b.base_id = base
    ), day AS (
        SELECT w.point_id, w.low, w.month, (i.ts AT TIME ZONE w.zone)::date AS day, i.amount, i.estimated, i.n_expected, i.n_known, i.n_good
        FROM wanted w JOIN interval_1d i ON i.base_id = base AND i.point_id = w.point_id AND i.ts >= w.low AND i.ts < w.high
    ), price AS (
        SELECT c.point_id, c.day, sum(c.cost) AS cost
        FROM wanted w JOIN cost_1d c ON c.base_id = base AND c.point_id = w.point_id AND c.day >= w.month AND c.day < w.next
        GROUP BY 1, 2
    )
    INSERT INTO interval_1mo AS t (ts, amount, estimated, point_id, n_expected, n_known, n_good, base_id, days, cost, days_unpriced)
    SELECT d.low, sum(d.amount), sum(d.estimated), d.point_id, sum(d.n_expected), sum(d.n_known), sum(d.n_good), base,
           bit_or(1 << (d.day - d.month)), sum(c.cost), count(*) FILTER (WHERE d.amount IS NOT NULL AND c.cost IS NULL)
    FROM day d LEFT JOIN price c ON c.point_id = d.point_id AND c.day = d.day
    GROUP BY d.point_id, d.low
    ON CONFLICT (base_id, point_id, ts) DO UPDATE
    SET amount = excluded.amount, estimated = excluded.estimated, n_expected = excluded.n_expected, n_known = excluded.n_known,
        n_good = excluded.n_good, days = excluded.days, cost = excluded.cost, days_unpriced = excluded.days_unpriced
    WHERE (t.amount, t.estimated, t.n_expected, t.n_known, t.n_good, t.days, t.cost, t.days_unpriced) IS DISTINCT FROM
          (excluded.amount, excluded.estimated, excluded.n_expected, excluded.n_known, excluded.n_good, excluded.days,
           excluded.cost, excluded.days_unpriced)
$$;

SELECT roll_months(base_id, array_agg(point_id), array_agg(month)) FROM (
    SELECT DISTINCT i.base_id, i.point_id, date_trunc('month', i.ts AT TIME ZONE b.timezone)::date AS month
    FROM interval_1d i JOIN base b USING (base_id)) m GROUP BY base_id;

-- Days from which on another factor of a carrier holds for a base.
CREATE VIEW factor_change WITH (security_barrier) AS
SELECT base_id, carrier, valid_from AS day FROM carrier_factor WHERE base_id = ANY ((SELECT visible_bases())::smallint[]);

-- Months of counters as they stand now, in which one factor of the carrier holds from the first day to the last.
CREATE VIEW energy_1mo WITH (security_barrier) AS
SELECT m.base_id, m.month, m.point_id, m.enterprise_id, m.unit_id, m.carrier, m.direction, m.boundary, m.unit, m.amount,
       m.estimated, m.n_expected, m.n_known, m.n_good,
       m.amount * f.tce_calorific AS tce_calorific,
       m.amount * f.tce_equivalent AS tce_equivalent,
       CASE WHEN m.direction = 'generation' THEN m.amount * 0 ELSE m.amount * f.co2_kg END AS co2_kg,
       coalesce(f.factor_ids, '{}') AS factor_ids,
       m.days, m.cost, m.days_unpriced > 0 AND m.amount IS NOT NULL AS lacks_cost
FROM (
    SELECT i.base_id, (i.ts AT TIME ZONE c.timezone)::date AS month, i.point_id, c.enterprise_id, c.unit_id, c.carrier,
           c.direction, c.boundary, c.unit, i.amount * c.multiplier AS amount, i.estimated * c.multiplier AS estimated,
           i.n_expected, i.n_known, i.n_good, i.days, i.cost, i.days_unpriced
    FROM energy_counter c JOIN interval_1mo i ON i.base_id = c.base_id AND i.point_id = c.point_id
    WHERE c.base_id = ANY ((SELECT visible_bases())::smallint[])
) m
LEFT JOIN carrier_factor f ON f.base_id = m.base_id AND f.carrier = m.carrier AND f.valid_from <= m.month AND m.month < f.valid_to
WHERE NOT EXISTS (SELECT FROM factor_change x WHERE x.base_id = m.base_id AND x.carrier = m.carrier
                  AND x.day > m.month AND x.day < m.month + interval '1 month');

-- As before, with the instant at which the day begins: a condition on it finds the days without reading all there are.
CREATE OR REPLACE VIEW energy_1d WITH (security_barrier) AS
SELECT e.base_id, e.day, e.point_id, e.enterprise_id, e.unit_id, e.carrier, e.direction, e.boundary, e.unit, e.amount,
       e.estimated, e.n_expected, e.n_known, e.n_good,
       e.amount * f.tce_calorific AS tce_calorific,
       e.amount * f.tce_equivalent AS tce_equivalent,
       -- own generation (PV) emits nothing where it is used; its grid share is not bought
       CASE WHEN e.direction = 'generation' THEN e.amount * 0 ELSE e.amount * f.co2_kg END AS co2_kg,
       coalesce(f.factor_ids, '{}') AS factor_ids, e.ts
FROM (
    SELECT i.base_id, (i.ts AT TIME ZONE c.timezone)::date AS day, i.point_id, c.enterprise_id, c.unit_id, c.carrier,
           c.direction, c.boundary, c.unit, i.amount * c.multiplier AS amount, i.estimated * c.multiplier AS estimated,
           i.n_expected, i.n_known, i.n_good, i.ts
    FROM energy_counter c JOIN interval_1d_known i ON i.base_id = c.base_id AND i.point_id = c.point_id
    WHERE c.base_id = ANY ((SELECT visible_bases())::smallint[])
) e
LEFT JOIN carrier_factor f ON f.base_id = e.base_id AND f.carrier = e.carrier AND f.valid_from <= e.day AND e.day < f.valid_to;

-- Counters summed over the days from `first_day` to `last_day`: a row a point, month and set of factors. Whole months with one
-- factor come from energy_1mo; the days at either end, months in which a factor changes and everything as of a past instant
-- come from energy_1d. `days` has a bit for each day of the month that has a row; cost is that of import and export alike, NULL where no
-- day has one; `has_...` is false where a day with an amount lacks that figure.
CREATE FUNCTION energy_between(base smallint, first_day date, last_day date)
RETURNS TABLE (month date, point_id integer, enterprise_id integer, unit_id integer, carrier text, direction text, boundary text,
               unit text, amount double precision, estimated double precision, n_expected bigint, n_known bigint, n_good bigint,
               tce_calorific double precision, tce_equivalent double precision, co2_kg double precision, factor_ids integer[],
               days integer, cost double precision, has_tce_calorific boolean, has_tce_equivalent boolean, has_co2_kg boolean,
               has_cost boolean)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    zone text := (SELECT timezone FROM base_known WHERE base_id = base);
    -- whole months: from `low` to before `high`
    low date := (date_trunc('month', first_day - 1) + interval '1 month')::date;
    high date := date_trunc('month', last_day + 1)::date;
    span record;
BEGIN
    IF isfinite(known_at()) OR low >= high THEN
        low := last_day + 1;
        high := last_day + 1;
    ELSE
        RETURN QUERY
        SELECT m.month, m.point_id, m.enterprise_id, m.unit_id, m.carrier, m.direction, m.boundary, m.unit, m.amount, m.estimated,
               m.n_expected::bigint, m.n_known::bigint, m.n_good::bigint, m.tce_calorific, m.tce_equivalent, m.co2_kg, m.factor_ids,
               m.days, m.cost, m.amount IS NULL OR m.tce_calorific IS NOT NULL, m.amount IS NULL OR m.tce_equivalent IS NOT NULL,
               m.amount IS NULL OR m.co2_kg IS NOT NULL, NOT m.lacks_cost
        FROM energy_1mo m WHERE m.base_id = base AND m.month >= low AND m.month < high;
    END IF;
    -- one span after the other: with its ends as parameters the days are found by their index
    FOR span IN
        SELECT s.first, s.last, s.carrier, s.first::timestamp AT TIME ZONE zone AS begins, (s.last + 1)::timestamp AT TIME ZONE zone AS ends
        FROM (SELECT first_day AS first, low - 1 AS last, NULL::text AS carrier
              UNION ALL SELECT high, last_day, NULL
              UNION ALL SELECT DISTINCT date_trunc('month', x.day)::date, (date_trunc('month', x.day) + interval '1 month')::date - 1, x.carrier
              FROM factor_change x
              WHERE x.base_id = base AND x.day >= low AND x.day < high AND x.day > date_trunc('month', x.day)) s
        WHERE s.first <= s.last
    LOOP
        RETURN QUERY
        WITH price AS MATERIALIZED (
            SELECT c.point_id, c.day, sum(c.cost) AS cost FROM cost_1d_known c
            WHERE c.base_id = base AND c.day BETWEEN span.first AND span.last GROUP BY 1, 2
        )
        SELECT date_trunc('month', e.day)::date, e.point_id, e.enterprise_id, e.unit_id, e.carrier, e.direction, e.boundary, e.unit,
               sum(e.amount), sum(e.estimated), sum(e.n_expected), sum(e.n_known), sum(e.n_good), sum(e.tce_calorific),
               sum(e.tce_equivalent), sum(e.co2_kg), e.factor_ids, bit_or(1 << (extract(day FROM e.day)::integer - 1)), sum(c.cost),
               bool_and(e.amount IS NULL OR e.tce_calorific IS NOT NULL), bool_and(e.amount IS NULL OR e.tce_equivalent IS NOT NULL),
               bool_and(e.amount IS NULL OR e.co2_kg IS NOT NULL), bool_and(e.amount IS NULL OR c.cost IS NOT NULL)
        FROM energy_1d e LEFT JOIN price c ON c.point_id = e.point_id AND c.day = e.day
        WHERE e.base_id = base AND e.ts >= span.begins AND e.ts < span.ends AND (span.carrier IS NULL OR e.carrier = span.carrier)
        GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, e.factor_ids;
    END LOOP;
END $$;

GRANT SELECT ON factor_change, energy_1mo TO park_operator, park_contractor, park_enterprise, park_auditor, park_admin, park_service;
