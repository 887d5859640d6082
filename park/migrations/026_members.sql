-- Which counters count for the base (enterprise_id NULL) and for each enterprise: the rule of the totals, for those who trace them.
CREATE OR REPLACE VIEW fed_inside AS
WITH RECURSIVE up (base_id, point_id, at_id) AS (
    SELECT base_id, child_id, parent_id FROM flow_known
    UNION SELECT up.base_id, up.point_id, f.parent_id FROM up JOIN flow_known f ON f.base_id = up.base_id AND f.child_id = up.at_id
)
SELECT up.base_id, up.point_id
FROM up JOIN energy_counter mine ON mine.base_id = up.base_id AND mine.point_id = up.point_id
JOIN energy_counter source ON source.base_id = up.base_id AND source.point_id = up.at_id AND source.carrier = mine.carrier
WHERE NOT EXISTS (SELECT FROM flow_known f WHERE f.base_id = up.base_id AND f.child_id = up.at_id)
GROUP BY up.base_id, up.point_id
HAVING bool_and(source.direction IN ('generation', 'export') OR source.made_from IS NOT NULL);

CREATE VIEW energy_member WITH (security_barrier) AS
WITH counter AS (
    SELECT c.*, bool_or(c.boundary = 'base' AND c.direction IN ('import', 'sum')) OVER (PARTITION BY c.base_id, c.carrier) AS has_gate,
           (c.base_id, c.point_id) IN (SELECT f.base_id, f.point_id FROM fed_inside f) AS fed_inside,
           c.carrier = 'electricity' AND c.direction = 'generation' AND c.made_from IS NULL AS is_primary
    FROM energy_counter c WHERE c.base_id = ANY ((SELECT visible_bases())::smallint[])
)
SELECT base_id, point_id, NULL::integer AS enterprise_id, is_primary FROM counter
WHERE boundary = 'base' OR boundary = 'enterprise' AND CASE WHEN has_gate THEN is_primary AND NOT fed_inside
                                                           ELSE NOT exchanged AND NOT fed_inside AND NOT at_gate_only END
UNION ALL
SELECT base_id, point_id, enterprise_id, is_primary FROM counter WHERE boundary = 'enterprise' AND enterprise_id IS NOT NULL;
GRANT SELECT ON energy_member TO park_operator, park_contractor, park_enterprise, park_auditor, park_admin, park_service;

-- Versions of figures that stood at no local midnight, once they are old: every history but the catalogue's.
CREATE OR REPLACE FUNCTION thin_history(base smallint, zone text, before timestamptz) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    name text;
    gone bigint;
    total bigint := 0;
BEGIN
    FOR name IN
        SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname LIKE '%\_history'
          AND obj_description(oid, 'pg_class') IS NOT NULL
          AND left(relname, -8) NOT IN ('base', 'enterprise', 'unit', 'device', 'point', 'meter', 'flow', 'calendar', 'rule')
    LOOP
        EXECUTE format('DELETE FROM %I WHERE base_id = $1 AND superseded_at < $3
            AND date_trunc(''day'', superseded_at, $2) = date_trunc(''day'', recorded_at, $2)
            AND recorded_at > date_trunc(''day'', recorded_at, $2)', name) USING base, zone, before;
        GET DIAGNOSTICS gone = ROW_COUNT;
        total := total + gone;
    END LOOP;
    RETURN total;
END $$;
