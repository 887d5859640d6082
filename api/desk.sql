-- Queries of the alert desk: routes, duty roster, what is out of service, cases. Every one runs in the role of its token.

-- name: routes
-- Routes of a base without what is secret, and how their deliveries stand (to those who may see them).
SELECT r.route_id AS id, r.name, r.kind, r.person, r.on_duty, r.language, r.severities, to_char(r.quiet_from, 'HH24:MI') AS quiet_from,
       to_char(r.quiet_to, 'HH24:MI') AS quiet_to, r.digest_s, r.after_s, r.enabled, r.test_asked_at, r.tested_at, r.test_error,
       d.sent, d.due, d.dead, d.last_error, d.last_sent_at
FROM route r
LEFT JOIN LATERAL (
    SELECT count(*) FILTER (WHERE v.state = 'sent') AS sent, count(*) FILTER (WHERE v.state = 'due') AS due,
           count(*) FILTER (WHERE v.state = 'dead') AS dead, max(v.sent_at) AS last_sent_at,
           (array_agg(v.last_error ORDER BY v.transition_id DESC) FILTER (WHERE v.last_error <> ''))[1] AS last_error
    FROM delivery v WHERE v.base_id = r.base_id AND v.channel = 'route:' || r.route_id) d ON true
WHERE r.base_id = %(base)s ORDER BY r.name

-- name: insert_route
-- A new route.
INSERT INTO route (base_id, name, kind, target, secret, language, severities, quiet_from, quiet_to, digest_s, after_s, person, on_duty,
                   enabled)
VALUES (%(base)s, %(name)s, %(kind)s, %(target)s, %(secret)s, %(language)s, %(severities)s, %(quiet_from)s::text::time,
        %(quiet_to)s::text::time, %(digest_s)s, %(after_s)s, %(person)s, %(on_duty)s, %(enabled)s)
RETURNING route_id

-- name: update_route
-- A route changed: what is NULL stays, so that address and secret need not be given again.
UPDATE route SET name = %(name)s, kind = %(kind)s, language = %(language)s, severities = %(severities)s,
    quiet_from = %(quiet_from)s::text::time, quiet_to = %(quiet_to)s::text::time, digest_s = %(digest_s)s, after_s = %(after_s)s,
    person = %(person)s, on_duty = %(on_duty)s, enabled = %(enabled)s
WHERE base_id = %(base)s AND route_id = %(id)s RETURNING route_id

-- name: update_route_target
-- Another address or secret of a route.
UPDATE route SET target = %(target)s, secret = %(secret)s WHERE base_id = %(base)s AND route_id = %(id)s RETURNING route_id

-- name: delete_route
-- A route and what it still had to send; what was sent or is dead stays as a record.
DELETE FROM route WHERE base_id = %(base)s AND route_id = %(id)s RETURNING route_id

-- name: ask_test
-- A test message, which the notifier sends within seconds.
UPDATE route SET test_asked_at = clock_timestamp() WHERE base_id = %(base)s AND route_id = %(id)s AND enabled RETURNING route_id

-- name: duty
-- Who is on duty in a stretch of time.
SELECT duty_id AS id, person, phone, starts_at, ends_at, after_s, severities, recorded_by, recorded_at,
       starts_at <= now() AND ends_at > now() AS now
FROM duty d WHERE base_id = %(base)s AND ends_at > %(start)s AND starts_at < %(end)s ORDER BY starts_at, after_s, person

-- name: reachable
-- Persons of a base who have a route that hears of their duty.
SELECT DISTINCT person FROM route WHERE base_id = %(base)s AND enabled AND on_duty

-- name: insert_duty
-- A duty, once or repeated every so many days.
INSERT INTO duty (base_id, person, phone, starts_at, ends_at, after_s, severities, recorded_by)
SELECT %(base)s, %(person)s, %(phone)s, (%(start)s AT TIME ZONE %(zone)s + i * make_interval(days => %(every_days)s)) AT TIME ZONE %(zone)s,
       (%(end)s AT TIME ZONE %(zone)s + i * make_interval(days => %(every_days)s)) AT TIME ZONE %(zone)s, %(after_s)s, %(severities)s, %(by)s
FROM generate_series(0, %(times)s - 1) AS i RETURNING duty_id AS id

-- name: delete_duty
-- A duty that is not over leaves the roster.
DELETE FROM duty WHERE base_id = %(base)s AND duty_id = %(id)s AND ends_at > now() RETURNING duty_id

