-- Two years of a small park in the tables that accounting writes: whole 2025 and 2026, with gaps, a swap of coverage, events.
-- Amounts follow the day of the year, so that every sum can be computed again by hand.

INSERT INTO factor (base_id, carrier, kind, region, value, unit, edition, valid_from, valid_to, source, verified, recorded_at) VALUES
    (1, 'electricity', 'tce_calorific', '', 0.1229, 'kgce/kWh', 'GB/T 2589-2020', '2020-01-01', NULL, 'GB/T 2589-2020 附录', true, '2025-01-01Z'),
    (1, 'electricity', 'tce_equivalent', '', 0.3, 'kgce/kWh', '测试', '2020-01-01', NULL, '测试用等价值', false, '2025-01-01Z'),
    (1, 'electricity', 'co2', '', 0.55, 'kgCO2/kWh', '2023', '2020-01-01', NULL, '公告 2025 年第 47 号（华东）', true, '2025-01-01Z'),
    (1, 'natural_gas', 'tce_calorific', '', 1.33, 'kgce/Nm3', 'GB/T 2589-2020', '2020-01-01', NULL, 'GB/T 2589-2020 附录', true, '2025-01-01Z'),
    (1, 'natural_gas', 'tce_equivalent', '', 1.33, 'kgce/Nm3', 'GB/T 2589-2020', '2020-01-01', NULL, 'GB/T 2589-2020 附录', true, '2025-01-01Z'),
    (1, 'natural_gas', 'co2', '', 2.165, 'kgCO2/Nm3', '', '2020-01-01', NULL, '缺省值计算', false, '2025-01-01Z');

-- counters: 96 slots a day; gas is unknown on the first 20 days of March 2026, water on 100 days of 2026
INSERT INTO interval_1d (ts, amount, estimated, point_id, n_expected, n_known, n_good, base_id)
SELECT d::timestamp AT TIME ZONE 'Asia/Shanghai',
       CASE WHEN known THEN a.amount * (1 + 0.1 * sin(2 * pi() * extract(doy FROM d) / 365)) END, 0, p.point_id, 96,
       CASE WHEN known THEN 96 ELSE 0 END, CASE WHEN known THEN 96 ELSE 0 END, p.base_id
FROM (VALUES ('park.kwh', 120000.0), ('e1.main.kwh', 80000), ('e2.main.kwh', 36000), ('e1.furnace.kwh', 60000), ('e2.pv.kwh', 4000),
             ('e1.gas', 9000), ('e1.water', 500)) AS a (code, amount)
JOIN point p ON p.code = a.code
CROSS JOIN generate_series('2025-01-01'::date, '2026-12-31'::date, interval '1 day') d
CROSS JOIN LATERAL (SELECT NOT (a.code = 'e1.gas' AND d >= '2026-03-01' AND d < '2026-03-21')
                       AND NOT (a.code = 'e1.water' AND d >= '2026-05-01' AND d < '2026-08-09') AS known) k;

INSERT INTO energy_total (base_id, day, enterprise_id, carrier, unit, amount, generation, export, estimated, n_expected, n_known, n_good,
                          tce_calorific, tce_equivalent, co2_kg, cost, factor_ids)
SELECT e.base_id, e.day, t.enterprise_id, e.carrier, e.unit,
       sum(e.amount), sum(e.amount) FILTER (WHERE e.direction = 'generation'), NULL, 0, sum(e.n_expected), sum(e.n_known), sum(e.n_good),
       sum(e.tce_calorific), sum(e.tce_equivalent), sum(e.co2_kg),
       sum(e.amount) FILTER (WHERE e.direction = 'import') * CASE e.carrier WHEN 'electricity' THEN 0.65 WHEN 'natural_gas' THEN 3.6 END,
       max(e.factor_ids)
FROM energy_1d e
JOIN LATERAL (
    SELECT NULL::integer AS enterprise_id WHERE e.boundary = 'base' OR (e.boundary = 'enterprise' AND e.carrier <> 'electricity')
    UNION ALL SELECT e.enterprise_id WHERE e.boundary = 'enterprise') t ON true
GROUP BY e.base_id, e.day, t.enterprise_id, e.carrier, e.unit;

-- the gas of January 2026 is known from a bill
UPDATE energy_total SET billed = amount WHERE carrier = 'natural_gas' AND day BETWEEN '2026-01-01' AND '2026-01-31';

