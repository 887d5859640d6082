-- What `park migrate` adds where the database has TimescaleDB; run after the migrations, each time to the same end.
-- `reading` and `reading_1m` become hypertables with chunks of ISO weeks and compression. Every other rollup stays as it is:
-- too small to compress, and never dropped.

-- A partitioned table as a hypertable under the same name, with its rows. TimescaleDB compresses no table with row-level
-- security, so that readers' roles get no right on it: they read `reading_shown` and `reading_by_minute`, which filter.
CREATE OR REPLACE FUNCTION become_hypertable(name text, at_column text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    moved bigint;
BEGIN
    IF EXISTS (SELECT FROM timescaledb_information.hypertables
               WHERE hypertable_schema = 'public' AND hypertable_name = become_hypertable.name) THEN
        RETURN 0;
    END IF;
    EXECUTE format('ALTER TABLE %I RENAME TO %I', name, name || '_former');
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', name, name || '_former');
    PERFORM create_hypertable(name::regclass, by_range(at_column, interval '7 days'), create_default_indexes => false);
    EXECUTE format('ALTER TABLE %I SET (timescaledb.compress, timescaledb.compress_segmentby = ''base_id, point_id'',
                    timescaledb.compress_orderby = %L)', name, at_column);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO park_service', name);
    EXECUTE format('SELECT ensure_reading_partitions(low, high) FROM
                    (SELECT min(%1$I) AS low, max(%1$I) AS high FROM %2$I) x WHERE low IS NOT NULL', at_column, name || '_former');
    EXECUTE format('INSERT INTO %I SELECT * FROM %I', name, name || '_former');
    GET DIAGNOSTICS moved = ROW_COUNT;
    RETURN moved;
END $$;

-- The ISO weeks of a span, ahead of their rows. A chunk is called as the partition would be and lies beside the others, so that
-- what closes, drops, archives and counts weeks is the same on each engine.
CREATE OR REPLACE FUNCTION ensure_reading_partitions(low timestamptz, high timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    week timestamptz := date_trunc('week', low, 'UTC');
    parent text;
    name text;
    made integer := 0;
BEGIN
    WHILE week <= high LOOP
        FOREACH parent IN ARRAY ARRAY['reading', 'reading_1m', 'reading_15m'] LOOP
            name := parent || '_w' || to_char(week AT TIME ZONE 'UTC', 'IYYYIW');
            CONTINUE WHEN to_regclass(name) IS NOT NULL;
            BEGIN
                IF parent = 'reading_15m' THEN
                    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', name, parent);
                    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                                   parent, name, week, week + interval '7 days');
                ELSE
                    PERFORM _timescaledb_functions.create_chunk(parent::regclass, jsonb_build_object(
                        CASE parent WHEN 'reading' THEN 'ts' ELSE 'bucket' END,
                        jsonb_build_array((extract(epoch FROM week) * 1000000)::bigint,
                                          (extract(epoch FROM week + interval '7 days') * 1000000)::bigint)), 'public', name);
                END IF;
                made := made + 1;
            -- TimescaleDB has made a chunk of its own for somebody who wrote past this function: the week is left to it
            EXCEPTION WHEN SQLSTATE 'TS503' THEN EXIT;
            -- another writer was first, or rows of that week already lie in the rollup's default partition
                WHEN duplicate_table OR unique_violation OR invalid_object_definition OR check_violation THEN NULL;
            END;
        END LOOP;
        week := week + interval '7 days';
    END LOOP;
    RETURN made;
END $$;

-- Views over these tables, to be made again over the hypertables: those that lie directly on them and all above.
CREATE TEMP TABLE view_above ON COMMIT DROP AS
WITH RECURSIVE above (oid, depth) AS (
    SELECT r.ev_class, 1 FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refobjid IN ('reading'::regclass, 'reading_1m'::regclass)
      AND (r.ev_class NOT IN ('reading_shown'::regclass, 'reading_by_minute'::regclass)
           OR (SELECT relkind = 'p' FROM pg_class WHERE oid = 'reading'::regclass))
    UNION
    SELECT r.ev_class, a.depth + 1 FROM above a JOIN pg_depend d ON d.refobjid = a.oid
    JOIN pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass AND r.ev_class <> a.oid
)
SELECT c.relname AS name, max(a.depth) AS depth, pg_get_viewdef(c.oid) AS definition, c.reloptions AS options, c.relacl AS rights
FROM above a JOIN pg_class c ON c.oid = a.oid GROUP BY c.oid, c.relname, c.reloptions, c.relacl;
DO $$
DECLARE view_name text;
BEGIN
    FOR view_name IN SELECT name FROM view_above ORDER BY depth DESC, name LOOP
        EXECUTE format('DROP VIEW %I', view_name);
    END LOOP;
END $$;
SELECT become_hypertable('reading', 'ts'), become_hypertable('reading_1m', 'bucket');

-- Readings for the roles of readers: rows of the bases of `visible_bases()`, and for park_enterprise of its points. Views run
-- with their owner's rights, functions in them with the reader's: visible_points() sees what row-level security shows.
CREATE OR REPLACE FUNCTION visible_points() RETURNS integer[] LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN row_security_active('point') AND pg_has_role('park_enterprise', 'USAGE')
                THEN (SELECT coalesce(array_agg(point_id), '{}') FROM point) END
$$;
CREATE OR REPLACE VIEW reading_shown WITH (security_barrier) AS
    SELECT ts, value, point_id, base_id, quality FROM reading
    WHERE base_id = ANY ((SELECT visible_bases())::smallint[])
      AND ((SELECT visible_points() IS NULL) OR point_id = ANY ((SELECT visible_points())::integer[]));
CREATE OR REPLACE VIEW reading_by_minute WITH (security_barrier) AS
    SELECT bucket, min, max, sum, first, last, increment, point_id, n, n_good, n_usable, base_id FROM reading_1m
    WHERE base_id = ANY ((SELECT visible_bases())::smallint[])
      AND ((SELECT visible_points() IS NULL) OR point_id = ANY ((SELECT visible_points())::integer[]))
    UNION ALL
    SELECT bucket, min, max, sum, first, last, increment, point_id, n, n_good, n_usable, base_id FROM reading_15m
    WHERE alone AND base_id = ANY ((SELECT visible_bases())::smallint[])
      AND ((SELECT visible_points() IS NULL) OR point_id = ANY ((SELECT visible_points())::integer[]));
-- as on plain PostgreSQL for those who may read readings: boards have views of their own, and are refused these by their names
REVOKE ALL ON reading_shown, reading_by_minute FROM PUBLIC;
GRANT SELECT ON reading_shown, reading_by_minute
    TO park_operator, park_contractor, park_enterprise, park_auditor, park_admin, park_service;
DROP TABLE IF EXISTS reading_former, reading_1m_former;

-- The views above again; what they read of `reading` they read as readers see it.
DO $$
DECLARE
    v record;
    holder record;
BEGIN
    FOR v IN SELECT * FROM view_above WHERE name NOT IN ('reading_shown', 'reading_by_minute') ORDER BY depth, name LOOP
        EXECUTE format('CREATE VIEW %I %s AS %s', v.name, 'WITH (' || array_to_string(v.options, ', ') || ')',
                       regexp_replace(v.definition, '(\mFROM \(*|\mJOIN )reading\M', '\1reading_shown', 'g'));
        FOR holder IN SELECT coalesce(r.rolname, 'public') AS name, x.privilege_type AS privilege
                      FROM aclexplode(v.rights) x LEFT JOIN pg_roles r ON r.oid = x.grantee LOOP
            EXECUTE format('GRANT %s ON %I TO %s', holder.privilege, v.name,
                           CASE holder.name WHEN 'public' THEN 'PUBLIC' ELSE quote_ident(holder.name) END);
        END LOOP;
    END LOOP;
END $$;
DROP TABLE view_above;

-- secure_tables() passes over tables that have these policies; they say no, should somebody switch row security on here
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['reading', 'reading_1m'] LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_policy WHERE polrelid = name::regclass);
        EXECUTE format('CREATE POLICY base ON %I USING (false)', name);
        EXECUTE format('CREATE POLICY enterprise ON %I AS RESTRICTIVE USING (false)', name);
    END LOOP;
END $$;

-- Beyond 35 days nearly nothing comes late; a row that does is merged into its compressed chunk, however many segments that
-- opens: the limit of 100,000 tuples a statement would refuse late rows for ever.
SELECT add_compression_policy('reading', compress_after => interval '35 days', if_not_exists => true),
       add_compression_policy('reading_1m', compress_after => interval '35 days', if_not_exists => true);
DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I SET timescaledb.max_tuples_decompressed_per_dml_transaction = 0', current_database());
END $$;
