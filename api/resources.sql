-- name: water
-- Water of the base and its enterprises.
SELECT e.code AS enterprise, e.name_zh, e.name_en, w.fresh, w.reclaimed, w.recirculated, w.discharged, w.hours_due, w.hours_known,
       w.consumed, w.reuse_rate, w.days, w.n_expected, w.n_known
FROM water_between(%(base)s::smallint, %(first)s, %(last)s) w
LEFT JOIN enterprise_known e ON e.base_id = %(base)s AND e.enterprise_id = w.enterprise_id ORDER BY e.enterprise_id NULLS FIRST

-- name: made
-- Carriers made inside from another one, by their meters.
SELECT p.code AS point, coalesce(p.name_zh, '') AS name_zh, coalesce(p.name_en, '') AS name_en, d.carrier, p.attributes ->> 'made_from' AS made_from,
       d.unit, sum(d.amount) AS amount, sum(d.n_expected)::bigint AS n_expected, sum(d.n_known)::bigint AS n_known
FROM energy_1d d JOIN point_known p USING (base_id, point_id)
WHERE d.base_id = %(base)s AND d.day BETWEEN %(first)s AND %(last)s AND d.point_id = ANY (ARRAY(
    SELECT q.point_id FROM point_known q WHERE q.base_id = %(base)s AND q.attributes ? 'made_from'))
GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 4, 1

-- name: passed_on
-- What flows of kind exchange and cascade carry, by the receiver's meter.
SELECT f.kind, f.carrier, a.code AS giver_point, b.code AS receiver_point, eg.code AS giver, er.code AS receiver, min(d.unit) AS unit,
       sum(d.amount) AS amount, sum(d.n_expected)::bigint AS n_expected, sum(d.n_known)::bigint AS n_known
FROM flow_known f
JOIN point_known a ON a.base_id = f.base_id AND a.point_id = f.parent_id
JOIN point_known b ON b.base_id = f.base_id AND b.point_id = f.child_id
LEFT JOIN unit_enterprise ug ON ug.base_id = a.base_id AND ug.unit_id = a.unit_id
LEFT JOIN unit_enterprise ur ON ur.base_id = b.base_id AND ur.unit_id = b.unit_id
LEFT JOIN enterprise_known eg ON eg.base_id = f.base_id AND eg.enterprise_id = ug.enterprise_id
LEFT JOIN enterprise_known er ON er.base_id = f.base_id AND er.enterprise_id = ur.enterprise_id
JOIN energy_1d d ON d.base_id = f.base_id AND d.point_id = f.child_id AND d.day BETWEEN %(first)s AND %(last)s
     AND d.day >= f.valid_from AND (f.valid_to IS NULL OR d.day < f.valid_to)
     AND d.point_id = ANY (ARRAY(SELECT x.child_id FROM flow_known x WHERE x.base_id = %(base)s AND x.kind IN ('exchange', 'cascade')))
WHERE f.base_id = %(base)s AND f.kind IN ('exchange', 'cascade') GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4

-- name: waste
-- Stores of waste with what went in and out.
SELECT e.code AS enterprise, e.name_zh, e.name_en, w.kind, w.item, w.opening, w.generated, w.received, w.used, w.disposed, w.moved, w.closing,
       w.stored_declared, w.stored_differs, w.lowest, w.negative_days, w.entry_ids
FROM waste_between(%(base)s::smallint, %(first)s, %(last)s) w
LEFT JOIN enterprise_known e ON e.base_id = %(base)s AND e.enterprise_id = w.enterprise_id ORDER BY w.kind, e.enterprise_id, w.item

-- name: exchanges
-- Exchanges that the ledger has, once each, with the receiver's word beside the giver's.
SELECT x.entry_id, x.kind, x.item, g.code AS giver, r.code AS receiver, x.first_day, x.last_day, x.status, x.amount, x.unit, x.by_receiver,
       x.confirmed_by, x.confirmed_amount
FROM exchange_booked x
LEFT JOIN enterprise_known g ON g.base_id = x.base_id AND g.enterprise_id = x.giver_id
LEFT JOIN enterprise_known r ON r.base_id = x.base_id AND r.enterprise_id = x.receiver_id
WHERE x.base_id = %(base)s AND x.first_day <= %(last)s AND x.last_day >= %(first)s ORDER BY x.first_day, x.entry_id

-- name: postings
-- Both sides of every exchange, summed; each item's amounts add up to zero.
SELECT x.item, x.unit, e.code AS enterprise, sum(x.amount) AS amount, array_agg(x.entry_id ORDER BY x.entry_id) AS entry_ids
FROM exchange_posting x JOIN enterprise_known e ON e.base_id = x.base_id AND e.enterprise_id = x.enterprise_id
WHERE x.base_id = %(base)s AND x.first_day <= %(last)s AND x.last_day >= %(first)s GROUP BY 1, 2, 3 ORDER BY 1, 2, 3

-- name: land
-- Land as the newest entry of each enterprise and use that covers the last day says, in ha.
SELECT DISTINCT ON (l.enterprise_id, l.item) e.code AS enterprise, l.item, l.value * k.multiplier AS ha, l.first_day, l.last_day, l.status,
       l.entry_id
FROM ledger_known l JOIN unit_conversion k ON k.carrier = '' AND k.source = l.unit AND k.target = 'ha'
LEFT JOIN enterprise_known e ON e.base_id = l.base_id AND e.enterprise_id = l.enterprise_id
WHERE l.base_id = %(base)s AND l.kind = 'land' AND l.first_day <= %(last)s AND l.last_day >= %(first)s
ORDER BY l.enterprise_id, l.item, l.last_day DESC, l.entry_id DESC

-- name: waste_heat
-- Waste heat that is there and that is used, in GJ, by the share of each entry's days.
SELECT e.code AS enterprise, l.action, sum(l.value * CASE l.unit WHEN 'MJ' THEN 0.001 ELSE 1 END
           * (least(l.last_day, %(last)s) - greatest(l.first_day, %(first)s) + 1) / (l.last_day - l.first_day + 1)) AS gj,
       array_agg(l.entry_id ORDER BY l.entry_id) AS entry_ids
FROM ledger_known l LEFT JOIN enterprise_known e ON e.base_id = l.base_id AND e.enterprise_id = l.enterprise_id
WHERE l.base_id = %(base)s AND l.kind = 'waste_heat' AND l.first_day <= %(last)s AND l.last_day >= %(first)s GROUP BY 1, 2 ORDER BY 1, 2
