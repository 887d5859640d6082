-- name: bases
-- Every base by its code.
SELECT code, base_id FROM base

-- name: points
-- Every point with its plausible range; retired ones too, because their last readings may come late.
SELECT base_id, point_id, code, coalesce(low, 'NaN'), coalesce(high, 'NaN') FROM point ORDER BY base_id, point_id

-- name: is_any_known
-- Whether the catalogue has one of these points.
SELECT EXISTS (SELECT FROM unnest(%(bases)s::smallint[], %(codes)s::text[]) AS a (base_id, code) JOIN point USING (base_id, code))

-- name: writer_tables
-- The session's own tables of the write path: readings to be merged, newest reading of each point.
CREATE TEMP TABLE IF NOT EXISTS stage (
    ts timestamptz NOT NULL, value double precision, point_id integer NOT NULL, base_id smallint NOT NULL,
    quality smallint NOT NULL, origin integer NOT NULL, loses smallint NOT NULL) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS newest (
    ts timestamptz NOT NULL, value double precision, point_id integer NOT NULL, base_id smallint NOT NULL,
    quality smallint NOT NULL) ON COMMIT DELETE ROWS

-- name: prefer_index
-- For this transaction: small sets meet big tables through their keys, whatever the planner thinks of unanalysed ones.
SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_seqscan = off

-- name: ensure_week
-- The partitions of the week that an instant lies in.
SELECT ensure_reading_partitions(%(at)s, %(at)s)

-- name: closed_weeks
-- Mondays of the weeks whose raw readings were dropped.
SELECT low FROM closed_weeks() AS c (low)

-- name: insert_ledger
-- Book the batches of this transaction; gives back the places in the list of those that were not booked before.
WITH asked AS (
    SELECT * FROM unnest(%(base_ids)s::smallint[], %(sources)s::text[], %(seqs)s::bigint[], %(sizes)s::integer[])
        WITH ORDINALITY AS a (base_id, source, seq, n_readings, place)
), booked AS (
    INSERT INTO ingest_batch (base_id, source, seq, n_readings)
    SELECT base_id, source, seq, n_readings FROM asked ORDER BY base_id, source, seq
    ON CONFLICT DO NOTHING
    RETURNING base_id, source, seq
)
SELECT a.place - 1 FROM booked JOIN asked a USING (base_id, source, seq) ORDER BY 1

-- name: booked_sizes
-- How many readings the batches had when they were first booked.
SELECT a.place - 1, b.n_readings
FROM unnest(%(base_ids)s::smallint[], %(sources)s::text[], %(seqs)s::bigint[]) WITH ORDINALITY AS a (base_id, source, seq, place)
JOIN ingest_batch b USING (base_id, source, seq)
ORDER BY 1

-- name: lock_merge
-- One merge at a time in a base, to the end of the transaction: nobody else changes the values that it compares. Not row locks:
-- compressed rows and rows on several servers have none.
SELECT pg_advisory_xact_lock(hashtext('park merge'), b) FROM (SELECT unnest(%(base_ids)s::integer[]) AS b ORDER BY 1) AS bases

-- name: analyze_stage
-- Let the planner know how small the stage is, and read it as it lies: the price of a scan that is off hides every other. Compressed
-- rows of TimescaleDB have no key to be found by: there they may be hashed, or each would be compared with all of the stage.
ANALYZE stage; SET LOCAL enable_seqscan = on;
SELECT set_config('enable_hashjoin', 'on', true) FROM engine WHERE name = 'timescaledb'

-- name: insert_stage
-- Readings of the stage that the table has none for yet; how many for each base.
WITH stored AS (
    INSERT INTO reading (ts, value, point_id, base_id, quality)
    SELECT ts, value, point_id, base_id, quality FROM stage WHERE loses = 0 ORDER BY base_id, point_id, ts
    ON CONFLICT DO NOTHING
    RETURNING base_id
)
SELECT base_id, count(*) FROM stored GROUP BY base_id

-- name: keep_losers
-- Values that lost to another one for the same instant in the same batch: 1 was replaced, 2 did not replace.
WITH kept AS (
    INSERT INTO reading_revision (base_id, point_id, ts, value, quality, by_source, reason)
    SELECT base_id, point_id, ts, value, quality, (%(sources)s::text[])[origin + 1],
           CASE loses WHEN 1 THEN 'corrected' ELSE 'not_taken' END
    FROM stage WHERE loses > 0
    RETURNING base_id, reason
)
SELECT base_id, reason, count(*) FROM kept GROUP BY base_id, reason

-- name: correct_readings
-- The later arrival wins, but an unusable value never replaces a usable one; the value that lost is kept as a revision. What
-- the stage spans is said in constants: only so are other weeks left out of the plan, and their compressed rows left packed.
WITH differing AS (
    SELECT s.base_id, s.point_id, s.ts, s.value, s.quality, s.origin, r.value AS former_value, r.quality AS former_quality,
           (s.quality < 10 OR r.quality >= 10) AS taken
    FROM stage s JOIN reading r ON r.base_id = s.base_id AND r.point_id = s.point_id AND r.ts = s.ts
    WHERE s.loses = 0 AND (r.value, r.quality) IS DISTINCT FROM (s.value, s.quality)
      AND r.base_id = ANY (%(base_ids)s::smallint[]) AND r.point_id = ANY (%(point_ids)s::integer[])
      AND r.ts >= %(low)s::timestamptz AND r.ts <= %(high)s::timestamptz
    ORDER BY s.base_id, s.point_id, s.ts
), replaced AS (
    -- by their key, and not by a join, which a planner without statistics of late rows turns into one of each with each
    INSERT INTO reading (ts, value, point_id, base_id, quality)
    SELECT ts, value, point_id, base_id, quality FROM differing WHERE taken ORDER BY base_id, point_id, ts
    ON CONFLICT (base_id, point_id, ts) DO UPDATE SET value = excluded.value, quality = excluded.quality
), kept AS (
    INSERT INTO reading_revision (base_id, point_id, ts, value, quality, by_source, reason)
    SELECT base_id, point_id, ts, CASE WHEN taken THEN former_value ELSE value END,
           CASE WHEN taken THEN former_quality ELSE quality END,
           (%(sources)s::text[])[origin + 1], CASE WHEN taken THEN 'corrected' ELSE 'not_taken' END
    FROM differing
    RETURNING base_id, reason
)
SELECT base_id, reason, count(*) FROM kept GROUP BY base_id, reason

