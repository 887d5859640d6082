-- A mean that stands exactly at its limit does not exceed it by the last bit of its sum: 24 equal values of 50 make 50.00000000000001.

-- As in 053.
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
            THEN coalesce(mean_converted > l.high + 1e-9 * abs(l.high), false)
                 OR coalesce(mean_converted < l.low - 1e-9 * abs(l.low), false) END AS exceeded,
       hours_insufficient, hours_marked, hours_lost
FROM judged j LEFT JOIN LATERAL (
    SELECT high, low FROM limit_value_known l
    WHERE l.base_id = j.base_id AND l.unit_id = j.unit_id AND l.quantity = j.quantity AND l.statistic = 'day'
      AND l.rank <> 'internal' AND l.valid_from <= j.day AND (l.valid_to IS NULL OR j.day < l.valid_to)
    ORDER BY l.rank = 'permit' DESC, l.valid_from DESC LIMIT 1) l ON true;

-- As in 025.
CREATE OR REPLACE VIEW emission_1mo WITH (security_barrier) AS
WITH day AS (
    SELECT d.*, u.attributes ->> 'medium' = 'water' AS is_water, date_trunc('month', d.day)::date AS month
    FROM emission_1d d JOIN unit_known u USING (base_id, unit_id)
), summed AS (
    SELECT base_id, month, unit_id, quantity, is_water, count(*)::integer AS days,
           (count(*) FILTER (WHERE hours_valid + hours_missing > 0))::integer AS days_due,
           (count(*) FILTER (WHERE valid))::integer AS days_valid,
           avg(mean_measured) FILTER (WHERE valid) AS mean_measured, avg(mean_converted) FILTER (WHERE valid) AS mean_converted,
           max(mean_converted) FILTER (WHERE valid) AS max_day, sum(mass_kg) AS mass_kg, sum(hours_valid)::integer AS hours_valid,
           sum(hours_stopped)::integer AS hours_stopped, sum(hours_exempt)::integer AS hours_exempt,
           sum(hours_missing)::integer AS hours_missing, sum(hours_substituted)::integer AS hours_substituted,
           sum(hours_exceeded)::integer AS hours_exceeded, (count(*) FILTER (WHERE exceeded))::integer AS days_exceeded,
           extract(day FROM month + interval '1 month' - interval '1 day') AS length
    FROM day GROUP BY 1, 2, 3, 4, 5
), judged AS (
    SELECT *, days_valid > 0 AND days_valid >= days_due * CASE WHEN is_water THEN 0.75
                                                               WHEN extract(month FROM month) = 2 THEN 23 / length
                                                               ELSE 25 / length END - 1e-9 AS valid FROM summed
)
SELECT j.base_id, j.month, j.unit_id, j.quantity, days, days_due, days_valid, hours_valid, hours_stopped, hours_exempt, hours_missing,
       mean_measured, mean_converted, max_day, mass_kg, hours_substituted, hours_exceeded, days_exceeded, valid,
       coalesce(l.high, l.low) AS limit_value,
       CASE WHEN valid AND coalesce(l.high, l.low) IS NOT NULL
            THEN coalesce(mean_converted > l.high + 1e-9 * abs(l.high), false)
                 OR coalesce(mean_converted < l.low - 1e-9 * abs(l.low), false) END AS exceeded
FROM judged j LEFT JOIN LATERAL (
    SELECT high, low FROM limit_value_known l
    WHERE l.base_id = j.base_id AND l.unit_id = j.unit_id AND l.quantity = j.quantity AND l.statistic = 'month'
      AND l.rank <> 'internal' AND l.valid_from <= j.month AND (l.valid_to IS NULL OR j.month < l.valid_to)
    ORDER BY l.rank = 'permit' DESC, l.valid_from DESC LIMIT 1) l ON true;
