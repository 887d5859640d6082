-- As in 045, from months: where every meter of a parent knows a month to the last slot, its days are not asked. A year of thousands of
-- meters was joined and sorted by the day; the figures are the same but for the order of their sums.
-- Parent meters against their children over days. The remainder, its uncertainty and the design loss are of the days on which
-- every member is known (`days_balanced`). uncertainty: expanded (k = 2) from the classes as limits of a rectangular distribution,
-- 2/sqrt(3) x root of the sum of (class x amount)^2 over the meters. Virtual points, and past instants, are asked by the day.
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
    ), counter AS MATERIALIZED (
        SELECT m.*, c.unit, c.timezone, c.multiplier,
               c.multiplier * CASE WHEN NOT m.is_parent AND c.direction IN ('generation', 'export') THEN -1 ELSE 1 END AS signed,
               NOT EXISTS (SELECT FROM point_known p WHERE p.base_id = base AND p.point_id = m.point_id AND p.attributes ? 'formula') AS plain
        FROM member m LEFT JOIN energy_counter_unit c ON c.base_id = base AND c.point_id = m.point_id
    ), month AS MATERIALIZED (
        SELECT greatest(g::date, first_day) AS first, least((g + interval '1 month')::date - 1, last_day) AS last,
               NOT isfinite(known_at()) AND g::date >= first_day AND (g + interval '1 month')::date - 1 <= last_day AS entire
        FROM generate_series(date_trunc('month', first_day::timestamp), last_day::timestamp, interval '1 month') g
    ), told AS MATERIALIZED (      -- months that every meter of a parent knows to the last slot: their days need not be asked
        SELECT c.carrier, c.parent_id, m.first,
               bool_and(m.entire AND c.valid_from <= m.first AND (c.valid_to IS NULL OR m.last < c.valid_to) AND c.plain
                        AND c.multiplier IS NOT NULL AND i.amount IS NOT NULL AND i.n_known = i.n_expected
                        AND i.days = (1::bigint << (m.last - m.first + 1)) - 1 IS TRUE) AND NOT bool_and(c.is_parent) AS whole
        FROM counter c JOIN month m ON c.valid_from <= m.last AND (c.valid_to IS NULL OR m.first < c.valid_to)
        LEFT JOIN interval_1mo i ON i.base_id = base AND i.point_id = c.point_id AND i.ts = m.first::timestamp AT TIME ZONE c.timezone
        GROUP BY 1, 2, 3
    ), asked AS MATERIALIZED (     -- months in a row are one span of days
        SELECT t.carrier, t.parent_id, min(t.first) AS first, max(t.last) AS last
        FROM (SELECT t.carrier, t.parent_id, t.first, m.last, extract(year FROM t.first) * 12 + extract(month FROM t.first)
                     - row_number() OVER (PARTITION BY t.carrier, t.parent_id ORDER BY t.first) AS row
              FROM told t JOIN month m ON m.first = t.first WHERE NOT t.whole) t GROUP BY t.carrier, t.parent_id, t.row
    ), part AS MATERIALIZED (
        SELECT c.carrier, c.parent_id, c.point_id, c.is_parent, c.loss_share, (i.ts AT TIME ZONE c.timezone)::date AS day, i.ts, c.unit,
               i.n_expected, i.n_known, i.amount * c.signed AS amount
        FROM counter c JOIN asked a ON a.carrier = c.carrier AND a.parent_id = c.parent_id
        JOIN interval_1d_known i ON i.base_id = base AND i.point_id = c.point_id
          AND i.ts >= greatest(a.first, c.valid_from)::timestamp AT TIME ZONE c.timezone
          AND i.ts < least(a.last + 1, c.valid_to)::timestamp AT TIME ZONE c.timezone
        WHERE i.point_id = ANY (ARRAY(SELECT c.point_id FROM counter c JOIN asked a ON a.carrier = c.carrier AND a.parent_id = c.parent_id))
          AND i.ts >= (SELECT min(a.first) - 1 FROM asked a)::timestamp AT TIME ZONE 'UTC'
          AND i.ts <= (SELECT max(a.last) + 1 FROM asked a)::timestamp AT TIME ZONE 'UTC'
    ), judged AS MATERIALIZED (
        SELECT p.*, 1 AS days, bool_and(p.amount IS NOT NULL) OVER w AND bool_or(p.is_parent) OVER w AND NOT bool_and(p.is_parent) OVER w
                    AND count(*) OVER w = s.n AS balanced
        FROM part p JOIN size s ON s.carrier = p.carrier AND s.parent_id = p.parent_id AND s.day = p.day
        WINDOW w AS (PARTITION BY p.carrier, p.parent_id, p.day)
        UNION ALL
        SELECT c.carrier, c.parent_id, c.point_id, c.is_parent, c.loss_share, m.first, i.ts, c.unit, i.n_expected, i.n_known,
               i.amount * c.signed, m.last - m.first + 1, true
        FROM counter c JOIN told t ON t.carrier = c.carrier AND t.parent_id = c.parent_id AND t.whole JOIN month m ON m.first = t.first
        JOIN interval_1mo i ON i.base_id = base AND i.point_id = c.point_id AND i.ts = m.first::timestamp AT TIME ZONE c.timezone
    ), summed AS (
        SELECT j.carrier, j.parent_id, j.point_id, j.is_parent, max(j.unit) AS unit, max(j.loss_share) AS loss_share,
               sum(j.days)::integer AS days, coalesce(sum(j.days) FILTER (WHERE j.balanced), 0)::integer AS days_balanced,
               sum(j.amount) AS amount,
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
    ), effect AS MATERIALIZED (
        SELECT s.point_id, s.part_id, (s.ts AT TIME ZONE c.timezone)::date AS day, sum(s.amount) * c.multiplier AS as_parent,
               sum(s.amount) * c.multiplier * CASE WHEN c.direction IN ('generation', 'export') THEN -1 ELSE 1 END AS as_child
        FROM formula_effect_known s JOIN energy_counter_unit c ON c.base_id = s.base_id AND c.point_id = s.point_id
        WHERE s.base_id = base AND s.point_id = ANY (ARRAY(SELECT m.point_id FROM member m))
          AND s.ts >= (first_day - 1)::timestamp AT TIME ZONE 'UTC' AND s.ts <= (last_day + 2)::timestamp AT TIME ZONE 'UTC'
        GROUP BY 1, 2, 3, c.multiplier, c.direction
    ), meter AS (
        SELECT j.carrier, j.parent_id, j.point_id, j.point_id AS through, j.balanced,
               CASE WHEN j.is_parent THEN j.amount ELSE -j.amount END AS amount
        FROM judged j WHERE NOT EXISTS (SELECT FROM formula f WHERE f.point_id = j.point_id)
          AND NOT EXISTS (SELECT FROM effect e WHERE e.point_id = j.point_id AND e.day = j.day)
        UNION ALL
        SELECT j.carrier, j.parent_id, f.part_id, j.point_id, j.balanced,
               b.amount * CASE WHEN j.is_parent THEN f.as_parent ELSE -f.as_child END
        FROM judged j JOIN formula f ON f.point_id = j.point_id LEFT JOIN behind b ON b.point_id = f.part_id AND b.ts = j.ts
        UNION ALL
        SELECT j.carrier, j.parent_id, e.part_id, j.point_id, j.balanced, CASE WHEN j.is_parent THEN e.as_parent ELSE -e.as_child END
        FROM judged j JOIN effect e ON e.point_id = j.point_id AND e.day = j.day
    ), share AS (
        SELECT m.carrier, m.parent_id, m.point_id, max(m.through) AS through, sum(m.amount) FILTER (WHERE m.balanced) AS amount,
               bool_and(m.amount IS NOT NULL) FILTER (WHERE m.balanced) AS known
        FROM meter m GROUP BY 1, 2, 3
    ), accuracy AS MATERIALIZED (
        SELECT * FROM meter_accuracy(base, last_day)
    ), error AS (
        SELECT s.carrier, s.parent_id,
               -- a gauge without a class of its own has that of the point whose formula names it
               CASE WHEN bool_and(s.known AND coalesce(a.percent, o.percent) IS NOT NULL)
                    THEN 2 / sqrt(3) * sqrt(sum((coalesce(a.percent, o.percent) / 100 * s.amount) ^ 2)) END AS uncertainty,
               array_agg(p.code ORDER BY p.code) FILTER (WHERE coalesce(a.assumed, true)) AS assumed,
               array_agg(DISTINCT coalesce(a.accuracy_id, o.accuracy_id))
                   FILTER (WHERE a.accuracy_id IS NOT NULL OR a.percent IS NULL AND o.accuracy_id IS NOT NULL) AS accuracy_ids
        FROM share s JOIN point_known p ON p.base_id = base AND p.point_id = s.point_id
        LEFT JOIN accuracy a ON a.point_id = s.point_id LEFT JOIN accuracy o ON o.point_id = s.through
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