-- name: upsert_latest
-- The newest reading of each point, by the rule of corrections where the instant is the same. What lies ahead of this clock by more than
-- a minute came from a clock that was wrong: it gives way to the first reading from after its arrival, and to any where its arrival
-- too is ahead, because then it was the clock of this server that was put back.
INSERT INTO latest (base_id, point_id, ts, value, quality, arrived_at)
SELECT base_id, point_id, ts, value, quality, now() FROM newest ORDER BY base_id, point_id
ON CONFLICT (base_id, point_id) DO UPDATE
SET ts = excluded.ts, value = excluded.value, quality = excluded.quality, arrived_at = excluded.arrived_at
WHERE excluded.ts > latest.ts
   OR (latest.ts > now() + interval '1 minute' AND excluded.ts <= now() + interval '1 minute'
       AND (excluded.ts >= latest.arrived_at OR latest.arrived_at > now()))
   OR (excluded.ts = latest.ts AND (excluded.quality < 10 OR latest.quality >= 10)
       AND (excluded.value, excluded.quality) IS DISTINCT FROM (latest.value, latest.quality))

-- name: insert_dead_letter
-- One thing that could not be stored, with its bytes.
INSERT INTO dead_letter (base_id, topic, source, seq, reason, detail, payload)
VALUES (%(base_id)s, %(topic)s, %(source)s, %(seq)s, %(reason)s, %(detail)s, %(payload)s)

-- name: insert_letter_once
-- A collector's letter: no row when its number is in the ledger, else how often its content came before.
WITH booked AS (
    INSERT INTO ingest_batch (base_id, source, seq, n_readings)
    SELECT %(base_id)s, %(source)s, %(seq)s, 0 WHERE %(seq)s::bigint IS NOT NULL
    ON CONFLICT DO NOTHING RETURNING seq
)
INSERT INTO dead_letter (base_id, topic, source, seq, reason, detail, payload, content)
SELECT %(base_id)s, %(topic)s, %(source)s, %(seq)s, %(reason)s, %(detail)s, %(payload)s, md5(%(payload)s::bytea)
WHERE %(seq)s::bigint IS NULL OR EXISTS (SELECT FROM booked)
ON CONFLICT (base_id, source, reason, content) WHERE content IS NOT NULL AND replayed_at IS NULL
DO UPDATE SET repeats = dead_letter.repeats + 1, repeated_at = now()
RETURNING repeats

-- name: add_counts
-- Add to the counters of today.
INSERT INTO ingest_counter (base_id, day, outcome, n)
SELECT base_id, (now() AT TIME ZONE 'UTC')::date, outcome, n
FROM unnest(%(base_ids)s::smallint[], %(outcomes)s::text[], %(ns)s::bigint[]) AS c (base_id, outcome, n)
ORDER BY base_id, outcome
ON CONFLICT (base_id, day, outcome) DO UPDATE SET n = ingest_counter.n + excluded.n

-- name: upsert_device_state
-- What devices last said of themselves; an older word does not replace a newer one, unless that came from a clock that was ahead.
-- Gives back the known devices' codes.
WITH said AS (
    SELECT DISTINCT ON (base_id, device) *
    FROM jsonb_to_recordset(%(states)s) AS s (base_id smallint, device text, state text, last_answer timestamptz,
                                              latency_ms double precision, errors jsonb, at timestamptz,
                                              clock_offset_s double precision)
    ORDER BY base_id, device, at DESC
), written AS (
    INSERT INTO device_state (base_id, device_id, state, last_answer, latency_ms, errors, at, clock_offset_s)
    SELECT d.base_id, d.device_id, s.state, s.last_answer, s.latency_ms, coalesce(s.errors, '{}'), s.at, s.clock_offset_s
    FROM said s JOIN device d ON d.base_id = s.base_id AND d.code = s.device
    ORDER BY d.base_id, d.device_id
    ON CONFLICT (base_id, device_id) DO UPDATE
    SET state = excluded.state, last_answer = coalesce(excluded.last_answer, device_state.last_answer),
        latency_ms = excluded.latency_ms, errors = excluded.errors, at = excluded.at, clock_offset_s = excluded.clock_offset_s
    WHERE excluded.at >= device_state.at OR device_state.at > now() + interval '1 minute'
)
SELECT d.base_id, d.code FROM said s JOIN device d ON d.base_id = s.base_id AND d.code = s.device

