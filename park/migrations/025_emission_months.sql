-- Months of emission; names of the pollutants of waste incineration.
INSERT INTO quantity_name VALUES ('hcl', '氯化氢', 'HCl'), ('co', '一氧化碳', 'CO');

-- A month of an outlet and pollutant: the mean of its valid days. Air: valid with 25 valid days, February 23 (HJ 76-2017 Annex B);
-- water with 75 % (HJ 356-2019). Days on which nothing was due (stopped or exempt all day) reduce that in the same proportion.
CREATE VIEW emission_1mo WITH (security_barrier) AS
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
            THEN coalesce(mean_converted > l.high, false) OR coalesce(mean_converted < l.low, false) END AS exceeded
FROM judged j LEFT JOIN LATERAL (
    SELECT high, low FROM limit_value_known l
    WHERE l.base_id = j.base_id AND l.unit_id = j.unit_id AND l.quantity = j.quantity AND l.statistic = 'month'
      AND l.rank <> 'internal' AND l.valid_from <= j.month AND (l.valid_to IS NULL OR j.month < l.valid_to)
    ORDER BY l.rank = 'permit' DESC, l.valid_from DESC LIMIT 1) l ON true;
GRANT SELECT ON emission_1mo
    TO park_operator, park_contractor, park_enterprise, park_auditor, park_admin, park_grafana, park_service;
