-- name: lock
-- One accountant a database: a second one waits for the next round.
SELECT pg_try_advisory_lock(hashtext('park account'))

-- name: unlock
-- Let the next accountant in.
SELECT pg_advisory_unlock(hashtext('park account'))

-- name: bases
-- Every base with its time zone.
SELECT base_id, code, timezone FROM base ORDER BY base_id

-- name: because
-- Who changes figures in this transaction and why: kept with their former versions.
SELECT set_config('park.actor', %(actor)s, true), set_config('park.reason', %(reason)s, true)

-- name: without_history
-- This transaction is rolled back: no former versions.
SELECT set_config('park.history', 'off', true)

-- name: thin_history
-- Forget former versions older than a month that stood at no local midnight.
SELECT thin_history(%(base)s::smallint, %(zone)s, now() - interval '31 days')

-- name: take_dirty
-- Move what ingest marked into the list of work, one row a point and UTC day; both in one statement and so of one snapshot: what
-- is marked meanwhile is neither read nor deleted. (RETURNING would keep millions of rows on disk in between.)
WITH taken AS (DELETE FROM dirty_account)
INSERT INTO account_todo AS t (base_id, point_id, day, first, last)
SELECT base_id, point_id, (bucket AT TIME ZONE 'UTC')::date, min(bucket), max(bucket) FROM dirty_account GROUP BY 1, 2, 3
ON CONFLICT (base_id, point_id, day) DO UPDATE
SET first = least(t.first, excluded.first), last = greatest(t.last, excluded.last)

-- name: mark_range
-- Put every reading between two instants on the list of work again.
INSERT INTO account_todo AS t (base_id, point_id, day, first, last)
SELECT p.base_id, p.point_id, d::date, greatest(d AT TIME ZONE 'UTC', %(low)s), least(d AT TIME ZONE 'UTC' + interval '23 hours', %(high)s)
FROM point p CROSS JOIN generate_series(date_trunc('day', %(low)s AT TIME ZONE 'UTC'), %(high)s AT TIME ZONE 'UTC', interval '1 day') d
WHERE p.base_id = %(base)s
ON CONFLICT (base_id, point_id, day) DO UPDATE
SET first = least(t.first, excluded.first), last = greatest(t.last, excluded.last)

-- name: span_of_readings
-- First and last reading of a base.
SELECT min(low), max(high) FROM (
    SELECT (SELECT ts FROM reading r WHERE r.base_id = %(base)s::smallint AND r.point_id = p.point_id ORDER BY ts LIMIT 1) AS low,
           (SELECT ts FROM reading r WHERE r.base_id = %(base)s::smallint AND r.point_id = p.point_id ORDER BY ts DESC LIMIT 1) AS high
    FROM unnest(ARRAY(SELECT point_id FROM point WHERE base_id = %(base)s)) AS p (point_id)) s

-- name: newest_todo
-- The newest day on the list of a base.
SELECT max(day) FROM account_todo WHERE base_id = %(base)s

-- name: take_todo
-- Take the days after `day` off the list, as one span a point; a crash rolls it back with the figures.
WITH taken AS (DELETE FROM account_todo WHERE base_id = %(base)s AND day > %(day)s RETURNING point_id, first, last)
SELECT point_id, min(first), max(last) + interval '1 hour' FROM taken GROUP BY 1 ORDER BY 1

-- name: count_hours
-- Keep how many hours of days that are over have data, of some points or all.
SELECT count_hours(%(base)s::smallint, coalesce(%(points)s::integer[], ARRAY(SELECT point_id FROM point WHERE base_id = %(base)s)),
                   %(first)s, %(last)s, %(missing)s)

-- name: counters
-- Counters among some points, with what their intervals need.
SELECT point_id, ratio, rollover, expected_s FROM point
WHERE base_id = %(base)s AND kind = 'counter' AND NOT attributes ? 'formula' AND point_id = ANY (%(points)s) ORDER BY point_id

-- name: formulas
-- Virtual points.
SELECT point_id, code, unit, attributes ->> 'formula' FROM point
WHERE base_id = %(base)s AND kind = 'counter' AND attributes ? 'formula' AND removed_at IS NULL ORDER BY code

-- name: points_by_code
-- What formulas may name.
SELECT code, point_id, unit, kind FROM point WHERE base_id = %(base)s AND kind IN ('counter', 'gauge')

-- name: read_means
-- Mean of each gauge in each slot of its range; quality: estimated where a reading behind it is not a good one.
COPY (
    SELECT ARRAY[w.point_id], array_agg(r.bucket), array_agg(r.sum / r.n_usable),
           array_agg(CASE WHEN r.n_good = r.n_usable THEN 0 ELSE 2 END::smallint)
    FROM unnest(%(points)s::integer[], %(low)s::timestamptz[], %(high)s::timestamptz[]) AS w (point_id, low, high)
    JOIN reading_15m r ON r.base_id = %(base)s AND r.point_id = w.point_id AND r.bucket >= w.low AND r.bucket < w.high AND r.n_usable > 0
    GROUP BY w.point_id
) TO STDOUT (FORMAT binary)

-- name: meters
-- Meters of some points in order of installation.
SELECT point_id, installed_at, removed_at, initial_register, final_register, ratio FROM meter
WHERE base_id = %(base)s AND point_id = ANY (%(points)s) ORDER BY point_id, installed_at

-- name: gaps_after
-- How far the split of a gap reaches that may lean on a point's changed week: end of the last gap that began in it. Told by the quality
-- too: a gap in which the register was reset, replaced or rolled over has that as its method. A gap that leans on it is longer than two
-- hours, so an hour before its last slot there is another one.
SELECT w.point_id, max(i.ts) + interval '15 minutes'
FROM unnest(%(points)s::integer[], %(high)s::timestamptz[]) AS w (point_id, high)
JOIN interval_15m i ON i.base_id = %(base)s AND i.point_id = w.point_id
    AND i.ts >= w.high AND i.ts < w.high + interval '8 days' AND (i.method = 4 OR i.quality IN (2, 4))
WHERE EXISTS (SELECT FROM interval_15m b WHERE b.base_id = i.base_id AND b.point_id = i.point_id AND b.ts = i.ts - interval '1 hour'
              AND (b.method = 4 OR b.quality IN (2, 4)))
GROUP BY 1

-- name: read_window
-- Readings of each point in its window, with some usable ones before and after it; gathered point by point, as they are found.
COPY (
    SELECT ARRAY[w.point_id], r.*
    FROM unnest(%(points)s::integer[], %(low)s::timestamptz[], %(high)s::timestamptz[]) AS w (point_id, low, high)
    CROSS JOIN LATERAL (SELECT array_agg(r.ts), array_agg(coalesce(r.value, 'NaN')), array_agg(r.quality) FROM (
        (SELECT ts, value, quality FROM reading
         WHERE base_id = %(base)s AND point_id = w.point_id AND ts < w.low AND quality < 10 AND value IS NOT NULL
         ORDER BY ts DESC LIMIT %(reach)s)
        UNION ALL
        (SELECT ts, value, quality FROM reading WHERE base_id = %(base)s AND point_id = w.point_id AND ts >= w.low AND ts < w.high)
        UNION ALL
        (SELECT ts, value, quality FROM reading
         WHERE base_id = %(base)s AND point_id = w.point_id AND ts >= w.high AND quality < 10 AND value IS NOT NULL
         ORDER BY ts LIMIT %(reach)s)
    ) r HAVING count(*) > 0) r
) TO STDOUT (FORMAT binary)

-- name: read_range
-- Readings of some points between two instants.
COPY (
    SELECT ARRAY[w.point_id], r.*
    FROM unnest(%(points)s::integer[]) AS w (point_id)
    CROSS JOIN LATERAL (
        SELECT array_agg(ts), array_agg(coalesce(value, 'NaN')), array_agg(quality) FROM reading
        WHERE base_id = %(base)s AND point_id = w.point_id AND ts >= %(low)s AND ts < %(high)s HAVING count(*) > 0) r
) TO STDOUT (FORMAT binary)

-- name: read_intervals
-- What interval_15m holds for each point in its range.
COPY (
    SELECT ARRAY[w.point_id], i.*
    FROM unnest(%(points)s::integer[], %(low)s::timestamptz[], %(high)s::timestamptz[]) AS w (point_id, low, high)
    CROSS JOIN LATERAL (
        SELECT array_agg(ts), array_agg(coalesce(amount, 'NaN')), array_agg(quality), array_agg(method) FROM interval_15m
        WHERE base_id = %(base)s AND point_id = w.point_id AND ts >= w.low AND ts < w.high HAVING count(*) > 0) i
) TO STDOUT (FORMAT binary)

-- name: delete_intervals
-- Slots that change or vanish.
DELETE FROM interval_15m i USING unnest(%(points)s::integer[], %(ts)s::timestamptz[]) AS gone (point_id, ts)
WHERE i.base_id = %(base)s AND i.point_id = gone.point_id AND i.ts = gone.ts

-- name: write_intervals
-- Slots, new or changed.
COPY interval_15m (ts, amount, point_id, base_id, quality, method) FROM STDIN (FORMAT binary)

-- name: touched_tables
-- Base-local days of a counter whose slots changed; they live as long as the transaction.
CREATE TEMP TABLE IF NOT EXISTS touched_day (
    point_id integer NOT NULL, day date NOT NULL, low timestamptz NOT NULL, high timestamptz NOT NULL,
    fresh boolean NOT NULL DEFAULT false,        -- has no hours yet
    of_hour boolean NOT NULL DEFAULT false,      -- only its last hour changed, in the half that lies in the next day
    PRIMARY KEY (point_id, day)) ON COMMIT DELETE ROWS

-- name: clear_touched
-- Begin with none.
TRUNCATE touched_day

-- name: touch_days
-- Note the changed days of each counter.
INSERT INTO touched_day AS t (point_id, day, low, high, of_hour)
SELECT point_id, day, low, high, coalesce(of_hour, false)
FROM unnest(%(points)s::integer[], %(days)s::date[], %(low)s::timestamptz[], %(high)s::timestamptz[], %(of_hour)s::boolean[])
    AS d (point_id, day, low, high, of_hour)
ON CONFLICT (point_id, day) DO UPDATE SET of_hour = false WHERE t.of_hour AND NOT excluded.of_hour

-- name: analyze_touched
-- The planner must know how many days there are.
ANALYZE touched_day

-- name: forget_hours
-- Hours of touched days that have no slot any more.
DELETE FROM interval_1h h USING touched_day d
WHERE h.base_id = %(base)s AND h.point_id = d.point_id AND h.ts >= d.low AND h.ts < d.high
  AND (SELECT i.ts FROM interval_15m i WHERE i.base_id = h.base_id AND i.point_id = h.point_id   -- looked up, never joined: all slots are many
       AND i.ts >= h.ts AND i.ts < h.ts + interval '1 hour' LIMIT 1) IS NULL

