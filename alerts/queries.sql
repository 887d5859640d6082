-- name: rules
-- Enabled rules with their scope and parameters as written in the catalogue.
SELECT base_id, rule_id, code, kind, severity, name_zh, name_en, scope, params, recorded_at FROM rule WHERE enabled ORDER BY base_id, rule_id

-- name: points
-- Points in use with what scopes and explanations need.
SELECT p.base_id, p.point_id, p.code, p.name_zh, p.name_en, p.quantity, p.unit, p.kind, p.carrier, p.direction, p.unit_id,
       u.code AS unit_code, u.role, e.code AS enterprise, p.device_id, p.expected_s::float8 AS expected_s,
       p.attributes || jsonb_build_object('unit', coalesce(u.attributes, '{}')) AS attributes,
       coalesce(u.name_zh, '') AS place_zh, coalesce(u.name_en, '') AS place_en
FROM point p
LEFT JOIN unit u USING (base_id, unit_id)
LEFT JOIN enterprise e ON e.base_id = u.base_id AND e.enterprise_id = u.enterprise_id
WHERE p.removed_at IS NULL ORDER BY p.base_id, p.point_id

-- name: units
-- Units of the tree with their roles and what they treat.
SELECT base_id, unit_id, code, name_zh, name_en, role, attributes, parent_id FROM unit ORDER BY base_id, unit_id

