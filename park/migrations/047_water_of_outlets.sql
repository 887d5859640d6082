-- As in 027, with the hours of outlets summed by outlet before their names and owners are looked up.

-- Water of the base (enterprise NULL) and its enterprises over days, in m3. Discharge: hours of the water outlets, for the base
-- those that do not discharge into another outlet of it. consumed: what came in and did not go out as waste water; for the base
-- reclaimed water stays inside, and where more goes out than came in (waste water from elsewhere, rain) nothing is said. reuse_rate: water used again over water used (GB/T 7119), reclaimed and in the works.
CREATE OR REPLACE FUNCTION water_between(base smallint, first_day date, last_day date)
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
    ), hour AS MATERIALIZED (  -- an hour of an outlet once, whatever it is measured for
        SELECT e.unit_id, e.ts, max(e.flow) AS flow FROM emission_1h_known e
        WHERE e.base_id = base
          AND e.unit_id = ANY (ARRAY(SELECT u.unit_id FROM unit_known u WHERE u.base_id = base AND u.attributes ->> 'medium' = 'water'))
          AND e.ts >= (SELECT first_day::timestamp AT TIME ZONE s.timezone FROM base_known s WHERE s.base_id = base)
          AND e.ts < (SELECT (last_day + 1)::timestamp AT TIME ZONE s.timezone FROM base_known s WHERE s.base_id = base)
        GROUP BY 1, 2
    ), outlet AS (
        SELECT o.enterprise_id, u.attributes ? 'discharges_to' AS stays, h.flow, h.due, h.known
        FROM (SELECT h.unit_id, sum(h.flow) AS flow, count(*) AS due, count(h.flow) AS known FROM hour h GROUP BY 1) h
        JOIN unit_known u ON u.base_id = base AND u.unit_id = h.unit_id
        LEFT JOIN unit_enterprise o ON o.base_id = base AND o.unit_id = h.unit_id
    ), out AS (
        SELECT o.enterprise_id, sum(o.flow) AS flow, sum(o.due)::bigint AS due, sum(o.known)::bigint AS known
        FROM outlet o WHERE o.enterprise_id IS NOT NULL GROUP BY 1
        UNION ALL SELECT NULL, sum(o.flow), sum(o.due)::bigint, sum(o.known)::bigint FROM outlet o WHERE NOT o.stays HAVING count(*) > 0
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