-- name: hours
-- Hours of touched days from their slots; day after day, so that they come in the order of the index. An hour that two days share
-- (zones of half an hour) belongs to the one in which it begins; see energy.touch.
SELECT h.ts, h.amount, h.estimated, d.point_id, 4, h.n_known, h.n_good, %(base)s
FROM touched_day d CROSS JOIN LATERAL (
    SELECT date_bin('1 hour', i.ts, '2000-01-01 00:00+00') AS ts, sum(i.amount) AS amount,
           coalesce(sum(i.amount) FILTER (WHERE i.quality > 1), 0) AS estimated, count(i.amount) AS n_known,
           count(i.amount) FILTER (WHERE i.quality <= 1) AS n_good
    FROM interval_15m i WHERE i.base_id = %(base)s AND i.point_id = d.point_id
      AND i.ts >= date_bin('1 hour', d.low + interval '45 minutes', '2000-01-01 00:00+00')
      AND i.ts < date_bin('1 hour', d.high + interval '45 minutes', '2000-01-01 00:00+00') GROUP BY 1) h

-- name: roll_hours
-- Hours of touched days that have some, where they changed.
INSERT INTO interval_1h AS h (ts, amount, estimated, point_id, n_expected, n_known, n_good, base_id)
{hours}
WHERE NOT d.fresh
ON CONFLICT (base_id, point_id, ts) DO UPDATE
SET amount = excluded.amount, estimated = excluded.estimated, n_known = excluded.n_known, n_good = excluded.n_good
WHERE (h.amount, h.estimated, h.n_known, h.n_good)
      IS DISTINCT FROM (excluded.amount, excluded.estimated, excluded.n_known, excluded.n_good)

-- name: mark_fresh
-- Which touched days have no hours yet.
UPDATE touched_day d SET fresh = true
WHERE (SELECT h.ts FROM interval_1h h WHERE h.base_id = %(base)s AND h.point_id = d.point_id AND h.ts >= d.low AND h.ts < d.high LIMIT 1)
      IS NULL

-- name: first_hours
-- Hours of touched days that have none yet, without the search for what is there.
INSERT INTO interval_1h (ts, amount, estimated, point_id, n_expected, n_known, n_good, base_id)
{hours}
WHERE d.fresh

-- name: roll_days
-- Touched days from their slots; a day without a slot stays as a day that is not known. What is expected of a day that is
-- not over are the slots that have ended.
INSERT INTO interval_1d AS t (ts, amount, estimated, point_id, n_expected, n_known, n_good, base_id)
SELECT d.low, s.amount, s.estimated, d.point_id,
       greatest(extract(epoch FROM least(d.high, greatest(%(now)s, d.low)) - d.low)::integer / 900, s.n_known),
       s.n_known, s.n_good, %(base)s
FROM touched_day d CROSS JOIN LATERAL (
    SELECT sum(i.amount) AS amount, coalesce(sum(i.amount) FILTER (WHERE i.quality > 1), 0) AS estimated, count(i.amount) AS n_known,
           count(i.amount) FILTER (WHERE i.quality <= 1) AS n_good
    FROM interval_15m i WHERE i.base_id = %(base)s AND i.point_id = d.point_id AND i.ts >= d.low AND i.ts < d.high) s
WHERE NOT d.of_hour
ON CONFLICT (base_id, point_id, ts) DO UPDATE
SET amount = excluded.amount, estimated = excluded.estimated, n_expected = excluded.n_expected, n_known = excluded.n_known,
    n_good = excluded.n_good
WHERE (t.amount, t.estimated, t.n_expected, t.n_known, t.n_good)
      IS DISTINCT FROM (excluded.amount, excluded.estimated, excluded.n_expected, excluded.n_known, excluded.n_good)

-- name: first_known
-- The first known day of each counter, NULL without any, when the first meter on record was installed, and its last day where it is retired.
SELECT p.point_id, b.timezone, (p.removed_at AT TIME ZONE b.timezone)::date AS last,
       (SELECT ts FROM interval_1d i WHERE i.base_id = %(base)s AND i.point_id = p.point_id AND n_known > 0 ORDER BY ts LIMIT 1) AS ts,
       (SELECT min(installed_at) FROM meter m WHERE m.base_id = p.base_id AND m.point_id = p.point_id) AS installed
FROM point p JOIN base b USING (base_id) WHERE p.base_id = %(base)s AND p.kind = 'counter'

-- name: there_since
-- The beginning of the local day since when each counter was there, and the last day on which it was.
SELECT point_id, timezone, last, least(coalesce(ts, base), CASE WHEN installed IS NOT NULL AND base IS NOT NULL
                                                         THEN date_trunc('day', greatest(installed, base), timezone) END) AS ts
FROM (SELECT *, min(ts) OVER () AS base FROM first) b

-- name: due_days
-- Days of counters that are missing in interval_1d although the counter was there, and recent days whose count of ended slots has
-- grown. A counter was there since its first reading, or since the first meter on record was installed; one without a reading since
-- the base has any. One that was retired is due to the end of that day.
WITH first AS MATERIALIZED ({first}), span AS MATERIALIZED (
    SELECT point_id, timezone, greatest((ts AT TIME ZONE timezone)::date, (%(since)s AT TIME ZONE timezone)::date) AS day,
           least((%(now)s AT TIME ZONE timezone)::date, last) AS today
    FROM ({there}) f WHERE ts IS NOT NULL
), due AS MATERIALIZED (
    -- counters that may have such a day: by counting first, because mostly none has
    SELECT s.* FROM span s
    CROSS JOIN LATERAL (
        SELECT count(*) AS days,
               bool_or(i.ts > %(now)s - interval '3 days' AND i.n_expected < extract(epoch FROM least(
                   ((i.ts AT TIME ZONE s.timezone)::date + 1)::timestamp AT TIME ZONE s.timezone, %(now)s) - i.ts)::integer / 900) AS grown
        FROM interval_1d i WHERE i.base_id = %(base)s AND i.point_id = s.point_id
          AND i.ts >= s.day::timestamp AT TIME ZONE s.timezone AND i.ts < (s.today + 1)::timestamp AT TIME ZONE s.timezone) there
    WHERE there.days <= s.today - s.day OR there.grown
), day AS (
    SELECT s.point_id, d::date AS day, d AT TIME ZONE s.timezone AS low, (d + interval '1 day') AT TIME ZONE s.timezone AS high
    FROM due s CROSS JOIN LATERAL generate_series(s.day::timestamp, s.today::timestamp, interval '1 day') d
)
SELECT d.point_id, d.day, d.low, d.high
FROM day d LEFT JOIN LATERAL (
    SELECT i.ts, i.n_expected FROM interval_1d i WHERE i.base_id = %(base)s AND i.point_id = d.point_id AND i.ts = d.low OFFSET 0) i ON true
WHERE i.ts IS NULL
   OR i.ts > %(now)s - interval '3 days' AND i.n_expected < extract(epoch FROM least(d.high, %(now)s) - d.low)::integer / 900

-- name: forget_unborn
-- Days that are not known of a counter from before it was there, which were written as long as it had no reading and only the
-- base's beginning told since when it was missing, and from after it was retired. They are noted as touched.
WITH first AS MATERIALIZED ({first}), since AS ({there}), gone AS (
    DELETE FROM interval_1d d USING since s
    WHERE d.base_id = %(base)s AND d.point_id = s.point_id AND d.n_known = 0
      AND (d.ts < s.ts OR d.ts >= (s.last + 1)::timestamp AT TIME ZONE s.timezone)
      AND (SELECT i.ts FROM interval_15m i WHERE i.base_id = d.base_id AND i.point_id = d.point_id AND i.ts >= d.ts
           AND i.ts < ((d.ts AT TIME ZONE s.timezone)::date + 1)::timestamp AT TIME ZONE s.timezone LIMIT 1) IS NULL
    RETURNING d.point_id, d.ts, s.timezone
)
INSERT INTO touched_day (point_id, day, low, high)
SELECT point_id, (ts AT TIME ZONE timezone)::date, ts, ((ts AT TIME ZONE timezone)::date + 1)::timestamp AT TIME ZONE timezone FROM gone

-- name: forget_ahead
-- Days to come that are not known of a counter: written by a clock that was ahead. They are noted as touched.
WITH gone AS (
    DELETE FROM interval_1d d USING base b
    WHERE b.base_id = %(base)s AND d.base_id = b.base_id AND d.ts > %(now)s AND d.n_known = 0
    RETURNING d.point_id, d.ts, b.timezone
)
INSERT INTO touched_day (point_id, day, low, high)
SELECT point_id, (ts AT TIME ZONE timezone)::date, ts, ((ts AT TIME ZONE timezone)::date + 1)::timestamp AT TIME ZONE timezone FROM gone

-- name: forget_hours_ahead
-- Hours of outlets that are not over.
DELETE FROM emission_1h WHERE base_id = %(base)s AND ts > %(now)s - interval '1 hour'

-- name: forget_availability_ahead
-- Counts of days that are not over.
DELETE FROM availability_day WHERE base_id = %(base)s AND day >= %(today)s

-- name: periods_from
-- Years and months from a month on that have indicators.
SELECT DISTINCT period FROM indicator_value WHERE base_id = %(base)s AND period >= left(%(month)s, length(period))

-- name: forget_months
-- Months of touched days that have no day left.
DELETE FROM interval_1mo m USING (
    SELECT DISTINCT d.point_id, date_trunc('month', d.day)::timestamp AT TIME ZONE b.timezone AS low,
           (date_trunc('month', d.day) + interval '1 month')::timestamp AT TIME ZONE b.timezone AS high
    FROM touched_day d JOIN base b ON b.base_id = %(base)s) t
WHERE m.base_id = %(base)s AND m.point_id = t.point_id AND m.ts = t.low
  AND NOT EXISTS (SELECT FROM interval_1d i WHERE i.base_id = m.base_id AND i.point_id = m.point_id AND i.ts >= t.low AND i.ts < t.high)

-- name: roll_months
-- Months of touched days from their days and costs.
SELECT roll_months(%(base)s::smallint, array_agg(point_id), array_agg(month))
FROM (SELECT DISTINCT point_id, date_trunc('month', day)::date AS month FROM touched_day) m

-- name: tariffs
-- Tariffs in force for counters of a base that buy: an enterprise's own before the base's, the newer before the older.
SELECT t.tariff_id, t.carrier, t.enterprise_id, t.unit, t.terms, t.valid_from, t.valid_to FROM tariff t
WHERE t.base_id = %(base)s AND t.superseded_at IS NULL
ORDER BY t.enterprise_id IS NULL DESC, t.valid_from, t.tariff_id

-- name: calendar
-- Class of each day in the base's calendars.
SELECT day, min(class) FROM calendar WHERE base_id = %(base)s AND day BETWEEN %(first)s AND %(last)s GROUP BY day