INSERT INTO cost_1d (base_id, point_id, day, period, amount, cost, tariff_id)
SELECT p.base_id, p.point_id, d::date, v.period, 120000 * v.share, 120000 * v.share * v.price, 1
FROM point p CROSS JOIN generate_series('2026-01-01'::date, '2026-12-31'::date, interval '1 day') d
CROSS JOIN (VALUES ('peak', 0.4, 0.95), ('flat', 0.35, 0.65), ('valley', 0.25, 0.32)) v (period, share, price)
WHERE p.code = 'park.kwh';

INSERT INTO reading_1d (bucket, min, max, sum, first, last, increment, point_id, n, n_good, n_usable, base_id)
SELECT d::timestamp AT TIME ZONE 'Asia/Shanghai', 0, 1, 1, 0, 1, NULL, p.point_id, 0.98 * 86400 / p.expected_s, 0.97 * 86400 / p.expected_s,
       0.97 * 86400 / p.expected_s, p.base_id
FROM point p CROSS JOIN generate_series('2026-01-01'::date, '2026-12-31'::date, interval '1 day') d WHERE p.code <> 'e2.ph';

-- stack and outlet: stopped on Sundays, missing for ten days in June, SO2 above its limit for 12 hours
INSERT INTO emission_1h (base_id, unit_id, quantity, ts, n_valid, state, measured, converted, oxygen, flow, mass_kg, substituted,
                         limit_value, exceeded)
SELECT u.base_id, u.unit_id, q.quantity, h, CASE s.state WHEN 'valid' THEN 60 ELSE 0 END, s.state, v.value, v.value * q.conversion, 9,
       q.flow, CASE WHEN s.state = 'stopped' THEN 0 ELSE coalesce(v.value, q.typical) * q.flow * q.to_kg END, s.state = 'missing', q.high,
       CASE WHEN s.state = 'valid' THEN v.value * q.conversion > q.high END
FROM (VALUES ('e1.stack', 'so2', 20.0, 1.1, 50000.0, 1e-6, 35.0), ('e1.stack', 'nox', 30, 1.1, 50000, 1e-6, 50),
             ('e1.stack', 'dust', 4, 1.1, 50000, 1e-6, NULL), ('e2.outlet', 'cod', 30, 1, 400, 1e-3, 50),
             ('e2.outlet', 'ammonia', 2, 1, 400, 1e-3, NULL)) AS q (unit, quantity, typical, conversion, flow, to_kg, high)
JOIN unit u ON u.code = q.unit
CROSS JOIN generate_series('2026-01-01T00:00+08'::timestamptz, '2026-12-31T23:00+08', interval '1 hour') h
CROSS JOIN LATERAL (SELECT CASE
    WHEN extract(isodow FROM h AT TIME ZONE 'Asia/Shanghai') = 7 THEN 'stopped'
    WHEN h >= '2026-06-01T00:00+08' AND h < '2026-06-11T00:00+08' THEN 'missing' ELSE 'valid' END AS state) s
CROSS JOIN LATERAL (SELECT CASE WHEN s.state = 'valid' THEN CASE
    WHEN q.quantity = 'so2' AND h >= '2026-09-08T00:00+08' AND h < '2026-09-08T12:00+08' THEN 60 ELSE q.typical END END AS value) v;

INSERT INTO treatment_event (base_id, kind, production_id, treatment_id, started_at, ended_at)
SELECT p.base_id, 'production_on_treatment_off', p.unit_id, t.unit_id, '2026-04-02T08:00+08'::timestamptz + n * interval '9 days',
       '2026-04-02T08:00+08'::timestamptz + n * interval '9 days' + (n + 1) * interval '25 minutes'
FROM unit p JOIN unit t ON t.code = 'e1.filter' CROSS JOIN generate_series(0, 7) n WHERE p.code = 'e1.furnace';

INSERT INTO indicator_value (base_id, indicator, period, value, unit, coverage, grade, inputs, computed_at) VALUES
    (1, 'energy_per_value_added', '2026', 1.4523, 'tce/万元', 0.97, 'B', '{}', '2027-01-02Z'),
    (1, 'renewable_share', '2026', 3.226, '%', 1, 'A', '{}', '2027-01-02Z'),
    (1, 'water_per_value_added', '2026', NULL, 'm3/万元', 0.726, 'B', '{}', '2027-01-02Z'),
    (1, 'transmission_effective_rate', '2026', 96.2, '%', 0.962, 'A', '{}', '2027-01-02Z');

