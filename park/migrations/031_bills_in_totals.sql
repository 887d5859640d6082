-- What a total is made of beside counters: bills with their cost, and the steps from what was used to what is assessed.

INSERT INTO unit_conversion (source, target, multiplier, reason) VALUES
    ('CNY', 'CNY', 1, ''), ('元', 'CNY', 1, ''), ('万元', 'CNY', 10000, 'as bills print it'), ('10k CNY', 'CNY', 10000, 'as bills print it');

-- As before, with what the totals need of each member: the rule of what counts stands here alone.
CREATE OR REPLACE VIEW energy_member WITH (security_barrier) AS
WITH counter AS (
    SELECT c.*, bool_or(c.boundary = 'base' AND c.direction IN ('import', 'sum')) OVER (PARTITION BY c.base_id, c.carrier) AS has_gate,
           (c.base_id, c.point_id) IN (SELECT f.base_id, f.point_id FROM fed_inside f) AS fed_inside,
           c.carrier = 'electricity' AND c.direction = 'generation' AND c.made_from IS NULL AS is_primary
    FROM energy_counter c WHERE c.base_id = ANY ((SELECT visible_bases())::smallint[])
)
SELECT base_id, point_id, NULL::integer AS enterprise_id, is_primary, carrier, direction, unit, multiplier, has_gate FROM counter
WHERE boundary = 'base' OR boundary = 'enterprise' AND CASE WHEN has_gate THEN is_primary AND NOT fed_inside
                                                           ELSE NOT exchanged AND NOT fed_inside AND NOT at_gate_only END
UNION ALL
SELECT base_id, point_id, enterprise_id, is_primary, carrier, direction, unit, multiplier, has_gate FROM counter
WHERE boundary = 'enterprise' AND enterprise_id IS NOT NULL;

-- Ledger entries of which a day's total is made (energy_bill: the amount; energy_cost: the money), with their share of that day.
-- enterprise_id: whose total (NULL: the base's).
CREATE VIEW billed_1d WITH (security_barrier) AS
SELECT t.base_id, t.day, t.enterprise_id, t.carrier, l.entry_id, l.kind, l.enterprise_id AS payer_id, t.unit, s.amount, s.cost,
       s.amount * f.tce_calorific AS tce_calorific, s.amount * f.tce_equivalent AS tce_equivalent, s.amount * f.co2_kg AS co2_kg,
       coalesce(f.factor_ids, '{}') AS factor_ids
FROM energy_total_known t CROSS JOIN LATERAL unnest(t.ledger_ids) AS used (entry_id)
JOIN ledger l ON l.base_id = t.base_id AND l.entry_id = used.entry_id AND l.kind IN ('energy_bill', 'energy_cost')
LEFT JOIN unit_conversion own ON (own.carrier, own.source, own.target) = (t.carrier, l.unit, t.unit)
LEFT JOIN unit_conversion any_carrier ON (any_carrier.carrier, any_carrier.source) = ('', l.unit)
    AND any_carrier.target = CASE WHEN l.kind = 'energy_cost' THEN 'CNY' ELSE t.unit END
CROSS JOIN LATERAL (
    SELECT l.value * coalesce(own.multiplier, any_carrier.multiplier, CASE WHEN l.unit = t.unit THEN 1 END)
               / (l.last_day - l.first_day + 1) AS share) x
CROSS JOIN LATERAL (
    SELECT CASE WHEN l.kind = 'energy_bill' THEN x.share END AS amount, CASE WHEN l.kind = 'energy_cost' THEN x.share END AS cost) s
LEFT JOIN carrier_factor f ON f.base_id = t.base_id AND f.carrier = t.carrier AND f.valid_from <= t.day AND t.day < f.valid_to
WHERE t.base_id = ANY ((SELECT visible_bases())::smallint[])
  AND (current_setting('role') <> 'park_enterprise' OR l.enterprise_id = visible_enterprise());

-- From what was used to what is assessed (both coal equivalents) and to CO2 by market, a row a step that changes something; the
-- steps of a day add up to its figures. The switches are the setting rows that the total names.
CREATE VIEW account_step_1d WITH (security_barrier) AS
WITH total AS (
    SELECT t.*, w.*, t.amount - CASE WHEN t.carrier = 'electricity' THEN coalesce(t.generation, 0) ELSE 0 END AS net,
           f.tce_calorific AS calorific, f.tce_equivalent AS equivalent, f.co2_kg AS by_location, f.co2_residual_kg AS by_residual
    FROM energy_total_known t
    CROSS JOIN LATERAL (
        SELECT coalesce(bool_and(s.value) FILTER (WHERE s.name = 'deduct_sold'), true) AS off_sold,
               coalesce(bool_and(s.value) FILTER (WHERE s.name = 'deduct_feedstock'), false) AS off_feedstock,
               coalesce(bool_and(s.value) FILTER (WHERE s.name = 'deduct_green_power'), false) AS off_green,
               coalesce(bool_and(s.value) FILTER (WHERE s.name = 'residual_factor'), true) AS residual
        FROM setting s WHERE s.base_id = t.base_id AND s.setting_id = ANY (t.setting_ids)) w
    LEFT JOIN carrier_factor f ON f.base_id = t.base_id AND f.carrier = t.carrier AND f.valid_from <= t.day AND t.day < f.valid_to
    WHERE t.base_id = ANY ((SELECT visible_bases())::smallint[])
), charged AS (
    SELECT *, net + CASE WHEN off_sold THEN 0 ELSE coalesce(export, 0) END AS charged,
           carrier = 'electricity' AND net + CASE WHEN off_sold THEN 0 ELSE coalesce(export, 0) END > 0 AS is_power
    FROM total
)
SELECT c.base_id, c.day, c.enterprise_id, c.carrier, c.unit, s.step, s.amount, s.assessed * c.calorific AS tce_calorific_assessed,
       s.assessed * c.equivalent AS tce_equivalent_assessed, s.market AS co2_market_kg
FROM charged c CROSS JOIN LATERAL (VALUES
    ('used', c.amount, c.amount, c.net * c.by_location),
    ('sold_not_deducted', c.charged - c.net, c.charged - c.net, (c.charged - c.net) * c.by_location),
    ('feedstock', -c.feedstock, CASE WHEN c.off_feedstock THEN -c.feedstock ELSE 0 END, 0),
    ('green_power', -least(coalesce(c.green, 0), greatest(c.charged, 0)),
     CASE WHEN c.off_green AND c.carrier = 'electricity' THEN -least(coalesce(c.green, 0), greatest(c.charged, 0)) ELSE 0 END,
     CASE WHEN c.is_power THEN -least(coalesce(c.green, 0), c.charged) * CASE WHEN c.residual THEN c.by_residual ELSE c.by_location END
          ELSE 0 END),
    ('own_generation', -c.generation, CASE WHEN c.off_green AND c.carrier = 'electricity' THEN -c.generation ELSE 0 END, 0),
    ('residual_factor', NULL, 0, CASE WHEN c.is_power AND c.residual THEN c.charged * (c.by_residual - c.by_location) ELSE 0 END)
) AS s (step, amount, assessed, market)
WHERE s.step = 'used' OR s.assessed IS DISTINCT FROM 0 OR s.market IS DISTINCT FROM 0;

GRANT SELECT ON billed_1d, account_step_1d TO park_operator, park_contractor, park_enterprise, park_auditor, park_admin, park_service;