-- name: upsert_spool
-- What a collector's spool holds, as its pass `collector:SOURCE`; an older word does not replace a newer one.
INSERT INTO pass (base_id, pass, at, detail)
SELECT DISTINCT ON (base_id, source) base_id, 'collector:' || source, at, spool
FROM jsonb_to_recordset(%(spools)s) AS s (base_id smallint, source text, at timestamptz, spool jsonb)
ORDER BY base_id, source, at DESC
ON CONFLICT (base_id, pass) DO UPDATE SET at = excluded.at, detail = excluded.detail
WHERE excluded.at >= pass.at OR pass.at > now() + interval '1 minute'

-- name: tell_links
-- What ingest says of its broker and its database, to each base.
INSERT INTO pass (base_id, pass, at, detail) SELECT base_id, %(pass)s, %(now)s, %(detail)s FROM base ORDER BY base_id
ON CONFLICT (base_id, pass) DO UPDATE SET at = excluded.at, detail = excluded.detail

-- name: links_told
-- What it last said.
SELECT detail FROM pass WHERE pass = %(pass)s ORDER BY at DESC LIMIT 1

-- name: upkeep_before
-- When upkeep last ran by a clock that it believed.
SELECT max(at) FROM pass WHERE pass = 'upkeep'

-- name: note_upkeep
-- Upkeep has run.
INSERT INTO pass (base_id, pass, at) SELECT base_id, 'upkeep', %(now)s FROM base ORDER BY base_id
ON CONFLICT (base_id, pass) DO UPDATE SET at = excluded.at

-- name: lock_rollup
-- One rollup pass at a time over a part of the points, none while a week is closed; held to the end of the transaction.
SELECT pg_try_advisory_xact_lock_shared(hashtext('park rollup'))
       AND (SELECT bool_and(pg_try_advisory_xact_lock(hashtext('park rollup'), part)) FROM unnest(%(parts)s::integer[]) AS p (part))

-- name: rollup_tables
-- The session's own tables of the rollup pass.
CREATE TEMP TABLE IF NOT EXISTS touched (base_id smallint, point_id integer, bucket timestamptz,
    PRIMARY KEY (base_id, point_id, bucket)) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS touched_run (base_id smallint, point_id integer, low timestamptz, high timestamptz,
    PRIMARY KEY (base_id, point_id, low)) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS touched_hour (base_id smallint, point_id integer, bucket timestamptz, until timestamptz,
    by_quarter boolean, PRIMARY KEY (base_id, point_id, bucket)) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS touched_day (base_id smallint, point_id integer, bucket timestamptz, until timestamptz,
    by_quarter boolean, PRIMARY KEY (base_id, point_id, bucket)) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS touched_month (base_id smallint, point_id integer, bucket timestamptz, until timestamptz,
    by_quarter boolean, PRIMARY KEY (base_id, point_id, bucket)) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS doomed (base_id smallint, point_id integer, bucket timestamptz, minute boolean)
    ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS rolled (LIKE reading_15m INCLUDING INDEXES) ON COMMIT DELETE ROWS;
CREATE TEMP TABLE IF NOT EXISTS rolled_minute (LIKE reading_1h INCLUDING INDEXES) ON COMMIT DELETE ROWS

-- name: take_dirty
-- Consume the log of a part of the points into the set of touched quarters; what a batch writes from now on waits for the
-- next pass. Hours of the last week into which readings came late are handed over to alerts, for when they are over.
WITH taken AS (
    DELETE FROM dirty
    WHERE hashint4(point_id) & 1 = ANY (%(parts)s)
      AND dirty_id <= (SELECT max(dirty_id) FROM (SELECT dirty_id FROM dirty WHERE hashint4(point_id) & 1 = ANY (%(parts)s)
                                                  ORDER BY dirty_id LIMIT %(limit)s) AS oldest)
    RETURNING base_id, point_id, bucket, marked_at
), late AS (
    INSERT INTO late_hour AS l (base_id, point_id, hour, due_at)
    SELECT DISTINCT base_id, point_id, date_bin('1 hour', bucket, TIMESTAMPTZ '2000-01-01 00:00:00Z'),
           greatest(now() + interval '1 minute', date_bin('1 hour', bucket, TIMESTAMPTZ '2000-01-01 00:00:00Z') + interval '76 minutes')
    FROM taken WHERE bucket + interval '30 minutes' < marked_at AND bucket > now() - interval '7 days'
    ON CONFLICT (base_id, point_id, hour) DO UPDATE SET due_at = excluded.due_at
)
INSERT INTO touched
SELECT DISTINCT base_id, point_id, date_bin('15 minutes', bucket, TIMESTAMPTZ '2000-01-01 00:00:00Z') FROM taken

-- name: spare_closed
-- Quarters of weeks whose raw readings were dropped keep the rollups they have.
DELETE FROM touched t USING closed_weeks() AS c (low) WHERE t.bucket >= c.low AND t.bucket < c.low + interval '7 days'

-- name: join_runs
-- Touched quarters that follow each other, as one run from its first instant to the one after its last.
DELETE FROM touched_run;
INSERT INTO touched_run
SELECT base_id, point_id, min(bucket), max(bucket) + interval '15 minutes'
FROM (SELECT base_id, point_id, bucket,
             bucket - row_number() OVER (PARTITION BY base_id, point_id ORDER BY bucket) * interval '15 minutes' AS run
      FROM touched) AS numbered
GROUP BY base_id, point_id, run

-- name: touch_successors
-- A counter's next reading takes its increment from what was touched, so its quarter is touched too.
INSERT INTO touched
SELECT DISTINCT t.base_id, t.point_id, date_bin('15 minutes', n.ts, TIMESTAMPTZ '2000-01-01 00:00:00Z')
FROM touched_run t
JOIN point p ON p.base_id = t.base_id AND p.point_id = t.point_id AND p.kind = 'counter'
CROSS JOIN LATERAL (
    SELECT ts FROM reading r
    WHERE r.base_id = t.base_id AND r.point_id = t.point_id AND r.ts >= t.high AND r.quality < 10 AND r.value IS NOT NULL
    ORDER BY ts LIMIT 1) n
