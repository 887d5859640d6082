-- The error of virtual points whose formula is no sum with fixed coefficients (a minimum, a condition, a quotient, a gauge).

-- What a meter does to a virtual point in a quarter-hour: its amount x the derivative of the formula by it, in the point's unit. An error
-- of one percent of the meter is an error of one percent of this. Formulas that are sums have no rows: see formula_part.
CREATE TABLE formula_effect (
    ts timestamptz NOT NULL,
    amount double precision NOT NULL,
    point_id integer NOT NULL,
    part_id integer NOT NULL,
    base_id smallint NOT NULL REFERENCES base,
    PRIMARY KEY (base_id, point_id, part_id, ts)
);
SELECT secure_tables();
SELECT keep_history('formula_effect', ARRAY['base_id', 'point_id', 'part_id', 'ts']);
SELECT secure_tables();

-- The limit of error of each counter, and of each gauge that has a class, in percent on a day, and where it comes from: the point's own class, its device's, the row of
-- the device's template, else the row of its carrier (`assumed`).
CREATE OR REPLACE FUNCTION meter_accuracy(base smallint, day date)
RETURNS TABLE (point_id integer, percent double precision, assumed boolean, accuracy_id integer)
LANGUAGE sql STABLE AS $$
    WITH class AS MATERIALIZED (
        SELECT DISTINCT ON (a.template, a.quantity, a.carrier) a.* FROM accuracy_known a
        WHERE (a.base_id = base OR a.base_id IS NULL) AND a.valid_from <= day AND (a.valid_to IS NULL OR day < a.valid_to)
        ORDER BY a.template, a.quantity, a.carrier, a.base_id IS NULL, a.valid_from DESC
    )
    SELECT p.point_id, substring(coalesce(p.accuracy_class, d.settings ->> 'accuracy_class', t.accuracy_class, c.accuracy_class)
                                 FROM '^\s*([0-9]+(?:\.[0-9]+)?)')::double precision,
           coalesce(p.accuracy_class, d.settings ->> 'accuracy_class', t.accuracy_class) IS NULL,
           CASE WHEN coalesce(p.accuracy_class, d.settings ->> 'accuracy_class') IS NULL THEN coalesce(t.accuracy_id, c.accuracy_id) END
    FROM point_known p
    LEFT JOIN device_known d ON d.base_id = p.base_id AND d.device_id = p.device_id
    LEFT JOIN LATERAL (SELECT k.* FROM class k WHERE k.template = d.template AND k.quantity IN ('', p.quantity)
                       ORDER BY k.quantity DESC LIMIT 1) t ON true
    LEFT JOIN class c ON c.carrier = p.carrier
    WHERE p.base_id = base AND (p.kind = 'counter'
        OR p.kind = 'gauge' AND coalesce(p.accuracy_class, d.settings ->> 'accuracy_class', t.accuracy_class) IS NOT NULL)
$$;

-- Parent meters against their children over days. The remainder, its uncertainty and the design loss are of the days on which
-- every member is known (`days_balanced`). uncertainty: expanded (k = 2) from the classes as limits of a rectangular
-- distribution, 2/sqrt(3) x root of the sum of (class x amount)^2 over the meters; a virtual point stands for the meters in its
-- formula, with its coefficient or, where the formula is no such sum, with what a small change of its reading does to the result; and a
-- meter that comes in twice counts with what is left of it. The remainder says something where it is larger.
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
