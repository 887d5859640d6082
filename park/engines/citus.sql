-- What `park migrate --citus` adds; run after the migrations, each time to the same end. Readings and their rollups, nearly all
-- bytes of a park, are distributed by base_id and lie together. Catalogue, figures, alerts and logs of work stay on the
-- coordinator: their versions are kept by triggers, which distributed and reference tables do not have. Look-ups stay there too:
-- as reference tables they would bring every query of a figure before Citus, which does not plan all of them.
SET LOCAL citus.multi_shard_modify_mode = 'sequential';

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['reading', 'reading_1m', 'reading_15m', 'reading_1h', 'reading_1d', 'reading_1mo'] LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = name::regclass);
        -- policies of distributed tables are judged at the workers, which know no catalogue: by the bases of the transaction
        EXECUTE format('DROP POLICY base ON %I', name);
        EXECUTE format('DROP POLICY enterprise ON %I', name);
        EXECUTE format($policy$CREATE POLICY base ON %I
            TO park_operator, park_contractor, park_enterprise, park_auditor, park_admin, park_grafana
            USING (base_id = ANY (coalesce(nullif(current_setting('park.bases', true), ''), '{}')::smallint[]))$policy$, name);
        EXECUTE format('CREATE POLICY enterprise ON %I AS RESTRICTIVE TO park_enterprise USING (true)', name);
        PERFORM create_distributed_table(name, 'base_id', colocate_with => CASE name WHEN 'reading' THEN 'none' ELSE 'reading' END);
    END LOOP;
END $$;
ALTER FUNCTION ensure_reading_partitions(timestamptz, timestamptz) SET citus.multi_shard_modify_mode = 'sequential';
-- these look names up in the catalogue of tables, whatever a session calls its own temporary ones
ALTER FUNCTION closed_weeks() SET search_path = public, pg_temp;
