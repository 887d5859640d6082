-- A day in the life of the base `green`, as the stages would have written it up to %(now)s. One deliberate fault of each kind:
-- grid.kwh lacks the local hour 3 and half of hour 5; the stack's SO2 is over its limit; chem.drain is stopped;
-- chem.rto is off while the reactor runs; d.food has fallen silent.
CREATE TEMP TABLE seed AS SELECT base_id, %(now)s::timestamptz AS now, date_trunc('hour', %(now)s::timestamptz) AS hour,
    date_trunc('day', %(now)s::timestamptz AT TIME ZONE timezone) AT TIME ZONE timezone AS midnight, timezone
FROM base WHERE code = 'green';

SELECT ensure_reading_partitions(now - interval '3 days', now + interval '1 day') FROM seed;

-- kWh, Nm3, t or m3 an hour at full load, and the share that goes on at night
CREATE TEMP TABLE load (code text, hourly double precision, night double precision);
INSERT INTO load VALUES ('steel.furnace.kwh', 2600, .8), ('steel.mill.kwh', 3900, .55), ('steel.kwh', 6900, .64), ('chem.kwh', 3400, .85),
    ('chem.reactor.kwh', 2300, .9), ('food.kwh', 1500, .3), ('water.kwh', 820, .9), ('food.pv.kwh', 900, 0), ('grid.kwh', 12100, .66),
    ('steel.gas', 1450, .8), ('chem.gas', 380, .9), ('chem.steam', 6.2, .9), ('food.steam', 3.4, .1), ('food.water', 42, .1), ('chem.water', 35, .8);

INSERT INTO interval_1h (base_id, point_id, ts, amount, n_expected, n_known, n_good)
SELECT s.base_id, p.point_id, h.ts,
       l.hourly * (l.night + (1 - l.night) * greatest(0, sin(pi() * (h.local - 5) / 15)))
           * CASE WHEN h.dow >= 6 THEN .72 ELSE 1 END * (1 + .05 * sin(h.n * 12.9898 + p.point_id))
           * CASE WHEN p.code IN ('steel.mill.kwh', 'steel.kwh', 'grid.kwh') AND h.ts = s.hour - interval '2 hours'
                  THEN 1 + 4200 / l.hourly ELSE 1 END, 4, 4, 4
FROM seed s
CROSS JOIN LATERAL (
    SELECT ts, n, extract(hour FROM ts AT TIME ZONE s.timezone) AS local, extract(isodow FROM ts AT TIME ZONE s.timezone) AS dow
    FROM generate_series(s.midnight - interval '42 days', s.hour - interval '1 hour', interval '1 hour') WITH ORDINALITY AS g (ts, n)) h
JOIN point p ON p.base_id = s.base_id
JOIN load l USING (code);

UPDATE interval_1h i SET amount = NULL, n_known = 0, n_good = 0
FROM seed s JOIN point p USING (base_id)
WHERE i.base_id = s.base_id AND i.point_id = p.point_id AND p.code = 'grid.kwh' AND i.ts = s.midnight + interval '3 hours';
UPDATE interval_1h i SET amount = amount / 2, n_known = 2, n_good = 2
FROM seed s JOIN point p USING (base_id)
WHERE i.base_id = s.base_id AND i.point_id = p.point_id AND p.code = 'grid.kwh' AND i.ts = s.midnight + interval '5 hours';

INSERT INTO interval_1d (base_id, point_id, ts, amount, estimated, n_expected, n_known, n_good)
SELECT i.base_id, i.point_id, date_trunc('day', i.ts AT TIME ZONE s.timezone) AT TIME ZONE s.timezone, sum(i.amount), 0,
       sum(i.n_expected), sum(i.n_known), sum(i.n_good)
FROM interval_1h i JOIN seed s USING (base_id) GROUP BY 1, 2, 3;

INSERT INTO energy_total (base_id, day, enterprise_id, carrier, unit, amount, generation, estimated, n_expected, n_known, n_good,
                          tce_calorific, tce_equivalent, co2_kg, cost)
SELECT s.base_id, (s.midnight AT TIME ZONE s.timezone)::date, NULL, p.carrier, min(p.unit), sum(i.amount),
       sum(i.amount) FILTER (WHERE p.direction = 'generation'), 0, sum(i.n_expected), sum(i.n_known), sum(i.n_good),
       sum(i.amount) * f.calorific, sum(i.amount) * f.equivalent, sum(i.amount) * f.co2, sum(i.amount) * f.price