ON CONFLICT DO NOTHING

-- name: analyze_touched
-- Let the planner know how small the touched set is.
ANALYZE touched

-- name: touched_raw
-- Readings of the touched quarters, one row a point with its readings as arrays: far cheaper to fetch than rows.
SELECT t.base_id, t.point_id, array_agg(r.ts), array_agg(coalesce(r.value, 'NaN')), array_agg(r.quality)
FROM touched_run t
CROSS JOIN LATERAL (
    SELECT ts, value, quality FROM reading r
    WHERE r.base_id = t.base_id AND r.point_id = t.point_id AND r.ts >= t.low AND r.ts < t.high
    OFFSET 0) r
GROUP BY t.base_id, t.point_id

-- name: touched_counters
-- Which touched points are counters, and the register value at which they start again.
SELECT DISTINCT p.base_id, p.point_id, coalesce(p.rollover, 'NaN')
FROM touched_run t JOIN point p ON p.base_id = t.base_id AND p.point_id = t.point_id
WHERE p.kind = 'counter'

-- name: touched_before
-- For counters: the last usable reading before each run of touched quarters.
SELECT t.base_id, t.point_id, array_agg(b.ts), array_agg(b.value)
FROM touched_run t
JOIN point p ON p.base_id = t.base_id AND p.point_id = t.point_id AND p.kind = 'counter'
CROSS JOIN LATERAL (
    SELECT ts, value FROM reading r
    WHERE r.base_id = t.base_id AND r.point_id = t.point_id AND r.ts < t.low AND r.quality < 10 AND r.value IS NOT NULL
    ORDER BY ts DESC LIMIT 1) b
GROUP BY t.base_id, t.point_id

-- name: touched_closed
-- For counters: the last value before each run of touched quarters where its reading went with a closed week.
SELECT t.base_id, t.point_id, array_agg(b.ts), array_agg(b.value)
FROM touched_run t
JOIN point p ON p.base_id = t.base_id AND p.point_id = t.point_id AND p.kind = 'counter'
CROSS JOIN LATERAL (
    SELECT q.bucket + interval '15 minutes' - interval '1 microsecond' AS ts, q.last AS value FROM reading_15m q
    WHERE q.base_id = t.base_id AND q.point_id = t.point_id AND q.bucket < t.low AND q.last IS NOT NULL
      AND q.bucket < (SELECT max(low) + interval '7 days' FROM closed_weeks() AS c (low))
      AND date_trunc('week', q.bucket, 'UTC') IN (SELECT low FROM closed_weeks() AS c (low))
    ORDER BY q.bucket DESC LIMIT 1) b
WHERE EXISTS (SELECT FROM closed_weeks())
  AND NOT EXISTS (SELECT FROM reading r WHERE r.base_id = t.base_id AND r.point_id = t.point_id AND r.ts < t.low
                  AND r.ts >= (SELECT max(low) + interval '7 days' FROM closed_weeks() AS c (low))
                  AND r.quality < 10 AND r.value IS NOT NULL)
GROUP BY t.base_id, t.point_id

-- name: find_doomed
-- Minutes and quarters of the touched set whose readings are gone; none unless readings were deleted. OFFSET 0 has each one
-- looked up by its whole key: what was rolled up has no statistics yet, and a join would compare every minute with all of its point.
INSERT INTO doomed
SELECT t.base_id, t.point_id, q.bucket, false FROM touched_run t
CROSS JOIN LATERAL (SELECT bucket FROM reading_15m q WHERE q.base_id = t.base_id AND q.point_id = t.point_id
                    AND q.bucket >= t.low AND q.bucket < t.high OFFSET 0) q
WHERE NOT EXISTS (SELECT FROM rolled r WHERE r.base_id = t.base_id AND r.point_id = t.point_id AND r.bucket = q.bucket OFFSET 0)
UNION ALL
SELECT t.base_id, t.point_id, m.bucket, true FROM touched_run t
CROSS JOIN LATERAL (SELECT bucket FROM reading_1m m WHERE m.base_id = t.base_id AND m.point_id = t.point_id
                    AND m.bucket >= t.low AND m.bucket < t.high OFFSET 0) m
WHERE NOT EXISTS (SELECT FROM rolled_minute r WHERE r.base_id = t.base_id AND r.point_id = t.point_id
                  AND r.bucket = m.bucket OFFSET 0)

-- name: touched_stored
-- Touched quarters that have a row already; the others, and their minutes, are new.
SELECT t.base_id, t.point_id, array_agg(q.bucket)
FROM touched_run t
CROSS JOIN LATERAL (SELECT bucket FROM reading_15m q WHERE q.base_id = t.base_id AND q.point_id = t.point_id
                    AND q.bucket >= t.low AND q.bucket < t.high OFFSET 0) q
GROUP BY t.base_id, t.point_id

-- name: forget_quarters
-- Quarters whose readings are all gone.
DELETE FROM reading_15m q USING doomed d
WHERE NOT d.minute AND q.base_id = d.base_id AND q.point_id = d.point_id AND q.bucket = d.bucket

-- name: forget_minutes
-- Minutes that no longer have a row.
DELETE FROM reading_1m q USING doomed d
WHERE d.minute AND q.base_id = d.base_id AND q.point_id = d.point_id AND q.bucket = d.bucket