-- name: lists_holidays
-- Whether the base's calendars have a holiday in a year.
SELECT EXISTS (SELECT FROM calendar WHERE base_id = %(base)s AND class = 'holiday' AND extract(year FROM day) = %(year)s)

-- name: price_table
-- Price of each slot of the days at hand, per tariff; it lives as long as the transaction.
CREATE TEMP TABLE IF NOT EXISTS price_slot (
    tariff_id integer NOT NULL, ts timestamptz NOT NULL, period text NOT NULL, price double precision NOT NULL,
    PRIMARY KEY (tariff_id, ts)) ON COMMIT DELETE ROWS

-- name: clear_prices
-- Begin with none.
TRUNCATE price_slot

-- name: write_prices
-- One row a tariff and slot.
INSERT INTO price_slot SELECT * FROM unnest(%(tariffs)s::integer[], %(ts)s::timestamptz[], %(periods)s::text[], %(prices)s::float8[])

-- name: analyze_prices
-- The planner must know how many prices there are.
ANALYZE price_slot

-- name: roll_costs
-- Cost of touched days: the tariff of the counter's enterprise on that day, else the base's; flat from the day, else by
-- {slots}: quarters, or hours where every price holds for whole hours, which gives the same figures from a quarter of the rows.
-- What stays as it is is not written again, so that a former version means a change.
WITH priced AS (
    SELECT d.point_id, d.day, d.low, d.high, t.tariff_id, t.terms,
           c.multiplier * coalesce(own.multiplier, any_carrier.multiplier) AS multiplier
    FROM touched_day d
    JOIN energy_counter c ON c.base_id = %(base)s AND c.point_id = d.point_id AND c.direction IN ('import', 'sum')
    CROSS JOIN LATERAL (
        SELECT t.tariff_id, t.terms, split_part(t.unit, '/', 2) AS unit FROM tariff t
        WHERE t.base_id = %(base)s AND t.superseded_at IS NULL AND t.carrier = c.carrier
          AND (t.enterprise_id IS NULL OR t.enterprise_id = c.enterprise_id)
          AND t.valid_from <= d.day AND (t.valid_to IS NULL OR d.day < t.valid_to)
        ORDER BY t.enterprise_id IS NULL, t.valid_from DESC, t.tariff_id DESC LIMIT 1) t
    LEFT JOIN unit_conversion own ON (own.carrier, own.source, own.target) = (c.carrier, c.unit, t.unit)
    LEFT JOIN unit_conversion any_carrier ON (any_carrier.carrier, any_carrier.source, any_carrier.target) = ('', c.unit, t.unit)
), cost AS MATERIALIZED (
SELECT p.point_id, p.day, 'all' AS period, i.amount * p.multiplier AS amount,
       i.amount * p.multiplier * (p.terms ->> 'flat')::float8 AS cost, p.tariff_id
FROM priced p JOIN interval_1d i ON i.base_id = %(base)s AND i.point_id = p.point_id AND i.ts = p.low
WHERE p.terms ? 'flat' AND i.amount IS NOT NULL AND p.multiplier IS NOT NULL
UNION ALL
SELECT p.point_id, p.day, s.period, s.amount * p.multiplier, s.cost * p.multiplier, p.tariff_id
FROM priced p CROSS JOIN LATERAL (      -- day after day: a join of all prices with all slots is large, whatever the planner thinks
    SELECT s.period, sum(i.amount) AS amount, sum(i.amount * s.price) AS cost
    FROM {slots} i JOIN price_slot s ON s.tariff_id = p.tariff_id AND s.ts = i.ts AND s.ts >= p.low AND s.ts < p.high
    WHERE i.base_id = %(base)s AND i.point_id = p.point_id AND i.ts >= p.low AND i.ts < p.high AND i.amount IS NOT NULL
    GROUP BY s.period) s
WHERE NOT p.terms ? 'flat' AND p.multiplier IS NOT NULL
), gone AS (
    DELETE FROM cost_1d c USING touched_day d
    WHERE c.base_id = %(base)s AND c.point_id = d.point_id AND c.day = d.day
      AND NOT EXISTS (SELECT FROM cost n WHERE n.point_id = c.point_id AND n.day = c.day AND n.period = c.period)
)
INSERT INTO cost_1d AS c (base_id, point_id, day, period, amount, cost, tariff_id)
SELECT %(base)s, point_id, day, period, amount, cost, tariff_id FROM cost
ON CONFLICT (base_id, point_id, day, period) DO UPDATE
SET amount = excluded.amount, cost = excluded.cost, tariff_id = excluded.tariff_id
WHERE c.tariff_id <> excluded.tariff_id OR abs(c.amount - excluded.amount) > 1e-9 * abs(c.amount)
   OR abs(c.cost - excluded.cost) > 1e-9 * abs(c.cost)

