-- The figures that api, console, Grafana and reports read, so that a figure is the same everywhere (docs/architecture.md).
-- Views run with their owner's rights and show the bases of `visible_bases()`; what is too slow as a view is a table that
-- the accounting pass keeps (`energy_total`), with a view of the published name over it.

-- Carriers and the unit their figures are published in. A medium (耗能工质) is made from another carrier: inside the park it
-- counts only at the gate. `at_gate_only`: without a `base` counter it is not part of the base's energy.
CREATE TABLE carrier (
    carrier text PRIMARY KEY,
    unit text NOT NULL,
    zh text NOT NULL,
    en text NOT NULL,
    at_gate_only boolean NOT NULL DEFAULT false
);
INSERT INTO carrier (carrier, unit, zh, en, at_gate_only) VALUES
    ('electricity', 'kWh', '电力', 'electricity', false),
    ('natural_gas', 'Nm3', '天然气', 'natural gas', false),
    ('steam', 't', '蒸汽', 'steam', false),
    ('heat', 'GJ', '热力', 'heat', false),
    ('water', 'm3', '新鲜水', 'fresh water', false),
    ('reclaimed_water', 'm3', '再生水', 'reclaimed water', false),
    ('compressed_air', 'm3', '压缩空气', 'compressed air', true),
    ('diesel', 't', '柴油', 'diesel', false),
    ('coal', 't', '原煤', 'coal', false);
GRANT SELECT ON carrier TO park_operator, park_contractor, park_enterprise, park_auditor, park_admin, park_service, park_api, park_grafana;

-- amount in `target` = amount in `source` x multiplier; carrier '' holds for every carrier.
CREATE TABLE unit_conversion (
    carrier text NOT NULL DEFAULT '',
    source text NOT NULL,
    target text NOT NULL,
    multiplier double precision NOT NULL,
    reason text NOT NULL DEFAULT '',
    PRIMARY KEY (carrier, source, target)
);
WITH unit (dimension, code, factor) AS (VALUES
    ('energy', 'kWh', 1.0), ('energy', 'MWh', 1000), ('energy', 'Wh', 0.001), ('energy', 'GJ', 1 / 0.0036),
    ('energy', 'MJ', 1 / 3.6), ('energy', 'kJ', 1 / 3600.0),
    ('mass', 't', 1), ('mass', 'kg', 0.001), ('mass', 'g', 0.000001),
    ('volume', 'm3', 1), ('volume', 'L', 0.001), ('volume_standard', 'Nm3', 1))
INSERT INTO unit_conversion (source, target, multiplier)
SELECT a.code, b.code, a.factor::double precision / b.factor FROM unit a JOIN unit b USING (dimension);
INSERT INTO unit_conversion (carrier, source, target, multiplier, reason) VALUES
    ('natural_gas', 'm3', 'Nm3', 273.15 / 293.15, 'm3 at 20 °C to Nm3 at 0 °C, same pressure (7.3 %)'),
    ('natural_gas', 'Nm3', 'm3', 293.15 / 273.15, 'Nm3 at 0 °C to m3 at 20 °C, same pressure (7.3 %)'),
    ('compressed_air', 'Nm3', 'm3', 293.15 / 273.15, 'Nm3 at 0 °C to m3 at 20 °C, same pressure'),
    ('water', 't', 'm3', 1, 'density 1 t/m3'), ('water', 'm3', 't', 1, 'density 1 t/m3'),
    ('reclaimed_water', 't', 'm3', 1, 'density 1 t/m3'), ('reclaimed_water', 'm3', 't', 1, 'density 1 t/m3');
GRANT SELECT ON unit_conversion TO park_operator, park_contractor, park_enterprise, park_auditor, park_admin, park_service, park_api, park_grafana;

-- The totals that count; rewritten by the pass for the days it touched.
CREATE TABLE energy_total (
    base_id smallint NOT NULL,
    day date NOT NULL,
    enterprise_id integer,                       -- NULL: the base
    carrier text NOT NULL,
    unit text NOT NULL,
    amount double precision,                     -- import - export, and + generation for electricity
    generation double precision,
    export double precision,
    estimated double precision NOT NULL DEFAULT 0,
    n_expected integer NOT NULL,
    n_known integer NOT NULL,
    n_good integer NOT NULL,
    tce_calorific double precision,              -- t
    tce_equivalent double precision,             -- t
    co2_kg double precision,
    cost double precision,                       -- CNY, of imported energy
    factor_ids integer[] NOT NULL DEFAULT '{}',
    UNIQUE NULLS NOT DISTINCT (base_id, enterprise_id, carrier, day)
);
CREATE INDEX energy_total_by_day ON energy_total (base_id, day);

