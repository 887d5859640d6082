-- Histories and views that stay quick: rows are found by equal keys, days are joined with few rows known beforehand.

-- As before, by equality where a column of the key holds no NULL, so that an index or a hash finds the rows.
CREATE OR REPLACE FUNCTION take_back() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    past text := TG_TABLE_NAME || '_history';
    any_today boolean;
    same_key text;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT FROM written) AND EXISTS (SELECT FROM %I WHERE superseded_at = now())', past) INTO any_today;
    IF NOT any_today THEN RETURN NULL; END IF;
    SELECT string_agg(format(CASE WHEN a.attnotnull THEN 'h.%1$I = n.%1$I' ELSE 'h.%1$I IS NOT DISTINCT FROM n.%1$I' END, k), ' AND ')
    INTO same_key
    FROM unnest(string_to_array(obj_description(to_regclass(past), 'pg_class'), ' ')) k
    JOIN pg_attribute a ON a.attrelid = TG_RELID AND a.attname = k;
    EXECUTE format('WITH same AS (
            DELETE FROM %1$I h USING written n WHERE h.superseded_at = now() AND %3$s
              AND to_jsonb(h) - ''{recorded_at,superseded_at,superseded_by,reason}''::text[] = to_jsonb(n) - ''recorded_at''
            RETURNING h.*)
        UPDATE %2$I n SET recorded_at = h.recorded_at FROM same h WHERE %3$s', past, TG_TABLE_NAME, same_key);
    RETURN NULL;
END $$;

-- Counters with the factors of their carrier: a row a span of time, [begins, ends), in which one set holds; the spans of a counter
-- leave nothing out. Distinct by what names a row, so that it is computed once and before days are looked up, not for each of them.
CREATE VIEW counter_factor AS
SELECT DISTINCT ON (c.base_id, c.point_id, f.valid_from)
       c.base_id, c.point_id, f.valid_from, c.enterprise_id, c.unit_id, c.carrier, c.direction, c.boundary, c.unit, c.multiplier, c.timezone,
       coalesce(f.valid_from, '-infinity')::timestamp AT TIME ZONE c.timezone AS begins,
       coalesce(f.valid_to, 'infinity')::timestamp AT TIME ZONE c.timezone AS ends,
       f.tce_calorific, f.tce_equivalent, f.co2_kg, f.factor_ids
FROM energy_counter c LEFT JOIN (
    -- `before`: the time before a carrier's first factor
    SELECT base_id, carrier, CASE WHEN before THEN '-infinity' ELSE valid_from END AS valid_from,
           CASE WHEN before THEN valid_from ELSE valid_to END AS valid_to,
           CASE WHEN NOT before THEN tce_calorific END AS tce_calorific, CASE WHEN NOT before THEN tce_equivalent END AS tce_equivalent,
           CASE WHEN NOT before THEN co2_kg END AS co2_kg, CASE WHEN NOT before THEN factor_ids END AS factor_ids
    FROM (SELECT *, row_number() OVER (PARTITION BY base_id, carrier ORDER BY valid_from) AS nth FROM carrier_factor) x
    JOIN (VALUES (false), (true)) AS v (before) ON NOT before OR nth = 1
) f ON f.base_id = c.base_id AND f.carrier = c.carrier;

CREATE OR REPLACE VIEW energy_1d WITH (security_barrier) AS
SELECT i.base_id, (i.ts AT TIME ZONE c.timezone)::date AS day, i.point_id, c.enterprise_id, c.unit_id, c.carrier, c.direction,
       c.boundary, c.unit, i.amount * c.multiplier AS amount, i.estimated * c.multiplier AS estimated,
       i.n_expected, i.n_known, i.n_good,
       i.amount * c.multiplier * c.tce_calorific AS tce_calorific,
       i.amount * c.multiplier * c.tce_equivalent AS tce_equivalent,
       -- own generation (PV) emits nothing where it is used; its grid share is not bought
       i.amount * c.multiplier * CASE WHEN c.direction = 'generation' THEN 0 ELSE c.co2_kg END AS co2_kg,
       coalesce(c.factor_ids, '{}') AS factor_ids, i.ts
FROM counter_factor c JOIN interval_1d_known i ON i.base_id = c.base_id AND i.point_id = c.point_id AND i.ts >= c.begins AND i.ts < c.ends
WHERE c.base_id = ANY ((SELECT visible_bases())::smallint[]);

-- With its ends known the days are found by their index; a plan for whatever ends reads them all.
ALTER FUNCTION energy_between(smallint, date, date) SET plan_cache_mode = 'force_custom_plan';
