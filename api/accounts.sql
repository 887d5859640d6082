-- name: bills
-- Bills of a base's customers and months.
SELECT b.month, coalesce(e.code, 'base') AS customer, coalesce(e.name_zh, s.name_zh) AS name_zh, coalesce(e.name_en, s.name_en) AS name_en,
       b.total, b.energy_kwh, b.estimated_kwh, b.n_expected, b.n_known, b.reactive_kvarh, b.power_factor, b.demand_kw, b.demand_at,
       b.demand_is_lower_bound, b.kwh_per_kva, b.complete, b.notes, b.enterprise_id
FROM bill_known b JOIN base s USING (base_id)
LEFT JOIN enterprise_known e ON e.base_id = b.base_id AND e.enterprise_id = b.enterprise_id
WHERE b.base_id = %(base)s AND b.month BETWEEN %(first)s AND %(last)s
  AND (%(customer)s::text IS NULL OR coalesce(e.code, 'base') = %(customer)s)
ORDER BY b.month DESC, b.enterprise_id NULLS FIRST LIMIT 500

-- name: bills_missing
-- Why customers of a base have no bill of a month, as it stands now.
SELECT to_char(m.month, 'YYYY-MM') AS month, coalesce(e.code, 'base') AS customer, coalesce(e.name_zh, s.name_zh) AS name_zh,
       coalesce(e.name_en, s.name_en) AS name_en, m.cause, m.detail
FROM bill_missing m JOIN base s USING (base_id)
LEFT JOIN enterprise e ON e.base_id = m.base_id AND e.enterprise_id = m.enterprise_id
WHERE m.base_id = %(base)s AND m.month BETWEEN %(first)s AND %(last)s
  AND (%(customer)s::text IS NULL OR coalesce(e.code, 'base') = %(customer)s)
ORDER BY m.month DESC, m.enterprise_id NULLS FIRST LIMIT 500

-- name: bill_lines
-- Lines of those bills.
SELECT b.month, b.enterprise_id, b.line, b.item, b.quantity, b.unit, b.price, b.factor, b.amount, b.in_power_factor_base, b.tariff_id,
       b.source, b.verified
FROM bill_line_known b
WHERE b.base_id = %(base)s AND b.month BETWEEN %(first)s AND %(last)s ORDER BY b.month, b.enterprise_id, b.line

-- name: energy_account
-- The energy account of a base or its enterprises over days, a row a carrier: what is in it, both coal equivalents, deductions,
-- CO2 by location and by market.
SELECT t.carrier, c.zh AS name_zh, c.en AS name_en, t.scope, t.unit, e.code AS enterprise, count(*)::integer AS days,
       sum(t.amount) AS amount, sum(t.generation) AS generation, sum(t.export) AS sold, sum(t.made_inside) AS made_inside,
       sum(t.feedstock) AS feedstock, sum(t.green) AS green, sum(t.billed) AS billed, sum(t.estimated) AS estimated,
       sum(t.n_expected)::bigint AS n_expected, sum(t.n_known)::bigint AS n_known,
       sum(t.tce_calorific) AS tce_calorific, sum(t.tce_equivalent) AS tce_equivalent,
       sum(t.tce_calorific_assessed) AS tce_calorific_assessed, sum(t.tce_equivalent_assessed) AS tce_equivalent_assessed,
       sum(t.co2_kg) AS co2_location_kg,
       CASE WHEN bool_or(t.amount IS NOT NULL AND t.co2_market_kg IS NULL) THEN NULL ELSE sum(t.co2_market_kg) END AS co2_market_kg,
       count(*) FILTER (WHERE t.amount IS NOT NULL AND t.tce_calorific IS NULL)::integer AS days_without_tce,
       count(*) FILTER (WHERE t.amount IS NOT NULL AND t.co2_kg IS NULL)::integer AS days_without_co2
FROM energy_total_1d t LEFT JOIN carrier c USING (carrier)
LEFT JOIN enterprise_known e ON e.base_id = t.base_id AND e.enterprise_id = t.enterprise_id
WHERE t.base_id = %(base)s AND t.day BETWEEN %(first)s AND %(last)s
  AND CASE WHEN %(by_enterprise)s THEN t.enterprise_id IS NOT NULL
           ELSE t.enterprise_id IS NOT DISTINCT FROM (SELECT x.enterprise_id FROM enterprise x
                                                      WHERE x.base_id = %(base)s AND x.code = %(enterprise)s::text) END
GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY e.code NULLS FIRST, t.scope NULLS LAST, t.carrier

