-- Balances with the uncertainty that the meters' accuracy classes give.

-- Limit of error in percent of a carrier's meters where a point has no class: what GB 17167-2006 asks at the gate of a unit.
CREATE TABLE accuracy_default (
    carrier text PRIMARY KEY REFERENCES carrier,
    percent double precision NOT NULL CHECK (percent > 0),
    source text NOT NULL,
    verified boolean NOT NULL DEFAULT false
);
INSERT INTO accuracy_default (carrier, percent, source)
SELECT c, p, 'GB 17167-2006, recalled; the 2025 edition has not been read' FROM (VALUES
    ('electricity', 2.0), ('natural_gas', 2.0), ('steam', 2.5), ('heat', 2.5), ('water', 2.5), ('reclaimed_water', 2.5),
    ('compressed_air', 2.5), ('diesel', 0.5), ('coal', 0.5)) AS t (c, p);
GRANT SELECT ON accuracy_default TO park_operator, park_contractor, park_enterprise, park_auditor, park_admin, park_service;

-- The limit of error of each counter in percent: of its own class (0.5S is 0.5), else assumed by its carrier.
CREATE VIEW meter_accuracy WITH (security_invoker) AS
SELECT p.base_id, p.point_id, coalesce(own.percent, d.percent) AS percent, own.percent IS NULL AS assumed
FROM point_known p LEFT JOIN accuracy_default d USING (carrier)
CROSS JOIN LATERAL (SELECT substring(p.accuracy_class FROM '^\s*([0-9]+(?:\.[0-9]+)?)')::double precision AS percent) own
WHERE p.kind = 'counter' AND p.carrier IS NOT NULL;

-- Parent meters against their children over days. The remainder, its uncertainty and the design loss are of the days on which
-- every member is known (`days_balanced`). uncertainty: expanded (k = 2) from the classes as limits of a rectangular
-- distribution, 2/sqrt(3) x root of the sum of (class x amount)^2; the remainder says something where it is larger than that.
CREATE FUNCTION balance_between(base smallint, first_day date, last_day date)
RETURNS TABLE (carrier text, parent_id integer, unit text, days integer, days_balanced integer, parent_amount double precision,
               children_amount double precision, unaccounted double precision, parent_balanced double precision,
               loss_expected double precision, uncertainty double precision, assumed text[], n_expected bigint, n_known bigint)
LANGUAGE sql STABLE AS $$
    WITH member AS (
        SELECT f.carrier, f.parent_id, f.child_id AS point_id, f.valid_from, f.valid_to, false AS is_parent, f.loss_share
        FROM flow_known f WHERE f.base_id = base AND f.kind = 'sub'
        UNION ALL
        SELECT f.carrier, f.parent_id, f.parent_id, min(f.valid_from), nullif(max(coalesce(f.valid_to, 'infinity')), 'infinity'), true,
               max(f.loss_share)
        FROM flow_known f WHERE f.base_id = base AND f.kind = 'sub' GROUP BY 1, 2
    ), part AS (
        SELECT m.carrier, m.parent_id, m.point_id, m.is_parent, m.loss_share, e.day, e.unit, e.n_expected, e.n_known,
               e.amount * CASE WHEN NOT m.is_parent AND e.direction IN ('generation', 'export') THEN -1 ELSE 1 END AS amount
        FROM member m JOIN energy_1d e ON e.base_id = base AND e.point_id = m.point_id
        WHERE e.day BETWEEN first_day AND last_day AND m.valid_from <= e.day AND (m.valid_to IS NULL OR e.day < m.valid_to)
    ), judged AS (
        SELECT p.*, bool_and(p.amount IS NOT NULL) OVER w AND bool_or(p.is_parent) OVER w AND NOT bool_and(p.is_parent) OVER w
                    AND count(*) OVER w = (SELECT count(*) FROM member m WHERE m.carrier = p.carrier AND m.parent_id = p.parent_id
                                           AND m.valid_from <= p.day AND (m.valid_to IS NULL OR p.day < m.valid_to)) AS balanced
        FROM part p WINDOW w AS (PARTITION BY p.carrier, p.parent_id, p.day)
    ), summed AS (
        SELECT j.carrier, j.parent_id, j.point_id, j.is_parent, max(j.unit) AS unit, max(j.loss_share) AS loss_share,
               count(*)::integer AS days, (count(*) FILTER (WHERE j.balanced))::integer AS days_balanced, sum(j.amount) AS amount,
               sum(j.amount) FILTER (WHERE j.balanced) AS balanced, sum(j.n_expected) AS n_expected, sum(j.n_known) AS n_known
        FROM judged j GROUP BY 1, 2, 3, 4
    )
    SELECT s.carrier, s.parent_id, max(s.unit), max(s.days), max(s.days_balanced),
           sum(s.amount) FILTER (WHERE s.is_parent), sum(s.amount) FILTER (WHERE NOT s.is_parent),
           sum(CASE WHEN s.is_parent THEN s.balanced ELSE -s.balanced END),
           sum(s.balanced) FILTER (WHERE s.is_parent),
           sum(s.balanced * s.loss_share) FILTER (WHERE s.is_parent),
           CASE WHEN bool_and(a.percent IS NOT NULL) THEN 2 / sqrt(3) * sqrt(sum((a.percent / 100 * s.balanced) ^ 2)) END,
           coalesce(array_agg(p.code ORDER BY p.code) FILTER (WHERE a.assumed), '{}'),
           sum(s.n_expected)::bigint, sum(s.n_known)::bigint
    FROM summed s JOIN point_known p ON p.base_id = base AND p.point_id = s.point_id
    LEFT JOIN meter_accuracy a ON a.base_id = base AND a.point_id = s.point_id
    GROUP BY s.carrier, s.parent_id ORDER BY 1, 2
$$;
GRANT SELECT ON meter_accuracy TO park_operator, park_contractor, park_enterprise, park_auditor, park_admin, park_service;

-- What a reader of slots needs of each counter: the published unit of its carrier.
CREATE VIEW energy_counter_unit WITH (security_barrier) AS
SELECT base_id, point_id, carrier, direction, unit, multiplier, timezone FROM energy_counter
WHERE base_id = ANY ((SELECT visible_bases())::smallint[]);
GRANT SELECT ON energy_counter_unit TO park_operator, park_contractor, park_enterprise, park_auditor, park_admin, park_service;