CREATE TABLE indicator_value (
    base_id smallint NOT NULL,
    indicator text NOT NULL,
    period text NOT NULL,                        -- 2026 or 2026-11, base-local
    value double precision,                      -- NULL: withheld; `inputs` says why
    unit text NOT NULL,
    coverage double precision,                   -- known / expected parts of the figures behind it
    grade text NOT NULL CHECK (grade IN ('A', 'B', 'C')),    -- A metered, B bill or form, C estimated
    inputs jsonb NOT NULL DEFAULT '{}',
    computed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (base_id, indicator, period)
);

-- What accounting still has to compute: days of a point that late or new readings touched.
CREATE TABLE account_todo (
    base_id smallint NOT NULL,
    point_id integer NOT NULL,
    first timestamptz NOT NULL,                  -- first and last hour touched on that UTC day
    last timestamptz NOT NULL,
    day date NOT NULL,
    PRIMARY KEY (base_id, point_id, day)
);
CREATE INDEX account_todo_newest ON account_todo (day DESC, base_id, point_id);

-- Above which power a facility runs: learned from its readings, kept as dated rows so that a recompute decides the same.
CREATE TABLE power_band (
    base_id smallint NOT NULL,
    point_id integer NOT NULL,
    valid_from date NOT NULL,
    on_above double precision NOT NULL,          -- in the point's unit
    learned_days integer NOT NULL,
    learned_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (base_id, point_id, valid_from)
);

DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['energy_total', 'indicator_value', 'account_todo', 'power_band'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY service ON %I TO park_service USING (true) WITH CHECK (true)', name);
        EXECUTE format('CREATE POLICY base ON %I TO park_operator, park_contractor, park_enterprise, park_auditor, park_admin,
                        park_grafana USING (base_id = ANY ((SELECT visible_bases())::smallint[]))
                        WITH CHECK (base_id = ANY ((SELECT visible_bases())::smallint[]))', name);
        EXECUTE format('GRANT SELECT ON %I TO park_operator, park_contractor, park_enterprise, park_auditor, park_admin', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO park_service', name);
    END LOOP;
END $$;
GRANT SELECT ON indicator_value TO park_grafana;

-- The factor that holds for a base from one day to another: its own row before a national one, the nearer region before
-- the wider one. A region such as 华东/浙江 goes from wide to near.
CREATE VIEW factor_effective AS
WITH place AS (
    SELECT base_id, regexp_split_to_array(region, '\s*[/,、·]\s*') AS regions FROM base
), candidate AS (
    SELECT b.base_id, f.carrier, f.kind, f.factor_id, f.value, f.unit, f.valid_from, f.valid_to,
           f.base_id IS NOT NULL AS own, CASE WHEN f.region = '' THEN 0 ELSE array_position(b.regions, f.region) END AS nearness
    FROM place b JOIN factor f ON (f.base_id = b.base_id OR f.base_id IS NULL) AND f.superseded_at IS NULL
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

-- The three factors of a carrier side by side, per published unit of the carrier: t coal equivalent and kg CO2.
CREATE VIEW carrier_factor AS
WITH known AS (
    SELECT f.base_id, f.carrier, f.kind, f.valid_from, f.valid_to, f.factor_id,
           f.value * coalesce(own.multiplier, any_carrier.multiplier) * CASE split_part(f.unit, '/', 1)
               WHEN 'kgce' THEN 0.001 WHEN 'tce' THEN 1 WHEN 'gce' THEN 0.000001
               WHEN 'kgCO2' THEN 1 WHEN 'tCO2' THEN 1000 WHEN 'gCO2' THEN 0.001 END AS per_unit
    FROM factor_effective f JOIN carrier c USING (carrier)
    LEFT JOIN unit_conversion own ON (own.carrier, own.source, own.target) = (f.carrier, c.unit, split_part(f.unit, '/', 2))
    LEFT JOIN unit_conversion any_carrier
        ON (any_carrier.carrier, any_carrier.source, any_carrier.target) = ('', c.unit, split_part(f.unit, '/', 2))
    WHERE f.kind IN ('tce_calorific', 'tce_equivalent', 'co2', 'co2_residual')
), edge AS (
    SELECT base_id, carrier, valid_from AS day FROM known
    UNION SELECT base_id, carrier, valid_to FROM known WHERE valid_to IS NOT NULL
), span AS (
    SELECT base_id, carrier, day, lead(day) OVER (PARTITION BY base_id, carrier ORDER BY day) AS next_day FROM edge
)
SELECT s.base_id, s.carrier, s.day AS valid_from, coalesce(s.next_day, 'infinity'::date) AS valid_to,
       max(k.per_unit) FILTER (WHERE k.kind = 'tce_calorific') AS tce_calorific,
       max(k.per_unit) FILTER (WHERE k.kind = 'tce_equivalent') AS tce_equivalent,
       max(k.per_unit) FILTER (WHERE k.kind = 'co2') AS co2_kg,
       max(k.per_unit) FILTER (WHERE k.kind = 'co2_residual') AS co2_residual_kg,
       coalesce(array_agg(k.factor_id ORDER BY k.factor_id)
           FILTER (WHERE k.per_unit IS NOT NULL AND k.kind <> 'co2_residual'), '{}') AS factor_ids
FROM span s LEFT JOIN known k ON (k.base_id, k.carrier) = (s.base_id, s.carrier)
                             AND k.valid_from <= s.day AND (k.valid_to IS NULL OR k.valid_to > s.day)
GROUP BY 1, 2, 3, 4;

-- The enterprise of a unit: its own, or that of the nearest unit above it.
CREATE VIEW unit_owner AS
WITH RECURSIVE up (base_id, unit_id, at_id, enterprise_id, depth) AS (
    SELECT base_id, unit_id, parent_id, enterprise_id, 0 FROM unit
    UNION ALL
    SELECT up.base_id, up.unit_id, u.parent_id, u.enterprise_id, up.depth + 1
    FROM up JOIN unit u ON u.base_id = up.base_id AND u.unit_id = up.at_id
    WHERE up.enterprise_id IS NULL AND up.depth < 50
)
SELECT base_id, unit_id, max(enterprise_id) AS enterprise_id FROM up GROUP BY 1, 2;

-- Every energy or water counter with its owner and the multiplier from its unit to the carrier's published unit.
CREATE VIEW energy_counter AS
SELECT p.base_id, p.point_id, p.unit_id, o.enterprise_id, p.carrier, p.direction, p.boundary,
       coalesce(c.unit, p.unit) AS unit,
       CASE WHEN c.unit IS NULL OR c.unit = p.unit THEN 1 ELSE coalesce(own.multiplier, any_carrier.multiplier) END AS multiplier,
       coalesce(c.at_gate_only, false) AS at_gate_only,
       EXISTS (SELECT FROM flow f WHERE f.base_id = p.base_id AND f.kind = 'exchange' AND f.carrier = p.carrier
               AND p.point_id IN (f.parent_id, f.child_id)) AS exchanged,
       b.timezone
FROM point p JOIN base b USING (base_id)
LEFT JOIN unit_owner o USING (base_id, unit_id)
LEFT JOIN carrier c USING (carrier)
LEFT JOIN unit_conversion own ON (own.carrier, own.source, own.target) = (p.carrier, p.unit, c.unit)
LEFT JOIN unit_conversion any_carrier ON (any_carrier.carrier, any_carrier.source, any_carrier.target) = ('', p.unit, c.unit)
WHERE p.kind = 'counter' AND p.carrier IS NOT NULL;

CREATE VIEW energy_1d WITH (security_barrier) AS
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
    FROM energy_counter c JOIN interval_1d i ON i.base_id = c.base_id AND i.point_id = c.point_id
    WHERE c.base_id = ANY ((SELECT visible_bases())::smallint[])
) e
LEFT JOIN carrier_factor f ON f.base_id = e.base_id AND f.carrier = e.carrier AND f.valid_from <= e.day AND e.day < f.valid_to;

CREATE VIEW energy_total_1d WITH (security_barrier) AS
SELECT base_id, day, enterprise_id, carrier, unit, amount, generation, export, estimated, n_expected, n_known, n_good,
       tce_calorific, tce_equivalent, co2_kg, cost, factor_ids
FROM energy_total WHERE base_id = ANY ((SELECT visible_bases())::smallint[]);

-- Parent minus children; a child that generates or exports gives to the parent's bar instead of taking from it.
-- `unaccounted` needs every member known at least in part; n_known against n_expected says how far to trust it.
CREATE VIEW balance_1d WITH (security_barrier) AS
WITH member AS (
    SELECT base_id, carrier, parent_id, child_id AS point_id, valid_from, valid_to, false AS is_parent FROM flow WHERE kind = 'sub'
    UNION ALL
    SELECT DISTINCT base_id, carrier, parent_id, parent_id, min(valid_from), nullif(max(coalesce(valid_to, 'infinity')), 'infinity'), true
    FROM flow WHERE kind = 'sub' GROUP BY 1, 2, 3
), part AS (
    SELECT m.base_id, (i.ts AT TIME ZONE c.timezone)::date AS day, m.carrier, m.parent_id, m.is_parent, m.valid_from, m.valid_to,
           i.n_expected, i.n_known,
           i.amount * c.multiplier * CASE WHEN NOT m.is_parent AND c.direction IN ('generation', 'export') THEN -1 ELSE 1 END AS amount
    FROM member m JOIN energy_counter c ON c.base_id = m.base_id AND c.point_id = m.point_id
    JOIN interval_1d i ON i.base_id = m.base_id AND i.point_id = m.point_id
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

-- A day of an outlet and pollutant. Air: mean of valid hours, valid with 20 of 24 hours (HJ 76-2017 Annex B). Water:
-- flow-weighted mean, valid with 75 % (HJ 356-2019). Stopped and exempt hours reduce what is due in the same proportion.
-- Beyond the published columns: the limit of the day (statistic `day`) and whether a valid day exceeds it.
CREATE VIEW emission_1d WITH (security_barrier) AS
WITH hour AS (
    SELECT e.base_id, (e.ts AT TIME ZONE b.timezone)::date AS day, e.unit_id, e.quantity, e.state, e.measured, e.converted, e.flow,
           e.mass_kg, e.substituted, e.exceeded, u.attributes ->> 'medium' = 'water' AS is_water
    FROM emission_1h e JOIN base b USING (base_id) JOIN unit u USING (base_id, unit_id)
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
    SELECT high, low FROM limit_value l
    WHERE l.base_id = j.base_id AND l.unit_id = j.unit_id AND l.quantity = j.quantity AND l.statistic = 'day'
      AND l.superseded_at IS NULL AND l.rank <> 'internal' AND l.valid_from <= j.day AND (l.valid_to IS NULL OR j.day < l.valid_to)
    ORDER BY l.rank = 'permit' DESC, l.valid_from DESC LIMIT 1) l ON true;

-- Whole hours of a day that are over, those with a reading and those with a good one. Hours and not readings, because a
-- point's period may have changed since (imported history is often coarser than what is collected now), and because the
-- online rule asks for complete hourly records (发改环资〔2017〕1711号: 90 %). A day without a reading has n = 0.
CREATE VIEW availability_1d WITH (security_barrier) AS
WITH alive AS (
    SELECT p.base_id, p.point_id, b.timezone,
           coalesce((SELECT min(r.bucket) FROM reading_1d r WHERE r.base_id = p.base_id AND r.point_id = p.point_id), now()) AS first,
           coalesce(p.removed_at, now()) AS last
    FROM point p JOIN base b USING (base_id)
    WHERE p.base_id = ANY ((SELECT visible_bases())::smallint[])
), due AS (
    SELECT a.base_id, a.point_id, d::date AS day, d AT TIME ZONE a.timezone AS start,
           least((d + interval '1 day') AT TIME ZONE a.timezone, date_trunc('hour', a.last)) AS finish
    FROM alive a CROSS JOIN LATERAL generate_series((a.first AT TIME ZONE a.timezone)::date::timestamp,
                                                    (a.last AT TIME ZONE a.timezone)::date::timestamp, interval '1 day') d
)
SELECT d.base_id, d.day, d.point_id,
       greatest(0, floor(extract(epoch FROM d.finish - d.start) / 3600))::integer AS n_expected, h.n, h.n_good
FROM due d CROSS JOIN LATERAL (
    SELECT count(*)::integer AS n, (count(*) FILTER (WHERE r.n_good > 0))::integer AS n_good FROM reading_1h r
    WHERE r.base_id = d.base_id AND r.point_id = d.point_id AND r.bucket >= d.start AND r.bucket < d.finish) h;

GRANT SELECT ON energy_1d, energy_total_1d, balance_1d, emission_1d, availability_1d
    TO park_operator, park_contractor, park_enterprise, park_auditor, park_admin, park_grafana, park_service;
GRANT SELECT ON factor_effective, carrier_factor, unit_owner, energy_counter TO park_service;
