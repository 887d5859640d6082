-- Boards of energy, balance, emission and load: the views of figures lean on `*_known` views, which ask for the rights of who
-- reads, and Grafana has none on tables. These functions read the figures with their owner's rights, for the bases of the login.
CREATE FUNCTION shown_energy_total() RETURNS SETOF energy_total_1d LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = public, pg_temp AS $$ SELECT * FROM energy_total_1d WHERE base_id = ANY ((SELECT visible_bases())::smallint[]) $$;
CREATE FUNCTION shown_balance() RETURNS SETOF balance_1d LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = public, pg_temp AS $$ SELECT * FROM balance_1d WHERE base_id = ANY ((SELECT visible_bases())::smallint[]) $$;
CREATE FUNCTION shown_emission() RETURNS SETOF emission_1d LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = public, pg_temp AS $$ SELECT * FROM emission_1d WHERE base_id = ANY ((SELECT visible_bases())::smallint[]) $$;
CREATE FUNCTION shown_unit_owner() RETURNS SETOF unit_owner LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = public, pg_temp AS $$ SELECT * FROM unit_owner WHERE base_id = ANY ((SELECT visible_bases())::smallint[]) $$;
REVOKE EXECUTE ON FUNCTION shown_energy_total(), shown_balance(), shown_emission(), shown_unit_owner() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION shown_energy_total(), shown_balance(), shown_emission(), shown_unit_owner() TO park_grafana;

CREATE OR REPLACE VIEW board_energy_1d WITH (security_barrier) AS
SELECT b.code AS base, e.code AS enterprise, coalesce(e.name_zh, b.name_zh) AS name_zh, coalesce(e.name_en, b.name_en) AS name_en,
       t.day, t.day::timestamp AT TIME ZONE b.timezone AS day_at, t.carrier, t.unit, t.amount, t.generation, t.export,
       t.estimated, t.n_expected, t.n_known, t.n_good, t.tce_calorific, t.tce_equivalent, t.co2_kg, t.cost
FROM shown_energy_total() t JOIN base b USING (base_id) LEFT JOIN enterprise e USING (base_id, enterprise_id);

CREATE OR REPLACE VIEW board_load WITH (security_barrier) AS
SELECT b.code AS base, i.ts, coalesce(e.name_zh, b.name_zh) AS name_zh, coalesce(e.name_en, b.name_en) AS name_en,
       sum(CASE WHEN p.direction = 'export' THEN -i.amount ELSE i.amount END
           * CASE p.unit WHEN 'MWh' THEN 1000 WHEN 'Wh' THEN 0.001 ELSE 1 END) * 4 AS kw
FROM interval_15m i JOIN point p USING (base_id, point_id) JOIN base b USING (base_id)
LEFT JOIN shown_unit_owner() o USING (base_id, unit_id)
LEFT JOIN enterprise e ON e.base_id = i.base_id AND e.enterprise_id = o.enterprise_id
WHERE p.carrier = 'electricity' AND p.boundary IN ('base', 'enterprise')
  AND i.base_id = ANY ((SELECT visible_bases())::smallint[])
GROUP BY 1, 2, 3, 4;

CREATE OR REPLACE VIEW board_balance_1d WITH (security_barrier) AS
SELECT b.code AS base, x.day, x.day::timestamp AT TIME ZONE b.timezone AS day_at, x.carrier, p.code AS parent,
       x.parent_amount, x.children_amount, x.unaccounted, x.n_expected, x.n_known
FROM shown_balance() x JOIN base b USING (base_id) JOIN point p ON p.base_id = x.base_id AND p.point_id = x.parent_id;

CREATE OR REPLACE VIEW board_emission_1d WITH (security_barrier) AS
SELECT b.code AS base, u.code AS unit, u.name_zh, u.name_en, e.quantity, coalesce(q.zh, e.quantity) AS quantity_zh,
       coalesce(q.en, e.quantity) AS quantity_en, e.day, e.day::timestamp AT TIME ZONE b.timezone AS day_at, e.hours_valid,
       e.hours_stopped, e.hours_exempt, e.hours_missing, e.mean_measured, e.mean_converted, e.max_converted, e.mass_kg,
       e.hours_substituted, e.hours_exceeded, e.valid
FROM shown_emission() e JOIN base b USING (base_id) JOIN unit u USING (base_id, unit_id) LEFT JOIN quantity_name q USING (quantity);