-- name: write_quarters
-- Quarters as rolled up, where they changed.
INSERT INTO reading_15m AS q (bucket, min, max, sum, first, last, increment, point_id, n, n_good, n_usable, base_id, alone)
SELECT bucket, min, max, sum, first, last, increment, point_id, n, n_good, n_usable, base_id, alone FROM rolled
ON CONFLICT (base_id, point_id, bucket) DO UPDATE
SET min = excluded.min, max = excluded.max, sum = excluded.sum, first = excluded.first, last = excluded.last,
    increment = excluded.increment, n = excluded.n, n_good = excluded.n_good, n_usable = excluded.n_usable,
    alone = excluded.alone
WHERE (q.min, q.max, q.sum, q.first, q.last, q.increment, q.n, q.n_good, q.n_usable, q.alone) IS DISTINCT FROM
      (excluded.min, excluded.max, excluded.sum, excluded.first, excluded.last, excluded.increment, excluded.n, excluded.n_good,
       excluded.n_usable, excluded.alone)

-- name: write_minutes
-- Minutes as rolled up, where they changed.
INSERT INTO reading_1m AS q (bucket, min, max, sum, first, last, increment, point_id, n, n_good, n_usable, base_id)
SELECT bucket, min, max, sum, first, last, increment, point_id, n, n_good, n_usable, base_id FROM rolled_minute
ON CONFLICT (base_id, point_id, bucket) DO UPDATE
SET min = excluded.min, max = excluded.max, sum = excluded.sum, first = excluded.first, last = excluded.last,
    increment = excluded.increment, n = excluded.n, n_good = excluded.n_good, n_usable = excluded.n_usable
WHERE (q.min, q.max, q.sum, q.first, q.last, q.increment, q.n, q.n_good, q.n_usable) IS DISTINCT FROM
      (excluded.min, excluded.max, excluded.sum, excluded.first, excluded.last, excluded.increment, excluded.n, excluded.n_good,
       excluded.n_usable)

-- name: touch_hours
-- Hours of the touched quarters.
INSERT INTO touched_hour
SELECT DISTINCT base_id, point_id, date_trunc('hour', bucket, 'UTC'), date_trunc('hour', bucket, 'UTC') + interval '1 hour', false
FROM touched

-- name: touch_days
-- Base-local days of the touched quarters; by quarters where the zone's midnight is not a whole hour of UTC.
INSERT INTO touched_day
SELECT base_id, point_id, low, high, low <> date_trunc('hour', low, 'UTC') OR high <> date_trunc('hour', high, 'UTC')
FROM (SELECT base_id, point_id, day AT TIME ZONE timezone AS low, (day + interval '1 day') AT TIME ZONE timezone AS high
      FROM (SELECT DISTINCT t.base_id, t.point_id, b.timezone, date_trunc('day', t.bucket AT TIME ZONE b.timezone) AS day
            FROM touched t JOIN base b ON b.base_id = t.base_id) AS days) AS spans

-- name: touch_months
-- Base-local months of the touched days.
INSERT INTO touched_month
SELECT DISTINCT t.base_id, t.point_id, d.month AT TIME ZONE b.timezone, (d.month + interval '1 month') AT TIME ZONE b.timezone, false
FROM touched_day t JOIN base b ON b.base_id = t.base_id
CROSS JOIN LATERAL (SELECT date_trunc('month', t.bucket AT TIME ZONE b.timezone) AS month) d

-- name: coarsen
-- Periods of a set from the next finer grain, where they changed.
INSERT INTO {coarse} AS q (bucket, min, max, sum, first, last, increment, point_id, n, n_good, n_usable, base_id)
SELECT p.bucket, f.min, f.max, f.sum, f.first, f.last, f.increment, p.point_id, f.n, f.n_good, f.n_usable, p.base_id
FROM {periods} p
CROSS JOIN LATERAL (
    SELECT min(min) AS min, max(max) AS max, sum(sum) AS sum,
           (array_agg(first ORDER BY bucket) FILTER (WHERE first IS NOT NULL))[1] AS first,
           (array_agg(last ORDER BY bucket DESC) FILTER (WHERE last IS NOT NULL))[1] AS last,
           sum(increment) AS increment, sum(n) AS n, sum(n_good) AS n_good,
           sum(n_usable) AS n_usable
    FROM {fine} f
    WHERE f.base_id = p.base_id AND f.point_id = p.point_id AND f.bucket >= p.bucket AND f.bucket < p.until) f
WHERE p.by_quarter = %(by_quarter)s AND f.n IS NOT NULL
ORDER BY p.base_id, p.point_id, p.bucket
ON CONFLICT (base_id, point_id, bucket) DO UPDATE
SET min = excluded.min, max = excluded.max, sum = excluded.sum, first = excluded.first, last = excluded.last,
    increment = excluded.increment, n = excluded.n, n_good = excluded.n_good, n_usable = excluded.n_usable
WHERE (q.min, q.max, q.sum, q.first, q.last, q.increment, q.n, q.n_good, q.n_usable) IS DISTINCT FROM
      (excluded.min, excluded.max, excluded.sum, excluded.first, excluded.last, excluded.increment, excluded.n, excluded.n_good,
       excluded.n_usable)

-- name: forget_periods
-- Periods of a set in which the next finer grain has nothing left; asked only after quarters were forgotten.
DELETE FROM {coarse} q USING {periods} p
WHERE q.base_id = p.base_id AND q.point_id = p.point_id AND q.bucket = p.bucket AND p.by_quarter = %(by_quarter)s
  AND NOT EXISTS (SELECT FROM {fine} f WHERE f.base_id = p.base_id AND f.point_id = p.point_id
                  AND f.bucket >= p.bucket AND f.bucket < p.until)

