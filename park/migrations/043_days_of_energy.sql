-- As in 026, without looking through all counters for every flow.
CREATE OR REPLACE VIEW fed_inside AS
WITH RECURSIVE flow AS MATERIALIZED (
    SELECT base_id, child_id, parent_id FROM flow_known
), up (base_id, point_id, at_id) AS (
    SELECT base_id, child_id, parent_id FROM flow
    UNION SELECT up.base_id, up.point_id, f.parent_id FROM up JOIN flow f ON f.base_id = up.base_id AND f.child_id = up.at_id
), top AS MATERIALIZED (
    SELECT * FROM up WHERE (up.base_id, up.at_id) NOT IN (SELECT f.base_id, f.child_id FROM flow f)
), counter AS MATERIALIZED (
    SELECT p.base_id, p.point_id, p.carrier, p.direction, p.attributes ->> 'made_from' AS made_from
    FROM point_known p WHERE p.kind = 'counter' AND p.carrier IS NOT NULL
      AND p.point_id IN (SELECT t.point_id FROM top t UNION ALL SELECT t.at_id FROM top t)
)
SELECT top.base_id, top.point_id
FROM top JOIN counter mine ON mine.base_id = top.base_id AND mine.point_id = top.point_id
JOIN counter source ON source.base_id = top.base_id AND source.point_id = top.at_id AND source.carrier = mine.carrier
GROUP BY top.base_id, top.point_id
HAVING bool_and(source.direction IN ('generation', 'export') OR source.made_from IS NOT NULL);

-- As in 015, with the meters of exchanges read once.
CREATE OR REPLACE VIEW energy_counter AS
SELECT p.base_id, p.point_id, p.unit_id, o.enterprise_id, p.carrier, p.direction, p.boundary,
       coalesce(c.unit, p.unit) AS unit,
       CASE WHEN c.unit IS NULL OR c.unit = p.unit THEN 1 ELSE coalesce(own.multiplier, any_carrier.multiplier) END AS multiplier,
       coalesce(c.at_gate_only, false) AS at_gate_only,
       (p.base_id, p.carrier, p.point_id) IN (
           SELECT f.base_id, f.carrier, m.point_id FROM flow_known f CROSS JOIN LATERAL (VALUES (f.parent_id), (f.child_id)) AS m (point_id)
           WHERE f.kind = 'exchange' AND m.point_id IS NOT NULL) AS exchanged,
       b.timezone, p.attributes ->> 'made_from' AS made_from, p.attributes ->> 'used_as' AS used_as
FROM point_known p JOIN base_known b USING (base_id)
LEFT JOIN unit_owner o USING (base_id, unit_id)
LEFT JOIN carrier c USING (carrier)
LEFT JOIN unit_conversion own ON (own.carrier, own.source, own.target) = (p.carrier, p.unit, c.unit)
LEFT JOIN unit_conversion any_carrier ON (any_carrier.carrier, any_carrier.source, any_carrier.target) = ('', p.unit, c.unit)
WHERE p.kind = 'counter' AND p.carrier IS NOT NULL;
