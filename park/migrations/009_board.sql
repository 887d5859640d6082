-- What Grafana reads: views and two functions with names instead of ids, filtered to the bases of the login. Its role
-- park_grafana has SELECT on these, the views of 007 and lookups, and on no table that holds a base's rows.

CREATE FUNCTION board_today(base_code text) RETURNS date LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public AS $$
    SELECT (now() AT TIME ZONE timezone)::date FROM base
    WHERE code = base_code AND base_id = ANY ((SELECT visible_bases())::smallint[])
$$;

CREATE FUNCTION board_day(base_code text, at timestamptz) RETURNS date LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public AS $$
    SELECT (at AT TIME ZONE timezone)::date FROM base
    WHERE code = base_code AND base_id = ANY ((SELECT visible_bases())::smallint[])
$$;

CREATE VIEW board_base WITH (security_barrier) AS
SELECT code, name_zh, name_en, timezone FROM base WHERE base_id = ANY ((SELECT visible_bases())::smallint[]);

CREATE VIEW board_enterprise WITH (security_barrier) AS
SELECT b.code AS base, e.code AS enterprise, e.name_zh, e.name_en, e.industry
FROM enterprise e JOIN base b USING (base_id) WHERE e.base_id = ANY ((SELECT visible_bases())::smallint[]);

CREATE VIEW board_outlet WITH (security_barrier) AS
SELECT b.code AS base, u.code AS unit, u.name_zh, u.name_en, u.attributes ->> 'medium' AS medium
FROM unit u JOIN base b USING (base_id)
WHERE u.role = 'outlet' AND u.base_id = ANY ((SELECT visible_bases())::smallint[]);

CREATE VIEW board_point WITH (security_barrier) AS
SELECT b.code AS base, p.code AS point, p.name_zh, p.name_en, p.quantity, p.unit, p.kind, u.name_zh AS object_zh,
       u.name_en AS object_en, p.device_id IS NOT NULL AND p.removed_at IS NULL AS connected, l.ts AS last_at,
       l.value AS last_value, q.word AS last_quality,
       coalesce(l.arrived_at > now() - make_interval(secs => greatest(3 * p.expected_s, 120)), false) AS online
FROM point p JOIN base b USING (base_id)
LEFT JOIN unit u USING (base_id, unit_id)
LEFT JOIN latest l USING (base_id, point_id)
LEFT JOIN quality q ON q.code = l.quality
WHERE p.base_id = ANY ((SELECT visible_bases())::smallint[]);

CREATE VIEW board_energy_1d WITH (security_barrier) AS
SELECT b.code AS base, e.code AS enterprise, coalesce(e.name_zh, b.name_zh) AS name_zh, coalesce(e.name_en, b.name_en) AS name_en,
       t.day, t.day::timestamp AT TIME ZONE b.timezone AS day_at, t.carrier, t.unit, t.amount, t.generation, t.export,
       t.estimated, t.n_expected, t.n_known, t.n_good, t.tce_calorific, t.tce_equivalent, t.co2_kg, t.cost
FROM energy_total_1d t JOIN base b USING (base_id) LEFT JOIN enterprise e USING (base_id, enterprise_id);

-- Mean power of each 15-minute slot at the gates: base counters, or enterprise counters.
CREATE VIEW board_load WITH (security_barrier) AS
SELECT b.code AS base, i.ts, coalesce(e.name_zh, b.name_zh) AS name_zh, coalesce(e.name_en, b.name_en) AS name_en,
       sum(CASE WHEN p.direction = 'export' THEN -i.amount ELSE i.amount END
           * CASE p.unit WHEN 'MWh' THEN 1000 WHEN 'Wh' THEN 0.001 ELSE 1 END) * 4 AS kw
FROM interval_15m i JOIN point p USING (base_id, point_id) JOIN base b USING (base_id)
LEFT JOIN unit_owner o USING (base_id, unit_id) LEFT JOIN enterprise e ON e.base_id = i.base_id AND e.enterprise_id = o.enterprise_id
WHERE p.carrier = 'electricity' AND p.boundary IN ('base', 'enterprise')
  AND i.base_id = ANY ((SELECT visible_bases())::smallint[])
GROUP BY 1, 2, 3, 4;

CREATE VIEW board_cost_1d WITH (security_barrier) AS
SELECT b.code AS base, c.day, c.day::timestamp AT TIME ZONE b.timezone AS day_at, p.carrier, p.boundary, c.period,
       sum(c.amount) AS amount, sum(c.cost) AS cost
FROM cost_1d c JOIN point p USING (base_id, point_id) JOIN base b USING (base_id)
WHERE p.boundary IN ('base', 'enterprise') AND c.base_id = ANY ((SELECT visible_bases())::smallint[])
GROUP BY 1, 2, 3, 4, 5, 6;