FROM seed s JOIN point p USING (base_id) JOIN interval_1d i ON i.base_id = s.base_id AND i.point_id = p.point_id AND i.ts = s.midnight
JOIN (VALUES ('electricity', .0001229, .000305, .5366, .65), ('natural_gas', .00133, .00133, 2.162, 3.6), ('steam', .0971, .1286, NULL, 220),
             ('water', NULL, .0000857, NULL, 4.1)) AS f (carrier, calorific, equivalent, co2, price) ON f.carrier = p.carrier
WHERE p.boundary = CASE p.carrier WHEN 'electricity' THEN 'base' ELSE 'enterprise' END
GROUP BY s.base_id, s.midnight, s.timezone, p.carrier, f.calorific, f.equivalent, f.co2, f.price;

-- gauges: a reading a minute over the last day, with a hole of ninety minutes in the steel works' power
CREATE TEMP TABLE gauge (code text, level double precision, swing double precision, quality smallint DEFAULT 0);
INSERT INTO gauge (code, level, swing) VALUES ('steel.kw', 6800, .2), ('steel.furnace.kw', 2550, .05), ('steel.mill.kw', 3900, .3), ('steel.scrubber.kw', 210, .03),
    ('chem.reactor.kw', 2280, .06), ('chem.rto.kw', .4, .1), ('chem.wwt.run', 1, 0), ('food.cooker.kw', 640, .2), ('food.wwt.kw', 55, .1),
    ('steel.stack.so2', 33.6, .06), ('steel.stack.nox', 148, .05), ('steel.stack.dust', 4.1, .1), ('steel.stack.o2', 9.4, .02),
    ('steel.stack.flow', 86000, .04), ('chem.stack.nmhc', 51.5, .04), ('chem.stack.nox', 44, .05), ('chem.stack.flow', 21000, .05),
    ('chem.drain.cod', 0, 0), ('chem.drain.flow', 0, 0), ('water.cod', 31, .08), ('water.ammonia', 1.9, .2), ('water.ph', 7.4, .02),
    ('water.flow', 415, .1);
UPDATE gauge SET quality = 10 WHERE code = 'chem.drain.cod';

INSERT INTO reading (base_id, point_id, ts, value, quality)
SELECT s.base_id, p.point_id, t.ts,
       CASE WHEN g.quality < 10 THEN g.level * (1 + g.swing * sin(extract(epoch FROM t.ts) / 3600 + p.point_id) * .7
                                                  + g.swing * .3 * sin(extract(epoch FROM t.ts) / 97)) END, g.quality
FROM seed s
CROSS JOIN generate_series(s.now - interval '24 hours', s.now - interval '20 seconds', interval '1 minute') AS t (ts)
JOIN point p ON p.base_id = s.base_id JOIN gauge g USING (code)
WHERE NOT (p.code = 'steel.kw' AND t.ts BETWEEN s.now - interval '9 hours' AND s.now - interval '7 hours 30 minutes')
  AND NOT (p.code LIKE 'food.%%' AND t.ts > s.now - interval '50 minutes');

INSERT INTO reading_1m (base_id, point_id, bucket, n, n_good, n_usable, min, max, sum, first, last)
SELECT r.base_id, r.point_id, date_trunc('minute', r.ts), 1, (r.quality < 2)::integer, (r.quality < 10)::integer,
       r.value, r.value, r.value, r.value, r.value
FROM reading r JOIN seed s USING (base_id);
INSERT INTO reading_1h (base_id, point_id, bucket, n, n_good, n_usable, min, max, sum)
SELECT r.base_id, r.point_id, date_trunc('hour', r.ts), count(*), count(*) FILTER (WHERE quality < 2), count(value),
       min(value), max(value), sum(value)
FROM reading r JOIN seed s USING (base_id) GROUP BY 1, 2, 3;