-- name: roll_totals
-- What counts for the base and for each enterprise on touched days. Base: counters at the gate; where a carrier has none,
-- the enterprises' counters, without what enterprises sell each other, what is fed from inside and media made inside. Primary
-- generation (PV) always counts; what is made from another carrier is in that carrier's account (`made_inside`). Enterprise: its
-- counters at its gate (the view energy_member). A carrier without a counter is what bills in the ledger say, spread over their days;
-- its cost is what they say it cost.
WITH day AS (
    SELECT DISTINCT day, low FROM touched_day
), member AS MATERIALIZED (
    SELECT * FROM energy_member WHERE base_id = %(base)s
), booked AS (
    SELECT d.day, l.kind, l.enterprise_id, c.carrier, c.unit, l.entry_id,
           l.value * coalesce(own.multiplier, any_carrier.multiplier, CASE WHEN l.unit = c.unit THEN 1 END)
               / (l.last_day - l.first_day + 1) AS amount
    FROM day d JOIN ledger l ON l.base_id = %(base)s AND d.day BETWEEN l.first_day AND l.last_day
    JOIN carrier c ON c.carrier = CASE WHEN l.kind = 'green_power' THEN 'electricity' ELSE l.item END
    LEFT JOIN unit_conversion own ON (own.carrier, own.source, own.target) = (c.carrier, l.unit, c.unit)
    LEFT JOIN unit_conversion any_carrier ON (any_carrier.carrier, any_carrier.source) = ('', l.unit)
        AND any_carrier.target = CASE WHEN l.kind = 'energy_cost' THEN 'CNY' ELSE c.unit END
    WHERE l.kind IN ('energy_bill', 'energy_cost', 'green_power', 'feedstock')
      AND NOT EXISTS (SELECT FROM ledger s WHERE s.base_id = l.base_id AND s.supersedes = l.entry_id)
), standing AS (
    -- for the base only where it has no gate of the carrier (a bill of the whole base before those of its enterprises), for an
    -- enterprise only where it has no counter of it
    SELECT b.*, NULL::integer AS of_id FROM booked b
    WHERE b.kind IN ('energy_bill', 'energy_cost') AND NOT EXISTS (SELECT FROM member m WHERE m.carrier = b.carrier AND m.has_gate)
      AND NOT EXISTS (SELECT FROM member m WHERE m.carrier = b.carrier AND m.enterprise_id IS NOT DISTINCT FROM b.enterprise_id)
      AND (b.enterprise_id IS NULL) = EXISTS (SELECT FROM booked g WHERE g.kind = 'energy_bill' AND g.carrier = b.carrier
                                              AND g.day = b.day AND g.enterprise_id IS NULL)
    UNION ALL
    SELECT b.*, b.enterprise_id FROM booked b
    WHERE b.kind IN ('energy_bill', 'energy_cost') AND b.enterprise_id IS NOT NULL
      AND NOT EXISTS (SELECT FROM member m WHERE m.carrier = b.carrier AND m.enterprise_id = b.enterprise_id)
), bill AS (
    -- of one payer; what a carrier cost by bill says nothing without how much it was, and fewer costs than bills leave one unpriced
    SELECT day, of_id AS enterprise_id, carrier, unit, sum(amount) FILTER (WHERE kind = 'energy_bill') AS amount,
           CASE WHEN count(amount) FILTER (WHERE kind = 'energy_cost') >= count(*) FILTER (WHERE kind = 'energy_bill')
                THEN sum(amount) FILTER (WHERE kind = 'energy_cost') END AS cost, 96 * count(*) FILTER (WHERE kind = 'energy_bill') AS n_expected,
           96 * count(amount) FILTER (WHERE kind = 'energy_bill') AS n_known, array_agg(entry_id) AS entries
    FROM standing GROUP BY day, of_id, enterprise_id, carrier, unit HAVING bool_or(kind = 'energy_bill')
), bill_entry AS (
    SELECT day, enterprise_id, carrier, array_agg(entry_id) AS entries FROM bill CROSS JOIN LATERAL unnest(entries) AS e (entry_id)
    GROUP BY 1, 2, 3
), beside AS (
    SELECT day, enterprise_id, carrier, sum(amount) FILTER (WHERE kind = 'feedstock') AS feedstock,
           sum(amount) FILTER (WHERE kind = 'green_power') AS green, array_agg(entry_id ORDER BY entry_id) AS ledger_ids
    FROM (SELECT day, kind, carrier, amount, entry_id, NULL::integer AS enterprise_id FROM booked
          UNION ALL SELECT day, kind, carrier, amount, entry_id, enterprise_id FROM booked WHERE enterprise_id IS NOT NULL) x
    WHERE kind IN ('green_power', 'feedstock') GROUP BY 1, 2, 3
), fed AS MATERIALIZED (
    -- few, and found once: not among all counters for each day of each counter
    SELECT c.point_id, c.carrier, c.multiplier, x.enterprise_id
    FROM energy_counter c CROSS JOIN LATERAL (SELECT NULL::integer AS enterprise_id
                                              UNION SELECT c.enterprise_id WHERE c.enterprise_id IS NOT NULL) x
    WHERE c.base_id = %(base)s AND c.used_as = 'feedstock'
), raw_material AS (
    SELECT d.day, x.enterprise_id, x.carrier, sum(i.amount * x.multiplier) AS amount
    FROM day d CROSS JOIN fed x
    JOIN interval_1d i ON i.base_id = %(base)s AND i.point_id = x.point_id AND i.ts = d.low GROUP BY 1, 2, 3
), part AS (
    SELECT d.day, m.enterprise_id, m.carrier, m.unit, m.direction, m.is_primary, i.amount * m.multiplier AS amount,
           i.estimated * m.multiplier AS estimated, i.n_expected, i.n_known, i.n_good, c.cost, 0.0::float8 AS billed
    FROM day d CROSS JOIN member m
    JOIN interval_1d i ON i.base_id = %(base)s AND i.point_id = m.point_id AND i.ts = d.low
    LEFT JOIN LATERAL (SELECT sum(cost) AS cost FROM cost_1d c WHERE c.base_id = %(base)s AND c.point_id = m.point_id AND c.day = d.day) c ON true
    UNION ALL
    SELECT day, enterprise_id, carrier, unit, 'import', false, amount, 0, n_expected, n_known, 0, cost, amount FROM bill
), summed AS (
    SELECT day, enterprise_id, carrier, unit,
           sum(amount) FILTER (WHERE direction IN ('import', 'sum')) AS bought,
           sum(amount) FILTER (WHERE is_primary) AS generation,
           sum(amount) FILTER (WHERE direction = 'generation' AND NOT is_primary) AS made_inside,
           sum(amount) FILTER (WHERE direction = 'export') AS export,
           count(*) FILTER (WHERE direction IN ('import', 'sum')) AS n_bought,
           sum(estimated) AS estimated, sum(billed) AS billed, sum(n_expected) AS n_expected, sum(n_known) AS n_known,
           sum(n_good) AS n_good,
           -- a part without a price makes the whole unknown, never too small
           CASE WHEN bool_or(direction IN ('import', 'sum') AND amount <> 0 AND cost IS NULL) THEN NULL ELSE sum(cost) END AS cost
    FROM part GROUP BY 1, 2, 3, 4
), net AS (
    -- own generation or an export without what was bought is no account, even on days before the buying meter's first reading
    SELECT *, CASE WHEN (n_bought > 0 OR coalesce(export, generation) IS NOT NULL AND EXISTS (
                             SELECT FROM member m WHERE m.carrier = summed.carrier AND m.direction IN ('import', 'sum')
                             AND m.enterprise_id IS NOT DISTINCT FROM summed.enterprise_id))
                        AND bought IS NULL OR coalesce(bought, generation, made_inside, export) IS NULL THEN NULL
                   ELSE coalesce(bought, 0) - coalesce(export, 0) END AS net FROM summed
), switch AS (
    SELECT d.day, bool_and(s.value) FILTER (WHERE s.name = 'deduct_sold') AS sold,
           bool_and(s.value) FILTER (WHERE s.name = 'deduct_feedstock') AS feedstock,
           bool_and(s.value) FILTER (WHERE s.name = 'deduct_green_power') AS green,
           bool_and(s.value) FILTER (WHERE s.name = 'residual_factor') AS residual,
           coalesce(array_agg(s.setting_id ORDER BY s.setting_id) FILTER (WHERE s.setting_id IS NOT NULL), '{}') AS setting_ids
    FROM day d LEFT JOIN LATERAL (
        SELECT DISTINCT ON (s.name) s.name, s.value, s.setting_id FROM setting s
        WHERE s.base_id = %(base)s AND s.superseded_at IS NULL AND s.valid_from <= d.day AND (s.valid_to IS NULL OR d.day < s.valid_to)
        ORDER BY s.name, s.valid_from DESC, s.setting_id DESC) s ON true
    GROUP BY d.day
), counted AS (
    SELECT n.*, n.net + CASE WHEN n.carrier = 'electricity' THEN coalesce(n.generation, 0) ELSE 0 END AS amount,
           CASE WHEN coalesce(w.sold, true) THEN 0 ELSE coalesce(n.export, 0) END AS sold_back,
           CASE WHEN coalesce(r.amount, b.feedstock) IS NOT NULL THEN coalesce(r.amount, 0) + coalesce(b.feedstock, 0) END AS feedstock,
           b.green, b.ledger_ids, e.entries, w.setting_ids, coalesce(w.feedstock, false) AS off_feedstock, coalesce(w.green, false) AS off_green,
           coalesce(w.residual, true) AS by_residual
    FROM net n JOIN switch w USING (day)
    LEFT JOIN beside b ON b.day = n.day AND b.carrier = n.carrier AND b.enterprise_id IS NOT DISTINCT FROM n.enterprise_id
    LEFT JOIN bill_entry e ON e.day = n.day AND e.carrier = n.carrier AND e.enterprise_id IS NOT DISTINCT FROM n.enterprise_id
    LEFT JOIN raw_material r ON r.day = n.day AND r.carrier = n.carrier AND r.enterprise_id IS NOT DISTINCT FROM n.enterprise_id
), judged AS (
    -- green power is deducted up to what is bought, own primary generation with it; nothing falls below zero by a deduction
    SELECT c.*, c.amount + c.sold_back - CASE WHEN c.off_feedstock THEN coalesce(c.feedstock, 0) ELSE 0 END
                - CASE WHEN c.off_green AND c.carrier = 'electricity'
                       THEN least(coalesce(c.green, 0), greatest(c.net + c.sold_back, 0)) + coalesce(c.generation, 0) ELSE 0 END AS assessed,
           c.net + c.sold_back AS charged
    FROM counted c
), fresh (day, enterprise_id, carrier, unit, amount, generation, export, estimated, n_expected, n_known, n_good, tce_calorific,
         tce_equivalent, co2_kg, cost, factor_ids, billed, made_inside, feedstock, green, tce_calorific_assessed,
         tce_equivalent_assessed, co2_market_kg, setting_ids, market_factor_ids, ledger_ids) AS MATERIALIZED (
SELECT n.day, n.enterprise_id, n.carrier, n.unit, n.amount, n.generation, n.export, coalesce(n.estimated, 0),
       n.n_expected, n.n_known, n.n_good, n.amount * f.tce_calorific, n.amount * f.tce_equivalent, n.net * f.co2_kg,
       n.cost, coalesce(f.factor_ids, '{}'), coalesce(n.billed, 0), n.made_inside, n.feedstock, n.green,
       n.assessed * f.tce_calorific, n.assessed * f.tce_equivalent,
       CASE WHEN n.carrier = 'electricity' AND n.charged > 0
            THEN greatest(n.charged - coalesce(n.green, 0), 0) * CASE WHEN n.by_residual THEN f.co2_residual_kg ELSE f.co2_kg END
            ELSE n.charged * f.co2_kg END,
       n.setting_ids, CASE WHEN n.carrier = 'electricity' AND n.by_residual THEN coalesce(f.residual_factor_ids, '{}') ELSE '{}' END,
       ARRAY(SELECT DISTINCT e FROM unnest(coalesce(n.entries, '{}') || coalesce(n.ledger_ids, '{}')) e ORDER BY 1)
FROM judged n
LEFT JOIN carrier_factor f ON f.base_id = %(base)s AND f.carrier = n.carrier AND f.valid_from <= n.day AND n.day < f.valid_to
), gone AS (
    DELETE FROM energy_total t USING (SELECT DISTINCT day FROM day) d
    WHERE t.base_id = %(base)s AND t.day = d.day
      AND NOT EXISTS (SELECT FROM fresh f WHERE f.day = t.day AND f.carrier = t.carrier AND f.enterprise_id IS NOT DISTINCT FROM t.enterprise_id)
)
INSERT INTO energy_total (base_id, day, enterprise_id, carrier, unit, amount, generation, export, estimated, n_expected, n_known,
                          n_good, tce_calorific, tce_equivalent, co2_kg, cost, factor_ids, billed, made_inside, feedstock, green,
                          tce_calorific_assessed, tce_equivalent_assessed, co2_market_kg, setting_ids, market_factor_ids, ledger_ids)
SELECT %(base)s, * FROM fresh       -- what is as it was stays: stamp_version
ON CONFLICT (base_id, enterprise_id, carrier, day) DO UPDATE
SET unit = excluded.unit, amount = excluded.amount, generation = excluded.generation, export = excluded.export,
    estimated = excluded.estimated, n_expected = excluded.n_expected, n_known = excluded.n_known, n_good = excluded.n_good,
    tce_calorific = excluded.tce_calorific, tce_equivalent = excluded.tce_equivalent, co2_kg = excluded.co2_kg,
    cost = excluded.cost, factor_ids = excluded.factor_ids, billed = excluded.billed, made_inside = excluded.made_inside,
    feedstock = excluded.feedstock, green = excluded.green, tce_calorific_assessed = excluded.tce_calorific_assessed,
    tce_equivalent_assessed = excluded.tce_equivalent_assessed, co2_market_kg = excluded.co2_market_kg,
    setting_ids = excluded.setting_ids, market_factor_ids = excluded.market_factor_ids, ledger_ids = excluded.ledger_ids

-- name: touch_ledger_days
-- Note the days of ledger entries that energy totals depend on, booked after an entry or superseded by such a one; and of every
-- entry the days that began after an instant.
INSERT INTO touched_day (point_id, day, low, high)
SELECT DISTINCT 0, d::date, d AT TIME ZONE b.timezone, (d + interval '1 day') AT TIME ZONE b.timezone
FROM ledger l JOIN base b USING (base_id)
CROSS JOIN LATERAL generate_series(l.first_day::timestamp, least(l.last_day, (%(now)s AT TIME ZONE b.timezone)::date)::timestamp,
                                   interval '1 day') d
WHERE l.base_id = %(base)s AND l.kind IN ('energy_bill', 'energy_cost', 'green_power', 'feedstock')
  AND (l.entry_id > %(entry)s OR EXISTS (SELECT FROM ledger s WHERE s.base_id = l.base_id AND s.supersedes = l.entry_id
                                         AND s.entry_id > %(entry)s)
       OR d AT TIME ZONE b.timezone > %(until)s::timestamptz)
ON CONFLICT DO NOTHING

-- name: fingerprint
-- A digest of the catalogue rows, and of the release of the public calendar, that totals and costs depend on.
SELECT md5(coalesce((SELECT string_agg(x::text, '|' ORDER BY x::text) FROM (
    SELECT 'factor', factor_id, value::text, unit, region, valid_from::text, valid_to::text FROM factor
        WHERE superseded_at IS NULL AND (base_id IS NULL OR base_id = %(base)s)
    UNION ALL SELECT 'tariff', tariff_id, terms::text, unit, carrier || coalesce(enterprise_id::text, ''), valid_from::text, valid_to::text
        FROM tariff WHERE superseded_at IS NULL AND base_id = %(base)s
    UNION ALL SELECT 'point', point_id, carrier, unit, direction || boundary, unit_id::text,
        concat_ws('|', kind, attributes ->> 'made_from', attributes ->> 'used_as', extract(epoch FROM removed_at)) FROM point
        WHERE base_id = %(base)s AND carrier IS NOT NULL
    UNION ALL SELECT 'setting', setting_id, name, value::text, '', valid_from::text, valid_to::text FROM setting
        WHERE superseded_at IS NULL AND base_id = %(base)s
    UNION ALL SELECT 'unit', unit_id, parent_id::text, enterprise_id::text, '', '', '' FROM unit WHERE base_id = %(base)s
    UNION ALL SELECT 'flow', parent_id, child_id::text, carrier, kind, valid_from::text, valid_to::text FROM flow WHERE base_id = %(base)s
    UNION ALL SELECT 'base', base_id, region, timezone, '', '', '' FROM base WHERE base_id = %(base)s
    UNION ALL SELECT 'calendar', 0, code, day::text, class, '', '' FROM calendar WHERE base_id = %(base)s
    UNION ALL SELECT 'public calendar', 0, %(public_calendar)s, '', '', '', '') x), ''))