-- name: account_rows_used
-- Factor, setting and ledger rows behind the energy account of days.
SELECT (SELECT array_agg(DISTINCT x) FROM energy_total_1d t, unnest(t.factor_ids || t.market_factor_ids) x
        WHERE t.base_id = %(base)s AND t.day BETWEEN %(first)s AND %(last)s) AS factors,
       (SELECT array_agg(DISTINCT x) FROM energy_total_1d t, unnest(t.setting_ids) x
        WHERE t.base_id = %(base)s AND t.day BETWEEN %(first)s AND %(last)s) AS settings,
       (SELECT array_agg(DISTINCT x) FROM energy_total_1d t, unnest(t.ledger_ids) x
        WHERE t.base_id = %(base)s AND t.day BETWEEN %(first)s AND %(last)s) AS ledger

-- name: settings
-- Switches by their ids.
SELECT setting_id AS id, name, value, valid_from, valid_to, source, verified, recorded_at FROM setting
WHERE base_id = %(base)s AND setting_id = ANY (%(ids)s) ORDER BY name, valid_from

-- name: trace_bills
-- Ledger entries of which totals of the base or an enterprise are made, over days: energy by bill and what it cost.
SELECT b.carrier, b.entry_id AS id, b.kind, e.code AS payer, b.unit, count(*)::integer AS days, sum(b.amount) AS amount,
       sum(b.tce_calorific) AS tce_calorific, sum(b.tce_equivalent) AS tce_equivalent, sum(b.co2_kg) AS co2_kg, sum(b.cost) AS cost,
       min(b.day) AS first_counted, max(b.day) AS last_counted
FROM billed_1d b LEFT JOIN enterprise_known e ON e.base_id = b.base_id AND e.enterprise_id = b.payer_id
LEFT JOIN enterprise_known o ON o.base_id = b.base_id AND o.enterprise_id = b.enterprise_id
WHERE b.base_id = %(base)s AND b.day BETWEEN %(first)s AND %(last)s AND (%(carrier)s::text IS NULL OR b.carrier = %(carrier)s)
  AND CASE %(scope)s::text WHEN 'base' THEN b.enterprise_id IS NULL WHEN 'enterprise' THEN o.code = %(code)s ELSE false END
GROUP BY 1, 2, 3, 4, 5 ORDER BY b.carrier, b.entry_id

-- name: trace_entries
-- Ledger entries by their ids and those that they supersede, newest first, with the documents attached to each.
WITH RECURSIVE chain AS (
    SELECT l.* FROM ledger l WHERE l.base_id = %(base)s AND l.entry_id = ANY (%(ids)s)
    UNION SELECT l.* FROM chain c JOIN ledger l ON l.base_id = c.base_id AND l.entry_id = c.supersedes
)
SELECT c.entry_id AS id, c.kind, c.item, c.action, c.first_day, c.last_day, c.value, c.unit, c.status, c.evidence, c.note, c.reason,
       c.recorded_by, c.recorded_at, c.supersedes, d.documents
FROM chain c LEFT JOIN LATERAL (
    SELECT json_agg(json_build_object('id', v.evidence_id, 'name', v.name, 'sha256', encode(v.sha256, 'hex')) ORDER BY v.evidence_id) AS documents
    FROM ledger_evidence x JOIN evidence v USING (base_id, evidence_id) WHERE x.base_id = c.base_id AND x.entry_id = c.entry_id) d ON true
ORDER BY c.entry_id DESC

-- name: trace_steps
-- From what was used to what is assessed and to CO2 by market, over days.
SELECT s.carrier, s.step, s.unit, count(*)::integer AS days, sum(s.amount) AS amount,
       sum(s.tce_calorific_assessed) AS tce_calorific_assessed, sum(s.tce_equivalent_assessed) AS tce_equivalent_assessed,
       sum(s.co2_market_kg) AS co2_market_kg
FROM account_step_1d s LEFT JOIN enterprise_known o ON o.base_id = s.base_id AND o.enterprise_id = s.enterprise_id
WHERE s.base_id = %(base)s AND s.day BETWEEN %(first)s AND %(last)s AND (%(carrier)s::text IS NULL OR s.carrier = %(carrier)s)
  AND CASE %(scope)s::text WHEN 'base' THEN s.enterprise_id IS NULL ELSE o.code = %(code)s END
GROUP BY 1, 2, 3 ORDER BY s.carrier, s.step

-- name: trace_used
-- Setting and ledger rows behind the totals of the base or an enterprise over days.
WITH d AS MATERIALIZED (
    SELECT t.setting_ids, t.ledger_ids FROM energy_total_1d t
    LEFT JOIN enterprise_known o ON o.base_id = t.base_id AND o.enterprise_id = t.enterprise_id
    WHERE t.base_id = %(base)s AND t.day BETWEEN %(first)s AND %(last)s AND (%(carrier)s::text IS NULL OR t.carrier = %(carrier)s)
      AND CASE %(scope)s::text WHEN 'base' THEN t.enterprise_id IS NULL WHEN 'enterprise' THEN o.code = %(code)s ELSE false END
)
SELECT (SELECT array_agg(DISTINCT x) FROM d, unnest(d.setting_ids) x) AS settings,
       (SELECT array_agg(DISTINCT x) FROM d, unnest(d.ledger_ids) x) AS ledger
