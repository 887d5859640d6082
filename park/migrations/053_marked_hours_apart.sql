-- One rule of the transmission rate everywhere (docs/decisions/059): a marked hour takes no part, neither due nor received nor valid.
-- A quarter counted it as received and valid, an indicator and a report as lost where it had no data.
ALTER TABLE emission_day
    ADD COLUMN hours_marked smallint NOT NULL DEFAULT 0,     -- take no part: exempt, or marked whatever came; stopped ones are not among them
    ADD COLUMN hours_lost smallint NOT NULL DEFAULT 0;       -- nothing came, and no mark

-- As in 048, with those columns.
CREATE OR REPLACE FUNCTION count_emission(bases smallint[], units integer[], quantities text[], days date[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    DELETE FROM emission_day d USING unnest(bases, units, quantities, days) t (base_id, unit_id, quantity, day)
    WHERE (d.base_id, d.day, d.unit_id, d.quantity) = (t.base_id, t.day, t.unit_id, t.quantity);
    INSERT INTO emission_day
    SELECT t.base_id, t.unit_id, t.quantity, t.day, h.*
    FROM unnest(bases, units, quantities, days) t (base_id, unit_id, quantity, day) JOIN base b USING (base_id)
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE state = 'valid'), count(*) FILTER (WHERE state = 'stopped'),
               count(*) FILTER (WHERE state = 'exempt'), count(*) FILTER (WHERE state = 'insufficient'),
               count(*) FILTER (WHERE state = 'missing'),
               avg(measured) FILTER (WHERE state = 'valid'), avg(converted) FILTER (WHERE state = 'valid'),
               sum(measured * flow) FILTER (WHERE state = 'valid')
                   / nullif(sum(flow) FILTER (WHERE state = 'valid' AND measured IS NOT NULL), 0),
               sum(converted * flow) FILTER (WHERE state = 'valid')
                   / nullif(sum(flow) FILTER (WHERE state = 'valid' AND converted IS NOT NULL), 0),
               max(converted) FILTER (WHERE state = 'valid'), sum(mass_kg),
               count(*) FILTER (WHERE substituted), count(*) FILTER (WHERE exceeded),
               count(*) FILTER (WHERE state = 'exempt' OR state <> 'stopped' AND exempt_id IS NOT NULL),
               count(*) FILTER (WHERE state = 'missing' AND exempt_id IS NULL)
        FROM (SELECT * FROM emission_1h e                    -- in the order of time, so that the same hours give the same sums
              WHERE e.base_id = t.base_id AND e.unit_id = t.unit_id AND e.quantity = t.quantity
                AND e.ts >= t.day::timestamp AT TIME ZONE b.timezone - interval '2 hours'
                AND e.ts < (t.day + 1)::timestamp AT TIME ZONE b.timezone + interval '2 hours' ORDER BY e.ts) e
        WHERE (e.ts AT TIME ZONE b.timezone)::date = t.day HAVING count(*) > 0) h
$$;

DO $$
BEGIN
    PERFORM count_emission(array_agg(base_id), array_agg(unit_id), array_agg(quantity), array_agg(day))
    FROM (SELECT DISTINCT h.base_id, unit_id, quantity, (ts AT TIME ZONE timezone)::date AS day
          FROM emission_1h h JOIN base USING (base_id) WHERE state IN ('missing', 'exempt') OR exempt_id IS NOT NULL) d
    HAVING count(*) > 0;
END $$;