-- name: register_fingerprint
-- A digest a counter of what its intervals depend on beside readings: how slots are cut, ratio, roll-over, pace, meters; a virtual
-- point of its formula (and, for a counter, that effects are kept), a gauge of its step and range.
SELECT p.point_id, md5(concat_ws('|', %(cut)s::integer, p.ratio, p.rollover, p.expected_s, p.attributes ->> 'formula',
    CASE WHEN p.kind = 'gauge' THEN concat_ws('|', p.low, p.high, p.unit) WHEN p.attributes ? 'formula' THEN 'effects' END, (
    SELECT string_agg(concat_ws(',', m.installed_at, m.removed_at, m.initial_register, m.final_register, m.ratio), ';' ORDER BY m.installed_at)
    FROM meter m WHERE m.base_id = p.base_id AND m.point_id = p.point_id)))
FROM point p WHERE p.base_id = %(base)s AND (p.kind = 'counter' OR p.kind = 'gauge' AND p.attributes ? 'formula')

-- name: outlet_fingerprint
-- A digest of what emission hours and treatment events depend on beside readings: limits, facilities and their attributes, and
-- how masses are replaced.
SELECT md5(coalesce((SELECT string_agg(x::text, '|' ORDER BY x::text) FROM (
    SELECT 'limit', limit_id, low::text, high::text, rank, valid_from::text, valid_to::text FROM limit_value
        WHERE superseded_at IS NULL AND base_id = %(base)s
    UNION ALL SELECT 'unit', unit_id, role, attributes::text, '', '', '' FROM unit
        WHERE base_id = %(base)s AND role IN ('production', 'treatment', 'outlet')
    UNION ALL SELECT 'rules', %(rules)s, '', '', '', '', ''
    UNION ALL SELECT 'point', p.point_id, p.quantity, p.unit || coalesce(p.attributes ->> 'basis', ''), p.expected_s::text,
        p.unit_id::text, p.removed_at::text
        FROM point p JOIN unit u USING (base_id, unit_id)
        WHERE p.base_id = %(base)s AND u.role IN ('production', 'treatment', 'outlet') AND p.kind <> 'counter') x), ''))

-- name: mark_outlets
-- Put every reading of outlets and facilities between two instants on the list of work again.
INSERT INTO account_todo AS t (base_id, point_id, day, first, last)
SELECT p.base_id, p.point_id, d::date, d AT TIME ZONE 'UTC', d AT TIME ZONE 'UTC' + interval '23 hours'
FROM point p JOIN unit u USING (base_id, unit_id)
CROSS JOIN generate_series(date_trunc('day', %(low)s AT TIME ZONE 'UTC'), %(high)s AT TIME ZONE 'UTC', interval '1 day') d
WHERE p.base_id = %(base)s AND p.kind <> 'counter' AND u.role IN ('production', 'treatment', 'outlet')
ON CONFLICT (base_id, point_id, day) DO UPDATE
SET first = least(t.first, excluded.first), last = greatest(t.last, excluded.last)

-- name: all_days
-- Every counter's days, to compute costs and totals again after a change of the catalogue.
SELECT i.point_id, (i.ts AT TIME ZONE b.timezone)::date, i.ts, ((i.ts AT TIME ZONE b.timezone)::date + 1)::timestamp AT TIME ZONE b.timezone
FROM interval_1d i JOIN base b USING (base_id) WHERE i.base_id = %(base)s AND i.ts >= %(low)s AND i.ts < %(high)s

-- name: pass_of
-- How far a pass has come and what it remembers.
SELECT done_to, detail FROM pass WHERE base_id = %(base)s AND pass = %(pass)s

-- name: note_pass
-- Note how far a pass has come.
INSERT INTO pass (base_id, pass, done_to, at, detail) VALUES (%(base)s, %(pass)s, %(done_to)s, %(now)s, %(detail)s)
ON CONFLICT (base_id, pass) DO UPDATE SET done_to = excluded.done_to, at = excluded.at, detail = excluded.detail

-- name: touched_periods
-- Years and months of touched days.
SELECT DISTINCT to_char(day, 'YYYY') FROM touched_day UNION SELECT DISTINCT to_char(day, 'YYYY-MM') FROM touched_day ORDER BY 1

-- name: notify
-- Tell who waits for figures.
SELECT pg_notify('park_account', '')

-- name: units
-- Facilities of the treatment trace and outlets, with what their attributes link them to.
SELECT unit_id, code, role, attributes FROM unit WHERE base_id = %(base)s AND role IN ('production', 'treatment', 'outlet')

-- name: unit_points
-- Points of facilities and outlets that emission hours and the treatment trace read; of several of a quantity the first counts: one by
-- formula, which stands for the others.
SELECT p.point_id, p.unit_id, p.quantity, p.unit, p.expected_s, p.attributes FROM point p JOIN unit u USING (base_id, unit_id)
WHERE p.base_id = %(base)s AND u.role IN ('production', 'treatment', 'outlet') AND p.kind <> 'counter' AND p.removed_at IS NULL
ORDER BY p.attributes ? 'formula' DESC, p.point_id

-- name: limits
-- Limits on hourly means and on instants; the permit stands over the standard. An outlet that is judged by the day (attribute
-- `judged_by: day`, waste incineration) has no hourly judgement.
SELECT unit_id, quantity, limit_id, low, high, valid_from, valid_to FROM limit_value l JOIN unit u USING (base_id, unit_id)
WHERE l.base_id = %(base)s AND superseded_at IS NULL AND rank <> 'internal'
  AND (statistic = 'instant' OR statistic = 'hour' AND u.attributes ->> 'judged_by' IS DISTINCT FROM 'day')
ORDER BY rank = 'permit', valid_from, limit_id

-- name: hour_stage
-- Hours on their way into emission_1h; NaN and -1 stand for NULL.
CREATE TEMP TABLE IF NOT EXISTS hour_stage (
    unit_id integer NOT NULL, quantity smallint NOT NULL, ts timestamptz NOT NULL, n_valid smallint NOT NULL, state smallint NOT NULL,
    measured float8 NOT NULL, converted float8 NOT NULL, oxygen float8 NOT NULL, flow float8 NOT NULL, mass_kg float8 NOT NULL,
    limit_id integer NOT NULL, limit_value float8 NOT NULL, exceeded smallint NOT NULL, exempt_id integer NOT NULL) ON COMMIT DELETE ROWS

-- name: clear_hours
-- Begin with none.
TRUNCATE hour_stage

-- name: write_hours
-- Hours as computed.
COPY hour_stage (unit_id, quantity, ts, n_valid, state, measured, converted, oxygen, flow, mass_kg, limit_id, limit_value, exceeded,
                 exempt_id)
FROM STDIN (FORMAT binary)

-- name: merge_hours
-- Hours into emission_1h where they differ; a mass that was substituted is settled by the step that follows.
WITH merged AS (
    INSERT INTO emission_1h AS e (base_id, unit_id, quantity, ts, n_valid, state, measured, converted, oxygen, flow, mass_kg,
                                  limit_id, limit_value, exceeded, exempt_id)
    SELECT %(base)s, unit_id, (%(quantities)s::text[])[quantity], ts, n_valid, (%(states)s::text[])[state + 1], nullif(measured, 'NaN'),
           nullif(converted, 'NaN'), nullif(oxygen, 'NaN'), nullif(flow, 'NaN'), nullif(mass_kg, 'NaN'), nullif(limit_id, -1),
           nullif(limit_value, 'NaN'), CASE exceeded WHEN -1 THEN NULL ELSE exceeded = 1 END, nullif(exempt_id, -1)
    FROM hour_stage
    ON CONFLICT (base_id, unit_id, quantity, ts) DO UPDATE
    SET n_valid = excluded.n_valid, state = excluded.state, measured = excluded.measured, converted = excluded.converted,
        oxygen = excluded.oxygen, flow = excluded.flow, mass_kg = excluded.mass_kg, substituted = false, substitution = '',
        limit_id = excluded.limit_id, limit_value = excluded.limit_value, exceeded = excluded.exceeded,
        exempt_id = excluded.exempt_id
    WHERE (e.n_valid, e.state, e.measured, e.converted, e.oxygen, e.flow, e.limit_id, e.limit_value, e.exceeded, e.exempt_id) IS DISTINCT FROM
          (excluded.n_valid, excluded.state, excluded.measured, excluded.converted, excluded.oxygen, excluded.flow,
           excluded.limit_id, excluded.limit_value, excluded.exceeded, excluded.exempt_id)
    RETURNING unit_id, quantity, ts
)
SELECT unit_id, quantity, min(ts), max(ts), count(*) FROM merged GROUP BY 1, 2

-- name: read_hours
-- Hours of an outlet and pollutant that substitution looks at.
COPY (
    SELECT array_agg(ts), array_agg(n_valid),
           array_agg((array_position(ARRAY['valid', 'insufficient', 'stopped', 'exempt', 'missing'], state) - 1)::smallint),
           array_agg(coalesce(measured, 'NaN')), array_agg(coalesce(flow, 'NaN')), array_agg(coalesce(mass_kg, 'NaN')),
           array_agg(substituted::integer::smallint)
    FROM emission_1h WHERE base_id = %(base)s AND unit_id = %(unit)s AND quantity = %(quantity)s AND ts >= %(low)s
    GROUP BY unit_id
) TO STDOUT (FORMAT binary)

-- name: settle_mass
-- Masses that substitution decided otherwise than they stand.
UPDATE emission_1h e SET mass_kg = nullif(s.mass_kg, 'NaN'), substituted = s.rule <> '' AND s.mass_kg <> 'NaN', substitution = s.rule
FROM unnest(%(ts)s::timestamptz[], %(mass)s::float8[], %(rule)s::text[]) AS s (ts, mass_kg, rule)
WHERE e.base_id = %(base)s AND e.unit_id = %(unit)s AND e.quantity = %(quantity)s AND e.ts = s.ts
  AND (e.mass_kg, e.substitution) IS DISTINCT FROM (nullif(s.mass_kg, 'NaN'), s.rule)

-- name: newest_hours
-- The newest hour of each outlet and pollutant.
SELECT w.unit_id, w.quantity, e.ts FROM unnest(%(units)s::integer[], %(quantities)s::text[]) AS w (unit_id, quantity)
CROSS JOIN LATERAL (SELECT ts FROM emission_1h e WHERE e.base_id = %(base)s AND e.unit_id = w.unit_id AND e.quantity = w.quantity
                    ORDER BY ts DESC LIMIT 1) e

