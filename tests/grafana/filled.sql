-- Ten hours of made-up figures for the base `mini`, in every table that boards read.
SELECT ensure_reading_partitions(now() - interval '2 days', now());
INSERT INTO reading (base_id, point_id, ts, value)
SELECT p.base_id, p.point_id, t, 100 FROM point p, generate_series(date_trunc('hour', now()) - interval '10 hours', now(), '5 minutes') t;
INSERT INTO latest (base_id, point_id, ts, value, quality)
SELECT base_id, point_id, now() - interval '1 hour', 1, 0 FROM point WHERE code <> 'e1.main.kw';
UPDATE latest SET arrived_at = now() - interval '2 hours';
INSERT INTO latest (base_id, point_id, ts, value, quality) SELECT base_id, point_id, now(), 1, 0 FROM point WHERE code = 'e1.main.kw';
INSERT INTO reading_15m (base_id, point_id, bucket, min, max, sum, first, last, increment, n, n_good, n_usable)
SELECT p.base_id, p.point_id, t, 100, 100, 300, 100, 100, 5, 3, 3, 3
FROM point p, generate_series(date_trunc('hour', now()) - interval '10 hours', now(), '15 minutes') t;
INSERT INTO reading_1h (base_id, point_id, bucket, min, max, sum, first, last, increment, n, n_good, n_usable)
SELECT p.base_id, p.point_id, t, 100, 100, 1200, 100, 100, 20, 12, 12, 12
FROM point p, generate_series(date_trunc('hour', now()) - interval '10 hours', now(), '1 hour') t;
INSERT INTO reading_1d (base_id, point_id, bucket, min, max, sum, first, last, increment, n, n_good, n_usable)
SELECT p.base_id, p.point_id, board_day('mini', now())::timestamp AT TIME ZONE 'Asia/Shanghai', 100, 100, 14400, 100, 100, 240, 144, 144, 144
FROM point p;
INSERT INTO interval_15m (base_id, point_id, ts, amount, quality)
SELECT p.base_id, p.point_id, t, 25, 0
FROM point p, generate_series(date_trunc('hour', now()) - interval '10 hours', now(), '15 minutes') t WHERE p.kind = 'counter';
INSERT INTO interval_1d (base_id, point_id, ts, amount, n_expected, n_known, n_good)
SELECT p.base_id, p.point_id, board_day('mini', now())::timestamp AT TIME ZONE 'Asia/Shanghai', 1000, 96, 40, 40
FROM point p WHERE p.kind = 'counter';
INSERT INTO energy_total (base_id, day, enterprise_id, carrier, unit, amount, n_expected, n_known, n_good, tce_calorific,
                          tce_equivalent, co2_kg, cost)
SELECT base_id, board_today('mini'), NULL::integer, 'electricity', 'kWh', 3000, 96, 40, 40, 0.4, 0.9, 1700, 1950 FROM base
UNION ALL
SELECT base_id, board_today('mini'), enterprise_id, 'electricity', 'kWh', 1000, 96, 40, 40, 0.1, 0.3, 560, 650 FROM enterprise;
INSERT INTO cost_1d (base_id, point_id, day, period, amount, cost, tariff_id)
SELECT p.base_id, p.point_id, board_today('mini'), 'flat', 1000, 650, t.tariff_id
FROM point p JOIN tariff t USING (base_id, carrier) WHERE p.boundary = 'enterprise';
INSERT INTO indicator_value (base_id, indicator, period, value, unit, coverage, grade)
SELECT base_id, 'tce_equivalent', to_char(board_today('mini'), 'YYYY'), 15000, 'tce', 0.97, 'A' FROM base;
INSERT INTO emission_1h (base_id, unit_id, quantity, ts, n_valid, state, measured, converted, flow, mass_kg, limit_value, exceeded)
SELECT base_id, unit_id, 'so2', t, 55, 'valid', 30, 40, 10000, 0.3, 35, true
FROM unit, generate_series(date_trunc('hour', now()) - interval '10 hours', now(), '1 hour') t WHERE code = 'e1.stack';
INSERT INTO treatment_event (base_id, kind, production_id, treatment_id, started_at)
SELECT a.base_id, 'production_on_treatment_off', a.unit_id, b.unit_id, now() - interval '1 hour'
FROM unit a JOIN unit b USING (base_id) WHERE a.code = 'e1.furnace' AND b.code = 'e1.filter';
INSERT INTO alert (base_id, rule_id, point_id, severity, opened_at, value, high, unit, explanation)
SELECT r.base_id, r.rule_id, p.point_id, 'high', now() - interval '30 minutes', 40, 35, 'mg/m3', '{"zh": "超标", "en": "over"}'
FROM rule r JOIN point p USING (base_id) WHERE p.code = 'e1.stack.so2';
INSERT INTO ingest_counter (base_id, day, outcome, n) SELECT base_id, current_date - 1, 'stored', 1000 FROM base;
INSERT INTO dead_letter (base_id, reason, payload) SELECT base_id, 'unknown_point', '\x00' FROM base;
INSERT INTO device_state (base_id, device_id, state, last_answer) SELECT base_id, device_id, 'online', now() FROM device;