CREATE VIEW board_balance_1d WITH (security_barrier) AS
SELECT b.code AS base, x.day, x.day::timestamp AT TIME ZONE b.timezone AS day_at, x.carrier, p.code AS parent,
       x.parent_amount, x.children_amount, x.unaccounted, x.n_expected, x.n_known
FROM balance_1d x JOIN base b USING (base_id) JOIN point p ON p.base_id = x.base_id AND p.point_id = x.parent_id;

CREATE VIEW board_indicator WITH (security_barrier) AS
SELECT b.code AS base, v.indicator, coalesce(t.name_zh, v.indicator) AS name_zh, coalesce(t.name_en, v.indicator) AS name_en,
       left(v.period, 4)::integer AS year, v.value, v.unit, v.coverage, v.grade, t.value AS target, t.baseline, t.responsible
FROM indicator_value v JOIN base b USING (base_id)
LEFT JOIN target t ON t.base_id = v.base_id AND t.indicator = v.indicator AND t.year = left(v.period, 4)::integer
                  AND t.superseded_at IS NULL
WHERE length(v.period) = 4 AND v.base_id = ANY ((SELECT visible_bases())::smallint[]);

CREATE TABLE quantity_name (quantity text PRIMARY KEY, zh text NOT NULL, en text NOT NULL);
INSERT INTO quantity_name VALUES
    ('so2', '二氧化硫', 'SO2'), ('nox', '氮氧化物', 'NOx'), ('dust', '颗粒物', 'particulate matter'), ('nmhc', '非甲烷总烃', 'NMHC'),
    ('cod', '化学需氧量', 'COD'), ('ammonia', '氨氮', 'ammonia nitrogen'), ('total_phosphorus', '总磷', 'total phosphorus'),
    ('total_nitrogen', '总氮', 'total nitrogen'), ('ph', 'pH值', 'pH');

CREATE VIEW board_emission_1h WITH (security_barrier) AS
SELECT b.code AS base, u.code AS unit, u.name_zh, u.name_en, e.quantity, coalesce(q.zh, e.quantity) AS quantity_zh,
       coalesce(q.en, e.quantity) AS quantity_en, e.ts, e.n_valid, e.state, e.measured, e.converted, e.oxygen, e.flow,
       e.mass_kg, e.substituted, e.limit_value, e.exceeded
FROM emission_1h e JOIN base b USING (base_id) JOIN unit u USING (base_id, unit_id) LEFT JOIN quantity_name q USING (quantity)
WHERE e.base_id = ANY ((SELECT visible_bases())::smallint[]);

CREATE VIEW board_emission_latest WITH (security_barrier) AS
SELECT DISTINCT ON (base, unit, quantity) * FROM board_emission_1h
WHERE ts > now() - interval '2 days' ORDER BY base, unit, quantity, ts DESC;

CREATE VIEW board_emission_1d WITH (security_barrier) AS
SELECT b.code AS base, u.code AS unit, u.name_zh, u.name_en, e.quantity, coalesce(q.zh, e.quantity) AS quantity_zh,
       coalesce(q.en, e.quantity) AS quantity_en, e.day, e.day::timestamp AT TIME ZONE b.timezone AS day_at, e.hours_valid,
       e.hours_stopped, e.hours_exempt, e.hours_missing, e.mean_measured, e.mean_converted, e.max_converted, e.mass_kg,
       e.hours_substituted, e.hours_exceeded, e.valid
FROM emission_1d e JOIN base b USING (base_id) JOIN unit u USING (base_id, unit_id) LEFT JOIN quantity_name q USING (quantity);

CREATE VIEW board_treatment_event WITH (security_barrier) AS
SELECT b.code AS base, t.kind, t.started_at, t.ended_at, p.name_zh AS production_zh, p.name_en AS production_en,
       x.name_zh AS treatment_zh, x.name_en AS treatment_en
FROM treatment_event t JOIN base b USING (base_id)
LEFT JOIN unit p ON p.base_id = t.base_id AND p.unit_id = t.production_id
LEFT JOIN unit x ON x.base_id = t.base_id AND x.unit_id = t.treatment_id
WHERE t.base_id = ANY ((SELECT visible_bases())::smallint[]);

CREATE VIEW board_alert WITH (security_barrier) AS
SELECT b.code AS base, a.alert_id, r.code AS rule, r.name_zh, r.name_en, a.severity,
       array_position(ARRAY['critical', 'high', 'medium', 'low'], a.severity) AS rank,
       coalesce(p.code, u.code, d.code, '') AS object, a.active, a.acknowledged, a.shelved_until, a.opened_at, a.returned_at,
       a.acknowledged_at, a.closed_at, a.value, a.expected, a.high, a.unit,
       a.explanation ->> 'zh' AS explanation_zh, a.explanation ->> 'en' AS explanation_en
