-- A login that may run SQL of its own (Grafana's) could make a temporary table named like one of ours: a function that runs with
-- its owner's rights found it first, and visible_bases() believed a `login_base` of the asker's own. Where pg_temp is not named it
-- is looked at before everything; named last, it hides nothing. `park migrate` calls this after every migration.
CREATE FUNCTION close_shadows() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    f record;
    made integer := 0;
BEGIN
    FOR f IN SELECT p.oid::regprocedure AS signature, coalesce(
                 (SELECT substr(c, 13) FROM unnest(p.proconfig) c WHERE c LIKE 'search\_path=%'), 'pg_catalog, public') AS path
             FROM pg_proc p
             WHERE p.prosecdef AND pg_has_role(p.proowner, 'USAGE') AND p.pronamespace::regnamespace::text !~ '^pg_'
               AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
    LOOP
        CONTINUE WHEN f.path LIKE '%pg_temp';
        EXECUTE format('ALTER FUNCTION %s SET search_path = %s, pg_temp', f.signature, f.path);
        made := made + 1;
    END LOOP;
    -- what readers never need: temporary tables fill the disk
    IF has_database_privilege('park_grafana', current_database(), 'TEMPORARY')
       AND (SELECT pg_has_role(datdba, 'USAGE') FROM pg_database WHERE datname = current_database()) THEN
        EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
        EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO park_service', current_database());
    END IF;
    RETURN made;
END $$;
REVOKE EXECUTE ON FUNCTION close_shadows() FROM PUBLIC;
SELECT close_shadows();