-- As in 048, with hours_marked and hours_lost.
CREATE OR REPLACE VIEW emission_1d WITH (security_invoker, security_barrier) AS
WITH counted AS (
    SELECT d.* FROM emission_day d
    WHERE NOT isfinite((SELECT known_at())) AND d.base_id = ANY ((SELECT visible_bases())::smallint[])
    UNION ALL
    SELECT e.base_id, e.unit_id, e.quantity, (e.ts AT TIME ZONE b.timezone)::date,
           count(*) FILTER (WHERE state = 'valid'), count(*) FILTER (WHERE state = 'stopped'),
           count(*) FILTER (WHERE state = 'exempt'), count(*) FILTER (WHERE state = 'insufficient'),
           count(*) FILTER (WHERE state = 'missing'),
           avg(measured) FILTER (WHERE state = 'valid'), avg(converted) FILTER (WHERE state = 'valid'),
           sum(measured * flow) FILTER (WHERE state = 'valid')
               / nullif(sum(flow) FILTER (WHERE state = 'valid' AND measured IS NOT NULL), 0),
           sum(converted * flow) FILTER (WHERE state = 'valid')
               / nullif(sum(flow) FILTER (WHERE state = 'valid' AND converted IS NOT NULL), 0),
           max(converted) FILTER (WHERE state = 'valid'), sum(mass_kg),
           count(*) FILTER (WHERE substituted), count(*) FILTER (WHERE exceeded),
           count(*) FILTER (WHERE state = 'exempt' OR state <> 'stopped' AND exempt_id IS NOT NULL),
           count(*) FILTER (WHERE state = 'missing' AND exempt_id IS NULL)
    FROM emission_1h_known e JOIN base_known b USING (base_id)
    WHERE isfinite((SELECT known_at())) AND e.base_id = ANY ((SELECT visible_bases())::smallint[])
    GROUP BY 1, 2, 3, 4
), named AS (
    SELECT c.*, u.attributes ->> 'medium' = 'water' AS is_water, u.attributes ->> 'medium' = 'water' AND quantity <> 'ph' AS by_flow
    FROM counted c JOIN unit_known u USING (base_id, unit_id)
), judged AS (
    SELECT base_id, day, unit_id, quantity, hours_valid::integer, hours_stopped::integer, hours_exempt::integer,
           (hours_missing + hours_insufficient)::integer AS hours_missing, hours_insufficient::integer,
           CASE WHEN by_flow THEN measured_by_flow ELSE measured END AS mean_measured,
           CASE WHEN by_flow THEN converted_by_flow ELSE converted END AS mean_converted,
           max_converted, mass_kg, hours_substituted::integer, hours_exceeded::integer,
           hours_marked::integer, hours_lost::integer,
           hours_valid > 0 AND hours_valid >= CASE WHEN is_water THEN 0.75 ELSE 20 / 24.0 END
                                              * (hours_valid + hours_missing + hours_insufficient) AS valid
    FROM named
)
SELECT j.base_id, j.day, j.unit_id, j.quantity, hours_valid, hours_stopped, hours_exempt, hours_missing, mean_measured,
       mean_converted, max_converted, mass_kg, hours_substituted, hours_exceeded, valid,
       coalesce(l.high, l.low) AS limit_value,
       CASE WHEN valid AND coalesce(l.high, l.low) IS NOT NULL
            THEN coalesce(mean_converted > l.high, false) OR coalesce(mean_converted < l.low, false) END AS exceeded,
       hours_insufficient, hours_marked, hours_lost
FROM judged j LEFT JOIN LATERAL (
    SELECT high, low FROM limit_value_known l
    WHERE l.base_id = j.base_id AND l.unit_id = j.unit_id AND l.quantity = j.quantity AND l.statistic = 'day'
      AND l.rank <> 'internal' AND l.valid_from <= j.day AND (l.valid_to IS NULL OR j.day < l.valid_to)
    ORDER BY l.rank = 'permit' DESC, l.valid_from DESC LIMIT 1) l ON true;

CREATE OR REPLACE VIEW transmission_rate_1q WITH (security_barrier) AS
WITH hour AS (
    SELECT e.base_id, e.unit_id, e.quantity, date_trunc('quarter', e.ts AT TIME ZONE b.timezone)::date AS quarter, e.state,
           e.state = 'exempt' OR e.state <> 'stopped' AND e.exempt_id IS NOT NULL AS marked
    FROM emission_1h_known e JOIN base_known b USING (base_id)
    WHERE e.base_id = ANY ((SELECT visible_bases())::smallint[])
), counted AS (
    SELECT base_id, unit_id, quantity, quarter, count(*) FILTER (WHERE NOT marked AND state <> 'stopped')::integer AS hours_due,
           count(*) FILTER (WHERE NOT marked AND state NOT IN ('stopped', 'missing'))::integer AS hours_received,
           count(*) FILTER (WHERE NOT marked AND state = 'valid')::integer AS hours_valid,
           count(*) FILTER (WHERE marked)::integer AS hours_marked
    FROM hour GROUP BY 1, 2, 3, 4
)
SELECT *, hours_received::double precision / nullif(hours_due, 0) AS transmission_rate,
       hours_valid::double precision / nullif(hours_received, 0) AS valid_rate,
       hours_valid::double precision / nullif(hours_due, 0) AS effective_rate
FROM counted;
