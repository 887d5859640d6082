-- As in 033, for a base of thousands of meters: members of a day are counted once, and days joined by hash. The planner expects two dozen
-- days of a year and would compare every meter with every day of all.
-- Parent meters against their children over days. The remainder, its uncertainty and the design loss are of the days on which
-- every member is known (`days_balanced`). uncertainty: expanded (k = 2) from the classes as limits of a rectangular
-- distribution, 2/sqrt(3) x root of the sum of (class x amount)^2 over the meters; a virtual point stands for the meters in its
-- formula, and a meter that comes in twice counts with what is left of it. The remainder says something where it is larger.
CREATE OR REPLACE FUNCTION balance_between(base smallint, first_day date, last_day date)
RETURNS TABLE (carrier text, parent_id integer, unit text, days integer, days_balanced integer, parent_amount double precision,
               children_amount double precision, unaccounted double precision, parent_balanced double precision,
               loss_expected double precision, uncertainty double precision, assumed text[], n_expected bigint, n_known bigint,
               accuracy_ids integer[])
LANGUAGE sql STABLE SET enable_nestloop = off AS $$
    WITH member AS MATERIALIZED (
        SELECT f.carrier, f.parent_id, f.child_id AS point_id, f.valid_from, f.valid_to, false AS is_parent, f.loss_share
        FROM flow_known f WHERE f.base_id = base AND f.kind = 'sub'
        UNION ALL
        SELECT f.carrier, f.parent_id, f.parent_id, min(f.valid_from), nullif(max(coalesce(f.valid_to, 'infinity')), 'infinity'), true,
               max(f.loss_share)
        FROM flow_known f WHERE f.base_id = base AND f.kind = 'sub' GROUP BY 1, 2
    ), size AS (
        SELECT g.carrier, g.parent_id, d::date AS day, sum(g.n) AS n
        FROM (SELECT m.carrier, m.parent_id, m.valid_from, m.valid_to, count(*) AS n FROM member m GROUP BY 1, 2, 3, 4) g
        CROSS JOIN LATERAL generate_series(greatest(g.valid_from, first_day)::timestamp,
            least(coalesce(g.valid_to - 1, last_day), last_day)::timestamp, interval '1 day') d
        GROUP BY 1, 2, 3
    ), part AS MATERIALIZED (
        SELECT m.carrier, m.parent_id, m.point_id, m.is_parent, m.loss_share, e.day, e.ts, e.unit, e.n_expected, e.n_known,
               e.amount * CASE WHEN NOT m.is_parent AND e.direction IN ('generation', 'export') THEN -1 ELSE 1 END AS amount
        FROM member m JOIN energy_1d e ON e.base_id = base AND e.point_id = m.point_id
        WHERE e.day BETWEEN first_day AND last_day
          AND e.ts >= (first_day - 1)::timestamp AT TIME ZONE 'UTC' AND e.ts <= (last_day + 1)::timestamp AT TIME ZONE 'UTC'
          AND m.valid_from <= e.day AND (m.valid_to IS NULL OR e.day < m.valid_to)
    ), judged AS MATERIALIZED (
        SELECT p.*, bool_and(p.amount IS NOT NULL) OVER w AND bool_or(p.is_parent) OVER w AND NOT bool_and(p.is_parent) OVER w
                    AND count(*) OVER w = s.n AS balanced
        FROM part p JOIN size s ON s.carrier = p.carrier AND s.parent_id = p.parent_id AND s.day = p.day
        WINDOW w AS (PARTITION BY p.carrier, p.parent_id, p.day)
    ), summed AS (
        SELECT j.carrier, j.parent_id, j.point_id, j.is_parent, max(j.unit) AS unit, max(j.loss_share) AS loss_share,
               count(*)::integer AS days, (count(*) FILTER (WHERE j.balanced))::integer AS days_balanced, sum(j.amount) AS amount,
               sum(j.amount) FILTER (WHERE j.balanced) AS balanced, sum(j.n_expected) AS n_expected, sum(j.n_known) AS n_known
        FROM judged j GROUP BY 1, 2, 3, 4
    ), formula AS MATERIALIZED (
        -- per published unit of the member, with the sign that the member has in the remainder
        SELECT f.point_id, f.part_id, f.coefficient * c.multiplier * CASE WHEN c.direction IN ('generation', 'export') THEN -1 ELSE 1 END
                   AS as_child, f.coefficient * c.multiplier AS as_parent
        FROM formula_part_known f JOIN energy_counter_unit c ON c.base_id = f.base_id AND c.point_id = f.point_id
        WHERE f.base_id = base
    ), behind AS MATERIALIZED (
        SELECT i.point_id, i.ts, i.amount FROM interval_1d_known i
        WHERE i.base_id = base AND i.point_id = ANY (ARRAY(SELECT f.part_id FROM formula f))
          AND i.ts BETWEEN (SELECT min(j.ts) FROM judged j) AND (SELECT max(j.ts) FROM judged j)
    ), meter AS (
        SELECT j.carrier, j.parent_id, j.point_id, j.balanced, CASE WHEN j.is_parent THEN j.amount ELSE -j.amount END AS amount
        FROM judged j WHERE NOT EXISTS (SELECT FROM formula f WHERE f.point_id = j.point_id)
        UNION ALL
        SELECT j.carrier, j.parent_id, f.part_id, j.balanced, b.amount * CASE WHEN j.is_parent THEN f.as_parent ELSE -f.as_child END
        FROM judged j JOIN formula f ON f.point_id = j.point_id LEFT JOIN behind b ON b.point_id = f.part_id AND b.ts = j.ts
    ), share AS (
        SELECT m.carrier, m.parent_id, m.point_id, sum(m.amount) FILTER (WHERE m.balanced) AS amount,
               bool_and(m.amount IS NOT NULL) FILTER (WHERE m.balanced) AS known
        FROM meter m GROUP BY 1, 2, 3
    ), error AS (
        SELECT s.carrier, s.parent_id,
               CASE WHEN bool_and(s.known AND a.percent IS NOT NULL)
                    THEN 2 / sqrt(3) * sqrt(sum((a.percent / 100 * s.amount) ^ 2)) END AS uncertainty,
               array_agg(p.code ORDER BY p.code) FILTER (WHERE coalesce(a.assumed, true)) AS assumed,
               array_agg(DISTINCT a.accuracy_id) FILTER (WHERE a.accuracy_id IS NOT NULL) AS accuracy_ids
        FROM share s JOIN point_known p ON p.base_id = base AND p.point_id = s.point_id
        LEFT JOIN meter_accuracy(base, last_day) a ON a.point_id = s.point_id
        GROUP BY 1, 2
    )
    SELECT s.carrier, s.parent_id, max(s.unit), max(s.days), max(s.days_balanced),
           sum(s.amount) FILTER (WHERE s.is_parent), sum(s.amount) FILTER (WHERE NOT s.is_parent),
           sum(CASE WHEN s.is_parent THEN s.balanced ELSE -s.balanced END),
           sum(s.balanced) FILTER (WHERE s.is_parent),
           sum(s.balanced * s.loss_share) FILTER (WHERE s.is_parent),
           max(e.uncertainty), coalesce(max(e.assumed), '{}'), sum(s.n_expected)::bigint, sum(s.n_known)::bigint,
           coalesce(max(e.accuracy_ids), '{}')
    FROM summed s LEFT JOIN error e ON e.carrier = s.carrier AND e.parent_id = s.parent_id
    GROUP BY s.carrier, s.parent_id ORDER BY 1, 2
$$;