INSERT INTO alert (base_id, rule_id, point_id, severity, active, acknowledged, opened_at, acknowledged_at, returned_at, closed_at, value, unit)
SELECT r.base_id, r.rule_id, p.point_id, CASE WHEN n % 9 = 0 THEN 'critical' WHEN n % 3 = 0 THEN 'high' ELSE 'medium' END, n = 39, n < 39,
       at, CASE WHEN n < 39 THEN at + interval '7 minutes' END, CASE WHEN n < 39 THEN at + interval '50 minutes' END,
       CASE WHEN n < 39 THEN at + interval '2 hours' END, 38 + n, 'mg/m3'
FROM rule r JOIN point p ON p.code = 'e1.stack.so2'
CROSS JOIN LATERAL (SELECT n, '2026-01-10T10:00+08'::timestamptz + n * interval '8 days' AS at FROM generate_series(0, 39) n) a
WHERE r.code = 'stack-so2';

INSERT INTO pollution_case (base_id, case_id, alert_id, state, handler, due_at, opened_at, opened_by, closed_at)
SELECT 1, v.n, a.alert_id, v.state, '永固轧钢 王磊', v.due, v.opened, 'center', v.closed
FROM (VALUES (1, 'closed', '2026-03-05T18:00+08'::timestamptz, '2026-03-03T10:20+08'::timestamptz, '2026-03-04T16:50+08'::timestamptz),
             (2, 'handling', '2026-11-20T18:00+08', '2026-11-18T09:00+08', NULL)) v (n, state, due, opened, closed)
CROSS JOIN LATERAL (SELECT alert_id FROM alert WHERE opened_at <= v.opened ORDER BY opened_at DESC LIMIT 1) a;
INSERT INTO case_step (base_id, case_id, step, at, actor, note, attachment, attachment_hash)
SELECT 1, n, step, at::timestamptz, actor, note, CASE step WHEN 'evidence' THEN '布袋.jpg' ELSE '' END,
       CASE step WHEN 'evidence' THEN repeat('a', 64) ELSE '' END
FROM (VALUES (1, 'dispatch', '2026-03-03T10:20+08', 'center', '→ 永固轧钢 王磊'), (1, 'accept', '2026-03-03T10:41+08', '王磊', ''),
             (1, 'handle', '2026-03-03T14:05+08', '王磊', '更换破损布袋'), (1, 'evidence', '2026-03-03T15:30+08', '王磊', ''),
             (1, 'verify', '2026-03-04T16:00+08', '李敏', '复测达标'), (1, 'close', '2026-03-04T16:50+08', 'center', ''),
             (2, 'dispatch', '2026-11-18T09:00+08', 'center', '→ 永固轧钢 王磊'), (2, 'accept', '2026-11-18T09:30+08', '王磊', ''),
             (2, 'handle', '2026-11-18T11:00+08', '王磊', '清理喷嘴'), (2, 'evidence', '2026-11-18T12:00+08', '王磊', ''),
             (2, 'refuse', '2026-11-19T09:00+08', '李敏', '照片不清')) v (n, step, at, actor, note);

INSERT INTO ledger (base_id, kind, enterprise_id, item, action, first_day, last_day, value, unit, status, evidence, recorded_by, recorded_at)
SELECT 1, v.kind, e.enterprise_id, v.item, v.action, v.first, v.last, v.value, v.unit, 'final', '联单（测试）', 'test', '2026-12-31Z'
FROM (VALUES ('solid_waste', '炉渣', 'generated', '2026-01-01'::date, '2026-06-30'::date, 800.0, 't'),
             ('solid_waste', '炉渣', 'used', '2026-01-01', '2026-06-30', 720.0, 't'),
             ('hazardous_waste', '废机油', 'generated', '2026-02-01', '2026-02-28', 3.2, 't'),
             ('hazardous_waste', '废机油', 'moved', '2026-02-01', '2026-02-28', 3.2, 't'),
             ('solid_waste', '炉渣', 'generated', '2026-12-15', '2027-01-14', 90.0, 't')) v (kind, item, action, first, last, value, unit)
JOIN enterprise e ON e.code = 'e1';

INSERT INTO ingest_counter (base_id, day, outcome, n) VALUES
    (1, '2026-05-01', 'stored', 1234567), (1, '2026-05-01', 'duplicate', 321), (1, '2026-05-02', 'dead:unknown_point', 4);

-- everything was known before the years were over, unless a test says otherwise
UPDATE target SET recorded_at = '2025-01-01Z';
UPDATE limit_value SET recorded_at = '2025-01-01Z';
UPDATE ledger SET recorded_at = '2026-12-31Z';
