-- What lets the engines differ below the same names (`park/engines/*.sql`).

-- Readings as the roles of readers see them; here row-level security of the table does it. TimescaleDB compresses no table with
-- row-level security: there this view filters, and readers have no right on the table.
CREATE VIEW reading_shown WITH (security_invoker = true) AS SELECT ts, value, point_id, base_id, quality FROM reading;
GRANT SELECT ON reading_shown TO PUBLIC;

-- As before; the parts of a table are neither partitions alone nor chunks alone.
CREATE OR REPLACE FUNCTION secure_tables() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    name text;
    made integer := 0;
BEGIN
    FOR name IN
        SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
          AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
          AND a.attname = 'base_id' AND NOT a.attisdropped AND c.relname <> 'login_base'
    LOOP
        IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = name::regclass AND polname = 'base') THEN
            EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
            EXECUTE format('CREATE POLICY service ON %I TO park_service USING (true) WITH CHECK (true)', name);
            EXECUTE format('CREATE POLICY base ON %I
                            TO park_operator, park_contractor, park_enterprise, park_auditor, park_admin, park_grafana
                            USING (base_id IS NULL OR base_id = ANY ((SELECT visible_bases())::smallint[]))
                            WITH CHECK (base_id = ANY ((SELECT visible_bases())::smallint[]))', name);
            EXECUTE format('GRANT SELECT ON %I TO park_operator, park_contractor, park_enterprise, park_auditor, park_admin', name);
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO park_service', name);
            made := made + 1;
        END IF;
        CONTINUE WHEN EXISTS (SELECT FROM pg_policy WHERE polrelid = name::regclass AND polname = 'enterprise');
        EXECUTE format('CREATE POLICY enterprise ON %I AS RESTRICTIVE TO park_enterprise USING (%s)', name, enterprise_rule(name));
    END LOOP;
    RETURN made;
END $$;