-- name: out_of_service
-- What is out of service, or was; with the alerts that it holds back now.
SELECT o.order_id AS id, r.code AS rule, r.name_zh AS rule_zh, r.name_en AS rule_en, p.code AS point, u.code AS unit_code,
       u.name_zh AS unit_zh, u.name_en AS unit_en, d.code AS device, o.since, o.until, o.reason, o.actor, o.ended_at, o.ended_by,
       o.ended_at IS NULL AND o.until > now() AS in_force
FROM out_of_service o
LEFT JOIN rule r ON r.base_id = o.base_id AND r.rule_id = o.rule_id
LEFT JOIN point p ON p.base_id = o.base_id AND p.point_id = o.point_id
LEFT JOIN unit u ON u.base_id = o.base_id AND u.unit_id = o.unit_id
LEFT JOIN device d ON d.base_id = o.base_id AND d.device_id = o.device_id
WHERE o.base_id = %(base)s AND (%(every)s OR (o.ended_at IS NULL AND o.until > now())) ORDER BY o.order_id DESC LIMIT 500

-- name: held_back
-- Alerts of a base that are out of service now.
SELECT count(*)::integer AS n FROM alert WHERE base_id = %(base)s AND closed_at IS NULL AND out_of_service

-- name: insert_out_of_service
-- Take a rule, a point, a unit or a device out of service; codes that are not there give no row.
INSERT INTO out_of_service (base_id, rule_id, point_id, unit_id, device_id, until, reason, actor)
SELECT %(base)s, r.rule_id, p.point_id, u.unit_id, d.device_id, %(until)s, %(reason)s, %(actor)s
FROM (VALUES (1)) AS one
LEFT JOIN rule r ON r.base_id = %(base)s AND r.code = %(rule)s::text
LEFT JOIN point p ON p.base_id = %(base)s AND p.code = %(point)s::text
LEFT JOIN unit u ON u.base_id = %(base)s AND u.code = %(unit)s::text
LEFT JOIN device d ON d.base_id = %(base)s AND d.code = %(device)s::text
WHERE (r.rule_id IS NOT NULL) = (%(rule)s::text IS NOT NULL) AND (p.point_id IS NOT NULL) = (%(point)s::text IS NOT NULL)
  AND (u.unit_id IS NOT NULL) = (%(unit)s::text IS NOT NULL) AND (d.device_id IS NOT NULL) = (%(device)s::text IS NOT NULL)
RETURNING order_id AS id

-- name: end_out_of_service
-- Back into service before its time.
UPDATE out_of_service SET ended_at = now(), ended_by = %(actor)s
WHERE base_id = %(base)s AND order_id = %(id)s AND ended_at IS NULL AND until > now() RETURNING order_id

-- name: cases
-- Cases of a base, the newest first.
SELECT case_id AS id, alert_id AS alert, state, handler, due_at, coalesce(overdue, false) AS overdue, opened_at, opened_by, closed_at,
       severity, alert_opened_at, active, value, high, unit, explanation, rule, name_zh, name_en, point, quantity, unit_code, unit_zh,
       unit_en, enterprise, accepted_at, handled_at, evidenced_at, verified_at, verified_by, coalesce(n_evidence, 0) AS n_evidence
FROM case_list
WHERE base_id = %(base)s AND (%(id)s::integer IS NULL OR case_id = %(id)s) AND (%(alert)s::bigint IS NULL OR alert_id = %(alert)s)
  AND CASE %(state)s WHEN 'all' THEN true WHEN 'open' THEN closed_at IS NULL ELSE state = %(state)s END
  AND (%(start)s::timestamptz IS NULL OR opened_at >= %(start)s) AND (%(end)s::timestamptz IS NULL OR opened_at < %(end)s)
ORDER BY case_id DESC LIMIT 500

-- name: case_steps
-- Every step of a case; `document` is the file itself, where it is kept and the token may see it.
SELECT s.step, s.at, s.actor, s.note, s.attachment, s.attachment_hash,
       (SELECT min(e.evidence_id) FROM evidence e WHERE e.base_id = s.base_id AND e.sha256 = decode(s.attachment_hash, 'hex')) AS document
FROM case_step s WHERE s.base_id = %(base)s AND s.case_id = %(id)s ORDER BY s.step_id

-- name: step_case
-- One step of a case.
SELECT case_id AS id, state FROM step_case(%(base)s::smallint, %(id)s::integer, %(alert)s::bigint, %(step)s, %(actor)s, %(note)s,
                                           %(handler)s, %(due_at)s::timestamptz, %(attachment)s, %(hash)s)