FROM alert a JOIN base b USING (base_id) JOIN rule r USING (base_id, rule_id)
LEFT JOIN point p USING (base_id, point_id)
LEFT JOIN unit u ON u.base_id = a.base_id AND u.unit_id = a.unit_id
LEFT JOIN device d ON d.base_id = a.base_id AND d.device_id = a.device_id
WHERE a.base_id = ANY ((SELECT visible_bases())::smallint[]);

CREATE VIEW board_device WITH (security_barrier) AS
SELECT b.code AS base, d.code AS device, d.protocol, coalesce(s.state, 'unknown') AS state, s.last_answer, s.latency_ms,
       s.errors::text AS errors, s.at
FROM device d JOIN base b USING (base_id) LEFT JOIN device_state s USING (base_id, device_id)
WHERE d.removed_at IS NULL AND d.base_id = ANY ((SELECT visible_bases())::smallint[]);

CREATE VIEW board_ingest WITH (security_barrier) AS
SELECT b.code AS base, c.day, c.outcome, c.n FROM ingest_counter c JOIN base b USING (base_id)
WHERE c.base_id = ANY ((SELECT visible_bases())::smallint[]);

CREATE VIEW board_dead_letter WITH (security_barrier) AS
SELECT b.code AS base, x.reason, x.received_at, x.source, x.detail FROM dead_letter x JOIN base b USING (base_id)
WHERE x.replayed_at IS NULL AND x.base_id = ANY ((SELECT visible_bases())::smallint[]);

CREATE VIEW board_availability_1d WITH (security_barrier) AS
SELECT b.code AS base, a.day, a.day::timestamp AT TIME ZONE b.timezone AS day_at, p.code AS point, a.n_expected, a.n, a.n_good
FROM availability_1d a JOIN base b USING (base_id) JOIN point p USING (base_id, point_id) WHERE p.device_id IS NOT NULL;

-- A few points over a window: raw readings below 30 s a pixel, else the widest rollup that still has one bucket a pixel.
CREATE FUNCTION board_series(base_code text, points text[], from_ts timestamptz, to_ts timestamptz, interval_ms bigint)
RETURNS TABLE (ts timestamptz, point text, value double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    grain text := CASE WHEN interval_ms < 30000 AND to_ts - from_ts <= interval '2 days' THEN 'raw'
                       WHEN interval_ms < 900000 AND to_ts - from_ts <= interval '14 days' THEN 'reading_by_minute'
                       WHEN interval_ms < 3600000 AND to_ts - from_ts <= interval '92 days' THEN 'reading_15m'
                       WHEN interval_ms < 86400000 THEN 'reading_1h' ELSE 'reading_1d' END;
BEGIN
    IF grain = 'raw' THEN
        RETURN QUERY SELECT r.ts, p.code, r.value FROM point p JOIN base b USING (base_id)
            JOIN reading r ON r.base_id = p.base_id AND r.point_id = p.point_id
            WHERE b.code = base_code AND p.code = ANY (points) AND b.base_id = ANY ((SELECT visible_bases())::smallint[])
              AND r.ts >= from_ts AND r.ts < to_ts ORDER BY r.ts LIMIT 200000;
    ELSE
        RETURN QUERY EXECUTE format('SELECT r.bucket, p.code, CASE p.kind WHEN ''counter'' THEN r.increment ELSE r.sum / nullif(r.n_usable, 0) END
            FROM point p JOIN base b USING (base_id) JOIN %I r ON r.base_id = p.base_id AND r.point_id = p.point_id
            WHERE b.code = $1 AND p.code = ANY ($2) AND b.base_id = ANY ((SELECT visible_bases())::smallint[])
              AND r.bucket >= $3 AND r.bucket < $4 ORDER BY r.bucket LIMIT 200000', grain)
            USING base_code, points, from_ts, to_ts;
    END IF;
END $$;

DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'v' AND relname LIKE 'board\_%'
    LOOP
        EXECUTE format('GRANT SELECT ON %I TO park_grafana', name);
    END LOOP;
END $$;
REVOKE SELECT ON indicator_value FROM park_grafana;
REVOKE EXECUTE ON FUNCTION board_today(text), board_day(text, timestamptz),
    board_series(text, text[], timestamptz, timestamptz, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION board_today(text), board_day(text, timestamptz),
    board_series(text, text[], timestamptz, timestamptz, bigint) TO park_grafana;

-- A board must never hold the database: a panel gets 20 seconds. A test database shares roles with its neighbours, and a
-- role that another session alters at this moment keeps the setting it is given there.
DO $$
BEGIN
    ALTER ROLE park_grafana SET statement_timeout = '20s';
    ALTER ROLE park_grafana SET default_transaction_read_only = on;
EXCEPTION WHEN OTHERS THEN
    IF SQLERRM NOT LIKE 'tuple concurrently updated%' THEN RAISE; END IF;
END $$;
