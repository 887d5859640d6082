-- What was known at an instant. A figure or catalogue row that changes leaves its former version in <table>_history: from when
-- to when it stood, who replaced it and why. The view <table>_known shows the rows as they stood at park.as_of (a setting of
-- the transaction; not set: now), and every published view reads those, so one SQL answers for now and for then.

CREATE FUNCTION known_at() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(nullif(current_setting('park.as_of', true), '')::timestamptz, 'infinity')
$$;

-- Versions of figures are kept to the second for 30 days; of older ones those that stood at a local midnight. An older instant
-- is therefore taken as the local midnight before it.
CREATE FUNCTION known_instant(asked timestamptz, zone text) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN asked < now() - interval '30 days' AND isfinite(asked) THEN date_trunc('day', asked, zone) ELSE asked END
$$;

-- A row that is written again unchanged stays as it is; a changed one is known from this transaction on.
CREATE FUNCTION stamp_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.recorded_at IS NOT DISTINCT FROM OLD.recorded_at THEN
        IF NEW IS NOT DISTINCT FROM OLD THEN RETURN NULL; END IF;
        NEW.recorded_at := CASE WHEN OLD.recorded_at > now() AND isfinite(OLD.recorded_at)
                                THEN OLD.recorded_at + interval '1 microsecond' ELSE now() END;
    END IF;
    RETURN NEW;
END $$;