INSERT INTO latest (base_id, point_id, ts, value, quality, arrived_at)
SELECT DISTINCT ON (r.base_id, r.point_id) r.base_id, r.point_id, r.ts, r.value, r.quality, r.ts + interval '1.4 seconds'
FROM reading r JOIN seed s USING (base_id) ORDER BY r.base_id, r.point_id, r.ts DESC;
INSERT INTO latest (base_id, point_id, ts, value, quality, arrived_at)
SELECT s.base_id, p.point_id, s.now - interval '35 seconds', 100000, 0, s.now - interval '33 seconds'
FROM seed s JOIN point p USING (base_id)
WHERE p.kind = 'counter' AND p.code NOT LIKE 'food.%%' AND p.code <> 'water.kwh';
INSERT INTO latest (base_id, point_id, ts, value, quality, arrived_at)
SELECT s.base_id, p.point_id, s.now - interval '50 minutes', 100000, 0, s.now - interval '50 minutes'
FROM seed s JOIN point p USING (base_id) WHERE p.kind = 'counter' AND p.code LIKE 'food.%%';

INSERT INTO power_band (base_id, point_id, valid_from, on_above, learned_days)
SELECT s.base_id, p.point_id, '2026-01-01', v.on_above, 14 FROM seed s JOIN point p USING (base_id)
JOIN (VALUES ('steel.furnace.kw', 300), ('steel.mill.kw', 300), ('steel.scrubber.kw', 30), ('chem.reactor.kw', 250), ('chem.rto.kw', 20),
             ('food.cooker.kw', 80), ('food.wwt.kw', 8)) AS v (code, on_above) USING (code);

-- emission hours: one missing, two stopped, one over the limit
INSERT INTO emission_1h (base_id, unit_id, quantity, ts, n_valid, state, measured, converted, oxygen, flow, limit_value, exceeded)
SELECT s.base_id, p.unit_id, p.quantity, t.ts, CASE WHEN v.state = 'valid' THEN 58 ELSE 0 END, v.state,
       CASE WHEN v.state = 'valid' THEN v.value END, CASE WHEN v.state = 'valid' THEN v.value * v.dilution END, 9.4, v.flow, NULL,
       CASE WHEN v.state = 'valid' THEN p.code = 'steel.stack.so2' AND v.value * v.dilution > 35 END
FROM seed s
CROSS JOIN LATERAL generate_series(s.hour - interval '26 hours', s.hour - interval '1 hour', interval '1 hour') AS t (ts)
JOIN point p ON p.base_id = s.base_id JOIN unit u ON u.base_id = p.base_id AND u.unit_id = p.unit_id AND u.role = 'outlet'
JOIN gauge g ON g.code = p.code
CROSS JOIN LATERAL (
    SELECT CASE WHEN t.ts = s.hour - interval '9 hours' AND u.code = 'steel.stack' THEN 'missing'
                WHEN t.ts BETWEEN s.hour - interval '15 hours' AND s.hour - interval '14 hours' AND u.code = 'steel.stack' THEN 'stopped'
                WHEN u.code = 'chem.drain' AND t.ts >= s.hour - interval '6 hours' THEN 'stopped' ELSE 'valid' END AS state,
           CASE WHEN u.code = 'chem.drain' THEN 120 ELSE g.level * .78 END
               * (1 + 2 * greatest(g.swing, .04) * sin(extract(epoch FROM t.ts) / 9000 + p.point_id)
                  + CASE WHEN p.code = 'steel.stack.so2' AND t.ts >= s.hour - interval '3 hours' THEN .28 ELSE 0 END) AS value,
           CASE WHEN u.code = 'steel.stack' THEN (21 - 8) / (21 - 9.4) ELSE 1 END AS dilution,
           CASE WHEN u.code = 'water.outlet' THEN 415 WHEN u.code = 'chem.drain' THEN 30 ELSE 86000 END AS flow) v
WHERE p.quantity IN ('so2', 'nox', 'dust', 'nmhc', 'cod', 'ammonia', 'ph');

INSERT INTO treatment_event (base_id, kind, production_id, treatment_id, started_at)
SELECT s.base_id, 'production_on_treatment_off', a.unit_id, b.unit_id, s.now - interval '26 minutes'
FROM seed s JOIN unit a USING (base_id) JOIN unit b USING (base_id) WHERE a.code = 'chem.reactor' AND b.code = 'chem.rto';

INSERT INTO device_state (base_id, device_id, state, last_answer, latency_ms, at, clock_offset_s)
SELECT s.base_id, d.device_id, CASE WHEN d.code = 'd.food' THEN 'offline' ELSE 'online' END,
       s.now - CASE WHEN d.code = 'd.food' THEN interval '50 minutes' ELSE interval '12 seconds' END, 18 + d.device_id, s.now,
       CASE d.code WHEN 'd.outlet' THEN -420 WHEN 'd.cems1' THEN 2 END