-- name: tell_accounting
-- Hand the touched hours over to accounting.
INSERT INTO dirty_account (base_id, point_id, bucket)
SELECT base_id, point_id, bucket FROM touched_hour ORDER BY base_id, point_id, bucket

-- name: more_dirty
-- Whether the log holds more for a part of the points.
SELECT EXISTS (SELECT FROM dirty WHERE hashint4(point_id) & 1 = ANY (%(parts)s))

-- name: notify_rollup
-- Tell who waits for rollups.
SELECT pg_notify('park_rollup', '')

-- name: recompute
-- Rows of one grain straight from raw, in plain words: what the table of that grain must hold. A counter goes on from
-- what its closed weeks ended with.
WITH known AS (
    SELECT r.base_id, r.point_id, r.ts, r.quality, CASE WHEN r.quality < 10 THEN r.value END AS v,
           p.kind = 'counter' AS counter, p.rollover, b.timezone, false AS closed
    FROM reading r JOIN point p USING (base_id, point_id) JOIN base b USING (base_id)
    WHERE %(base_id)s::smallint IS NULL OR r.base_id = %(base_id)s
    UNION ALL
    (SELECT DISTINCT ON (base_id, point_id, c.low) base_id, point_id, q.bucket + interval '15 minutes' - interval '1 microsecond',
            0, q.last, true, p.rollover, b.timezone, true
     FROM closed_weeks() AS c (low) JOIN reading_15m q ON q.bucket >= c.low AND q.bucket < c.low + interval '7 days'
     JOIN point p USING (base_id, point_id) JOIN base b USING (base_id)
     WHERE p.kind = 'counter' AND q.last IS NOT NULL AND (%(base_id)s::smallint IS NULL OR q.base_id = %(base_id)s)
     ORDER BY base_id, point_id, c.low, q.bucket DESC)
), stepped AS (
    SELECT *, lag(v) OVER (PARTITION BY base_id, point_id, v IS NOT NULL ORDER BY ts) AS former,
           CASE %(grain)s WHEN '1m' THEN date_trunc('minute', ts, 'UTC')
                WHEN '15m' THEN date_bin('15 minutes', ts, TIMESTAMPTZ '2000-01-01 00:00:00Z')
                WHEN '1h' THEN date_trunc('hour', ts, 'UTC') WHEN '1d' THEN date_trunc('day', ts, timezone)
                ELSE date_trunc('month', ts, timezone) END AS bucket
    FROM known
), counted AS (
    SELECT *, CASE WHEN NOT counter OR v IS NULL OR former IS NULL THEN NULL
                   WHEN v >= former - abs(former) * 2.0::double precision ^ -22 THEN v - former  -- a register's dither stands as it is
                   WHEN former > 0.9 * rollover AND v < 0.1 * rollover THEN rollover - former + v
                   ELSE v END AS step
    FROM stepped
)
SELECT bucket, min(v) AS min, max(v) AS max, sum(v) AS sum,
       (array_agg(v ORDER BY ts) FILTER (WHERE v IS NOT NULL))[1] AS first,
       (array_agg(v ORDER BY ts DESC) FILTER (WHERE v IS NOT NULL))[1] AS last,
       sum(step) AS increment, point_id, count(*)::integer AS n,
       (count(*) FILTER (WHERE quality IN (0, 1)))::integer AS n_good, count(v)::integer AS n_usable, base_id
FROM counted
WHERE NOT closed
GROUP BY base_id, point_id, bucket

-- name: sum_up
-- Rows of a grain of an hour or more from the quarters in it: all that is left to compute them from in closed weeks.
SELECT q.period AS bucket, min(q.min) AS min, max(q.max) AS max, sum(q.sum) AS sum,
       (array_agg(q.first ORDER BY q.bucket) FILTER (WHERE q.first IS NOT NULL))[1] AS first,
       (array_agg(q.last ORDER BY q.bucket DESC) FILTER (WHERE q.last IS NOT NULL))[1] AS last,
       sum(q.increment) AS increment, q.point_id, sum(q.n)::integer AS n, sum(q.n_good)::integer AS n_good,
       sum(q.n_usable)::integer AS n_usable, q.base_id
FROM (
    SELECT q.*, CASE %(grain)s WHEN '1h' THEN date_trunc('hour', q.bucket, 'UTC')
        WHEN '1d' THEN date_trunc('day', q.bucket, b.timezone) ELSE date_trunc('month', q.bucket, b.timezone) END AS period
    FROM reading_15m q JOIN base b USING (base_id)
    WHERE %(base_id)s::smallint IS NULL OR q.base_id = %(base_id)s) q
GROUP BY q.base_id, q.point_id, q.period

-- name: compare
-- Where a grain's table and its recomputation differ, before what still waits in the dirty log, within or beside the closed
-- weeks; sums to 1e-9.
WITH pending AS (SELECT base_id, point_id, min(bucket) AS low FROM dirty GROUP BY base_id, point_id),
wanted AS ({recompute}),
there AS (SELECT * FROM {table} WHERE %(base_id)s::smallint IS NULL OR base_id = %(base_id)s)
SELECT base_id, point_id, bucket,
       ROW (t.n, t.n_good, t.n_usable, t.min, t.max, t.sum, t.first, t.last, t.increment)::text,
       ROW (w.n, w.n_good, w.n_usable, w.min, w.max, w.sum, w.first, w.last, w.increment)::text
