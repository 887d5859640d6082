-- name: balances
-- Parents against their children over days, with the uncertainty of the remainder.
SELECT b.carrier, p.code AS parent, coalesce(u.name_zh, p.name_zh) AS name_zh, coalesce(u.name_en, p.name_en) AS name_en,
       u.code AS unit_code, b.unit, b.days, b.days_balanced, b.parent_amount, b.children_amount, b.unaccounted, b.parent_balanced,
       b.loss_expected, b.uncertainty, b.assumed, b.accuracy_ids, b.n_expected, b.n_known
FROM balance_between(%(base)s::smallint, %(first)s, %(last)s) b
JOIN point_known p ON p.base_id = %(base)s AND p.point_id = b.parent_id
LEFT JOIN unit_known u ON u.base_id = p.base_id AND u.unit_id = p.unit_id
WHERE %(carrier)s::text IS NULL OR b.carrier = %(carrier)s ORDER BY b.carrier, p.code

-- name: flow_links
-- Flows in force with the child's amount over the period; days a little wider by their instants, so that an index finds them.
WITH child AS MATERIALIZED (
    SELECT e.point_id, e.day, e.unit, e.amount, e.n_expected, e.n_known FROM energy_1d e
    WHERE e.base_id = %(base)s AND e.point_id = ANY (ARRAY(SELECT f.child_id FROM flow_known f WHERE f.base_id = %(base)s))
      AND e.ts BETWEEN (%(first)s::timestamp AT TIME ZONE 'UTC') - interval '1 day' AND (%(last)s::timestamp AT TIME ZONE 'UTC') + interval '1 day'
      AND e.day BETWEEN %(first)s AND %(last)s
), x AS (
    SELECT f.flow_id, min(e.unit) AS unit, sum(e.amount) AS amount, count(*)::integer AS days, sum(e.n_expected)::bigint AS n_expected,
           sum(e.n_known)::bigint AS n_known
    FROM flow_known f JOIN child e ON e.point_id = f.child_id AND e.day >= f.valid_from AND (f.valid_to IS NULL OR e.day < f.valid_to)
    WHERE f.base_id = %(base)s GROUP BY 1
)
SELECT f.carrier, f.kind, a.code AS parent, b.code AS child, x.unit, b.direction, x.amount, coalesce(x.days, 0) AS days, x.n_expected,
       x.n_known
FROM flow_known f
JOIN point_known a ON a.base_id = f.base_id AND a.point_id = f.parent_id
JOIN point_known b ON b.base_id = f.base_id AND b.point_id = f.child_id
LEFT JOIN x ON x.flow_id = f.flow_id
WHERE f.base_id = %(base)s AND f.valid_from <= %(last)s AND (f.valid_to IS NULL OR f.valid_to > %(first)s)
  AND (%(carrier)s::text IS NULL OR f.carrier = %(carrier)s) ORDER BY f.carrier, f.flow_id

-- name: flow_nodes
-- The meters of the flows with what they stand for and their own amount.
WITH x AS (
    SELECT d.point_id, min(d.unit) AS unit, sum(d.amount) AS amount, count(*)::integer AS days, sum(d.n_expected)::bigint AS n_expected,
           sum(d.n_known)::bigint AS n_known
    FROM energy_1d d
    WHERE d.base_id = %(base)s AND d.point_id = ANY (ARRAY(
        SELECT p.point_id FROM point_known p WHERE p.base_id = %(base)s AND p.code = ANY (%(codes)s)))
      AND d.ts BETWEEN (%(first)s::timestamp AT TIME ZONE 'UTC') - interval '1 day' AND (%(last)s::timestamp AT TIME ZONE 'UTC') + interval '1 day'
      AND d.day BETWEEN %(first)s AND %(last)s GROUP BY 1
)
SELECT p.code AS id, p.carrier, p.direction, p.boundary, u.code AS unit_code, coalesce(u.name_zh, p.name_zh) AS name_zh,
       coalesce(u.name_en, p.name_en) AS name_en, e.code AS enterprise, x.unit, x.amount, coalesce(x.days, 0) AS days,
       x.n_expected, x.n_known
FROM point_known p
LEFT JOIN unit_known u ON u.base_id = p.base_id AND u.unit_id = p.unit_id
LEFT JOIN enterprise_known e ON e.base_id = p.base_id AND e.enterprise_id = u.enterprise_id
LEFT JOIN x ON x.point_id = p.point_id
WHERE p.base_id = %(base)s AND p.code = ANY (%(codes)s) ORDER BY p.code

-- name: parent_meter
-- A parent meter of a base by its code.
SELECT p.point_id, p.code, c.unit, p.carrier FROM point p JOIN energy_counter_unit c USING (base_id, point_id)
WHERE p.base_id = %(base)s AND p.code = %(code)s

