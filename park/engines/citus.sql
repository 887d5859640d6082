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
        EXECUTE format('DROP POLICY IF EXISTS base ON %I', name);          -- with a subquery they cannot be distributed
        EXECUTE format('DROP POLICY IF EXISTS enterprise ON %I', name);
        PERFORM create_distributed_table(name, 'base_id', colocate_with => CASE name WHEN 'reading' THEN 'none' ELSE 'reading' END);
    END LOOP;
END $$;
ALTER FUNCTION ensure_reading_partitions(timestamptz, timestamptz) SET citus.multi_shard_modify_mode = 'sequential';
-- these look names up in the catalogue of tables, whatever a session calls its own temporary ones
ALTER FUNCTION closed_weeks() SET search_path = public, pg_temp;

-- Reading. Citus plans no lateral or correlated look from a local table into a distributed one, and opens workers with the login
-- of who asks. So views and readers see each distributed table as a foreign table of this very server, which to the planner is
-- a table like any other: conditions go down with it, and Citus is asked as the owner. It shows what is committed.
--   spread.*   the foreign tables, for the owner and for views with his rights
--   shown.*    the same rows as a role may see them: `visible_bases()`, for park_enterprise its points; judged here, so that no
--              worker has to know who asks
-- The distributed tables themselves are closed to the roles.
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['reading', 'reading_1m', 'reading_15m', 'reading_1h', 'reading_1d', 'reading_1mo'] LOOP
        EXECUTE format('DROP POLICY IF EXISTS base ON %I', name);
        EXECUTE format('DROP POLICY IF EXISTS enterprise ON %I', name);
        -- secure_tables() passes over tables that have these; they say no, should somebody grant the table
        EXECUTE format($policy$CREATE POLICY base ON %I
            TO park_operator, park_contractor, park_enterprise, park_auditor, park_admin, park_grafana USING (false)$policy$, name);
        EXECUTE format('CREATE POLICY enterprise ON %I AS RESTRICTIVE TO park_enterprise USING (false)', name);
        EXECUTE format('REVOKE ALL ON %I FROM park_operator, park_contractor, park_enterprise, park_auditor, park_admin', name);
    END LOOP;
END $$;

SET LOCAL citus.enable_ddl_propagation = off;              -- what follows is the coordinator's alone
CREATE EXTENSION IF NOT EXISTS postgres_fdw;
CREATE SCHEMA IF NOT EXISTS spread;
CREATE SCHEMA IF NOT EXISTS shown;