-- name: devices
-- Devices in use, for the names of alerts about them, and the connection that they may share.
SELECT base_id, device_id, code, coalesce(settings #>> '{attributes,gateway}', settings ->> 'connection') AS gateway
FROM device WHERE removed_at IS NULL

-- name: bases
-- Zone of every base.
SELECT base_id, code, timezone FROM base

-- name: latest
-- Newest readings that arrived after an instant, and how late each came (s).
SELECT base_id, point_id, extract(epoch FROM ts)::float8, value, quality, extract(epoch FROM arrived_at - ts)::float8 FROM latest WHERE arrived_at >= %(since)s

-- name: database_now
-- The server's clock, which marks arrivals, and when a collector last spoke of its devices, by a clock that is not ahead.
SELECT clock_timestamp(), (SELECT extract(epoch FROM max(at))::float8 FROM device_state
                           WHERE at <= clock_timestamp() + interval '15 minutes')

-- name: open_alerts
-- Open alerts, the truth that an evaluator starts from.
SELECT base_id, alert_id, rule_id, point_id, unit_id, device_id, active, severity, channel FROM alert WHERE closed_at IS NULL

-- name: raise_alerts
-- Open alerts that are not open, raise returned ones again, leave active ones unless they grow worse; a transition each.
WITH wanted AS (
    SELECT * FROM jsonb_to_recordset(%(rows)s) AS x(base_id smallint, rule_id integer, point_id integer, unit_id integer,
        device_id integer, severity text, active boolean, opened_at timestamptz, returned_at timestamptz, late boolean,
        auto_close boolean, value float8, expected float8, low float8, high float8, unit text, channel text, explanation jsonb)
), written AS (
    INSERT INTO alert (base_id, rule_id, point_id, unit_id, device_id, severity, active, opened_at, returned_at, late, auto_close,
                       value, expected, low, high, unit, channel, explanation)
    SELECT base_id, rule_id, point_id, unit_id, device_id, severity, active, opened_at, returned_at, late, auto_close,
           value, expected, low, high, unit, channel, explanation FROM wanted
    ON CONFLICT (base_id, rule_id, point_id, unit_id, device_id) WHERE closed_at IS NULL DO UPDATE SET
        active = true, acknowledged = false, acknowledged_at = NULL, returned_at = NULL, n_raised = alert.n_raised + 1,
        severity = excluded.severity, value = excluded.value, expected = excluded.expected, low = excluded.low,
        high = excluded.high, channel = excluded.channel, explanation = excluded.explanation
    WHERE NOT excluded.late AND (NOT alert.active OR array_position(ARRAY['critical', 'high', 'medium', 'low'], excluded.severity)
                                                  < array_position(ARRAY['critical', 'high', 'medium', 'low'], alert.severity))
    RETURNING base_id, alert_id, xmax = 0 AS is_new, late, channel, value
)
INSERT INTO transition (base_id, alert_id, change, actor, detail)
SELECT base_id, alert_id, CASE WHEN is_new THEN 'raise' ELSE 'reraise' END, 'evaluator',
       jsonb_strip_nulls(jsonb_build_object('channel', channel, 'value', value, 'late', nullif(late, false)))
FROM written ORDER BY alert_id RETURNING transition_id, alert_id, change

-- name: return_alerts
-- Return active alerts whose condition is gone, latched ones when they are acknowledged; they close when acknowledged or when
-- their rule says so.
WITH gone AS (
    SELECT * FROM jsonb_to_recordset(%(rows)s) AS x(base_id smallint, rule_id integer, point_id integer, unit_id integer,
        device_id integer, value float8, note text, latch boolean)
), changed AS (
    UPDATE alert a SET active = false, returned_at = now(),
        closed_at = CASE WHEN a.acknowledged OR a.auto_close THEN now() END,
        shelved_until = CASE WHEN a.acknowledged OR a.auto_close THEN NULL ELSE a.shelved_until END
    FROM gone g
    WHERE a.closed_at IS NULL AND a.active AND (a.acknowledged OR NOT g.latch) AND a.base_id = g.base_id AND a.rule_id = g.rule_id
      AND a.point_id IS NOT DISTINCT FROM g.point_id AND a.unit_id IS NOT DISTINCT FROM g.unit_id
      AND a.device_id IS NOT DISTINCT FROM g.device_id
    RETURNING a.base_id, a.alert_id, a.closed_at, g.value, g.note
)
INSERT INTO transition (base_id, alert_id, change, actor, note, detail)
SELECT base_id, alert_id, 'return', 'evaluator', coalesce(note, ''),
       jsonb_strip_nulls(jsonb_build_object('value', value, 'closed', CASE WHEN closed_at IS NOT NULL THEN true END))
FROM changed ORDER BY alert_id RETURNING transition_id, alert_id, change

-- name: suppress_covered
-- Suppressed by design: an alert of a silent point while its device has an alert of its own, and the alerts (`gated`) whose rule
-- plant or calendar put out of force; back when that is over.
WITH device_down AS (
    SELECT base_id, device_id FROM alert WHERE closed_at IS NULL AND active AND device_id IS NOT NULL
), wanted AS (
    SELECT a.base_id, a.alert_id,
           CASE WHEN a.alert_id = ANY (%(gated)s::bigint[]) THEN 'not in force'
                WHEN r.kind IN ('stale', 'stuck') AND (p.base_id, p.device_id) IN (SELECT base_id, device_id FROM device_down)
                THEN 'device' END AS why
    FROM alert a LEFT JOIN rule r ON r.base_id = a.base_id AND r.rule_id = a.rule_id
    LEFT JOIN point p ON p.base_id = a.base_id AND p.point_id = a.point_id
    WHERE a.closed_at IS NULL AND a.base_id = ANY (%(bases)s::smallint[])
), changed AS (
    UPDATE alert a SET suppressed = w.why IS NOT NULL FROM wanted w
    WHERE a.base_id = w.base_id AND a.alert_id = w.alert_id AND a.closed_at IS NULL AND a.suppressed <> (w.why IS NOT NULL)
    RETURNING a.base_id, a.alert_id, a.suppressed, coalesce(w.why, '') AS why
)
INSERT INTO transition (base_id, alert_id, change, actor, note)
SELECT base_id, alert_id, CASE WHEN suppressed THEN 'suppress' ELSE 'unsuppress' END, 'evaluator', why FROM changed
RETURNING transition_id, alert_id, change

-- name: out_of_service
-- Alerts that an order in force takes out of service, and those whose order is over.
WITH wanted AS (
    SELECT a.base_id, a.alert_id, o.reason, o.actor
    FROM alert a LEFT JOIN point p ON p.base_id = a.base_id AND p.point_id = a.point_id
    LEFT JOIN LATERAL (
        SELECT x.reason, x.actor FROM out_of_service x
        WHERE x.base_id = a.base_id AND x.since <= now() AND x.until > now() AND x.ended_at IS NULL
          AND (x.rule_id IS NULL OR x.rule_id = a.rule_id) AND (x.point_id IS NULL OR x.point_id = a.point_id)
          AND (x.unit_id IS NULL OR x.unit_id = a.unit_id OR x.unit_id = p.unit_id)
          AND (x.device_id IS NULL OR x.device_id = a.device_id OR x.device_id = p.device_id)
        ORDER BY x.order_id LIMIT 1) o ON true
    WHERE a.closed_at IS NULL AND a.base_id = ANY (%(bases)s::smallint[])
), changed AS (
    UPDATE alert a SET out_of_service = w.reason IS NOT NULL FROM wanted w
    WHERE a.base_id = w.base_id AND a.alert_id = w.alert_id AND a.closed_at IS NULL AND a.out_of_service <> (w.reason IS NOT NULL)
    RETURNING a.base_id, a.alert_id, a.out_of_service, w.reason, w.actor
)
INSERT INTO transition (base_id, alert_id, change, actor, note, detail)
SELECT base_id, alert_id, CASE WHEN out_of_service THEN 'out_of_service' ELSE 'in_service' END, 'evaluator', coalesce(reason, ''),
       CASE WHEN actor IS NULL THEN '{}' ELSE jsonb_build_object('by', actor) END FROM changed
RETURNING transition_id, alert_id, change

-- name: first_out
-- A flood is what was raised within a minute of each other and has one cause along the topology; the widest counts. Three enterprises
-- at least, and half of those below one incomer (flows of electricity), with what was raised at the incomer itself; three alerts of
-- several enterprises behind one gateway; three alerts of one enterprise, or of the base itself. Each is marked with the one that
-- came first by the readings' own time, or with that of the flood that it joins.
WITH placed AS (
    SELECT a.base_id, a.alert_id, a.opened_at, a.first_out, a.alert_id = ANY (%(raised)s::bigint[]) AS is_new,
           greatest(least((a.explanation ->> 'since')::timestamptz, a.opened_at), a.opened_at - interval '10 minutes') AS began,
           coalesce(u.enterprise_id, du.enterprise_id, 0) AS area, u.unit_id,
           coalesce(d.settings #>> '{attributes,gateway}', d.settings ->> 'connection') AS gateway
    FROM alert a
    LEFT JOIN point p ON p.base_id = a.base_id AND p.point_id = a.point_id
    LEFT JOIN unit u ON u.base_id = a.base_id AND u.unit_id = coalesce(a.unit_id, p.unit_id)
    LEFT JOIN device d ON d.base_id = a.base_id AND d.device_id = coalesce(a.device_id, p.device_id)
    LEFT JOIN LATERAL (SELECT x.enterprise_id FROM point q JOIN unit x ON x.base_id = q.base_id AND x.unit_id = q.unit_id
                       WHERE a.device_id IS NOT NULL AND q.base_id = a.base_id AND q.device_id = a.device_id LIMIT 1) du ON true
    WHERE a.closed_at IS NULL AND NOT a.late AND NOT a.suppressed
      AND a.opened_at >= (SELECT min(n.opened_at) FROM alert n WHERE n.alert_id = ANY (%(raised)s::bigint[])) - interval '60 seconds'
), supply AS (
    SELECT f.base_id, f.parent_id, cu.enterprise_id, pp.unit_id,
           count(*) OVER (PARTITION BY f.base_id, f.parent_id) AS n_enterprises
    FROM flow f
    JOIN point c ON c.base_id = f.base_id AND c.point_id = f.child_id
    JOIN unit cu ON cu.base_id = c.base_id AND cu.unit_id = c.unit_id AND cu.enterprise_id IS NOT NULL
    JOIN point pp ON pp.base_id = f.base_id AND pp.point_id = f.parent_id
    LEFT JOIN unit pu ON pu.base_id = pp.base_id AND pu.unit_id = pp.unit_id
    WHERE f.kind = 'sub' AND f.carrier = 'electricity' AND pu.enterprise_id IS DISTINCT FROM cu.enterprise_id
      AND f.valid_from <= current_date AND (f.valid_to IS NULL OR f.valid_to > current_date)
    GROUP BY f.base_id, f.parent_id, cu.enterprise_id, pp.unit_id
), cause AS (
    SELECT base_id, alert_id, is_new, first_out, coalesce(began, opened_at) AS began, area, 'enterprise ' || area AS cause,
           3 AS width, 0::bigint AS least FROM placed
    UNION
    SELECT base_id, alert_id, is_new, first_out, coalesce(began, opened_at), area, 'gateway ' || gateway, 2, 2 FROM placed
    WHERE gateway IS NOT NULL
    UNION
    SELECT p.base_id, p.alert_id, p.is_new, p.first_out, coalesce(p.began, p.opened_at), p.area, 'supply ' || s.parent_id, 1,
           greatest(3, (s.n_enterprises + 1) / 2)
    FROM placed p JOIN supply s ON s.base_id = p.base_id AND (s.enterprise_id = p.area OR s.unit_id = p.unit_id)
), flood AS (
    SELECT base_id, cause, min(first_out) AS known, (array_agg(alert_id ORDER BY began, alert_id))[1] AS first
    FROM cause GROUP BY base_id, cause
    HAVING bool_or(is_new) AND count(*) >= 3 AND count(DISTINCT area) FILTER (WHERE area > 0 OR width > 1) >= max(least)
), chosen AS (
    SELECT DISTINCT ON (c.base_id, c.alert_id) c.base_id, c.alert_id, coalesce(f.known, f.first) AS first
    FROM cause c JOIN flood f USING (base_id, cause) ORDER BY c.base_id, c.alert_id, c.width, cause
)
UPDATE alert a SET first_out = c.first FROM chosen c
WHERE a.base_id = c.base_id AND a.alert_id = c.alert_id AND a.first_out IS NULL

-- name: escalate_due
-- Alerts that nobody has acknowledged for as long as somebody on duty wants to hear of them: a transition for each such person. Who
-- hears at once hears of what was raised while nobody of his kind was on duty, when his own begins. What a clock that was ahead put
-- at a time that is not yet is due now, to each of them: since when it really stands nobody knows.
INSERT INTO transition (base_id, alert_id, change, actor, note, detail)
SELECT DISTINCT ON (a.alert_id, d.person) a.base_id, a.alert_id, 'escalate', 'evaluator', d.person,
       jsonb_build_object('to', d.person, 'after_s', d.after_s)
FROM alert a
JOIN duty d ON d.base_id = a.base_id AND d.starts_at <= now() AND d.ends_at > now() AND a.severity = ANY (d.severities)
CROSS JOIN LATERAL (SELECT t.transition_id AS id, t.at, t.at > now() + interval '1 minute' AS ahead FROM transition t
                    WHERE t.base_id = a.base_id AND t.alert_id = a.alert_id AND t.change IN ('raise', 'reraise', 'unshelve', 'in_service')
                    ORDER BY t.transition_id DESC LIMIT 1) r
WHERE a.base_id = ANY (%(bases)s::smallint[]) AND a.closed_at IS NULL AND a.active AND NOT a.acknowledged AND NOT a.suppressed
  AND (d.after_s > 0 OR r.ahead OR d.starts_at > r.at AND NOT EXISTS (
       SELECT FROM duty x WHERE x.base_id = a.base_id AND x.after_s = 0 AND x.starts_at <= r.at AND x.ends_at > r.at
         AND a.severity = ANY (x.severities)))
  AND NOT a.out_of_service
  AND NOT coalesce(a.shelved_until > now(), false) AND (r.ahead OR r.at + make_interval(secs => d.after_s) <= now())
  AND NOT EXISTS (SELECT FROM transition e WHERE e.base_id = a.base_id AND e.alert_id = a.alert_id AND e.change = 'escalate'
                  AND e.transition_id > r.id AND e.detail ->> 'to' = d.person)
ORDER BY a.alert_id, d.person, d.after_s
RETURNING transition_id, alert_id, change

-- name: unshelve_due
-- Shelves whose time is over come back by themselves.
WITH changed AS (
    UPDATE alert SET shelved_until = NULL WHERE closed_at IS NULL AND shelved_until <= now() RETURNING base_id, alert_id
)
INSERT INTO transition (base_id, alert_id, change, actor, note)
SELECT base_id, alert_id, 'unshelve', 'evaluator', 'time is over' FROM changed RETURNING transition_id, alert_id, change

-- name: save_snapshot
-- What the evaluator must remember, in the transaction of the transitions it led to.
INSERT INTO evaluator_snapshot (shard, at, state) VALUES (%(shard)s, now(), %(state)s)
ON CONFLICT (shard) DO UPDATE SET at = excluded.at, state = excluded.state

-- name: load_snapshot
-- The memory of a shard, and of when it is.
SELECT state, at FROM evaluator_snapshot WHERE shard = %(shard)s

-- name: flat_history
-- Longest run of whole hours without a change in each point's own last 30 days, zero left out, in seconds; at least 2 days. A run
-- that still goes on is no history: it would allow itself.
WITH hours AS (
    SELECT base_id, point_id, bucket,
           (min = max AND min <> 0) AND coalesce(increment, 0) = 0 AS flat
    FROM reading_1h WHERE bucket >= %(now)s - interval '30 days' AND n > 0
), runs AS (
    SELECT base_id, point_id, flat, bucket,
           row_number() OVER (PARTITION BY base_id, point_id ORDER BY bucket)
         - row_number() OVER (PARTITION BY base_id, point_id, flat ORDER BY bucket) AS run
    FROM hours
), lengths AS (
    SELECT base_id, point_id, flat, count(*) AS n,
           max(bucket) = max(max(bucket)) OVER (PARTITION BY base_id, point_id) AS goes_on
    FROM runs GROUP BY base_id, point_id, flat, run
)
SELECT base_id, point_id, 3600.0 * coalesce(max(n) FILTER (WHERE flat AND NOT goes_on), 0) FROM lengths
GROUP BY base_id, point_id HAVING sum(n) >= 48

-- name: offline_devices
-- Devices whose collector says that they do not answer.
SELECT base_id, device_id FROM device_state WHERE state = 'offline' AND at >= %(since)s

-- name: emission_hours
-- Hours of outlets in order of time; `told`: an alert that is no other hour's already covers it.
SELECT e.base_id, e.unit_id, e.quantity, e.ts, e.state, e.converted, e.limit_id, e.limit_value, coalesce(e.exceeded, false) AS exceeded,
       e.exceeded AND EXISTS (
           SELECT FROM alert a JOIN rule r USING (base_id, rule_id)
           JOIN point p ON p.base_id = a.base_id AND p.point_id = a.point_id
           WHERE a.base_id = e.base_id AND r.kind = 'emission_limit' AND p.unit_id = e.unit_id AND p.quantity = e.quantity
             AND a.unit_id IS NULL
             AND ((a.explanation ->> 'hour')::timestamptz = e.ts
                  OR (a.opened_at - interval '2 hours' <= e.ts AND e.ts <= coalesce(a.returned_at, 'infinity') AND NOT a.late))) AS told
FROM emission_1h e
WHERE e.ts >= %(since)s AND (e.exceeded OR e.ts >= (SELECT max(n.ts) FROM emission_1h n
                             WHERE n.base_id = e.base_id AND n.unit_id = e.unit_id AND n.quantity = e.quantity))
ORDER BY e.ts

-- name: emission_days
-- Finished days of outlets with a limit of the day, in order of time; `told`: an alert of a day already covers it.
SELECT d.base_id, d.unit_id, d.quantity, d.day::timestamp AT TIME ZONE b.timezone AS ts,
       (d.day + 1)::timestamp AT TIME ZONE b.timezone AS ends, d.mean_converted AS converted, d.limit_value, d.exceeded,
       d.exceeded AND EXISTS (
           SELECT FROM alert a JOIN rule r USING (base_id, rule_id)
           JOIN point p ON p.base_id = a.base_id AND p.point_id = a.point_id
           WHERE a.base_id = d.base_id AND r.kind = 'emission_limit' AND a.unit_id = d.unit_id AND p.quantity = d.quantity
             AND ((a.explanation ->> 'hour')::timestamptz = d.day::timestamp AT TIME ZONE b.timezone
                  OR (a.opened_at - interval '1 day' <= (d.day + 1)::timestamp AT TIME ZONE b.timezone AND NOT a.late
                      AND (d.day + 1)::timestamp AT TIME ZONE b.timezone <= coalesce(a.returned_at, 'infinity')))) AS told
FROM emission_1d d JOIN base b USING (base_id)
WHERE d.day >= %(since)s AND d.day < (now() AT TIME ZONE b.timezone)::date AND d.limit_value IS NOT NULL ORDER BY d.day

-- name: running_minutes
-- Valid minutes (a good reading, and no estimated or doubtful one in the mean) of the running hour of every outlet's points.
SELECT p.base_id, p.unit_id, p.quantity, extract(minute FROM r.bucket)::integer AS minute, r.sum / nullif(r.n_usable, 0) AS mean
FROM (SELECT p.base_id, array_agg(p.point_id) AS points FROM point p JOIN unit u USING (base_id, unit_id) WHERE u.role = 'outlet'
      GROUP BY 1) o
CROSS JOIN LATERAL (
    SELECT point_id, bucket, sum, n_usable FROM reading_by_minute m
    WHERE m.base_id = o.base_id AND m.point_id = ANY (o.points) AND m.bucket >= %(hour)s
      AND m.bucket < %(hour)s::timestamptz + interval '1 hour' AND m.n_good > 0 AND m.n_usable = m.n_good OFFSET 0) r
JOIN point p ON p.base_id = o.base_id AND p.point_id = r.point_id

-- name: balance_days
-- Days of every parent meter with a balance, in order of time; when each began and `ends`; `told`: from when to when alerts of
-- the rules about balances covered it, by rule.
SELECT b.base_id, b.day, b.carrier, b.parent_id, b.parent_amount, b.unaccounted, b.n_expected, b.n_known, p.unit,
       b.day::timestamp AT TIME ZONE x.timezone AS begins, (b.day + 1)::timestamp AT TIME ZONE x.timezone AS ends,
       ARRAY(SELECT a.rule_id FROM alert a WHERE a.base_id = b.base_id AND a.point_id = b.parent_id AND a.channel = 'balance'
             AND (b.day::text IN (a.explanation ->> 'day', a.explanation ->> 'since')     -- older alerts have the day there
                  OR (a.opened_at - interval '1 day' <= (b.day + 1)::timestamp AT TIME ZONE x.timezone AND NOT a.late
                      AND (b.day + 1)::timestamp AT TIME ZONE x.timezone <= coalesce(a.returned_at, 'infinity')))) AS told
FROM balance_1d b JOIN point p ON p.base_id = b.base_id AND p.point_id = b.parent_id JOIN base x ON x.base_id = b.base_id
WHERE b.day >= %(since)s AND b.unaccounted IS NOT NULL AND b.day < (now() AT TIME ZONE x.timezone)::date
ORDER BY b.day

-- name: power_bands
-- Power in kW above which a facility runs, as accounting learned it.
SELECT DISTINCT ON (base_id, point_id) w.base_id, w.point_id,
       w.on_above * CASE p.unit WHEN 'W' THEN 0.001 WHEN 'MW' THEN 1000 ELSE 1 END
FROM power_band w JOIN point p USING (base_id, point_id) ORDER BY base_id, point_id, valid_from DESC

-- name: enrol_channel
-- When a channel began to listen; not later than now, though the clock that told it may have been ahead.
INSERT INTO evaluator_snapshot (shard, at, state) VALUES (%(shard)s, now(), '')
ON CONFLICT (shard) DO UPDATE SET at = now() WHERE evaluator_snapshot.at > now()

-- name: book_deliveries
-- A delivery for each transition since the channel began that has none; shelved and suppressed alerts, and those out of service,
-- tell nobody.
-- Ids commit out of order, so it looks back past the newest one booked.
INSERT INTO delivery (transition_id, channel, base_id, state)
SELECT t.transition_id, %(channel)s, t.base_id, 'due'
FROM transition t JOIN alert a USING (base_id, alert_id)
WHERE t.transition_id > coalesce((SELECT max(d.transition_id) FROM delivery d WHERE d.channel = %(channel)s), 0) - 10000
  AND t.at >= (SELECT at FROM evaluator_snapshot WHERE shard = %(shard)s)
  AND NOT EXISTS (SELECT FROM delivery d WHERE d.transition_id = t.transition_id AND d.channel = %(channel)s)
  AND t.change NOT IN ('suppress', 'unsuppress')
  AND NOT (t.change IN ('raise', 'reraise', 'return', 'escalate')
           AND (a.suppressed OR a.out_of_service OR coalesce(a.shelved_until > now(), false)))
ON CONFLICT DO NOTHING

-- name: routes
-- Routes in use, with their bases.
SELECT r.route_id, r.base_id, b.code AS base, b.name_zh AS base_zh, b.name_en AS base_en, b.timezone, r.name, r.kind, r.target,
       r.secret, r.language, r.person, r.on_duty
FROM route r JOIN base b USING (base_id) WHERE r.enabled ORDER BY r.route_id

-- name: add_route
-- A route, or another one in the place of the one with its name.
INSERT INTO route (base_id, name, kind, target, secret, language, severities, quiet_from, quiet_to, digest_s, after_s, person, on_duty)
VALUES (%(base)s, %(name)s, %(kind)s, %(target)s, %(secret)s, %(language)s, %(severities)s, %(quiet_from)s::time,
        %(quiet_to)s::time, %(digest_s)s, %(after_s)s, %(person)s, %(on_duty)s)
ON CONFLICT (base_id, name) DO UPDATE SET kind = excluded.kind, target = excluded.target, secret = excluded.secret,
    language = excluded.language, severities = excluded.severities, quiet_from = excluded.quiet_from, quiet_to = excluded.quiet_to,
    digest_s = excluded.digest_s, after_s = excluded.after_s, person = excluded.person, on_duty = excluded.on_duty, enabled = true

-- name: list_routes
-- Routes without what is secret, and how many deliveries of each are sent, due and dead.
SELECT b.code, r.name, r.kind, r.person, r.on_duty, r.language, array_to_string(r.severities, ' '),
       coalesce(to_char(r.quiet_from, 'HH24:MI') || '-' || to_char(r.quiet_to, 'HH24:MI'), ''), r.digest_s, r.after_s,
       count(*) FILTER (WHERE d.state = 'sent'), count(*) FILTER (WHERE d.state = 'due'),
       count(*) FILTER (WHERE d.state = 'dead'),
       coalesce((array_agg(replace(d.last_error, ',', ';') ORDER BY d.transition_id DESC) FILTER (WHERE d.last_error <> ''))[1], '')
FROM route r JOIN base b USING (base_id) LEFT JOIN delivery d ON d.channel = 'route:' || r.route_id
GROUP BY b.code, r.route_id ORDER BY b.code, r.name

-- name: remove_route
-- A route and what it still had to send; what was sent or is dead stays as a record.
WITH gone AS (DELETE FROM route WHERE base_id = %(base)s AND name = %(name)s RETURNING route_id),
     dropped AS (DELETE FROM delivery d USING gone g WHERE d.channel = 'route:' || g.route_id AND d.state = 'due')
SELECT route_id FROM gone

-- name: dead_deliveries
-- Deliveries that were given up, oldest first; a channel without a route is named by its own word.
SELECT coalesce(r.name, v.channel), v.transition_id, t.at, t.change, a.alert_id, u.code, a.severity, v.attempts, v.last_error
FROM delivery v JOIN transition t USING (transition_id)
JOIN alert a ON a.base_id = t.base_id AND a.alert_id = t.alert_id
JOIN rule u ON u.base_id = a.base_id AND u.rule_id = a.rule_id
LEFT JOIN route r ON v.channel = 'route:' || r.route_id
WHERE v.state = 'dead' AND t.base_id = %(base)s AND (%(name)s::text IS NULL OR coalesce(r.name, v.channel) = %(name)s)
ORDER BY v.transition_id

-- name: resend_dead
-- What was given up is due again, with all its tries.
UPDATE delivery v SET state = 'due', attempts = 0, next_at = now() FROM transition t
WHERE t.transition_id = v.transition_id AND v.state = 'dead' AND t.base_id = %(base)s
  AND coalesce((SELECT r.name FROM route r WHERE v.channel = 'route:' || r.route_id), v.channel) = %(name)s
RETURNING v.transition_id

-- name: handover_counts
-- What happened in a base's shift.
SELECT b.name_zh, b.name_en, b.timezone,
       count(*) FILTER (WHERE t.change IN ('raise', 'reraise')) AS raised, count(*) FILTER (WHERE t.change = 'return') AS returned,
       count(*) FILTER (WHERE t.change = 'ack') AS acked,
       count(*) FILTER (WHERE t.change = 'close' OR t.detail ->> 'closed' = 'true') AS closed,
       (SELECT count(DISTINCT d.transition_id) FROM delivery d JOIN transition x USING (transition_id)
        WHERE x.base_id = b.base_id AND d.state = 'dead' AND x.at > %(since)s AND x.at <= %(now)s) AS dead
FROM base b LEFT JOIN transition t ON t.base_id = b.base_id AND t.at > %(since)s AND t.at <= %(now)s
WHERE b.code = %(base)s GROUP BY b.base_id

-- name: handover_alerts
-- Open alerts of a base, the worst first; a shelved one with who shelved it and why.
SELECT a.alert_id, a.severity, a.active, a.acknowledged, a.opened_at, a.assigned_to, a.explanation, r.code AS rule, r.name_zh,
       r.name_en, CASE WHEN a.shelved_until > %(now)s THEN a.shelved_until END AS shelved_until, s.actor AS shelved_by, s.note AS reason
FROM alert a JOIN base b USING (base_id) JOIN rule r USING (base_id, rule_id)
LEFT JOIN LATERAL (SELECT t.actor, t.note FROM transition t
                   WHERE t.base_id = a.base_id AND t.alert_id = a.alert_id AND t.change = 'shelve'
                   ORDER BY t.transition_id DESC LIMIT 1) s ON true
WHERE b.code = %(base)s AND a.closed_at IS NULL AND NOT a.suppressed AND NOT a.out_of_service
ORDER BY array_position(ARRAY['critical', 'high', 'medium', 'low'], a.severity), a.opened_at

-- name: add_duty
-- Somebody's duty.
INSERT INTO duty (base_id, person, phone, starts_at, ends_at, after_s, severities, recorded_by)
VALUES (%(base)s, %(person)s, %(phone)s, %(start)s, %(end)s, %(after_s)s, %(severities)s, %(by)s)

-- name: roster
-- Duties of a stretch of time, and whether somebody on duty has a route that hears of it.
SELECT duty_id, person, phone, starts_at, ends_at, after_s, severities,
       EXISTS (SELECT FROM route r WHERE r.base_id = d.base_id AND r.person = d.person AND r.enabled AND r.on_duty)
FROM duty d WHERE base_id = %(base)s AND ends_at > %(now)s AND starts_at < %(end)s ORDER BY starts_at, after_s

-- name: remove_duty
-- A duty that is not over.
DELETE FROM duty WHERE base_id = %(base)s AND duty_id = %(number)s AND ends_at > now()

-- name: handover_duty
-- Who is on duty at an instant, and who comes next within a day.
SELECT d.person, d.phone, d.after_s, d.starts_at, d.ends_at, d.starts_at <= %(now)s AS now FROM duty d JOIN base b USING (base_id)
WHERE b.code = %(base)s AND d.ends_at > %(now)s AND d.starts_at < %(now)s + interval '24 hours'
ORDER BY d.starts_at > %(now)s, d.starts_at, d.after_s

-- name: handover_out_of_service
-- What is out of service at an instant.
SELECT concat_ws(' · ', r.code, p.code, u.code, d.code) AS what, o.until, o.reason, o.actor
FROM out_of_service o JOIN base b USING (base_id)
LEFT JOIN rule r ON r.base_id = o.base_id AND r.rule_id = o.rule_id
LEFT JOIN point p ON p.base_id = o.base_id AND p.point_id = o.point_id
LEFT JOIN unit u ON u.base_id = o.base_id AND u.unit_id = o.unit_id
LEFT JOIN device d ON d.base_id = o.base_id AND d.device_id = o.device_id
WHERE b.code = %(base)s AND o.since <= %(now)s AND o.until > %(now)s AND o.ended_at IS NULL ORDER BY o.until

-- name: handover_cases
-- Cases of a base that are open.
SELECT c.case_id, c.state, c.handler, c.due_at, c.due_at < %(now)s AS overdue, c.name_zh, c.name_en, c.unit_zh, c.unit_en, c.point
FROM case_list c JOIN base b USING (base_id) WHERE b.code = %(base)s AND c.closed_at IS NULL ORDER BY c.due_at NULLS LAST, c.case_id

-- name: handover_notes
-- What operators wrote in the shift.
SELECT t.at, t.actor, t.alert_id, t.change, t.note FROM transition t JOIN base b USING (base_id)
WHERE b.code = %(base)s AND t.at > %(since)s AND t.at <= %(now)s AND t.actor <> 'evaluator' AND t.note <> ''
ORDER BY t.transition_id

-- name: route_after
-- Whether a route is an escalation.
SELECT after_s FROM route WHERE route_id = %(route)s

-- name: book_route
-- A delivery for each raise and return that concerns the route, due when its digest or quiet hours say; an escalation hears
-- of a raise when the alert is still open and nobody has acknowledged it for so long. What it was told of before is told again
-- when it comes back from a shelf or into service; so is what it could not be told of for more than a week. A route of somebody's duty hears of that only while he is on duty without
-- delay, and of escalations that are his.
INSERT INTO delivery (transition_id, channel, base_id, state, next_at)
SELECT t.transition_id, %(channel)s, t.base_id, 'due', route_due(r, b.timezone, a.severity, t.at + make_interval(secs => r.after_s))
FROM route r JOIN base b USING (base_id) JOIN transition t USING (base_id)
JOIN alert a ON a.base_id = t.base_id AND a.alert_id = t.alert_id
WHERE r.route_id = %(route)s AND a.severity = ANY (r.severities)
  AND t.at >= now() - interval '7 days' AND t.at >= (SELECT at FROM evaluator_snapshot WHERE shard = %(shard)s)
  AND NOT EXISTS (SELECT FROM delivery d WHERE d.transition_id = t.transition_id AND d.channel = %(channel)s)
  AND NOT (a.suppressed OR a.out_of_service OR coalesce(a.shelved_until > now(), false))
  AND CASE WHEN r.on_duty AND t.change = 'escalate' THEN t.detail ->> 'to' = r.person
           WHEN r.on_duty AND t.change NOT IN ('raise', 'reraise', 'return', 'unshelve', 'in_service', 'unsuppress') THEN false
           WHEN r.on_duty AND NOT EXISTS (SELECT FROM duty d WHERE d.base_id = t.base_id AND d.person = r.person AND d.after_s = 0
                                          AND d.starts_at <= t.at AND d.ends_at > t.at AND a.severity = ANY (d.severities))
           THEN t.change = 'return' AND EXISTS (SELECT FROM delivery v JOIN transition x USING (transition_id)
                                                WHERE v.channel = %(channel)s AND x.base_id = t.base_id AND x.alert_id = t.alert_id)
           WHEN t.change IN ('unshelve', 'in_service', 'unsuppress') THEN a.active AND NOT a.acknowledged
                AND (t.at + make_interval(secs => r.after_s) <= now() OR t.at > now() + interval '1 minute')
                AND CASE WHEN EXISTS (SELECT FROM delivery v JOIN transition x USING (transition_id)
                                      WHERE v.channel = %(channel)s AND x.base_id = t.base_id AND x.alert_id = t.alert_id)
                         THEN t.change <> 'unsuppress' AND r.after_s = 0
                         ELSE NOT EXISTS (SELECT FROM transition x WHERE x.base_id = t.base_id AND x.alert_id = t.alert_id
                                          AND x.change IN ('raise', 'reraise') AND x.at >= now() - interval '7 days') END
           WHEN r.after_s = 0 THEN t.change IN ('raise', 'reraise', 'return')
           ELSE t.change IN ('raise', 'reraise')
                AND (t.at + make_interval(secs => r.after_s) <= now() OR t.at > now() + interval '1 minute')
                AND NOT a.acknowledged AND a.closed_at IS NULL END
ON CONFLICT DO NOTHING

-- name: route_test_due
-- Whether somebody has asked for a test message since the last one.
SELECT test_asked_at FROM route
WHERE route_id = %(route)s AND test_asked_at IS NOT NULL AND test_asked_at > coalesce(tested_at, '-infinity')

-- name: route_tested
-- What became of the test.
UPDATE route SET tested_at = greatest(now(), %(asked)s), test_error = %(error)s WHERE route_id = %(route)s

-- name: due_deliveries
-- What a channel has to send now, with the alert as it is. Where there is more than a message takes, critical ones go before the
-- others, and the first of each cause before what follows it, so that no cause waits behind another's flood. What waits for a time
-- that a clock told which was ahead waits no longer.
SELECT t.transition_id AS id, t.change, t.at, t.actor, t.note, t.detail, b.code AS base, a.alert_id AS alert, r.code AS rule,
       r.name_zh, r.name_en, a.severity, a.channel, p.code AS point, u.code AS unit_of_tree, d.code AS device, a.value, a.expected,
       a.low, a.high, a.unit, a.active, a.acknowledged, a.late, a.opened_at, a.first_out, a.explanation, v.attempts
FROM delivery v JOIN transition t USING (transition_id) JOIN alert a ON a.base_id = t.base_id AND a.alert_id = t.alert_id
JOIN base b ON b.base_id = a.base_id JOIN rule r ON r.base_id = a.base_id AND r.rule_id = a.rule_id
LEFT JOIN point p ON p.base_id = a.base_id AND p.point_id = a.point_id
LEFT JOIN unit u ON u.base_id = a.base_id AND u.unit_id = coalesce(a.unit_id, p.unit_id)
LEFT JOIN device d ON d.base_id = a.base_id AND d.device_id = a.device_id
WHERE v.channel = %(channel)s AND v.state = 'due'
  AND (v.next_at <= now() OR t.at > now() + interval '1 minute' OR (v.attempts > 0 AND v.next_at > now() + interval '16 minutes'))
ORDER BY a.severity = 'critical' DESC,
         row_number() OVER (PARTITION BY a.base_id, coalesce(a.first_out, -a.rule_id), a.severity ORDER BY v.transition_id),
         v.transition_id
LIMIT %(most)s

-- name: delivered
-- Mark as sent.
UPDATE delivery SET state = 'sent', attempts = attempts + 1, sent_at = now(), last_error = ''
WHERE channel = %(channel)s AND transition_id = ANY(%(ids)s)

-- name: not_delivered
-- Another try later, or dead after so many.
UPDATE delivery SET attempts = attempts + 1, last_error = %(error)s, next_at = now() + make_interval(secs => %(wait_s)s),
    state = CASE WHEN attempts + 1 >= %(most)s THEN 'dead' ELSE 'due' END
WHERE channel = %(channel)s AND transition_id = ANY(%(ids)s) RETURNING state

-- name: hour_means
-- Hours of gauges: point, mean, good readings, and whether nothing estimated or doubtful is in the mean.
SELECT point_id, sum / nullif(n_usable, 0), n_good, (n_usable = n_good)::integer FROM reading_1h
WHERE base_id = %(base)s AND point_id = ANY(%(points)s) AND bucket >= %(start)s AND bucket < %(end)s AND n_usable > 0

-- name: limits_in_force
-- Limits of today, the weakest first: the newest permit stands over the newest standard; internal ones only where there is no other.
SELECT l.base_id, l.unit_id, l.quantity, l.statistic, l.low, l.high, l.unit FROM limit_value l JOIN base b USING (base_id)
WHERE l.superseded_at IS NULL AND l.valid_from <= (%(now)s AT TIME ZONE b.timezone)::date
  AND (l.valid_to IS NULL OR (%(now)s AT TIME ZONE b.timezone)::date < l.valid_to)
ORDER BY l.rank = 'permit', l.rank = 'standard', l.valid_from, l.limit_id

-- name: own_days
-- Every base's own classes of days.
SELECT base_id, day, class FROM calendar

-- name: calendar
-- The base's own classes of days.
SELECT day, class FROM calendar WHERE base_id = %(base)s

-- name: hour_values
-- Hours of points: mean of a gauge, increment of a counter. A gauge's hour is there when three quarters of its readings are
-- good and no estimated or doubtful one is in the mean. A counter's increment is what came since its last reading before the hour, the
-- whole of a gap too: the hour is there when that one and its own last reading lie at the hour's edges, by a quarter of an hour, or
-- by one and a half of its steps where it is read less often (as often as in the busiest of the hour and the three before).
WITH read AS (
    SELECT q.point_id, date_bin('1 hour', q.bucket, '1970-01-01Z') AS hour, max(q.bucket) AS last, sum(q.n_usable) AS n
    FROM point p JOIN reading_15m q ON q.base_id = p.base_id AND q.point_id = p.point_id
    WHERE p.base_id = %(base)s AND p.point_id = ANY(%(points)s) AND p.kind = 'counter' AND q.n_usable > 0 AND q.n_usable = q.n_good
      AND q.bucket = ANY(ARRAY(SELECT DISTINCT h - k * interval '15 minutes' FROM unnest(%(hours)s::timestamptz[]) h
                               CROSS JOIN generate_series(-3, 12) k))
    GROUP BY 1, 2
), edge AS (
    SELECT point_id, hour, last, lag(last) OVER w AS before,
           interval '15 minutes' * ceil(greatest(1, 6.0 / max(n) OVER (w RANGE BETWEEN interval '3 hours' PRECEDING AND CURRENT ROW))) AS reach
    FROM read WINDOW w AS (PARTITION BY point_id ORDER BY hour)
)
SELECT r.point_id, r.bucket, CASE WHEN p.kind = 'counter' THEN r.increment ELSE r.sum / nullif(r.n_usable, 0) END
FROM reading_1h r JOIN point p USING (base_id, point_id) LEFT JOIN edge e ON e.point_id = r.point_id AND e.hour = r.bucket
WHERE r.base_id = %(base)s AND r.point_id = ANY(%(points)s) AND r.bucket = ANY(%(hours)s) AND r.n_good > 0 AND r.n_usable = r.n_good
  AND CASE WHEN p.kind = 'counter'
           THEN r.increment IS NOT NULL AND e.before >= r.bucket - e.reach AND e.last >= r.bucket + interval '1 hour' - e.reach
           ELSE 4 * r.n_good >= 3 * r.n END

-- name: hour_series
-- The same of every hour of a stretch, a row a point: epochs and values as strings of bytes, in order of time.
WITH read AS (
    SELECT q.point_id, date_bin('1 hour', q.bucket, '1970-01-01Z') AS hour, max(q.bucket) AS last, sum(q.n_usable) AS n
    FROM point p JOIN reading_15m q ON q.base_id = p.base_id AND q.point_id = p.point_id
    WHERE p.base_id = %(base)s AND p.point_id = ANY(%(points)s) AND p.kind = 'counter' AND q.n_usable > 0 AND q.n_usable = q.n_good
      AND q.bucket >= %(start)s::timestamptz - interval '3 hours' AND q.bucket < %(end)s
    GROUP BY 1, 2
), edge AS (
    SELECT point_id, hour, last, lag(last) OVER w AS before,
           interval '15 minutes' * ceil(greatest(1, 6.0 / max(n) OVER (w RANGE BETWEEN interval '3 hours' PRECEDING AND CURRENT ROW))) AS reach
    FROM read WINDOW w AS (PARTITION BY point_id ORDER BY hour)
)
SELECT point_id, string_agg(float8send(extract(epoch FROM bucket)::float8), ''), string_agg(float8send(value), '')
FROM (SELECT r.point_id, r.bucket,
             CASE WHEN p.kind = 'counter' THEN r.increment ELSE r.sum / nullif(r.n_usable, 0) END AS value
      FROM reading_1h r JOIN point p USING (base_id, point_id) LEFT JOIN edge e ON e.point_id = r.point_id AND e.hour = r.bucket
      WHERE r.base_id = %(base)s AND r.point_id = ANY(%(points)s) AND r.bucket >= %(start)s AND r.bucket < %(end)s AND r.n_good > 0
        AND r.n_usable = r.n_good
        AND CASE WHEN p.kind = 'counter'
                 THEN r.increment IS NOT NULL AND e.before >= r.bucket - e.reach AND e.last >= r.bucket + interval '1 hour' - e.reach
                 ELSE 4 * r.n_good >= 3 * r.n END
      ORDER BY r.point_id, r.bucket) h
WHERE value IS NOT NULL GROUP BY point_id

-- name: energy_prices
-- Of every carrier: unit, CNY and kg CO2 of one unit as in force today. A tariff by the time of day counts with what a unit of the last
-- 30 days came to; NULL where there is neither.
SELECT c.carrier, c.unit, coalesce(
    (SELECT (t.terms ->> 'flat')::float8 FROM tariff t
     WHERE t.base_id = %(base)s AND t.carrier = c.carrier AND t.superseded_at IS NULL AND t.enterprise_id IS NULL
       AND t.unit = 'CNY/' || c.unit AND t.valid_from <= now() AND (t.valid_to IS NULL OR t.valid_to > now())
       AND t.terms -> 'flat' IS NOT NULL ORDER BY t.valid_from DESC LIMIT 1),
    (SELECT sum(e.cost) / nullif(sum(e.amount), 0) FROM energy_total_1d e
     WHERE e.base_id = %(base)s AND e.enterprise_id IS NULL AND e.carrier = c.carrier AND e.cost IS NOT NULL
       AND e.day >= current_date - 30),
    (SELECT (t.terms -> 'prices' ->> 'flat')::float8 FROM tariff t
     WHERE t.base_id = %(base)s AND t.carrier = c.carrier AND t.superseded_at IS NULL AND t.enterprise_id IS NULL
       AND t.unit = 'CNY/' || c.unit AND t.valid_from <= now() AND (t.valid_to IS NULL OR t.valid_to > now())
     ORDER BY t.valid_from DESC LIMIT 1)),
    (SELECT f.co2_kg FROM carrier_factor f WHERE f.base_id = %(base)s AND f.carrier = c.carrier
       AND f.valid_from <= now() AND f.valid_to > now() LIMIT 1)
FROM carrier c WHERE c.carrier = ANY (%(carriers)s)

-- name: add_excess
-- One more hour of a baseline rule's active alerts into their excess, cost and CO2.
UPDATE alert a SET explanation = a.explanation || jsonb_strip_nulls(jsonb_build_object(
    'excess', jsonb_build_object('amount', round(((a.explanation #>> '{excess,amount}')::float8 + x.amount)::numeric, 3),
                                 'unit', a.explanation #>> '{excess,unit}'),
    'excess_to', %(hour)s::timestamptz,
    'cost', round(((a.explanation ->> 'cost')::float8 + x.cost)::numeric, 2),
    'co2_kg', round(((a.explanation ->> 'co2_kg')::float8 + x.co2_kg)::numeric, 2)))
FROM jsonb_to_recordset(%(rows)s) AS x (point_id integer, amount float8, cost float8, co2_kg float8)
WHERE a.base_id = %(base)s AND a.rule_id = %(rule)s AND a.point_id = x.point_id AND a.closed_at IS NULL AND a.active
  AND (a.explanation ->> 'excess_to')::timestamptz < %(hour)s

-- name: series_readings
-- Readings of points, a row a point: epochs, values (NaN: none) and quality codes as strings of bytes, in order of time.
SELECT point_id, string_agg(float8send(extract(epoch FROM ts)::float8), ''), string_agg(float8send(coalesce(value, 'NaN')), ''),
       string_agg(int2send(quality), '')
FROM (SELECT point_id, ts, value, quality FROM reading
      WHERE base_id = %(base)s AND point_id = ANY(%(points)s) AND ts >= %(start)s AND ts < %(end)s ORDER BY point_id, ts) r
GROUP BY point_id

-- name: emission_history
-- Hours of outlets in order of time: epoch at which the hour is over, outlet, quantity, state, converted mean, limit, exceeded.
SELECT extract(epoch FROM ts)::float8 + 3600, unit_id, quantity, state, converted, limit_value, exceeded
FROM emission_1h WHERE base_id = %(base)s AND ts >= %(start)s AND ts < %(end)s ORDER BY unit_id, quantity, ts

-- name: emission_day_history
-- Days of outlets with a limit of the day, in order of time: epoch at which the day is over, then as the hours.
SELECT extract(epoch FROM (d.day + 1)::timestamp AT TIME ZONE %(zone)s)::float8, d.unit_id, d.quantity,
       CASE WHEN d.exceeded IS NULL THEN 'insufficient' ELSE 'valid' END, d.mean_converted, d.limit_value, d.exceeded
FROM emission_1d d WHERE d.base_id = %(base)s AND d.limit_value IS NOT NULL
  AND d.day >= (%(start)s AT TIME ZONE %(zone)s)::date AND d.day < (%(end)s AT TIME ZONE %(zone)s)::date
ORDER BY d.unit_id, d.quantity, d.day

-- name: balance_history
-- Days of parents: epoch at which the day is over, parent, share and amount that are unaccounted for, known share of the slots.
SELECT extract(epoch FROM (b.day + 1)::timestamp AT TIME ZONE %(zone)s)::float8, b.parent_id,
       b.unaccounted / nullif(b.parent_amount, 0), b.unaccounted, b.n_known::float8 / nullif(b.n_expected, 0)
FROM balance_1d b WHERE b.base_id = %(base)s AND b.day >= (%(start)s AT TIME ZONE %(zone)s)::date
  AND b.day < (%(end)s AT TIME ZONE %(zone)s)::date AND b.unaccounted IS NOT NULL ORDER BY b.parent_id, b.day

-- name: late_hours
-- Hours of points outside the limit of their pair that no alert of the rule covers as a whole.
WITH outside AS MATERIALIZED (
    SELECT w.pair, w.base_id, w.rule_id, w.point_id, r.bucket, r.n, r.min, r.max
    FROM unnest(%(pairs)s::integer[], %(bases)s::smallint[], %(rules)s::integer[], %(points)s::integer[], %(lows)s::float8[],
                %(highs)s::float8[], %(recorded)s::timestamptz[]) AS w (pair, base_id, rule_id, point_id, low, high, recorded_at)
    JOIN reading_1h r ON r.base_id = w.base_id AND r.point_id = w.point_id
    WHERE r.bucket >= %(since)s AND r.bucket + interval '1 hour' <= %(until)s AND r.bucket + interval '1 hour' > w.recorded_at
      AND (r.max > w.high OR r.min < w.low)
)
SELECT o.pair, o.bucket, o.n, o.min, o.max FROM outside o
WHERE NOT EXISTS (SELECT FROM alert a
                  WHERE a.base_id = o.base_id AND a.rule_id = o.rule_id AND a.point_id = o.point_id AND a.opened_at <= o.bucket
                    AND coalesce(a.returned_at, a.closed_at, 'infinity') >= o.bucket + interval '1 hour')
ORDER BY o.pair, o.bucket

-- name: alerts_of_point
-- From when to when (epochs) each alert of a rule and point was active, as the readings say: one about a reading that came an hour after
-- its time was opened an hour after it began.
SELECT extract(epoch FROM least(opened_at, (explanation ->> 'since')::timestamptz))::float8, extract(epoch FROM coalesce(returned_at, closed_at, 'infinity'))::float8 FROM alert
WHERE base_id = %(base)s AND rule_id = %(rule)s AND point_id = %(point)s
  AND coalesce(returned_at, closed_at, 'infinity') >= %(since)s

-- name: plant_counts
-- Readings of the plant of each pair in an hour and the one before it.
SELECT w.pair, w.hour, coalesce(sum(r.n), 0)::bigint
FROM unnest(%(pairs)s::integer[], %(hours)s::timestamptz[], %(bases)s::smallint[], %(points)s::integer[])
     AS w (pair, hour, base_id, point_id)
LEFT JOIN reading_1h r ON r.base_id = w.base_id AND r.point_id = w.point_id
    AND r.bucket >= w.hour - interval '1 hour' AND r.bucket <= w.hour
GROUP BY 1, 2

-- name: mark_outage
-- Hours that nobody judged because no evaluator was at work: from its last memory on, as if their readings had come late.
INSERT INTO late_hour (base_id, point_id, hour, due_at)
SELECT p.base_id, p.point_id, h.hour, greatest(%(now)s, h.hour + interval '76 minutes')
FROM evaluator_snapshot s
CROSS JOIN LATERAL generate_series(date_bin('1 hour', greatest(s.at, %(now)s - interval '7 days'), TIMESTAMPTZ '2000-01-01 00:00:00Z'),
                                   %(now)s, interval '1 hour') AS h (hour)
JOIN point p ON p.base_id = ANY (%(bases)s::smallint[]) AND p.removed_at IS NULL
WHERE s.shard = %(shard)s AND s.at < %(now)s - interval '15 minutes'
ON CONFLICT DO NOTHING

-- name: forget_late
-- Late hours that no rule would judge: those of bases without one, from before the first one, or of more than a week ago.
DELETE FROM late_hour WHERE ctid IN (
    SELECT l.ctid FROM late_hour l
    LEFT JOIN unnest(%(bases)s::smallint[], %(firsts)s::timestamptz[]) AS w (base_id, first) USING (base_id)
    WHERE l.base_id = ANY (%(mine)s::smallint[])
      AND (w.first IS NULL OR l.hour + interval '1 hour' <= w.first OR l.hour <= %(now)s - interval '7 days')
    FOR UPDATE OF l SKIP LOCKED)

-- name: late_marks
-- Late hours that may be looked at, the oldest first.
SELECT base_id, point_id, hour, due_at FROM late_hour
WHERE due_at <= %(now)s AND base_id = ANY (%(bases)s::smallint[]) ORDER BY base_id, hour, point_id LIMIT %(most)s

-- name: settle_late
-- Late hours that were looked at: gone where nothing was found, to be looked at again where something was (until it is told); one
-- that was marked anew meanwhile stays as it is.
WITH seen AS (
    SELECT l.ctid, x.again FROM late_hour l
    JOIN unnest(%(bases)s::smallint[], %(points)s::integer[], %(hours)s::timestamptz[], %(due)s::timestamptz[], %(again)s::boolean[])
         AS x (base_id, point_id, hour, due_at, again) USING (base_id, point_id, hour, due_at)
    FOR UPDATE OF l SKIP LOCKED
), gone AS (
    DELETE FROM late_hour WHERE ctid IN (SELECT ctid FROM seen WHERE NOT again)
)
UPDATE late_hour SET due_at = %(next)s WHERE ctid IN (SELECT ctid FROM seen WHERE again)

-- name: told_of_rules
-- Rule, point, unit, and from when to when (epochs) each alert of some rules was active, as the readings say.
SELECT rule_id, point_id, unit_id, extract(epoch FROM least(opened_at, (explanation ->> 'since')::timestamptz))::float8,
       extract(epoch FROM coalesce(returned_at, closed_at, 'infinity'))::float8
FROM alert WHERE base_id = %(base)s AND rule_id = ANY (%(rules)s)
  AND coalesce(returned_at, closed_at, 'infinity') >= %(since)s
  AND least(opened_at, (explanation ->> 'since')::timestamptz) <= %(until)s

-- name: mean_series
-- Hours of gauges, a row a point, as strings of bytes in order of time: epochs, means, good readings, 1 where nothing estimated
-- or doubtful is in the mean.
SELECT point_id, string_agg(float8send(extract(epoch FROM bucket)::float8), ''), string_agg(float8send(mean), ''),
       string_agg(float8send(n_good), ''), string_agg(float8send(clean), '')
FROM (SELECT point_id, bucket, sum / n_usable AS mean, n_good::float8 AS n_good, (n_usable = n_good)::integer::float8 AS clean
      FROM reading_1h WHERE base_id = %(base)s AND point_id = ANY(%(points)s) AND bucket >= %(start)s AND bucket < %(end)s
        AND n_usable > 0 ORDER BY point_id, bucket) h
GROUP BY point_id

-- name: alerts_of_rule
-- Point, and from when to when (epochs) each alert of a rule was active, as the readings say.
SELECT point_id, extract(epoch FROM least(opened_at, (explanation ->> 'since')::timestamptz))::float8, extract(epoch FROM coalesce(returned_at, closed_at, 'infinity'))::float8
FROM alert WHERE base_id = %(base)s AND rule_id = %(rule)s AND point_id = ANY(%(points)s)
  AND coalesce(returned_at, closed_at, 'infinity') >= %(since)s

-- name: readings_of
-- Readings of one point in order of time.
SELECT extract(epoch FROM ts)::float8, value, quality FROM reading
WHERE base_id = %(base)s AND point_id = %(point)s AND ts >= %(start)s AND ts < %(end)s ORDER BY ts

-- name: demand_misses
-- By how much the mean of each quarter-hour of two weeks departed from its forecast after so many minutes: the mean so far for these,
-- the newest minute for the rest.
WITH minute AS (
    SELECT point_id, bucket, date_bin('15 minutes', bucket, '2000-01-01 00:00+00') AS slot, sum / n_usable AS value
    FROM reading_1m WHERE base_id = %(base)s AND point_id = %(point)s AND n_usable > 0
      AND bucket >= %(start)s::timestamptz - interval '14 days' AND bucket < %(start)s
), marked AS (SELECT *, bucket < slot + make_interval(mins => %(minutes)s) AS is_past FROM minute)
SELECT avg(value) - (avg(value) FILTER (WHERE is_past) * %(minutes)s
                     + (array_agg(value ORDER BY bucket DESC) FILTER (WHERE is_past))[1] * (15 - %(minutes)s)) / 15
FROM marked GROUP BY slot
HAVING count(*) >= 3 AND count(*) FILTER (WHERE is_past) > 0 AND count(*) FILTER (WHERE NOT is_past) > 0

-- name: running_slot
-- Mean and newest value of power points since a slot began.
SELECT point_id, avg(value), (array_agg(value ORDER BY ts DESC))[1], max(ts) FROM reading
WHERE base_id = %(base)s AND point_id = ANY(%(points)s) AND ts >= %(start)s AND ts <= %(now)s AND quality < 10 AND value IS NOT NULL
GROUP BY point_id
