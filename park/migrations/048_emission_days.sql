-- A row an outlet, pollutant and day: days of emission are read from 365 rows a year instead of 8,760. The statement that writes
-- hours counts their days again, so that both agree at every moment; of a past instant the hours themselves are asked.
CREATE TABLE emission_day (
    base_id smallint NOT NULL,
    unit_id integer NOT NULL,
    quantity text NOT NULL,
    day date NOT NULL,                           -- base-local
    hours_valid smallint NOT NULL,
    hours_stopped smallint NOT NULL,
    hours_exempt smallint NOT NULL,
    hours_insufficient smallint NOT NULL,
    hours_missing smallint NOT NULL,             -- without the insufficient ones
    measured double precision,                   -- means of the valid hours
    converted double precision,
    measured_by_flow double precision,           -- the same, weighted with the flow
    converted_by_flow double precision,
    max_converted double precision,
    mass_kg double precision,
    hours_substituted smallint NOT NULL,
    hours_exceeded smallint NOT NULL,
    PRIMARY KEY (base_id, day, unit_id, quantity)
);
SELECT secure_tables();

-- Count days again, given as arrays of one length; a day without an hour has no row.
CREATE FUNCTION count_emission(bases smallint[], units integer[], quantities text[], days date[]) RETURNS void
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
               count(*) FILTER (WHERE substituted), count(*) FILTER (WHERE exceeded)
        FROM (SELECT * FROM emission_1h e                    -- in the order of time, so that the same hours give the same sums
              WHERE e.base_id = t.base_id AND e.unit_id = t.unit_id AND e.quantity = t.quantity
                AND e.ts >= t.day::timestamp AT TIME ZONE b.timezone - interval '2 hours'
                AND e.ts < (t.day + 1)::timestamp AT TIME ZONE b.timezone + interval '2 hours' ORDER BY e.ts) e
        WHERE (e.ts AT TIME ZONE b.timezone)::date = t.day HAVING count(*) > 0) h
$$;
REVOKE EXECUTE ON FUNCTION count_emission(smallint[], integer[], text[], date[]) FROM PUBLIC;

CREATE FUNCTION follow_hours() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM count_emission(array_agg(base_id), array_agg(unit_id), array_agg(quantity), array_agg(day))
    FROM (SELECT DISTINCT c.base_id, c.unit_id, c.quantity, (c.ts AT TIME ZONE b.timezone)::date AS day
          FROM changed c JOIN base b USING (base_id)) d HAVING count(*) > 0;
    RETURN NULL;
END $$;
CREATE TRIGGER count_inserted AFTER INSERT ON emission_1h REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION follow_hours();
CREATE TRIGGER count_updated AFTER UPDATE ON emission_1h REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION follow_hours();
CREATE TRIGGER count_deleted AFTER DELETE ON emission_1h REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION follow_hours();

-- Days of a base begin at another instant in another zone.
CREATE FUNCTION follow_zone() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    DELETE FROM emission_day WHERE base_id = NEW.base_id;
    PERFORM count_emission(array_agg(base_id), array_agg(unit_id), array_agg(quantity), array_agg(day))
    FROM (SELECT DISTINCT base_id, unit_id, quantity, (ts AT TIME ZONE NEW.timezone)::date AS day
          FROM emission_1h WHERE base_id = NEW.base_id) d HAVING count(*) > 0;
    RETURN NULL;
END $$;
CREATE TRIGGER follow_zone AFTER UPDATE OF timezone ON base FOR EACH ROW WHEN (OLD.timezone IS DISTINCT FROM NEW.timezone)
    EXECUTE FUNCTION follow_zone();

DO $$
BEGIN
    PERFORM count_emission(array_agg(base_id), array_agg(unit_id), array_agg(quantity), array_agg(day))
    FROM (SELECT DISTINCT h.base_id, unit_id, quantity, (ts AT TIME ZONE timezone)::date AS day
          FROM emission_1h h JOIN base USING (base_id)) d HAVING count(*) > 0;
END $$;
ANALYZE emission_day;

-- As in 015, from the days; of a past instant from the hours as they stood.
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
           count(*) FILTER (WHERE substituted), count(*) FILTER (WHERE exceeded)
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
           hours_valid > 0 AND hours_valid >= CASE WHEN is_water THEN 0.75 ELSE 20 / 24.0 END
                                              * (hours_valid + hours_missing + hours_insufficient) AS valid
    FROM named
)
SELECT j.base_id, j.day, j.unit_id, j.quantity, hours_valid, hours_stopped, hours_exempt, hours_missing, mean_measured,
       mean_converted, max_converted, mass_kg, hours_substituted, hours_exceeded, valid,
       coalesce(l.high, l.low) AS limit_value,
       CASE WHEN valid AND coalesce(l.high, l.low) IS NOT NULL
            THEN coalesce(mean_converted > l.high, false) OR coalesce(mean_converted < l.low, false) END AS exceeded,
       hours_insufficient
FROM judged j LEFT JOIN LATERAL (
    SELECT high, low FROM limit_value_known l
    WHERE l.base_id = j.base_id AND l.unit_id = j.unit_id AND l.quantity = j.quantity AND l.statistic = 'day'
      AND l.rank <> 'internal' AND l.valid_from <= j.day AND (l.valid_to IS NULL OR j.day < l.valid_to)
    ORDER BY l.rank = 'permit' DESC, l.valid_from DESC LIMIT 1) l ON true;