-- name: oldest_of_points
-- The first reading of each point, NULL without any.
SELECT p, (SELECT ts FROM reading r WHERE r.base_id = %(base)s AND r.point_id = p ORDER BY ts LIMIT 1) FROM unnest(%(points)s::integer[]) p

-- name: fill_hours
-- Hours between the first and the last of an outlet and pollutant that nothing was ever read in.
INSERT INTO emission_1h (base_id, unit_id, quantity, ts, n_valid, state)
SELECT %(base)s, s.unit_id, s.quantity, h, 0, 'missing'
FROM (SELECT unit_id, quantity, min(ts) AS low, max(ts) AS high, count(*) AS n FROM emission_1h WHERE base_id = %(base)s GROUP BY 1, 2) s
CROSS JOIN LATERAL generate_series(s.low, s.high, interval '1 hour') h
WHERE s.n < extract(epoch FROM s.high - s.low) / 3600 + 1
ON CONFLICT DO NOTHING
RETURNING unit_id, quantity, ts

-- name: bands
-- Learned powers above which facilities run.
SELECT point_id, valid_from, on_above, greatest(valid_from, (learned_at AT TIME ZONE 'UTC')::date) FROM power_band WHERE base_id = %(base)s ORDER BY point_id, valid_from

-- name: peaks
-- Daily peaks of some power points, newest sixty days.
SELECT point_id, count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY max) FROM (
    SELECT point_id, max, row_number() OVER (PARTITION BY point_id ORDER BY bucket DESC) AS nth FROM reading_1d
    WHERE base_id = %(base)s AND point_id = ANY (%(points)s) AND max > 0) d
WHERE nth <= 60 GROUP BY 1

-- name: learn_band
-- Keep a learned power as a dated row.
INSERT INTO power_band (base_id, point_id, valid_from, on_above, learned_days, learned_at, idle)
VALUES (%(base)s, %(point)s, %(from)s, %(above)s, %(days)s, %(now)s, %(idle)s) ON CONFLICT DO NOTHING

-- name: idle_bands
-- Below which power a treatment facility idles, by the day from which it judges: the first of all holds for the past, which is
-- computed again with it; a later one from the day after it was learned, so that every recompute judges by the same.
SELECT CASE WHEN valid_from = '1970-01-01' THEN valid_from ELSE (learned_at AT TIME ZONE 'UTC')::date + 1 END AS since, idle
FROM power_band WHERE base_id = %(base)s AND point_id = %(point)s AND idle IS NOT NULL AND idle <> 'null' ORDER BY since

-- name: quarter_means
-- 15-minute means of a facility's power and, beside them, of the production before it; the newest sixty days.
SELECT own.sum / own.n_usable, array_agg(other.sum / nullif(other.n_usable, 0) ORDER BY w.nth)
FROM reading_15m own
CROSS JOIN unnest(%(before)s::integer[]) WITH ORDINALITY w (point_id, nth)
LEFT JOIN reading_15m other ON other.base_id = own.base_id AND other.point_id = w.point_id AND other.bucket = own.bucket
  AND other.base_id = %(base)s AND other.point_id = ANY (%(before)s::integer[])       -- said again, or every quarter of all is read
  AND other.bucket > (SELECT max(bucket) - interval '60 days' FROM reading_1d WHERE base_id = %(base)s AND point_id = %(own)s)
WHERE own.base_id = %(base)s AND own.point_id = %(own)s AND own.n_usable > 0
  AND own.bucket > (SELECT max(bucket) - interval '60 days' FROM reading_1d WHERE base_id = %(base)s AND point_id = %(own)s)
GROUP BY own.bucket, own.sum, own.n_usable

-- name: events_over
-- Events of a kind that share time with a window.
SELECT kind, production_id, treatment_id, outlet_id, started_at, ended_at FROM treatment_event
WHERE base_id = %(base)s AND started_at <= %(high)s AND coalesce(ended_at, 'infinity') >= %(low)s

-- name: forget_events
-- Events of a kind and place in a window that are no longer found; a pair's outlet may have changed.
DELETE FROM treatment_event WHERE base_id = %(base)s AND kind = %(kind)s
  AND production_id IS NOT DISTINCT FROM %(production)s::integer AND treatment_id IS NOT DISTINCT FROM %(treatment)s::integer
  AND (production_id IS NOT NULL AND treatment_id IS NOT NULL OR outlet_id IS NOT DISTINCT FROM %(outlet)s::integer)
  AND started_at >= %(low)s AND started_at < %(high)s AND NOT started_at = ANY (%(kept)s::timestamptz[])

-- name: write_event
-- An event, once for its pair and beginning.
INSERT INTO treatment_event AS e (base_id, kind, production_id, treatment_id, outlet_id, started_at, ended_at, detail)
VALUES (%(base)s, %(kind)s, %(production)s, %(treatment)s, %(outlet)s, %(started)s, %(ended)s, %(detail)s)
ON CONFLICT (base_id, kind, production_id, treatment_id, outlet_id, started_at) DO UPDATE
SET ended_at = excluded.ended_at, detail = excluded.detail
WHERE (e.ended_at, e.detail) IS DISTINCT FROM (excluded.ended_at, excluded.detail)

-- name: indicator_energy
-- A base's energy of a period by carrier.
SELECT carrier, unit, sum(amount), sum(generation), sum(export), sum(estimated), sum(billed), sum(n_expected), sum(n_known), sum(n_good),
       sum(tce_calorific), sum(tce_equivalent), sum(co2_kg), count(*) FILTER (WHERE amount IS NOT NULL AND tce_calorific IS NULL),
       count(*) FILTER (WHERE amount IS NOT NULL AND co2_kg IS NULL), count(*),
       (SELECT array_agg(DISTINCT f ORDER BY f) FROM energy_total x CROSS JOIN unnest(x.factor_ids) f
        WHERE x.base_id = %(base)s AND x.enterprise_id IS NULL AND x.carrier = t.carrier AND x.day BETWEEN %(first)s AND %(last)s)
FROM energy_total t
WHERE base_id = %(base)s AND enterprise_id IS NULL AND day BETWEEN %(first)s AND %(last)s
GROUP BY carrier, unit

-- name: begins_later
-- Counters of the base's totals that began within a period without a meter on record.
SELECT carrier, point, day FROM begins_later(%(base)s::smallint, %(first)s, %(last)s) WHERE enterprise IS NULL ORDER BY point

-- name: indicator_emission
-- Mass and hours of each pollutant over all outlets of a base; an outlet that discharges into another of the base (attribute
-- `discharges_to`) is left out of the mass, because its load passes the other one's instruments. The last column is the
-- share of substituted hours of the worst outlet in the mass.
WITH outlet AS (
    SELECT e.quantity, e.unit_id, NOT u.attributes ? 'discharges_to' AS counts, sum(e.mass_kg) AS kg,
           count(*) FILTER (WHERE state = 'valid') AS valid, count(*) FILTER (WHERE state = 'stopped') AS stopped,
           count(*) FILTER (WHERE state = 'exempt') AS exempt, count(*) FILTER (WHERE state = 'missing') AS missing,
           count(*) FILTER (WHERE state = 'insufficient') AS insufficient, count(*) FILTER (WHERE substituted) AS substituted,
           count(*) FILTER (WHERE mass_kg IS NULL AND state <> 'stopped') AS unknown, count(*) FILTER (WHERE exceeded) AS exceeded
    FROM emission_1h e JOIN unit u USING (base_id, unit_id)
    WHERE e.base_id = %(base)s AND e.ts >= %(start)s AND e.ts < %(end)s GROUP BY e.quantity, e.unit_id, u.attributes)
SELECT quantity, sum(kg) FILTER (WHERE counts), sum(valid)::bigint, sum(stopped)::bigint, sum(exempt)::bigint, sum(missing)::bigint,
       sum(insufficient)::bigint, sum(substituted)::bigint, coalesce(sum(unknown) FILTER (WHERE counts), 0)::bigint, sum(exceeded)::bigint,
       count(*), coalesce(max(substituted::float8 / nullif(valid + exempt + missing + insufficient, 0))
                          FILTER (WHERE counts AND kg IS NOT NULL), 0)
FROM outlet GROUP BY quantity

-- name: indicator_transmission
-- Hours due, received, valid and marked over outlets and pollutants; stopped and marked hours take no part (view transmission_rate_1q).
SELECT coalesce(sum(d.due), 0), coalesce(sum(d.due - hours_lost), 0), coalesce(sum(hours_valid), 0), coalesce(sum(hours_marked), 0),
       coalesce(sum(d.due + hours_marked + hours_stopped), 0), count(DISTINCT (unit_id, quantity))
FROM emission_day
CROSS JOIN LATERAL (SELECT hours_valid + hours_exempt + hours_insufficient + hours_missing - hours_marked AS due) d
WHERE base_id = %(base)s AND day BETWEEN %(first)s AND %(last)s

-- name: ledger_now
-- Ledger entries that are not superseded and lie in a period, with the share of each entry's days that does.
SELECT l.entry_id, l.kind, l.action, l.item, l.unit, l.value, l.status, l.first_day, l.last_day,
       (least(l.last_day, %(last)s) - greatest(l.first_day, %(first)s) + 1)::float8 / (l.last_day - l.first_day + 1)
FROM ledger l
WHERE l.base_id = %(base)s AND l.last_day >= %(first)s AND l.first_day <= %(last)s
  AND NOT EXISTS (SELECT FROM ledger s WHERE s.base_id = l.base_id AND s.supersedes = l.entry_id)

-- name: named_carriers
-- A base's amounts of a period by carrier, as formulas of indicators name them.
SELECT carrier, unit, sum(amount), sum(generation), sum(export), sum(green), sum(tce_equivalent), sum(co2_kg), sum(estimated),
       sum(billed), sum(n_expected)::bigint, sum(n_known)::bigint, count(*),
       (SELECT coalesce(array_agg(DISTINCT f ORDER BY f), '{}') FROM energy_total x CROSS JOIN unnest(x.factor_ids) f
        WHERE x.base_id = %(base)s AND x.enterprise_id IS NULL AND x.carrier = t.carrier AND x.day BETWEEN %(first)s AND %(last)s),
       sum(tce_equivalent_assessed),
       CASE WHEN NOT bool_or(amount IS NOT NULL AND co2_market_kg IS NULL) THEN sum(co2_market_kg) END
FROM energy_total t WHERE base_id = %(base)s AND enterprise_id IS NULL AND day BETWEEN %(first)s AND %(last)s GROUP BY carrier, unit

-- name: definitions
-- Definitions of indicators in force on a day: the base's own before the national one of the same code.
SELECT DISTINCT ON (code) definition_id, code, formula, unit, sense, threshold FROM indicator_definition
WHERE (base_id = %(base)s OR base_id IS NULL) AND superseded_at IS NULL AND valid_from <= %(day)s
  AND (valid_to IS NULL OR valid_to > %(day)s)
ORDER BY code, base_id IS NULL, valid_from DESC

