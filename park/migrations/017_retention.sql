-- Retention: weeks of raw readings whose time is over are closed, archived where that is asked for, and dropped. Rollups and
-- figures stay for ever. `ingest/retention.py` decides; these functions are all that knows how the engine keeps a week.

CREATE TABLE closed_week (
    monday timestamptz PRIMARY KEY,              -- 00:00 UTC
    closed_at timestamptz NOT NULL DEFAULT now(),
    archive text NOT NULL DEFAULT '',            -- folder of the week's Parquet files
    n_archived bigint,                           -- readings in them
    dropped_at timestamptz,
    reopened_at timestamptz                      -- takes readings again since then
);
GRANT SELECT, INSERT, UPDATE, DELETE ON closed_week TO park_service;

-- Weeks (their Monday 00:00 UTC) that take no more readings: closed ones, those whose raw readings are gone while their
-- rollups stay, and the week after such a one, whose first intervals lean on readings that nobody has any more.
CREATE OR REPLACE FUNCTION closed_weeks() RETURNS SETOF timestamptz LANGUAGE sql STABLE AS $$
    WITH gone AS (
        SELECT to_date(right(w.relname, 6), 'IYYYIW')::timestamp AT TIME ZONE 'UTC' AS low
        FROM pg_inherits i JOIN pg_class w ON w.oid = i.inhrelid
        WHERE i.inhparent = 'reading_15m'::regclass AND w.relname ~ '_w[0-9]{6}$'
          AND NOT EXISTS (SELECT FROM pg_inherits r WHERE r.inhparent = 'reading'::regclass
                          AND r.inhrelid = to_regclass('reading' || right(w.relname, 8)))
    )
    SELECT low FROM gone
    UNION SELECT low + interval '7 days' FROM gone
        WHERE low + interval '7 days' NOT IN (SELECT monday FROM closed_week WHERE reopened_at IS NOT NULL)
    UNION SELECT monday FROM closed_week WHERE reopened_at IS NULL
$$;

-- Weeks that have raw readings, oldest first, with their size on disk.
CREATE FUNCTION reading_weeks() RETURNS TABLE (monday timestamptz, bytes bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    SELECT to_date(right(w.relname, 6), 'IYYYIW')::timestamp AT TIME ZONE 'UTC', pg_total_relation_size(w.oid)
    FROM pg_inherits i JOIN pg_class w ON w.oid = i.inhrelid
    WHERE i.inhparent = 'public.reading'::regclass AND w.relname ~ '_w[0-9]{6}$' ORDER BY 1
$$;

-- From now on nothing changes in the week: `closed`, or why not. A constraint that holds for new rows only refuses
-- writers that do not know yet; they look again and set the reading aside as `too_late`.
CREATE FUNCTION close_reading_week(week timestamptz) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public SET lock_timeout = '1s' AS $$
DECLARE
    name text := 'reading_w' || to_char(week AT TIME ZONE 'UTC', 'IYYYIW');
BEGIN
    IF EXISTS (SELECT FROM closed_week WHERE monday = week AND reopened_at IS NULL) THEN RETURN 'closed'; END IF;
    IF to_regclass(name) IS NULL THEN RETURN 'no readings'; END IF;
    IF NOT pg_try_advisory_xact_lock(hashtext('park rollup')) THEN RETURN 'busy'; END IF;
    EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', name);
    IF EXISTS (SELECT FROM dirty WHERE bucket >= week AND bucket < week + interval '7 days') THEN RETURN 'rollups wait'; END IF;
    IF EXISTS (SELECT FROM dirty_account WHERE bucket >= week AND bucket < week + interval '7 days')
       OR EXISTS (SELECT FROM account_todo WHERE day >= (week AT TIME ZONE 'UTC')::date AND day < (week AT TIME ZONE 'UTC')::date + 7)
    THEN RETURN 'figures wait'; END IF;
    EXECUTE format('ALTER TABLE %I ADD CONSTRAINT closed CHECK (false) NOT VALID', name);
    INSERT INTO closed_week (monday) VALUES (week)
    ON CONFLICT (monday) DO UPDATE SET closed_at = now(), archive = '', n_archived = NULL, dropped_at = NULL, reopened_at = NULL;
    RETURN 'closed';
EXCEPTION WHEN lock_not_available THEN RETURN 'busy';
END $$;

-- The raw readings of a closed week go: `dropped`, or why not.
CREATE FUNCTION drop_reading_week(week timestamptz) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public SET lock_timeout = '1s' AS $$
DECLARE
    name text := 'reading_w' || to_char(week AT TIME ZONE 'UTC', 'IYYYIW');
BEGIN
    IF NOT EXISTS (SELECT FROM closed_week WHERE monday = week AND reopened_at IS NULL) THEN RETURN 'not closed'; END IF;
    IF NOT pg_try_advisory_xact_lock(hashtext('park rollup')) THEN RETURN 'busy'; END IF;
    EXECUTE format('DROP TABLE IF EXISTS %I', name);
    UPDATE closed_week SET dropped_at = now() WHERE monday = week AND dropped_at IS NULL;
    RETURN 'dropped';
EXCEPTION WHEN lock_not_available THEN RETURN 'busy';
END $$;

-- A closed or dropped week takes readings again; whether its readings are still there. Who calls it fills the week and
-- marks it dirty in the same transaction: until then the rollup pass is kept out.
CREATE FUNCTION reopen_reading_week(week timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public SET lock_timeout = '10s' AS $$
DECLARE
    name text := 'reading_w' || to_char(week AT TIME ZONE 'UTC', 'IYYYIW');
    there boolean := to_regclass(name) IS NOT NULL;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('park rollup'));
    INSERT INTO closed_week (monday, reopened_at) VALUES (week, now()) ON CONFLICT (monday) DO UPDATE SET reopened_at = now();
    IF there THEN
        EXECUTE format('ALTER TABLE %I DROP CONSTRAINT IF EXISTS closed', name);
    ELSE
        PERFORM ensure_reading_partitions(week, week);
    END IF;
    RETURN there;
END $$;

-- What accounting computed from readings that are gone stays as it is, whatever asks for it to be computed again.
CREATE FUNCTION keep_closed_figures() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    DELETE FROM account_todo t USING closed_weeks() AS c (low)
    WHERE t.day >= (c.low AT TIME ZONE 'UTC')::date AND t.day < (c.low AT TIME ZONE 'UTC')::date + 7;
    RETURN NULL;
END $$;
CREATE TRIGGER keep_closed_figures AFTER INSERT ON account_todo EXECUTE FUNCTION keep_closed_figures();

-- Who may only read must not make or drop partitions.
REVOKE EXECUTE ON FUNCTION ensure_reading_partitions(timestamptz, timestamptz), reading_weeks(), close_reading_week(timestamptz),
    drop_reading_week(timestamptz), reopen_reading_week(timestamptz), keep_closed_figures(), secure_tables() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_reading_partitions(timestamptz, timestamptz), reading_weeks(), close_reading_week(timestamptz),
    drop_reading_week(timestamptz), reopen_reading_week(timestamptz) TO park_service;