-- name: balance_slots
-- Parent against children in each quarter-hour; a slot with a member that is not known has no remainder. Its uncertainty is that of
-- the meters' classes over the step, virtual points spread to the meters in their formula, as in balance_between.
WITH member AS MATERIALIZED (
    SELECT f.child_id AS point_id, false AS is_parent, f.valid_from, f.valid_to FROM flow_known f
    WHERE f.base_id = %(base)s AND f.parent_id = %(parent)s AND f.kind = 'sub'
    UNION ALL SELECT %(parent)s, true, '1970-01-01', NULL
), effect AS MATERIALIZED (
    SELECT e.point_id, e.part_id, e.ts, e.amount FROM formula_effect_known e
    WHERE e.base_id = %(base)s AND e.point_id = ANY (ARRAY(SELECT m.point_id FROM member m)) AND e.ts >= %(start)s AND e.ts < %(end)s
), meter AS MATERIALIZED (
    SELECT m.point_id, m.is_parent, m.valid_from, m.valid_to, coalesce(f.part_id, m.point_id) AS meter_id, c.timezone,
           c.multiplier * coalesce(f.coefficient, 1) * CASE WHEN m.is_parent OR c.direction IN ('generation', 'export') THEN 1 ELSE -1 END
               AS factor
    FROM member m JOIN energy_counter_unit c ON c.base_id = %(base)s AND c.point_id = m.point_id
    LEFT JOIN formula_part_known f ON f.base_id = %(base)s AND f.point_id = m.point_id
), slot AS MATERIALIZED (
    SELECT * FROM slots_known(%(base)s::smallint, ARRAY(SELECT m.point_id FROM member m UNION SELECT m.meter_id FROM meter m), %(start)s,
                              %(end)s)
), part AS (
    SELECT s.ts, m.is_parent, coalesce(i.certain, true) AS certain,
           i.amount * c.multiplier * CASE WHEN NOT m.is_parent AND c.direction IN ('generation', 'export') THEN -1 ELSE 1 END AS amount,
           i.quality
    FROM generate_series(%(start)s::timestamptz, %(end)s::timestamptz - interval '1 second', interval '15 minutes') s (ts)
    CROSS JOIN member m JOIN energy_counter_unit c ON c.base_id = %(base)s AND c.point_id = m.point_id
    LEFT JOIN slot i ON i.point_id = m.point_id AND i.ts = s.ts
    WHERE m.valid_from <= (s.ts AT TIME ZONE c.timezone)::date AND (m.valid_to IS NULL OR (s.ts AT TIME ZONE c.timezone)::date < m.valid_to)
), rest AS (
    SELECT date_bin(%(step)s::interval, ts, %(start)s::timestamptz) AS ts, sum(amount) FILTER (WHERE is_parent) AS parent,
           sum(amount) FILTER (WHERE NOT is_parent) AS children,
           CASE WHEN bool_and(amount IS NOT NULL) AND NOT bool_and(is_parent)
                THEN sum(CASE WHEN is_parent THEN amount ELSE -amount END) END AS unaccounted,
           bool_or(quality > 1 AND amount IS NOT NULL) AS estimated, bool_and(certain) AS certain
    FROM part GROUP BY 1
), share AS (
    SELECT date_bin(%(step)s::interval, i.ts, %(start)s::timestamptz) AS ts, coalesce(e.part_id, m.meter_id) AS meter_id,
           max(m.point_id) AS through, sum(m.factor * coalesce(e.amount, i.amount)) AS amount
    FROM meter m JOIN slot i ON i.point_id = m.meter_id LEFT JOIN effect e ON e.point_id = m.meter_id AND e.ts = i.ts
    WHERE m.valid_from <= (i.ts AT TIME ZONE m.timezone)::date AND (m.valid_to IS NULL OR (i.ts AT TIME ZONE m.timezone)::date < m.valid_to)
    GROUP BY 1, 2
), accuracy AS MATERIALIZED (
    SELECT * FROM meter_accuracy(%(base)s::smallint, %(last)s)
), error AS (
    SELECT s.ts, CASE WHEN bool_and(coalesce(a.percent, o.percent) IS NOT NULL)
                      THEN 2 / sqrt(3) * sqrt(sum((coalesce(a.percent, o.percent) / 100 * s.amount) ^ 2)) END AS uncertainty
    FROM share s LEFT JOIN accuracy a ON a.point_id = s.meter_id LEFT JOIN accuracy o ON o.point_id = s.through GROUP BY 1
)
SELECT r.ts, r.parent, r.children, r.unaccounted, CASE WHEN r.unaccounted IS NOT NULL THEN e.uncertainty END AS uncertainty, r.estimated,
       r.certain
FROM rest r LEFT JOIN error e ON e.ts = r.ts ORDER BY r.ts

-- name: accuracies
-- Rows of limits of error by their ids.
SELECT accuracy_id AS id, template, quantity, carrier, accuracy_class, valid_from, valid_to, source, verified, recorded_at, recorded_by,
       superseded_at, base_id IS NOT NULL AS own
FROM accuracy WHERE accuracy_id = ANY (%(ids)s) ORDER BY 1

-- name: carriers
-- Every carrier that there is.
SELECT carrier FROM carrier ORDER BY carrier;