FROM wanted w FULL JOIN there t USING (base_id, point_id, bucket)
LEFT JOIN pending p USING (base_id, point_id)
WHERE (p.low IS NULL OR bucket + CASE %(grain)s WHEN '1m' THEN interval '1 minute' WHEN '15m' THEN interval '15 minutes'
           WHEN '1h' THEN interval '1 hour' WHEN '1d' THEN interval '1 day' ELSE interval '1 month' END <= p.low)
  AND %(closed)s = EXISTS (SELECT FROM closed_weeks() AS c (low) WHERE bucket < c.low + interval '7 days'
      AND bucket + CASE %(grain)s WHEN '1m' THEN interval '1 minute' WHEN '15m' THEN interval '15 minutes'
              WHEN '1h' THEN interval '1 hour' WHEN '1d' THEN interval '1 day' ELSE interval '1 month' END > c.low)
  AND ((t.n, t.n_good, t.n_usable, t.min, t.max, t.first, t.last)
       IS DISTINCT FROM (w.n, w.n_good, w.n_usable, w.min, w.max, w.first, w.last)
    OR (t.sum IS NULL) <> (w.sum IS NULL) OR (t.increment IS NULL) <> (w.increment IS NULL)
    OR abs(t.sum - w.sum) > 1e-9 * greatest(1, abs(w.sum), w.n * greatest(abs(w.min), abs(w.max)))
    OR abs(t.increment - w.increment) > 1e-9 * greatest(1, abs(w.increment), w.n * greatest(abs(w.min), abs(w.max))))
LIMIT 20

-- name: mark_all_dirty
-- Every quarter that has readings or a rollup, between two instants, is to be rolled up again.
INSERT INTO dirty (base_id, point_id, bucket)
SELECT base_id, point_id, date_bin('15 minutes', ts, TIMESTAMPTZ '2000-01-01 00:00:00Z') FROM reading
WHERE base_id = %(base_id)s AND ts >= %(low)s AND ts < %(high)s
UNION
SELECT base_id, point_id, bucket FROM reading_15m WHERE base_id = %(base_id)s AND bucket >= %(low)s AND bucket < %(high)s

-- name: ensure_ahead
-- Partitions of this week and the next, made before they are needed.
SELECT ensure_reading_partitions(now(), now() + interval '7 days')

-- name: forget_ledger
-- A batch that comes again after 30 days would be merged reading by reading, to the same effect.
DELETE FROM ingest_batch WHERE received_at < now() - interval '30 days' AND source NOT LIKE 'import:%'

-- name: open_letters
-- Letters that may be replayed, in order of arrival, a page at a time.
SELECT dead_letter_id, base_id, topic, source, received_at, reason, payload FROM dead_letter
WHERE replayed_at IS NULL AND reason = ANY (%(reasons)s) AND dead_letter_id > %(after)s
ORDER BY dead_letter_id LIMIT 500

-- name: close_letter
-- Mark a letter as replayed.
UPDATE dead_letter SET replayed_at = now() WHERE dead_letter_id = %(letter)s

-- name: list_letters
-- Open letters, newest first.
SELECT d.received_at, b.code, d.source, d.seq, d.reason, d.detail, octet_length(d.payload), d.repeats
FROM dead_letter d LEFT JOIN base b USING (base_id)
WHERE d.replayed_at IS NULL AND (%(reason)s::text IS NULL OR d.reason = %(reason)s)
ORDER BY d.received_at DESC, d.dead_letter_id DESC LIMIT %(limit)s

-- name: letter_reasons
-- How many letters are open for each reason.
SELECT reason, count(*) FROM dead_letter WHERE replayed_at IS NULL GROUP BY reason ORDER BY 2 DESC, 1

-- name: newest_dirty
-- The newest row of the log.
SELECT max(dirty_id) FROM dirty

-- name: dirty_up_to
-- Whether the log still holds a row up to a given one.
SELECT EXISTS (SELECT FROM dirty WHERE dirty_id <= %(newest)s)

-- name: share_rollup
-- Keep every rollup pass out until the end of the transaction; several loaders may hold this together.
SELECT pg_advisory_xact_lock_shared(hashtext('park rollup')), pg_advisory_xact_lock_shared(hashtext('park rollup'), 0),
       pg_advisory_xact_lock_shared(hashtext('park rollup'), 1)

-- name: rollovers
-- Counters of a base with the register value at which they start again; infinite where there is none.
SELECT point_id, coalesce(rollover, 'Infinity') FROM point WHERE base_id = %(base_id)s AND kind = 'counter'

-- name: timezone
-- The time zone of a base.
SELECT timezone FROM base WHERE base_id = %(base_id)s

-- name: table_exists
-- Whether a table of this name is there.
SELECT to_regclass(%(name)s) IS NOT NULL

-- name: any_in_week
-- Whether some of the points have a reading or a rollup between two instants.
SELECT EXISTS (
    SELECT FROM unnest(%(points)s::integer[]) AS p (point_id)
    WHERE EXISTS (SELECT FROM reading r WHERE r.base_id = %(base_id)s AND r.point_id = p.point_id
                  AND r.ts >= %(low)s AND r.ts < %(high)s)
       OR EXISTS (SELECT FROM reading_1h r WHERE r.base_id = %(base_id)s AND r.point_id = p.point_id
                  AND r.bucket >= %(low)s AND r.bucket < %(high)s))

-- name: loader_session
-- Loaders are as many as the processors: workers of their own would only stand in their way.
SET max_parallel_maintenance_workers = 0