-- As in the migrations, with what a week takes on the workers.
CREATE OR REPLACE FUNCTION reading_weeks() RETURNS TABLE (monday timestamptz, bytes bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT to_date(right(w.relname, 6), 'IYYYIW')::timestamp AT TIME ZONE 'UTC', citus_total_relation_size(w.oid)
    FROM pg_inherits i JOIN pg_class w ON w.oid = i.inhrelid
    WHERE i.inhparent = 'public.reading'::regclass AND w.relname ~ '_w[0-9]{6}$' ORDER BY 1
$$;

-- The server points at the database that it stands in, also in a copy under another name; a password or an address that was
-- set by hand stays.
CREATE OR REPLACE FUNCTION spread.follow() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    socket text := nullif(trim(split_part(current_setting('unix_socket_directories'), ',', 1)), '');
BEGIN
    IF NOT EXISTS (SELECT FROM pg_foreign_server WHERE srvname = 'spread') THEN
        EXECUTE format('CREATE SERVER spread FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host %L, port %L, dbname %L, fetch_size %L)',
                       coalesce(socket, '127.0.0.1'), current_setting('port'), current_database(), '10000');
        EXECUTE format('CREATE USER MAPPING FOR %I SERVER spread OPTIONS (user %L, password_required %L)',
                       current_user, current_user, 'false');
    ELSIF NOT EXISTS (SELECT FROM pg_foreign_server WHERE srvname = 'spread' AND srvoptions @> ARRAY['dbname=' || current_database()]) THEN
        EXECUTE format('ALTER SERVER spread OPTIONS (SET dbname %L)', current_database());
    END IF;
END $$;
REVOKE EXECUTE ON FUNCTION spread.follow() FROM PUBLIC;
SELECT spread.follow();

-- Views run with their owner's rights, functions in them with the reader's: it sees what row-level security shows. Values that
-- go down with a query are computed with no schema but pg_catalog in sight.
CREATE OR REPLACE FUNCTION visible_points() RETURNS integer[] LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT CASE WHEN row_security_active('point') AND pg_has_role('park_enterprise', 'USAGE')
                THEN (SELECT coalesce(array_agg(point_id), '{}') FROM point) END
$$;

DO $$
DECLARE
    name text;
    columns text;
    col record;
BEGIN
    FOREACH name IN ARRAY ARRAY['reading', 'reading_1m', 'reading_15m', 'reading_1h', 'reading_1d', 'reading_1mo'] LOOP
        SELECT string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum),
               string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) AS names
        INTO col FROM pg_attribute a WHERE a.attrelid = ('public.' || name)::regclass AND a.attnum > 0 AND NOT a.attisdropped;
        EXECUTE format('CREATE FOREIGN TABLE IF NOT EXISTS spread.%1$I (%2$s) SERVER spread OPTIONS (schema_name %3$L, table_name %1$L)',
                       name, col.string_agg, 'public');
        columns := col.names;
        FOR col IN SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS type FROM pg_attribute a
                   WHERE a.attrelid = ('public.' || name)::regclass AND a.attnum > 0 AND NOT a.attisdropped
                     AND NOT EXISTS (SELECT FROM pg_attribute f WHERE f.attrelid = ('spread.' || name)::regclass AND f.attname = a.attname)
                   ORDER BY a.attnum LOOP
            EXECUTE format('ALTER FOREIGN TABLE spread.%I ADD COLUMN %I %s', name, col.attname, col.type);
        END LOOP;
        EXECUTE format('CREATE OR REPLACE VIEW shown.%1$I WITH (security_barrier) AS SELECT %2$s FROM spread.%1$I
            WHERE base_id = ANY ((SELECT visible_bases())::smallint[])
              AND ((SELECT visible_points() IS NULL) OR point_id = ANY ((SELECT visible_points())::integer[]))', name, columns);
        EXECUTE format('GRANT SELECT ON shown.%I TO park_operator, park_contractor, park_enterprise, park_auditor, park_admin,
            park_service', name);
    END LOOP;
END $$;

-- Every view that lies on a distributed table, again over the foreign one: as it shows what its owner sees, or what the reader
-- sees. The same text; only where its names lead differs.
DO $$
DECLARE
    v record;
BEGIN
    FOR v IN SELECT DISTINCT c.oid::regclass::text AS name, pg_get_viewdef(c.oid) AS definition, c.reloptions AS options,
                    coalesce(c.reloptions::text ~ 'security_invoker(=true|=on)?[,}]', false) AS invoker
             FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
             JOIN pg_class c ON c.oid = r.ev_class AND c.relkind = 'v' AND c.relnamespace = 'public'::regnamespace
             WHERE d.refobjid = ANY (ARRAY['reading', 'reading_1m', 'reading_15m', 'reading_1h', 'reading_1d', 'reading_1mo']::regclass[])
    LOOP
        PERFORM set_config('search_path', CASE WHEN v.invoker THEN 'shown' ELSE 'spread' END || ', public', true);
        EXECUTE format('CREATE OR REPLACE VIEW public.%s %s AS %s', v.name,
                       coalesce('WITH (' || array_to_string(v.options, ', ') || ')', ''), v.definition);
        PERFORM set_config('search_path', 'public', true);
    END LOOP;
END $$;

-- As in the migrations, with the hours of a base's local day fetched at once: a look for each point would be a query to a worker
-- each, and all hours of a base are millions.
CREATE OR REPLACE VIEW availability_1d WITH (security_barrier) AS
WITH alive AS (
    SELECT p.base_id, p.point_id, b.timezone, coalesce(f.first, now()) AS first, coalesce(p.removed_at, now()) AS last
    FROM point p JOIN base b ON b.base_id = p.base_id
    LEFT JOIN (SELECT base_id, point_id, min(bucket) AS first FROM spread.reading_1d GROUP BY 1, 2) f
        ON f.base_id = p.base_id AND f.point_id = p.point_id
    WHERE p.base_id = ANY ((SELECT visible_bases())::smallint[])
), due AS (
    SELECT a.base_id, d::date AS day, d AT TIME ZONE a.timezone AS start, (d + interval '1 day') AT TIME ZONE a.timezone AS next,
           array_agg(a.point_id) AS points, array_agg(date_trunc('hour', a.last)) AS lasts
    FROM alive a CROSS JOIN LATERAL generate_series((a.first AT TIME ZONE a.timezone)::date::timestamp,
                                                    (a.last AT TIME ZONE a.timezone)::date::timestamp, interval '1 day') d
    GROUP BY 1, 2, 3, 4
)
SELECT d.base_id, d.day, h.point_id, h.n_expected, h.n, h.n_good
FROM due d CROSS JOIN LATERAL (
    SELECT w.point_id, greatest(0, floor(extract(epoch FROM least(d.next, w.last) - d.start) / 3600))::integer AS n_expected,
           count(r.bucket)::integer AS n, (count(*) FILTER (WHERE r.n_good > 0))::integer AS n_good
    FROM unnest(d.points, d.lasts) AS w (point_id, last)
    LEFT JOIN (SELECT r.point_id, r.bucket, r.n_good FROM spread.reading_1h r WHERE r.base_id = d.base_id
               AND r.point_id = ANY (d.points) AND r.bucket >= d.start AND r.bucket < d.next OFFSET 0) r
        ON r.point_id = w.point_id AND r.bucket < w.last
    GROUP BY w.point_id, w.last) h;

-- Here the hours themselves are summed: no days are counted ahead, a look for each point and day would be a query to a worker each.
CREATE OR REPLACE FUNCTION count_hours(base smallint, points integer[], first_day date, last_day date, only_missing boolean)
RETURNS void LANGUAGE sql AS $$ SELECT $$;

CREATE OR REPLACE FUNCTION availability_between(base smallint, first_day date, last_day date)
RETURNS TABLE (point_id integer, month date, n_expected bigint, n bigint, n_good bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT a.point_id, date_trunc('month', a.day::timestamp)::date, sum(a.n_expected), sum(a.n), sum(a.n_good)
    FROM availability_1d a
    WHERE a.base_id = base AND a.day BETWEEN first_day AND last_day AND base = ANY ((SELECT visible_bases())::smallint[])
      AND (current_setting('role') <> 'park_enterprise' OR a.point_id IN (
          SELECT p.point_id FROM point p JOIN unit u USING (base_id, unit_id)
          WHERE p.base_id = base AND u.enterprise_id = visible_enterprise()))
    GROUP BY 1, 2
$$;

-- As in the migrations, with base and points looked up first: said as values they go down to the one worker that has them.
CREATE OR REPLACE FUNCTION board_series(base_code text, points text[], from_ts timestamptz, to_ts timestamptz, interval_ms bigint)
RETURNS TABLE (ts timestamptz, point text, value double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, spread, public, pg_temp AS $$
DECLARE
    grain text := CASE WHEN interval_ms < 30000 AND to_ts - from_ts <= interval '2 days' THEN 'raw'
                       WHEN interval_ms < 900000 AND to_ts - from_ts <= interval '14 days' THEN 'reading_by_minute'
                       WHEN interval_ms < 3600000 AND to_ts - from_ts <= interval '92 days' THEN 'reading_15m'
                       WHEN interval_ms < 86400000 THEN 'reading_1h' ELSE 'reading_1d' END;
    base smallint := (SELECT b.base_id FROM base b WHERE b.code = base_code AND b.base_id = ANY ((SELECT visible_bases())::smallint[]));
    ids integer[] := (SELECT array_agg(p.point_id) FROM point p WHERE p.base_id = base AND p.code = ANY (points));
BEGIN
    IF grain = 'raw' THEN
        RETURN QUERY EXECUTE 'SELECT r.ts, p.code, r.value FROM reading r JOIN point p USING (base_id, point_id)
            WHERE r.base_id = $1 AND r.point_id = ANY ($2) AND r.ts >= $3 AND r.ts < $4 ORDER BY r.ts LIMIT 200000'
            USING base, ids, from_ts, to_ts;
    ELSE
        RETURN QUERY EXECUTE format('SELECT r.bucket, p.code, CASE p.kind WHEN ''counter'' THEN r.increment ELSE r.sum / nullif(r.n_usable, 0) END
            FROM %I r JOIN point p USING (base_id, point_id)
            WHERE r.base_id = $1 AND r.point_id = ANY ($2) AND r.bucket >= $3 AND r.bucket < $4 ORDER BY r.bucket LIMIT 200000', grain)
            USING base, ids, from_ts, to_ts;
    END IF;
END $$;
SET LOCAL citus.enable_ddl_propagation = on;