-- name: definition_fingerprint
-- A digest of what defined indicators and forecasts depend on beside figures: definitions, targets, the years of the plan.
SELECT md5(coalesce((SELECT string_agg(x::text, '|' ORDER BY x::text) FROM (
    SELECT 'definition', definition_id::text FROM indicator_definition WHERE superseded_at IS NULL AND (base_id IS NULL OR base_id = %(base)s)
    UNION ALL SELECT 'target', target_id::text FROM target WHERE superseded_at IS NULL AND base_id = %(base)s
    UNION ALL SELECT 'base', attributes ->> 'period' FROM base WHERE base_id = %(base)s) x), ''))

-- name: forget_indicators
-- Values of indicators that no definition gives any more.
DELETE FROM indicator_value WHERE base_id = %(base)s AND inputs ? 'definition' AND NOT indicator = ANY (%(codes)s::text[])

-- name: indicator_years
-- Years for which there are indicators.
SELECT DISTINCT period FROM indicator_value WHERE base_id = %(base)s AND length(period) = 4 ORDER BY period

-- name: plan_years
-- The first year of the base's plan: attribute period, else the first baseline year of its targets.
SELECT coalesce((b.attributes -> 'period' ->> 0)::integer,
                (SELECT min(baseline_year) FROM target t WHERE t.base_id = b.base_id AND t.superseded_at IS NULL)) FROM base b
WHERE b.base_id = %(base)s

-- name: days_of_energy
-- Daily totals of a base by carrier, of days that are known as a whole.
SELECT carrier, day, amount, generation, export, green, tce_calorific, tce_equivalent, co2_kg FROM energy_total
WHERE base_id = %(base)s AND enterprise_id IS NULL AND day BETWEEN %(first)s AND %(last)s AND n_known >= 0.9 * n_expected AND amount IS NOT NULL

-- name: days_of_mass
-- Daily mass of each pollutant over the outlets that count, of days of which every hour has a mass.
SELECT e.quantity, (e.ts AT TIME ZONE b.timezone)::date AS day, sum(e.mass_kg) FROM emission_1h e
JOIN base b USING (base_id) JOIN unit u USING (base_id, unit_id)
WHERE e.base_id = %(base)s AND e.ts >= %(start)s AND e.ts < %(end)s AND NOT u.attributes ? 'discharges_to'
GROUP BY 1, 2 HAVING bool_and(e.mass_kg IS NOT NULL) AND count(*) >= 20

-- name: targets_of_year
-- Targets of a year.
SELECT indicator, value, unit, sense FROM target WHERE base_id = %(base)s AND year = %(year)s AND superseded_at IS NULL

-- name: write_forecast
-- A forecast of a year's end, where it changed.
INSERT INTO indicator_forecast AS f (base_id, indicator, year, until, value, low, high, unit, threshold, threshold_likely, target_likely,
                                     method, why, computed_at)
VALUES (%(base)s, %(indicator)s, %(year)s, %(until)s, %(value)s, %(low)s, %(high)s, %(unit)s, %(threshold)s, %(threshold_likely)s,
        %(target_likely)s, %(method)s, %(why)s, %(now)s)
ON CONFLICT (base_id, indicator, year) DO UPDATE
SET until = excluded.until, value = excluded.value, low = excluded.low, high = excluded.high, unit = excluded.unit,
    threshold = excluded.threshold, threshold_likely = excluded.threshold_likely, target_likely = excluded.target_likely,
    method = excluded.method, why = excluded.why, computed_at = excluded.computed_at
WHERE (f.until, f.value, f.low, f.high, f.unit, f.threshold, f.threshold_likely, f.target_likely, f.method, f.why) IS DISTINCT FROM
      (excluded.until, excluded.value, excluded.low, excluded.high, excluded.unit, excluded.threshold, excluded.threshold_likely,
       excluded.target_likely, excluded.method, excluded.why)

-- name: forget_forecasts
-- Forecasts of a year that is over, or of indicators that are none any more.
DELETE FROM indicator_forecast WHERE base_id = %(base)s AND (year <> %(year)s OR NOT indicator = ANY (%(codes)s::text[]))

-- name: ledger_since
-- Days of ledger entries booked after an entry.
SELECT entry_id, first_day, last_day FROM ledger WHERE base_id = %(base)s AND entry_id > %(entry)s

-- name: write_indicator
-- A figure of a period, where it changed.
INSERT INTO indicator_value AS v (base_id, indicator, period, value, unit, coverage, grade, inputs, computed_at)
VALUES (%(base)s, %(indicator)s, %(period)s, %(value)s, %(unit)s, %(coverage)s, %(grade)s, %(inputs)s, %(now)s)
ON CONFLICT (base_id, indicator, period) DO UPDATE
SET value = excluded.value, unit = excluded.unit, coverage = excluded.coverage, grade = excluded.grade, inputs = excluded.inputs,
    computed_at = excluded.computed_at
WHERE (v.value, v.unit, v.coverage, v.grade, v.inputs) IS DISTINCT FROM
      (excluded.value, excluded.unit, excluded.coverage, excluded.grade, excluded.inputs)
RETURNING period

-- name: gates
-- Counters that buy electricity at the gate of the base or of an enterprise, with their multiplier to kWh and whether
-- they are read more slowly than by quarters.
SELECT CASE WHEN c.boundary = 'enterprise' THEN c.enterprise_id END, CASE WHEN c.boundary = 'enterprise' THEN e.code ELSE 'base' END,
       c.point_id, c.multiplier, p.expected_s > 900
FROM energy_counter c JOIN point p USING (base_id, point_id) LEFT JOIN enterprise e ON (e.base_id, e.enterprise_id) = (c.base_id, c.enterprise_id)
WHERE c.base_id = %(base)s AND c.carrier = 'electricity' AND c.direction IN ('import', 'sum') AND c.multiplier IS NOT NULL
  AND (c.boundary = 'base' OR c.boundary = 'enterprise' AND c.enterprise_id IS NOT NULL)
ORDER BY 2, 3

-- name: reactive_counters
-- Reactive counters of the units that carry those gates.
SELECT DISTINCT CASE WHEN c.boundary = 'enterprise' THEN e.code ELSE 'base' END, p.point_id, p.unit
FROM energy_counter c JOIN point p ON p.base_id = c.base_id AND p.unit_id = c.unit_id
LEFT JOIN enterprise e ON e.base_id = c.base_id AND e.enterprise_id = c.enterprise_id
WHERE c.base_id = %(base)s AND c.carrier = 'electricity' AND c.direction IN ('import', 'sum') AND c.multiplier IS NOT NULL
  AND (c.boundary = 'base' OR c.boundary = 'enterprise' AND c.enterprise_id IS NOT NULL)
  AND p.kind = 'counter' AND p.quantity = 'reactive_energy'
ORDER BY 1, 2

-- name: bill_tariffs
-- Current tariff rows of electricity.
SELECT tariff_id, enterprise_id, unit, terms, valid_from, valid_to, source, verified FROM tariff
WHERE base_id = %(base)s AND carrier = 'electricity' AND superseded_at IS NULL ORDER BY tariff_id

-- name: tariff_rows
-- Current rows of a tariff, the newest first.
SELECT tariff_id, valid_from, valid_to, terms FROM tariff
WHERE base_id = %(base)s AND code = %(code)s AND superseded_at IS NULL ORDER BY valid_from DESC

-- name: new_tariff_version
-- A tariff row with other terms in place of the present one.
WITH old AS (
    UPDATE tariff SET superseded_at = now() WHERE base_id = %(base)s AND tariff_id = %(tariff)s
    RETURNING base_id, code, carrier, unit, enterprise_id, valid_from, valid_to, source, verified)
INSERT INTO tariff (base_id, code, carrier, unit, enterprise_id, terms, valid_from, valid_to, source, verified)
SELECT base_id, code, carrier, unit, enterprise_id, %(terms)s, valid_from, valid_to,
       CASE WHEN source = '' OR source LIKE '%%' || %(source)s || '%%' THEN coalesce(nullif(source, ''), %(source)s)
            ELSE source || '; ' || %(source)s END, verified
FROM old RETURNING tariff_id

-- name: forget_bills
-- Bills of a month whose customer has none any more.
WITH gone AS (
    DELETE FROM bill WHERE base_id = %(base)s AND month = %(month)s AND NOT coalesce(enterprise_id, -1) = ANY (%(kept)s::integer[]))
DELETE FROM bill_line WHERE base_id = %(base)s AND month = %(month)s AND NOT coalesce(enterprise_id, -1) = ANY (%(kept)s::integer[])

-- name: known_span
-- Codes of points with the first and last day of which anything is known.
SELECT p.code, (a.ts AT TIME ZONE b.timezone)::date, (z.ts AT TIME ZONE b.timezone)::date FROM point p JOIN base b USING (base_id)
LEFT JOIN LATERAL (SELECT ts FROM interval_1d i WHERE i.base_id = p.base_id AND i.point_id = p.point_id AND n_known > 0
                   ORDER BY ts LIMIT 1) a ON true
LEFT JOIN LATERAL (SELECT ts FROM interval_1d i WHERE i.base_id = p.base_id AND i.point_id = p.point_id AND n_known > 0
                   ORDER BY ts DESC LIMIT 1) z ON true
WHERE p.base_id = %(base)s AND p.point_id = ANY (%(points)s::integer[]) ORDER BY p.code

-- name: write_missing_bills
-- Why customers have no bill of a month, where it changed; causes that hold no more go.
WITH now AS (
    SELECT * FROM unnest(%(enterprises)s::integer[], %(causes)s::text[], %(details)s::jsonb[]) AS n (enterprise_id, cause, detail)
), gone AS (
    DELETE FROM bill_missing m WHERE m.base_id = %(base)s AND m.month = %(month)s
      AND NOT coalesce(m.enterprise_id, -1) IN (SELECT coalesce(enterprise_id, -1) FROM now)
)
INSERT INTO bill_missing AS m (base_id, enterprise_id, month, cause, detail)
SELECT %(base)s, enterprise_id, %(month)s, cause, detail FROM now
ON CONFLICT (base_id, enterprise_id, month) DO UPDATE SET cause = excluded.cause, detail = excluded.detail
WHERE (m.cause, m.detail) IS DISTINCT FROM (excluded.cause, excluded.detail)

-- name: write_bill
-- A bill, where it changed.
INSERT INTO bill AS b (base_id, enterprise_id, month, total, energy_kwh, estimated_kwh, n_expected, n_known, reactive_kvarh,
                       power_factor, demand_kw, demand_at, demand_is_lower_bound, kwh_per_kva, complete, notes)
VALUES (%(base)s, %(enterprise)s, %(month)s, %(total)s, %(energy)s, %(estimated)s, %(expected)s, %(known)s, %(reactive)s,
        %(factor)s, %(demand)s, %(demand_at)s, %(lower)s, %(load)s, %(complete)s, %(notes)s)
