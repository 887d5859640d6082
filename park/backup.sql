-- Queries of `park backup` and `park restore`.

-- name: export_snapshot
-- The snapshot that pg_dump shall see too.
SELECT pg_export_snapshot()

-- name: server
-- Version number of the server, name of the database, the session's user and whether it is a superuser.
SELECT current_setting('server_version_num')::integer, current_database(), current_user,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)

-- name: extensions
-- Extensions of the database with their versions.
SELECT extname, extversion FROM pg_extension

-- name: tables
-- Every table of the schema; partitions, and the chunks of hypertables, are part of theirs.
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
  AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid) ORDER BY c.relname

-- name: count
-- Rows of a table.
SELECT count(*), NULL FROM {table}

-- name: figures
-- Rows of a table, and a number that changes with any of their values: the order of rows and columns' places do not count.
SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM {table} t

-- name: migrations
-- Names of the migrations that ran, in order.
SELECT name FROM migration ORDER BY number

-- name: roles
-- Roles that the database leans on: ours, who is a member of them, and who owns or may use something in it.
WITH RECURSIVE ours AS (
    SELECT oid, rolname FROM pg_roles WHERE rolname LIKE 'park\_%'
    UNION SELECT r.oid, r.rolname FROM pg_shdepend d JOIN pg_database b ON b.oid = d.dbid AND b.datname = current_database()
        JOIN pg_roles r ON r.oid = d.refobjid WHERE d.refclassid = 'pg_authid'::regclass
    UNION SELECT r.oid, r.rolname FROM ours o JOIN pg_auth_members m ON m.roleid = o.oid JOIN pg_roles r ON r.oid = m.member
)
SELECT rolname FROM ours WHERE rolname NOT LIKE 'pg\_%' ORDER BY rolname

-- name: is_empty
-- Whether a database holds nothing of a user's.
SELECT NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                   WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\_toast%%'
                     AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
                     AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e'))

-- name: extension_version
-- Whether the server has this version of TimescaleDB to give, and whether its library is loaded.
SELECT EXISTS (SELECT FROM pg_available_extension_versions WHERE name = 'timescaledb' AND version = %(version)s),
       EXISTS (SELECT FROM pg_settings WHERE name = 'timescaledb.max_background_workers')

-- name: database_exists
-- Whether the server has a database of this name.
SELECT EXISTS (SELECT FROM pg_database WHERE datname = %(name)s)

-- name: end_sessions
-- End every other session of a database.
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %(name)s AND pid <> pg_backend_pid()
