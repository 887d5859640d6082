-- The water balance tells its days and is silent where more goes out than came in; stores of waste without the last bits of sums.

DROP FUNCTION water_between(smallint, date, date);
-- Water of the base (enterprise NULL) and its enterprises over days, in m3. Discharge: hours of the water outlets, for the base
-- those that do not discharge into another outlet of it. consumed: what came in and did not go out as waste water; for the base
-- reclaimed water stays inside, and where more goes out than came in (waste water from elsewhere, rain) nothing is said. reuse_rate: water used again over water used (GB/T 7119), reclaimed and in the works.
CREATE FUNCTION water_between(base smallint, first_day date, last_day date)
RETURNS TABLE (enterprise_id integer, fresh double precision, reclaimed double precision, recirculated double precision,
               discharged double precision, hours_due bigint, hours_known bigint, consumed double precision,
               reuse_rate double precision, days integer, n_expected bigint, n_known bigint)
LANGUAGE sql STABLE AS $$
    WITH metered AS (
        SELECT t.enterprise_id, sum(t.amount) FILTER (WHERE t.carrier = 'water') AS fresh,
               sum(t.amount) FILTER (WHERE t.carrier = 'reclaimed_water') AS reclaimed,
               count(DISTINCT t.day)::integer AS days, sum(t.n_expected) AS n_expected, sum(t.n_known) AS n_known
        FROM energy_total_1d t
        WHERE t.base_id = base AND t.day BETWEEN first_day AND last_day AND t.carrier IN ('water', 'reclaimed_water') GROUP BY 1
    ), booked AS (
        SELECT l.enterprise_id, sum(l.value * k.multiplier * (least(l.last_day, water_between.last_day) - greatest(l.first_day, water_between.first_day) + 1)
                                    / (l.last_day - l.first_day + 1)) AS amount
        FROM ledger_known l JOIN unit_conversion k ON k.carrier IN ('', 'water') AND k.source = l.unit AND k.target = 'm3'
        WHERE l.base_id = base AND l.kind = 'water_recirculated' AND l.first_day <= water_between.last_day AND l.last_day >= water_between.first_day
        GROUP BY 1
    ), again AS (
        SELECT b.enterprise_id, b.amount FROM booked b WHERE b.enterprise_id IS NOT NULL
        UNION ALL SELECT NULL, sum(b.amount) FROM booked b HAVING count(*) > 0
    ), hour AS (
        SELECT o.enterprise_id, u.attributes ? 'discharges_to' AS stays, e.ts, e.unit_id, max(e.flow) AS flow
        FROM emission_1h_known e JOIN unit_known u USING (base_id, unit_id) JOIN base_known s USING (base_id)
        LEFT JOIN unit_enterprise o ON o.base_id = e.base_id AND o.unit_id = e.unit_id
        WHERE e.base_id = base AND u.attributes ->> 'medium' = 'water'
          AND e.ts >= first_day::timestamp AT TIME ZONE s.timezone AND e.ts < (last_day + 1)::timestamp AT TIME ZONE s.timezone
        GROUP BY 1, 2, 3, 4
    ), out AS (
        SELECT h.enterprise_id, sum(h.flow) AS flow, count(*) AS due, count(h.flow) AS known FROM hour h WHERE h.enterprise_id IS NOT NULL GROUP BY 1
        UNION ALL SELECT NULL, sum(h.flow), count(*), count(h.flow) FROM hour h WHERE NOT h.stays HAVING count(*) > 0
    )
    SELECT m.enterprise_id, m.fresh, m.reclaimed, a.amount, o.flow, o.due, o.known,
           CASE WHEN o.known > 0 AND c.came >= o.flow THEN c.came - o.flow END,
           CASE WHEN m.reclaimed IS NOT NULL OR a.amount IS NOT NULL
                THEN (coalesce(m.reclaimed, 0) + coalesce(a.amount, 0))
                     / nullif(m.fresh + coalesce(m.reclaimed, 0) + coalesce(a.amount, 0), 0) END,
           m.days, m.n_expected::bigint, m.n_known::bigint
    FROM metered m
    CROSS JOIN LATERAL (SELECT m.fresh + CASE WHEN m.enterprise_id IS NULL THEN 0 ELSE coalesce(m.reclaimed, 0) END AS came) c
    LEFT JOIN again a ON a.enterprise_id IS NOT DISTINCT FROM m.enterprise_id
    LEFT JOIN out o ON o.enterprise_id IS NOT DISTINCT FROM m.enterprise_id ORDER BY 1 NULLS FIRST
$$;

-- Waste over days: every action, the store before and after, days marked negative, and whether `stored` entries agree with
-- the store's change (difference; NULL without such entries).
CREATE OR REPLACE FUNCTION waste_between(base smallint, first_day date, last_day date)
RETURNS TABLE (enterprise_id integer, kind text, item text, opening double precision, generated double precision, received double precision,
               used double precision, disposed double precision, moved double precision, closing double precision,
               stored_declared double precision, stored_differs double precision, lowest double precision, negative_days date[],
               entry_ids bigint[])
LANGUAGE sql STABLE AS $$
    SELECT p.enterprise_id, p.kind, p.item,
           round((coalesce(sum(p.change) FILTER (WHERE p.day < first_day), 0)
                  + coalesce(sum(p.change) FILTER (WHERE p.action = 'opening' AND p.day BETWEEN first_day AND last_day), 0))::numeric, 6)::float8,
           sum(p.amount) FILTER (WHERE p.action = 'generated' AND p.day BETWEEN first_day AND last_day),
           sum(p.amount) FILTER (WHERE p.action = 'received' AND p.day BETWEEN first_day AND last_day),
           sum(p.amount) FILTER (WHERE p.action IN ('used', 'used_stock') AND p.day BETWEEN first_day AND last_day),
           sum(p.amount) FILTER (WHERE p.action = 'disposed' AND p.day BETWEEN first_day AND last_day),
           sum(p.amount) FILTER (WHERE p.action = 'moved' AND p.day BETWEEN first_day AND last_day),
           round((sum(p.change) FILTER (WHERE p.day <= last_day))::numeric, 6)::float8,
           sum(p.amount) FILTER (WHERE p.action = 'stored' AND p.day BETWEEN first_day AND last_day),
           round((sum(p.amount) FILTER (WHERE p.action = 'stored' AND p.day BETWEEN first_day AND last_day)
               - coalesce(sum(p.change) FILTER (WHERE p.day BETWEEN first_day AND last_day AND p.action <> 'opening'), 0))::numeric, 6)::float8,
           (SELECT round(min(s.stock)::numeric, 6)::float8 FROM waste_store s WHERE (s.base_id, s.enterprise_id, s.kind, s.item) IS NOT DISTINCT FROM
               (base, p.enterprise_id, p.kind, p.item) AND s.day BETWEEN first_day AND last_day),
           (SELECT array_agg(s.day ORDER BY s.day) FROM waste_store s WHERE (s.base_id, s.enterprise_id, s.kind, s.item) IS NOT DISTINCT FROM
               (base, p.enterprise_id, p.kind, p.item) AND s.negative AND s.day BETWEEN first_day AND last_day),
           array_agg(DISTINCT p.entry_id ORDER BY p.entry_id) FILTER (WHERE p.day BETWEEN first_day AND last_day)
    FROM waste_posting p WHERE p.base_id = base AND p.day <= last_day
    GROUP BY p.enterprise_id, p.kind, p.item
    HAVING bool_or(p.day BETWEEN first_day AND last_day) OR abs(sum(p.change)) > 0.0005 ORDER BY 1, 2, 3
$$;