-- Former versions of updated or deleted rows; what lived only within this transaction was never seen by anybody.
CREATE FUNCTION keep_former() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF current_setting('park.history', true) = 'off' THEN RETURN NULL; END IF;      -- a computation that will be rolled back
    EXECUTE format('INSERT INTO %1$I (%2$s, superseded_at, superseded_by, reason)
        SELECT %2$s, CASE WHEN recorded_at > now() AND isfinite(recorded_at) THEN recorded_at + interval ''1 microsecond'' ELSE now() END,
               coalesce(nullif(current_setting(''park.actor'', true), ''''), session_user), coalesce(current_setting(''park.reason'', true), '''')
        FROM former WHERE recorded_at <> now()', TG_TABLE_NAME || '_history', TG_ARGV[0]);
    RETURN NULL;
END $$;

-- A pass may delete rows and write them again in one transaction: what comes back as it was has not been superseded.
CREATE FUNCTION take_back() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    any_today boolean;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT FROM %I WHERE superseded_at = now())', TG_TABLE_NAME || '_history') INTO any_today;
    IF any_today THEN
        EXECUTE format('WITH same AS (
                DELETE FROM %1$I h USING written n WHERE h.superseded_at = now() AND %3$s
                  AND to_jsonb(h) - ''{recorded_at,superseded_at,superseded_by,reason}''::text[] = to_jsonb(n) - ''recorded_at''
                RETURNING h.*)
            UPDATE %2$I n SET recorded_at = h.recorded_at FROM same h WHERE %3$s',
            TG_TABLE_NAME || '_history', TG_TABLE_NAME, TG_ARGV[0]);
    END IF;
    RETURN NULL;
END $$;

-- From here on a table keeps its former versions. `key` are the columns that name a row. May be called again, after a migration
-- gave the table another column.
CREATE FUNCTION keep_history(name text, key text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    past text := name || '_history';
    columns text;
    same_key text := (SELECT string_agg(format('h.%1$I IS NOT DISTINCT FROM n.%1$I', k), ' AND ') FROM unnest(key) k);
    missing record;
    rule text;
BEGIN
    EXECUTE format('ALTER TABLE %I ADD COLUMN IF NOT EXISTS recorded_at timestamptz NOT NULL DEFAULT now()', name);
    IF to_regclass(past) IS NULL THEN
        EXECUTE format('CREATE TABLE %I (superseded_at timestamptz NOT NULL, superseded_by text NOT NULL DEFAULT '''',
                        reason text NOT NULL DEFAULT '''', LIKE %I)', past, name);
        EXECUTE format('CREATE INDEX ON %I (%s)', past, (SELECT string_agg(quote_ident(k), ', ') FROM unnest(key) k));
        EXECUTE format('CREATE INDEX ON %I (superseded_at)', past);
        SELECT pg_get_expr(polqual, polrelid) INTO rule FROM pg_policy WHERE polrelid = name::regclass AND polname = 'enterprise';
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', past);
        EXECUTE format('CREATE POLICY enterprise ON %I AS RESTRICTIVE TO park_enterprise USING (%s)', past, coalesce(rule, 'false'));
        EXECUTE format('COMMENT ON TABLE %I IS %L', past, array_to_string(key, ' '));
    END IF;
    FOR missing IN
        SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS type FROM pg_attribute a
        WHERE a.attrelid = name::regclass AND a.attnum > 0 AND NOT a.attisdropped
          AND NOT EXISTS (SELECT FROM pg_attribute h WHERE h.attrelid = past::regclass AND h.attname = a.attname)
    LOOP
        EXECUTE format('ALTER TABLE %I ADD COLUMN %I %s', past, missing.attname, missing.type);
    END LOOP;
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO columns FROM pg_attribute
    WHERE attrelid = name::regclass AND attnum > 0 AND NOT attisdropped;
    EXECUTE format('CREATE OR REPLACE TRIGGER stamp_version BEFORE UPDATE ON %I FOR EACH ROW EXECUTE FUNCTION stamp_version()', name);
    EXECUTE format('CREATE OR REPLACE TRIGGER keep_updated AFTER UPDATE ON %I REFERENCING OLD TABLE AS former
                    FOR EACH STATEMENT EXECUTE FUNCTION keep_former(%L)', name, columns);
    EXECUTE format('CREATE OR REPLACE TRIGGER keep_deleted AFTER DELETE ON %I REFERENCING OLD TABLE AS former
                    FOR EACH STATEMENT EXECUTE FUNCTION keep_former(%L)', name, columns);
    EXECUTE format('CREATE OR REPLACE TRIGGER take_back AFTER INSERT ON %I REFERENCING NEW TABLE AS written
                    FOR EACH STATEMENT EXECUTE FUNCTION take_back(%L)', name, same_key);
    EXECUTE format('CREATE OR REPLACE VIEW %I WITH (security_invoker) AS
        SELECT %2$s FROM %3$I WHERE recorded_at <= (SELECT known_at())
        UNION ALL
        SELECT %2$s FROM %4$I WHERE isfinite((SELECT known_at())) AND recorded_at <= (SELECT known_at())
                               AND superseded_at > (SELECT known_at())', name || '_known', columns, name, past);
    EXECUTE format('GRANT SELECT ON %I TO park_operator, park_contractor, park_enterprise, park_auditor, park_admin, park_service',
                   name || '_known');
END $$;

-- After migrations: every history follows the columns that its table has got since.
CREATE FUNCTION keep_histories() RETURNS void LANGUAGE sql AS $$
    SELECT keep_history(left(relname, -8), string_to_array(obj_description(oid, 'pg_class'), ' '))
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname LIKE '%\_history'
      AND obj_description(oid, 'pg_class') IS NOT NULL AND to_regclass(left(relname, -8)) IS NOT NULL
$$;

SELECT keep_history(t.name, string_to_array(t.key, ' ')) FROM (VALUES
    ('base', 'base_id'), ('enterprise', 'base_id enterprise_id'), ('unit', 'base_id unit_id'), ('device', 'base_id device_id'),
    ('point', 'base_id point_id'), ('meter', 'base_id meter_id'), ('flow', 'base_id flow_id'),
    ('calendar', 'base_id code day'), ('rule', 'base_id rule_id'),
    ('interval_1d', 'base_id point_id ts'), ('cost_1d', 'base_id point_id day period'),
    ('energy_total', 'base_id day enterprise_id carrier'), ('emission_1h', 'base_id unit_id quantity ts'),
    ('indicator_value', 'base_id indicator period'), ('bill', 'base_id enterprise_id month'),
    ('bill_line', 'base_id enterprise_id month line'), ('treatment_event', 'base_id event_id')) AS t (name, key);

-- Rows from before: the catalogue counts as always known, a figure as known when its period was over.
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['base', 'enterprise', 'unit', 'device', 'point', 'calendar'] LOOP
        EXECUTE format('UPDATE %I SET recorded_at = ''-infinity''', name);
        EXECUTE format('TRUNCATE %I', name || '_history');
    END LOOP;
END $$;
UPDATE interval_1d SET recorded_at = least(now(), ts + interval '1 day');
UPDATE cost_1d c SET recorded_at = least(now(), (c.day + 1)::timestamp AT TIME ZONE b.timezone) FROM base b WHERE b.base_id = c.base_id;
UPDATE energy_total t SET recorded_at = least(now(), (t.day + 1)::timestamp AT TIME ZONE b.timezone) FROM base b WHERE b.base_id = t.base_id;
UPDATE emission_1h SET recorded_at = least(now(), ts + interval '1 hour');
UPDATE indicator_value SET recorded_at = computed_at;
UPDATE bill SET recorded_at = least(now(), month + interval '1 month');
UPDATE bill_line SET recorded_at = least(now(), month + interval '1 month');
UPDATE treatment_event SET recorded_at = coalesce(ended_at, started_at);
TRUNCATE interval_1d_history, cost_1d_history, energy_total_history, emission_1h_history, indicator_value_history, bill_history,
    bill_line_history, treatment_event_history;

-- Slots of a counter: the values that they no longer have. When a slot was first written is not kept: its day tells.
CREATE TABLE interval_15m_history (
    superseded_at timestamptz NOT NULL,
    superseded_by text NOT NULL DEFAULT '',
    reason text NOT NULL DEFAULT '',
    ts timestamptz NOT NULL,
    amount double precision,
    point_id integer NOT NULL,
    base_id smallint NOT NULL,
    quality smallint NOT NULL,
    method smallint NOT NULL
);
CREATE INDEX ON interval_15m_history (base_id, point_id, ts);
CREATE INDEX ON interval_15m_history (superseded_at);
CREATE FUNCTION keep_former_slots() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF current_setting('park.history', true) = 'off' THEN RETURN NULL; END IF;      -- a computation that will be rolled back
    INSERT INTO interval_15m_history (superseded_at, superseded_by, reason, ts, amount, point_id, base_id, quality, method)
    SELECT now(), coalesce(nullif(current_setting('park.actor', true), ''), session_user), coalesce(current_setting('park.reason', true), ''),
           ts, amount, point_id, base_id, quality, method FROM former;
    RETURN NULL;
END $$;
CREATE TRIGGER keep_deleted AFTER DELETE ON interval_15m REFERENCING OLD TABLE AS former
    FOR EACH STATEMENT EXECUTE FUNCTION keep_former_slots();
CREATE TRIGGER keep_updated AFTER UPDATE ON interval_15m REFERENCING OLD TABLE AS former
    FOR EACH STATEMENT EXECUTE FUNCTION keep_former_slots();

-- Rows that supersede each other in their own table, and who wrote them.
DO $$
DECLARE
    name text;
    until text;
    rule text;
BEGIN
    FOREACH name IN ARRAY ARRAY['factor', 'limit_value', 'tariff', 'target', 'setting', 'baseline', 'exempt_period'] LOOP
        until := CASE WHEN name = 'exempt_period' THEN 'withdrawn_at' ELSE 'superseded_at' END;
        EXECUTE format('ALTER TABLE %I ADD COLUMN IF NOT EXISTS recorded_by text NOT NULL
                        DEFAULT coalesce(nullif(current_setting(''park.actor'', true), ''''), session_user)', name);
        EXECUTE format('CREATE VIEW %1$I WITH (security_invoker) AS SELECT * FROM %2$I
            WHERE recorded_at <= (SELECT known_at()) AND (%3$s IS NULL OR %3$s > (SELECT known_at()))', name || '_known', name, until);
        EXECUTE format('GRANT SELECT ON %I TO park_operator, park_contractor, park_enterprise, park_auditor, park_admin, park_service',
                       name || '_known');
    END LOOP;
END $$;
CREATE VIEW ledger_known WITH (security_invoker) AS
SELECT * FROM ledger l WHERE recorded_at <= (SELECT known_at())
  AND NOT EXISTS (SELECT FROM ledger s WHERE s.base_id = l.base_id AND s.supersedes = l.entry_id AND s.recorded_at <= (SELECT known_at()));
GRANT SELECT ON ledger_known TO park_operator, park_contractor, park_enterprise, park_auditor, park_admin, park_service;

-- Versions of figures that stood at no local midnight, once they are old. Called by accounting; the answer is how many went.
CREATE FUNCTION thin_history(base smallint, zone text, before timestamptz) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    name text;
    gone bigint;
    total bigint := 0;
BEGIN
    FOREACH name IN ARRAY ARRAY['interval_1d', 'cost_1d', 'energy_total', 'emission_1h', 'indicator_value', 'bill', 'bill_line',
                                'treatment_event'] LOOP
        EXECUTE format('DELETE FROM %I WHERE base_id = $1 AND superseded_at < $3
            AND date_trunc(''day'', superseded_at, $2) = date_trunc(''day'', recorded_at, $2)
            AND recorded_at > date_trunc(''day'', recorded_at, $2)', name || '_history') USING base, zone, before;
        GET DIAGNOSTICS gone = ROW_COUNT;
        total := total + gone;
    END LOOP;
    RETURN total;
END $$;

-- The published views as they stand at park.as_of.
CREATE OR REPLACE VIEW factor_effective AS
WITH place AS (
    SELECT base_id, regexp_split_to_array(region, '\s*[/,、·]\s*') AS regions FROM base_known
), candidate AS (
    SELECT b.base_id, f.carrier, f.kind, f.factor_id, f.value, f.unit, f.valid_from, f.valid_to,
           f.base_id IS NOT NULL AS own, CASE WHEN f.region = '' THEN 0 ELSE array_position(b.regions, f.region) END AS nearness
    FROM place b JOIN factor_known f ON (f.base_id = b.base_id OR f.base_id IS NULL)
                              AND (f.region = '' OR f.region = ANY (b.regions))
), edge AS (
    SELECT base_id, carrier, kind, valid_from AS day FROM candidate
    UNION SELECT base_id, carrier, kind, valid_to FROM candidate WHERE valid_to IS NOT NULL
), span AS (
    SELECT base_id, carrier, kind, day, lead(day) OVER (PARTITION BY base_id, carrier, kind ORDER BY day) AS next_day FROM edge
)
SELECT DISTINCT ON (s.base_id, s.carrier, s.kind, s.day)
       s.base_id, s.carrier, s.kind, s.day AS valid_from, s.next_day AS valid_to, c.factor_id, c.value, c.unit
FROM span s JOIN candidate c ON (c.base_id, c.carrier, c.kind) = (s.base_id, s.carrier, s.kind)
                            AND c.valid_from <= s.day AND (c.valid_to IS NULL OR c.valid_to > s.day)
ORDER BY s.base_id, s.carrier, s.kind, s.day, c.own DESC, c.nearness DESC, c.valid_from DESC, c.factor_id DESC;

CREATE OR REPLACE VIEW unit_owner AS
WITH RECURSIVE up (base_id, unit_id, at_id, enterprise_id, depth) AS (
    SELECT base_id, unit_id, parent_id, enterprise_id, 0 FROM unit_known
    UNION ALL
    SELECT up.base_id, up.unit_id, u.parent_id, u.enterprise_id, up.depth + 1
    FROM up JOIN unit_known u ON u.base_id = up.base_id AND u.unit_id = up.at_id
    WHERE up.enterprise_id IS NULL AND up.depth < 50
)
SELECT base_id, unit_id, max(enterprise_id) AS enterprise_id FROM up GROUP BY 1, 2;

CREATE OR REPLACE VIEW energy_counter AS
SELECT p.base_id, p.point_id, p.unit_id, o.enterprise_id, p.carrier, p.direction, p.boundary,
       coalesce(c.unit, p.unit) AS unit,
       CASE WHEN c.unit IS NULL OR c.unit = p.unit THEN 1 ELSE coalesce(own.multiplier, any_carrier.multiplier) END AS multiplier,
       coalesce(c.at_gate_only, false) AS at_gate_only,
       EXISTS (SELECT FROM flow_known f WHERE f.base_id = p.base_id AND f.kind = 'exchange' AND f.carrier = p.carrier
               AND p.point_id IN (f.parent_id, f.child_id)) AS exchanged,
       b.timezone, p.attributes ->> 'made_from' AS made_from, p.attributes ->> 'used_as' AS used_as
FROM point_known p JOIN base_known b USING (base_id)
LEFT JOIN unit_owner o USING (base_id, unit_id)
LEFT JOIN carrier c USING (carrier)
LEFT JOIN unit_conversion own ON (own.carrier, own.source, own.target) = (p.carrier, p.unit, c.unit)
LEFT JOIN unit_conversion any_carrier ON (any_carrier.carrier, any_carrier.source, any_carrier.target) = ('', p.unit, c.unit)
WHERE p.kind = 'counter' AND p.carrier IS NOT NULL;

CREATE OR REPLACE VIEW energy_1d WITH (security_barrier) AS
SELECT e.base_id, e.day, e.point_id, e.enterprise_id, e.unit_id, e.carrier, e.direction, e.boundary, e.unit, e.amount,
       e.estimated, e.n_expected, e.n_known, e.n_good,
       e.amount * f.tce_calorific AS tce_calorific,
       e.amount * f.tce_equivalent AS tce_equivalent,
       -- own generation (PV) emits nothing where it is used; its grid share is not bought
       CASE WHEN e.direction = 'generation' THEN e.amount * 0 ELSE e.amount * f.co2_kg END AS co2_kg,
       coalesce(f.factor_ids, '{}') AS factor_ids
FROM (
    SELECT i.base_id, (i.ts AT TIME ZONE c.timezone)::date AS day, i.point_id, c.enterprise_id, c.unit_id, c.carrier,
           c.direction, c.boundary, c.unit, i.amount * c.multiplier AS amount, i.estimated * c.multiplier AS estimated,
           i.n_expected, i.n_known, i.n_good
    FROM energy_counter c JOIN interval_1d_known i ON i.base_id = c.base_id AND i.point_id = c.point_id
    WHERE c.base_id = ANY ((SELECT visible_bases())::smallint[])
) e
LEFT JOIN carrier_factor f ON f.base_id = e.base_id AND f.carrier = e.carrier AND f.valid_from <= e.day AND e.day < f.valid_to;

CREATE OR REPLACE VIEW energy_total_1d WITH (security_barrier) AS
SELECT t.base_id, t.day, t.enterprise_id, t.carrier, t.unit, t.amount, t.generation, t.export, t.estimated, t.n_expected, t.n_known,
       t.n_good, t.tce_calorific, t.tce_equivalent, t.co2_kg, t.cost, t.factor_ids,
       c.scope, t.billed, t.made_inside, t.feedstock, t.green, t.tce_calorific_assessed, t.tce_equivalent_assessed,
       t.co2_market_kg, t.setting_ids, t.market_factor_ids, t.ledger_ids
FROM energy_total_known t LEFT JOIN carrier c USING (carrier)
WHERE t.base_id = ANY ((SELECT visible_bases())::smallint[]);

CREATE OR REPLACE VIEW balance_1d WITH (security_barrier) AS
WITH member AS (
    SELECT base_id, carrier, parent_id, child_id AS point_id, valid_from, valid_to, false AS is_parent FROM flow_known WHERE kind = 'sub'
    UNION ALL
    SELECT DISTINCT base_id, carrier, parent_id, parent_id, min(valid_from), nullif(max(coalesce(valid_to, 'infinity')), 'infinity'), true
    FROM flow_known WHERE kind = 'sub' GROUP BY 1, 2, 3
), part AS (
    SELECT m.base_id, (i.ts AT TIME ZONE c.timezone)::date AS day, m.carrier, m.parent_id, m.is_parent, m.valid_from, m.valid_to,
           i.n_expected, i.n_known,
           i.amount * c.multiplier * CASE WHEN NOT m.is_parent AND c.direction IN ('generation', 'export') THEN -1 ELSE 1 END AS amount
    FROM member m JOIN energy_counter c ON c.base_id = m.base_id AND c.point_id = m.point_id
    JOIN interval_1d_known i ON i.base_id = m.base_id AND i.point_id = m.point_id
    WHERE m.base_id = ANY ((SELECT visible_bases())::smallint[])
)
SELECT base_id, day, carrier, parent_id,
       sum(amount) FILTER (WHERE is_parent) AS parent_amount,
       sum(amount) FILTER (WHERE NOT is_parent) AS children_amount,
       CASE WHEN bool_and(amount IS NOT NULL) AND bool_or(is_parent) AND NOT bool_and(is_parent)
            THEN sum(CASE WHEN is_parent THEN amount ELSE -amount END) END AS unaccounted,
       sum(n_expected)::integer AS n_expected, sum(n_known)::integer AS n_known
FROM part WHERE valid_from <= day AND (valid_to IS NULL OR day < valid_to)
GROUP BY base_id, day, carrier, parent_id;

CREATE OR REPLACE VIEW emission_1d WITH (security_barrier) AS
WITH hour AS (
    SELECT e.base_id, (e.ts AT TIME ZONE b.timezone)::date AS day, e.unit_id, e.quantity, e.state, e.measured, e.converted, e.flow,
           e.mass_kg, e.substituted, e.exceeded, u.attributes ->> 'medium' = 'water' AS is_water
    FROM emission_1h_known e JOIN base_known b USING (base_id) JOIN unit_known u USING (base_id, unit_id)
    WHERE e.base_id = ANY ((SELECT visible_bases())::smallint[])
), summed AS (
    SELECT base_id, day, unit_id, quantity, is_water,
           count(*) FILTER (WHERE state = 'valid')::integer AS hours_valid,
           count(*) FILTER (WHERE state = 'stopped')::integer AS hours_stopped,
           count(*) FILTER (WHERE state = 'exempt')::integer AS hours_exempt,
           count(*) FILTER (WHERE state IN ('missing', 'insufficient'))::integer AS hours_missing,
           CASE WHEN is_water AND quantity <> 'ph'
                THEN sum(measured * flow) FILTER (WHERE state = 'valid') / nullif(sum(flow) FILTER (WHERE state = 'valid' AND measured IS NOT NULL), 0)
                ELSE avg(measured) FILTER (WHERE state = 'valid') END AS mean_measured,
           CASE WHEN is_water AND quantity <> 'ph'
                THEN sum(converted * flow) FILTER (WHERE state = 'valid') / nullif(sum(flow) FILTER (WHERE state = 'valid' AND converted IS NOT NULL), 0)
                ELSE avg(converted) FILTER (WHERE state = 'valid') END AS mean_converted,
           max(converted) FILTER (WHERE state = 'valid') AS max_converted,
           sum(mass_kg) AS mass_kg,
           count(*) FILTER (WHERE substituted)::integer AS hours_substituted,
           count(*) FILTER (WHERE exceeded)::integer AS hours_exceeded
    FROM hour GROUP BY 1, 2, 3, 4, 5
), judged AS (
    SELECT *, hours_valid > 0 AND hours_valid >= CASE WHEN is_water THEN 0.75 ELSE 20 / 24.0 END
                                               * (hours_valid + hours_missing) AS valid
    FROM summed
)
SELECT j.base_id, j.day, j.unit_id, j.quantity, hours_valid, hours_stopped, hours_exempt, hours_missing, mean_measured,
       mean_converted, max_converted, mass_kg, hours_substituted, hours_exceeded, valid,
       coalesce(l.high, l.low) AS limit_value,
       CASE WHEN valid AND coalesce(l.high, l.low) IS NOT NULL
            THEN coalesce(mean_converted > l.high, false) OR coalesce(mean_converted < l.low, false) END AS exceeded
FROM judged j LEFT JOIN LATERAL (
    SELECT high, low FROM limit_value_known l
    WHERE l.base_id = j.base_id AND l.unit_id = j.unit_id AND l.quantity = j.quantity AND l.statistic = 'day'
      AND l.rank <> 'internal' AND l.valid_from <= j.day AND (l.valid_to IS NULL OR j.day < l.valid_to)
    ORDER BY l.rank = 'permit' DESC, l.valid_from DESC LIMIT 1) l ON true;

CREATE OR REPLACE VIEW capture_rate_1q WITH (security_barrier) AS
WITH counted AS (
    SELECT e.base_id, e.unit_id, e.quantity, date_trunc('quarter', e.ts AT TIME ZONE b.timezone)::date AS quarter,
           count(*)::integer AS hours,
           count(*) FILTER (WHERE e.state = 'stopped')::integer AS hours_stopped,
           count(*) FILTER (WHERE e.state = 'valid')::integer AS hours_valid,
           count(*) FILTER (WHERE e.state = 'exempt')::integer AS hours_exempt,
           count(*) FILTER (WHERE e.state = 'insufficient')::integer AS hours_insufficient,
           count(*) FILTER (WHERE e.state = 'missing')::integer AS hours_missing,
           count(*) FILTER (WHERE e.substituted)::integer AS hours_substituted,
           count(*) FILTER (WHERE e.mass_kg IS NULL)::integer AS hours_without_mass
    FROM emission_1h_known e JOIN base_known b USING (base_id)
    WHERE e.base_id = ANY ((SELECT visible_bases())::smallint[]) GROUP BY 1, 2, 3, 4
)
SELECT c.*, (hours_valid + hours_exempt)::double precision / nullif(hours - hours_stopped, 0) AS capture_rate,
       coalesce((hours_valid + hours_exempt)::double precision / nullif(hours - hours_stopped, 0), 1) >= 0.75 AS usable,
       CASE WHEN u.attributes ->> 'medium' = 'water' THEN 'HJ 356-2019'
            WHEN hours = hours_stopped THEN 'no hour due'
            WHEN (hours_valid + hours_exempt)::double precision / (hours - hours_stopped) >= 0.90 THEN
                'HJ 75-2017: capture at least 90 %, runs to 24 h by 180 valid hours, longer ones by 720'
            WHEN (hours_valid + hours_exempt)::double precision / (hours - hours_stopped) >= 0.75 THEN
                'HJ 75-2017: capture 75 to 90 %, by 2160 valid hours'
            ELSE 'HJ 75-2017: more than 25 % missing, automatic data not usable' END AS rule
FROM counted c JOIN unit_known u USING (base_id, unit_id);

CREATE OR REPLACE VIEW transmission_rate_1q WITH (security_barrier) AS
WITH counted AS (
    SELECT e.base_id, e.unit_id, e.quantity, date_trunc('quarter', e.ts AT TIME ZONE b.timezone)::date AS quarter,
           count(*) FILTER (WHERE state <> 'stopped')::integer AS hours_due,
           count(*) FILTER (WHERE state <> 'stopped' AND (state <> 'missing' OR exempt_id IS NOT NULL))::integer AS hours_received,
           count(*) FILTER (WHERE state IN ('valid', 'exempt') OR state <> 'stopped' AND exempt_id IS NOT NULL)::integer
               AS hours_valid,
           count(*) FILTER (WHERE state <> 'stopped' AND exempt_id IS NOT NULL)::integer AS hours_marked
    FROM emission_1h_known e JOIN base_known b USING (base_id)
    WHERE e.base_id = ANY ((SELECT visible_bases())::smallint[]) GROUP BY 1, 2, 3, 4
)
SELECT *, hours_received::double precision / nullif(hours_due, 0) AS transmission_rate,
       hours_valid::double precision / nullif(hours_received, 0) AS valid_rate,
       hours_valid::double precision / nullif(hours_due, 0) AS effective_rate
FROM counted;