ON CONFLICT (base_id, enterprise_id, month) DO UPDATE
SET total = excluded.total, energy_kwh = excluded.energy_kwh, estimated_kwh = excluded.estimated_kwh,
    n_expected = excluded.n_expected, n_known = excluded.n_known, reactive_kvarh = excluded.reactive_kvarh,
    power_factor = excluded.power_factor, demand_kw = excluded.demand_kw, demand_at = excluded.demand_at,
    demand_is_lower_bound = excluded.demand_is_lower_bound, kwh_per_kva = excluded.kwh_per_kva, complete = excluded.complete,
    notes = excluded.notes
WHERE b IS DISTINCT FROM excluded

-- name: write_bill_lines
-- Lines of a bill, where they changed.
INSERT INTO bill_line AS b (base_id, enterprise_id, month, line, item, quantity, unit, price, factor, amount, in_power_factor_base,
                            tariff_id, source, verified)
SELECT %(base)s, %(enterprise)s, %(month)s, l.*
FROM unnest(%(line)s::smallint[], %(item)s::text[], %(quantity)s::float8[], %(unit)s::text[], %(price)s::float8[],
            %(factor)s::float8[], %(amount)s::float8[], %(in_base)s::boolean[], %(tariff)s::integer[], %(source)s::text[],
            %(verified)s::boolean[]) AS l
ON CONFLICT (base_id, enterprise_id, month, line) DO UPDATE
SET item = excluded.item, quantity = excluded.quantity, unit = excluded.unit, price = excluded.price, factor = excluded.factor,
    amount = excluded.amount, in_power_factor_base = excluded.in_power_factor_base, tariff_id = excluded.tariff_id,
    source = excluded.source, verified = excluded.verified
WHERE b IS DISTINCT FROM excluded

-- name: forget_bill_lines
-- Lines beyond the last one.
DELETE FROM bill_line WHERE base_id = %(base)s AND enterprise_id IS NOT DISTINCT FROM %(enterprise)s::integer
  AND month = %(month)s AND line > %(lines)s

-- name: marks
-- Marks of an outlet that share time with a window.
SELECT exempt_id, quantity, started_at, ended_at, kind FROM exempt_period
WHERE base_id = %(base)s AND unit_id = %(unit)s AND withdrawn_at IS NULL AND started_at < %(high)s AND ended_at > %(low)s
ORDER BY exempt_id

-- name: all_marks
-- Every mark of a base and whether it is withdrawn.
SELECT exempt_id, unit_id, started_at, ended_at, withdrawn_at IS NOT NULL FROM exempt_period WHERE base_id = %(base)s
ORDER BY exempt_id

-- name: mark_unit
-- Put the days of a unit between two instants on the list of work again.
INSERT INTO account_todo AS t (base_id, point_id, day, first, last)
SELECT p.base_id, p.point_id, d::date, d AT TIME ZONE 'UTC', d AT TIME ZONE 'UTC' + interval '23 hours'
FROM point p
CROSS JOIN generate_series(date_trunc('day', %(low)s AT TIME ZONE 'UTC'), %(high)s AT TIME ZONE 'UTC', interval '1 day') d
WHERE p.base_id = %(base)s AND p.unit_id = %(unit)s AND p.kind <> 'counter'
ON CONFLICT (base_id, point_id, day) DO UPDATE
SET first = least(t.first, excluded.first), last = greatest(t.last, excluded.last)

-- name: add_mark
-- A mark on an outlet that measures the pollutant, or on all of its pollutants.
INSERT INTO exempt_period (base_id, unit_id, quantity, started_at, ended_at, kind, reason, evidence, recorded_by)
SELECT base_id, unit_id, %(quantity)s::text, %(start)s, %(end)s, %(kind)s, %(reason)s, %(evidence)s, %(by)s FROM unit u
WHERE base_id = %(base)s AND code = %(outlet)s AND role = 'outlet' AND (%(quantity)s::text IS NULL OR EXISTS (
    SELECT FROM point p WHERE p.base_id = u.base_id AND p.unit_id = u.unit_id AND p.quantity = %(quantity)s::text))
RETURNING exempt_id

-- name: withdraw_mark
-- A mark that no longer holds.
UPDATE exempt_period SET withdrawn_at = %(now)s, withdrawn_by = %(by)s, withdrawn_reason = %(reason)s
WHERE base_id = %(base)s AND exempt_id = %(id)s AND withdrawn_at IS NULL

-- name: list_marks
-- The record of marks, newest first.
SELECT e.exempt_id, u.code, e.quantity, e.started_at, e.ended_at, e.kind, e.reason, e.recorded_by, e.withdrawn_by
FROM exempt_period e JOIN unit u USING (base_id, unit_id) WHERE e.base_id = %(base)s ORDER BY e.exempt_id DESC

-- name: whole_days
-- Amounts of days of a counter of which every slot is known.
SELECT (i.ts AT TIME ZONE b.timezone)::date AS day, i.amount FROM interval_1d i JOIN base b USING (base_id)
WHERE i.base_id = %(base)s AND i.point_id = %(point)s AND i.amount IS NOT NULL AND i.n_known >= i.n_expected AND i.n_known >= 92
  AND i.ts >= %(first)s::timestamp AT TIME ZONE b.timezone AND i.ts < (%(last)s::date + 1)::timestamp AT TIME ZONE b.timezone

-- name: daily_means
-- Daily means of a gauge, of days with readings in at least a quarter of what is due.
SELECT (r.bucket AT TIME ZONE b.timezone)::date AS day, r.sum / r.n_usable
FROM reading_1d r JOIN base b USING (base_id) JOIN point p USING (base_id, point_id)
WHERE r.base_id = %(base)s AND r.point_id = %(point)s AND r.n_usable >= least(48, 21600.0 / p.expected_s)
  AND r.bucket >= %(first)s::timestamp AT TIME ZONE b.timezone AND r.bucket < (%(last)s::date + 1)::timestamp AT TIME ZONE b.timezone

-- name: present_baselines
-- Baselines that stand, with the first day after their own period begins to count.
SELECT b.baseline_id, p.code, b.first_day FROM baseline b JOIN point p USING (base_id, point_id)
WHERE b.base_id = %(base)s AND b.superseded_at IS NULL

-- name: saved_periods
-- Months and years for which savings are kept.
SELECT period FROM baseline_saving WHERE base_id = %(base)s AND baseline_id = %(baseline)s

-- name: write_saving
-- Savings of a period, where they changed.
INSERT INTO baseline_saving AS s (base_id, baseline_id, period, days, days_unknown, days_outside, expected, actual, saving, half_width)
VALUES (%(base)s, %(baseline)s, %(period)s, %(days)s, %(unknown)s, %(outside)s, %(expected)s, %(actual)s, %(saving)s, %(half)s)
ON CONFLICT (base_id, baseline_id, period) DO UPDATE
SET days = excluded.days, days_unknown = excluded.days_unknown, days_outside = excluded.days_outside, expected = excluded.expected,
    actual = excluded.actual, saving = excluded.saving, half_width = excluded.half_width
WHERE (s.days, s.days_unknown, s.days_outside, s.expected, s.actual, s.saving, s.half_width) IS DISTINCT FROM
      (excluded.days, excluded.days_unknown, excluded.days_outside, excluded.expected, excluded.actual, excluded.saving,
       excluded.half_width)

-- name: supersede_baseline
-- The baseline that stands until now.
UPDATE baseline SET superseded_at = now() WHERE base_id = %(base)s AND point_id = %(point)s AND superseded_at IS NULL

-- name: write_baseline
-- A baseline with all that a later reader needs to repeat it.
INSERT INTO baseline (base_id, point_id, unit, first_day, last_day, variables, n, r2, cv_rmse, residual_sd, autocorrelation,
                      covariance, static_factors, reason)
VALUES (%(base)s, %(point)s, %(unit)s, %(first)s, %(last)s, %(variables)s, %(n)s, %(r2)s, %(cv)s, %(sd)s, %(rho)s,
        %(covariance)s, %(static)s, %(reason)s)

-- name: baseline
-- The present baseline of a counter.
SELECT variables, n, r2, cv_rmse, residual_sd, autocorrelation, covariance FROM baseline
WHERE base_id = %(base)s AND point_id = %(point)s AND superseded_at IS NULL

-- name: form_enterprises
-- Enterprises of a base for a form.
SELECT code, name_zh, name_en FROM enterprise WHERE base_id = %(base)s ORDER BY enterprise_id

-- name: form_keys
-- What each current entry of a base is about.
SELECT l.entry_id, l.kind, e.code, c.code, l.item, l.action, l.first_day, l.last_day FROM ledger_known l
LEFT JOIN enterprise e ON e.base_id = l.base_id AND e.enterprise_id = l.enterprise_id
LEFT JOIN enterprise c ON c.base_id = l.base_id AND c.enterprise_id = l.counterparty_id
WHERE l.base_id = %(base)s

-- name: book_form_entry
-- An entry of a form.
INSERT INTO ledger (base_id, kind, enterprise_id, counterparty_id, item, action, first_day, last_day, value, unit, status, evidence, note,
                    recorded_by)
SELECT %(base)s, %(kind)s, (SELECT enterprise_id FROM enterprise WHERE base_id = %(base)s AND code = %(enterprise)s),
       (SELECT enterprise_id FROM enterprise WHERE base_id = %(base)s AND code = %(counterparty)s), %(item)s, %(action)s, %(first_day)s,
       %(last_day)s, %(value)s, %(unit)s, %(status)s, %(evidence)s, %(note)s, %(by)s

-- name: ledger_audit
-- Steps of the ledger, newest first, with what each correction replaced.
SELECT l.entry_id, l.recorded_at, l.recorded_by, l.kind, e.code, l.item, l.action, l.first_day, l.last_day, l.value, l.unit, l.status,
       l.supersedes, f.value, f.unit, l.reason
FROM ledger l LEFT JOIN ledger f ON f.base_id = l.base_id AND f.entry_id = l.supersedes
LEFT JOIN enterprise e ON e.base_id = l.base_id AND e.enterprise_id = l.enterprise_id
WHERE l.base_id = %(base)s ORDER BY l.entry_id DESC LIMIT %(limit)s

-- name: balances
-- Parents against their children over days, with the uncertainty of the remainder.
SELECT b.carrier, p.code AS parent, b.unit, b.days, b.days_balanced, b.parent_amount, b.children_amount, b.unaccounted, b.parent_balanced,
       b.loss_expected, b.uncertainty, b.assumed, b.n_expected, b.n_known
FROM balance_between(%(base)s::smallint, %(first)s, %(last)s) b JOIN point p ON p.base_id = %(base)s AND p.point_id = b.parent_id
WHERE %(carrier)s::text IS NULL OR b.carrier = %(carrier)s ORDER BY b.carrier, p.code