-- name: kpi_rate
-- Raises of a stretch by ten minutes: how many stretches of ten minutes there are, how many hold more than ten raises (a flood after
-- EEMUA 191), and the busiest one.
WITH bins AS (
    SELECT date_bin('10 minutes', t.at, 'epoch') AS bin, count(*) AS n FROM transition t
    WHERE t.base_id = %(base)s AND t.change IN ('raise', 'reraise') AND t.at >= %(start)s AND t.at < least(%(end)s, now())
    GROUP BY 1
)
SELECT ceil(extract(epoch FROM least(%(end)s, now()) - %(start)s) / 600)::integer AS stretches, coalesce(sum(n), 0)::integer AS raised,
       count(*) FILTER (WHERE n > 10)::integer AS in_flood, coalesce(max(n), 0)::integer AS peak,
       (array_agg(bin ORDER BY n DESC, bin))[1] AS peak_at
FROM bins

-- name: kpi_ack
-- Seconds from the last raise to its acknowledgement: the middle, the slowest tenth; and raises that returned within a minute.
WITH change AS (
    SELECT t.change, t.at, max(t.at) FILTER (WHERE t.change IN ('raise', 'reraise')) OVER w AS raised_at
    FROM transition t WHERE t.base_id = %(base)s AND t.at >= %(start)s AND t.at < %(end)s
    WINDOW w AS (PARTITION BY t.alert_id ORDER BY t.transition_id)
)
SELECT count(*) FILTER (WHERE change = 'ack')::integer AS acknowledged,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM at - raised_at)) FILTER (WHERE change = 'ack') AS median_s,
       percentile_cont(0.9) WITHIN GROUP (ORDER BY extract(epoch FROM at - raised_at)) FILTER (WHERE change = 'ack') AS slow_s,
       count(*) FILTER (WHERE change = 'return' AND at - raised_at < interval '1 minute')::integer AS fleeting
FROM change

-- name: kpi_severities
-- Raises of a stretch by severity.
SELECT a.severity, count(*)::integer AS raised FROM transition t JOIN alert a USING (base_id, alert_id)
WHERE t.base_id = %(base)s AND t.change IN ('raise', 'reraise') AND t.at >= %(start)s AND t.at < %(end)s GROUP BY 1

-- name: kpi_top
-- The ten objects and rules that raise most.
SELECT r.code AS rule, r.name_zh, r.name_en, p.code AS point, u.code AS unit_code, d.code AS device, count(*)::integer AS raised
FROM transition t JOIN alert a USING (base_id, alert_id)
LEFT JOIN rule r ON r.base_id = a.base_id AND r.rule_id = a.rule_id
LEFT JOIN point p ON p.base_id = a.base_id AND p.point_id = a.point_id
LEFT JOIN unit u ON u.base_id = a.base_id AND u.unit_id = coalesce(a.unit_id, p.unit_id)
LEFT JOIN device d ON d.base_id = a.base_id AND d.device_id = a.device_id
WHERE t.base_id = %(base)s AND t.change IN ('raise', 'reraise') AND t.at >= %(start)s AND t.at < %(end)s
GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 7 DESC, 1, 4 LIMIT 10

-- name: steps_taken
-- What people did with alerts in a stretch of time, the newest first.
SELECT t.at, t.change, t.actor, t.note, t.detail, t.alert_id AS alert, a.severity, r.name_zh AS rule_zh, r.name_en AS rule_en,
       u.name_zh AS unit_zh, u.name_en AS unit_en, p.code AS point, d.code AS device
FROM transition t JOIN alert a USING (base_id, alert_id)
LEFT JOIN rule r ON r.base_id = a.base_id AND r.rule_id = a.rule_id
LEFT JOIN point p ON p.base_id = a.base_id AND p.point_id = a.point_id
LEFT JOIN unit u ON u.base_id = a.base_id AND u.unit_id = coalesce(a.unit_id, p.unit_id)
LEFT JOIN device d ON d.base_id = a.base_id AND d.device_id = a.device_id
WHERE t.base_id = %(base)s AND t.at >= %(start)s AND t.change IN ('ack', 'shelve', 'unshelve', 'comment', 'assign', 'close')
  AND t.actor <> 'evaluator'
ORDER BY t.transition_id DESC LIMIT %(limit)s

-- name: shelves
-- The newest shelving of alerts: who, why, when.
SELECT DISTINCT ON (alert_id) alert_id, actor AS by, note AS reason, at FROM transition
WHERE alert_id = ANY (%(ids)s) AND change = 'shelve' ORDER BY alert_id, transition_id DESC
