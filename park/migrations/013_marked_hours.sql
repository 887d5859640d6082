-- Transmission a quarter: an hour that a person has exempted counts as received and valid, whatever its data; it is told apart.
CREATE OR REPLACE VIEW transmission_rate_1q WITH (security_barrier) AS
WITH counted AS (
    SELECT e.base_id, e.unit_id, e.quantity, date_trunc('quarter', e.ts AT TIME ZONE b.timezone)::date AS quarter,
           count(*) FILTER (WHERE state <> 'stopped')::integer AS hours_due,
           count(*) FILTER (WHERE state <> 'stopped' AND (state <> 'missing' OR exempt_id IS NOT NULL))::integer AS hours_received,
           count(*) FILTER (WHERE state IN ('valid', 'exempt') OR state <> 'stopped' AND exempt_id IS NOT NULL)::integer
               AS hours_valid,
           count(*) FILTER (WHERE state <> 'stopped' AND exempt_id IS NOT NULL)::integer AS hours_marked
    FROM emission_1h e JOIN base b USING (base_id)
    WHERE e.base_id = ANY ((SELECT visible_bases())::smallint[]) GROUP BY 1, 2, 3, 4
)
SELECT *, hours_received::double precision / nullif(hours_due, 0) AS transmission_rate,
       hours_valid::double precision / nullif(hours_received, 0) AS valid_rate,
       hours_valid::double precision / nullif(hours_due, 0) AS effective_rate
FROM counted;