FROM seed s JOIN device d USING (base_id);
INSERT INTO dead_letter (base_id, received_at, topic, reason, detail, payload)
SELECT s.base_id, s.now - n * interval '7 minutes', 'park/v1/green/x/readings', reason, '', '' FROM seed s
CROSS JOIN (VALUES ('unknown_point', 6), ('bad_time', 2)) AS v (reason, many) CROSS JOIN LATERAL generate_series(1, many) AS n;
INSERT INTO ingest_counter (base_id, day, outcome, n)
SELECT base_id, (midnight AT TIME ZONE timezone)::date, v.outcome, v.n FROM seed
CROSS JOIN (VALUES ('stored', 318442), ('duplicate', 117), ('late', 42), ('dead:unknown_point', 6)) AS v (outcome, n);
INSERT INTO pass (base_id, pass, done_to, at) SELECT base_id, 'account', now - interval '40 seconds', now FROM seed;

-- alerts in several states, told by the evaluator
CREATE TEMP TABLE raised AS SELECT * FROM (VALUES
    ('linkage', NULL, 'chem.rto', 26, 0.4, NULL::double precision, 20::double precision, NULL::double precision, 'kW', false, true,
     'RTO焚烧装置功率 0.4 kW，反应车间功率 2,280 kW 已持续 26 分钟：生产运行而治理设施停运。', 'Thermal oxidiser at 0.4 kW while the reactor hall has drawn 2,280 kW for 26 minutes: production without treatment.'),
    ('so2-hour', 'steel.stack.so2', NULL, 41, 37.7, 35, NULL, NULL, 'mg/m3', false, true,
     '1号排气筒二氧化硫折算小时均值 37.7 mg/m³，超过排污许可限值 35 mg/m³。', 'SO₂ at reference oxygen is 37.7 mg/m³, above the permit limit of 35 mg/m³.'),
    ('baseline', 'steel.mill.kwh', NULL, 95, 8020, NULL, NULL, 3840, 'kWh', false, true,
     '轧机线上一小时用电 8,020 kWh，同类日预期 3,840 kWh，多用 4,180 kWh，约 2,717 元。', 'The rolling line used 8,020 kWh in the last hour; like days suggest 3,840 kWh. Excess 4,180 kWh, about ¥2,717.'),
    ('stale', 'food.kwh', NULL, 47, NULL, NULL, NULL, NULL, '', false, true,
     '食品厂 d.food 所有测点 47 分钟没有数据，设备离线。', 'No point of d.food has reported for 47 minutes; the device is offline.'),
    ('baseline', 'chem.kwh', NULL, 310, 3910, NULL, NULL, 3300, 'kWh', true, true,
     '化工厂用电高于预期 18 %%，夜间基荷偏高。', 'The chemical works uses 18 %% more than expected; its night base load is high.'),
    ('balance', 'grid.kwh', NULL, 640, 4.1, 3, NULL, NULL, '%%', true, false,
     '园区总表与分表差额 4.1 %%，已恢复。', 'Parent and children differ by 4.1 %%; it has returned.')
) AS v (rule, point, unit_code, minutes, value, high, low, expected, unit, acknowledged, active, zh, en);
WITH stored AS (
    INSERT INTO alert (base_id, rule_id, point_id, unit_id, severity, active, acknowledged, opened_at, returned_at, value, expected, low, high, unit, explanation)
    SELECT s.base_id, r.rule_id, p.point_id, u.unit_id, r.severity, v.active, v.acknowledged, s.now - v.minutes * interval '1 minute',
           CASE WHEN NOT v.active THEN s.now - interval '20 minutes' END, v.value, v.expected, v.low, v.high, v.unit,
           jsonb_build_object('zh', v.zh, 'en', v.en)
    FROM seed s CROSS JOIN raised v JOIN rule r ON r.base_id = s.base_id AND r.code = v.rule
    LEFT JOIN point p ON p.base_id = s.base_id AND p.code = v.point LEFT JOIN unit u ON u.base_id = s.base_id AND u.code = v.unit_code
    RETURNING base_id, alert_id, opened_at, acknowledged, opened_at + interval '8 minutes' AS acked_at)