-- name: make_week
-- A partition to be, without its key.
CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)

-- name: key_week
-- The key of a filled partition; its pages are packed full, since few rows come to a loaded week later.
ALTER TABLE {name} ADD PRIMARY KEY (base_id, point_id, {time}) WITH (fillfactor = 100)

-- name: attach_week
-- A filled and keyed table becomes a partition.
ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({low}) TO ({high})
-- name: point_ids
-- Points of a base by code.
SELECT code, point_id FROM point WHERE base_id = %(base_id)s ORDER BY code

-- name: iso_instants
-- Instants of a COPY as ISO 8601 with offset.
SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO'

-- name: export_readings
-- Readings of some points, point by point in order of time.
SELECT p.code AS point, {at} AS at, r.value, q.word AS quality
FROM point p
JOIN reading r ON r.base_id = p.base_id AND r.point_id = p.point_id AND r.ts >= %(start)s AND r.ts < %(end)s
JOIN quality q ON q.code = r.quality
WHERE p.base_id = %(base_id)s AND p.point_id = ANY (%(points)s)
ORDER BY p.code, r.ts

-- name: export_aggregates
-- Rollups of some points, point by point in order of time; the mean is over usable readings.
SELECT p.code AS point, {at} AS bucket, r.n, r.n_good, r.n_usable, r.sum / nullif(r.n_usable, 0) AS mean, r.min, r.max, r.sum, r.first, r.last, r.increment
FROM point p
JOIN {table} r ON r.base_id = p.base_id AND r.point_id = p.point_id AND r.bucket >= %(start)s AND r.bucket < %(end)s
WHERE p.base_id = %(base_id)s AND p.point_id = ANY (%(points)s)
ORDER BY p.code, r.bucket

-- name: lock_upkeep
-- One process at a time does the upkeep; held as long as the session.
SELECT pg_try_advisory_lock(hashtext('park upkeep'))

-- name: weeks
-- Weeks of raw readings, oldest first: also those whose readings are gone.
SELECT coalesce(w.monday, c.monday) AS monday,
       CASE WHEN w.monday IS NULL THEN 'dropped' WHEN c.monday IS NULL OR c.reopened_at IS NOT NULL THEN 'open' ELSE 'closed' END,
       coalesce(w.bytes, 0), coalesce(c.archive, ''), c.reopened_at
FROM reading_weeks() w FULL JOIN closed_week c USING (monday) ORDER BY 1

-- name: close_week
-- Nothing changes in the week any more: `closed`, or why not.
SELECT close_reading_week(%(monday)s)

-- name: drop_week
-- The raw readings of a closed week go: `dropped`, or why not.
SELECT drop_reading_week(%(monday)s)

-- name: reopen_week
-- The week takes readings again; whether it still has its own.
SELECT reopen_reading_week(%(monday)s)

-- name: note_archive
-- Where a closed week was written to.
UPDATE closed_week SET archive = %(archive)s, n_archived = %(n)s WHERE monday = %(monday)s

-- name: base_codes
-- Codes of every base.
SELECT code FROM base ORDER BY code

-- name: count_week
-- Raw readings between two instants.
SELECT count(*) FROM reading WHERE ts >= %(low)s AND ts < %(high)s

-- name: bases_in_week
-- Bases that have rollups between two instants.
SELECT code FROM base WHERE base_id IN (SELECT DISTINCT base_id FROM reading_15m WHERE bucket >= %(low)s AND bucket < %(high)s)

-- name: broken_keys
-- Keys that an interrupted packing has left half made.
SELECT i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
WHERE NOT x.indisvalid AND i.relname ~ '^reading_w[0-9]{6}_pkey_ccnew' AND pg_has_role(t.relowner, 'USAGE')
  AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.relid = t.oid)

-- name: drop_key
-- A half made key goes.
DROP INDEX CONCURRENTLY {key}

-- name: roomy_keys
-- Keys of weeks whose pages keep room for rows in between, though few come.
SELECT i.relname FROM pg_inherits h JOIN pg_class t ON t.oid = h.inhrelid
JOIN pg_index x ON x.indrelid = t.oid AND x.indisprimary JOIN pg_class i ON i.oid = x.indexrelid
WHERE h.inhparent = 'reading'::regclass AND t.relname ~ '^reading_w[0-9]{6}$' AND pg_has_role(t.relowner, 'USAGE')
  AND NOT coalesce(i.reloptions, '{}') @> ARRAY['fillfactor=100']

-- name: fill_key
-- From now on the key's pages are filled to the end.
ALTER INDEX {key} SET (fillfactor = 100)

-- name: loose_keys
-- Keys of weeks that are over for a day and a twentieth larger than their rows need: 28 bytes each and the pages' heads.
SELECT i.relname FROM pg_inherits h JOIN pg_class t ON t.oid = h.inhrelid
JOIN pg_index x ON x.indrelid = t.oid AND x.indisprimary JOIN pg_class i ON i.oid = x.indexrelid
WHERE h.inhparent = 'reading'::regclass AND t.relname ~ '^reading_w[0-9]{6}$' AND pg_has_role(t.relowner, 'USAGE')
  AND (to_date(right(t.relname, 6), 'IYYYIW') + 8)::timestamp AT TIME ZONE 'UTC' <= %(now)s
  AND pg_relation_size(i.oid) > 1.05 * 28.6 * greatest(t.reltuples, 0) + 65536
ORDER BY t.relname

-- name: pack_key
-- The key of a week is made anew, full, while the week is read and written.
REINDEX INDEX CONCURRENTLY {key}