INSERT INTO transition (base_id, alert_id, at, change, actor, note)
SELECT base_id, alert_id, opened_at, 'raise', 'evaluator', '' FROM stored
UNION ALL SELECT base_id, alert_id, acked_at, 'ack', '王工', '已通知值班' FROM stored WHERE acknowledged;
-- what the year is measured by: one indicator on course, one at risk, one that will be missed, one that is withheld; and last month's bills
CREATE TEMP TABLE measured AS SELECT * FROM (VALUES
    ('electricity_kwh', '用电量', 'Electricity', 'at_most', 'kWh', 61000000, 55100000, 58000000, 57000000, 59000000, 0.99, NULL),
    ('co2_t', '二氧化碳排放量', 'CO2 emissions', 'at_most', 't', 48000, 42800, 48100, 46900, 49200, 0.46, NULL),
    ('renewable_share', '可再生能源使用比例', 'Renewable share', 'at_least', '1', 0.09, 0.061, 0.062, 0.059, 0.066, 0.01, NULL),
    ('energy_per_value_added', '单位工业增加值综合能耗', 'Energy per value added', 'at_most', 'tce/万元', 0.38, NULL, NULL, NULL, NULL, NULL,
     'no value added in the ledger for this period')
) AS v (code, zh, en, sense, unit, target, value, forecast, low, high, likely, withheld);
INSERT INTO target (base_id, indicator, name_zh, name_en, year, value, unit, sense, baseline, baseline_year, responsible, source)
SELECT base_id, code, zh, en, extract(year FROM now AT TIME ZONE timezone), target, unit, sense, NULL, NULL, 'Energy office', 'plan' FROM seed, measured;
INSERT INTO indicator_value (base_id, indicator, period, value, unit, coverage, grade, inputs)
SELECT base_id, code, to_char(now AT TIME ZONE timezone, 'YYYY'), value, unit, CASE WHEN withheld IS NULL THEN 0.999 END,
       'A', jsonb_strip_nulls(jsonb_build_object('withheld', withheld)) FROM seed, measured;
INSERT INTO indicator_forecast (base_id, indicator, year, until, value, low, high, unit, target_likely, method, why)
SELECT base_id, code, extract(year FROM now AT TIME ZONE timezone), now::date - 1, forecast, low, high, unit, likely,
       'level of the last thirteen weeks', '' FROM seed, measured WHERE forecast IS NOT NULL;
INSERT INTO indicator_value (base_id, indicator, period, value, unit, coverage, grade, inputs)
SELECT base_id, 'zc.carbon_per_energy', to_char(now AT TIME ZONE timezone, 'YYYY'), 1.62, 't/tce', 1, 'A', '{"threshold": 0.2, "kept": false}' FROM seed;
CREATE TEMP TABLE billed AS SELECT s.base_id, e.enterprise_id, (date_trunc('month', s.now AT TIME ZONE s.timezone) - interval '1 month')::date AS month,
    e.enterprise_id IS NULL AS whole, s.midnight FROM seed s
    JOIN (SELECT base_id, enterprise_id FROM enterprise WHERE code IN ('steel', 'chem') UNION ALL SELECT base_id, NULL FROM seed) e USING (base_id);
INSERT INTO bill (base_id, enterprise_id, month, total, energy_kwh, estimated_kwh, n_expected, n_known, power_factor, demand_kw, demand_at,
                  demand_is_lower_bound, kwh_per_kva, complete, notes)
SELECT base_id, enterprise_id, month, 3245.90, 4000, 0, 2976, CASE WHEN whole THEN 2976 ELSE 2970 END, 0.94, 16480, midnight - interval '20 days',
       false, 271.4, whole, CASE WHEN whole THEN '{}'::text[] ELSE ARRAY['6 of 2976 slots are not known: energy is a lower bound'] END FROM billed;
INSERT INTO bill_line (base_id, enterprise_id, month, line, item, quantity, unit, price, factor, amount, in_power_factor_base, tariff_id, source, verified)
SELECT base_id, enterprise_id, month, line, item, quantity, unit, price, factor, amount, item <> 'power_factor', 1, 'contract', item <> 'demand' FROM billed,
    (VALUES (1, 'energy.peak', 1500, 'kWh', 1.05, 1, 1575.0), (2, 'energy.flat', 2500, 'kWh', 0.65, 1, 1625.0),
            (3, 'demand', 16480, 'kW', 0.004, 0.9, 59.33), (4, 'power_factor', 3259.33, 'CNY', -0.00412, 1, -13.43))
    AS l (line, item, quantity, unit, price, factor, amount);
DROP TABLE seed, load, gauge, raised, measured, billed;
