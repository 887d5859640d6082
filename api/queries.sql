-- Queries of the API. Every one runs in a transaction that has taken the token's role, so row-level security already
-- keeps to its bases and its enterprise; a base given here narrows further.

-- name: take_role
-- The role, bases, enterprise and time-out of this transaction.
SELECT set_config('role', %(role)s, true), set_config('park.bases', %(bases)s, true),
       set_config('park.enterprise', %(enterprise)s, true), set_config('statement_timeout', %(timeout)s, true)

-- name: token_by_hash
-- A valid token with the ids of its bases; no bases in the row means every base, for admin and auditor.
SELECT token_id, name, role, enterprise_id,
       CASE WHEN cardinality(bases) > 0 THEN bases ELSE ARRAY(SELECT base_id FROM base) END AS bases
FROM token WHERE hash = %(hash)s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())

-- name: insert_token
-- A new token.
INSERT INTO token (hash, name, role, bases, enterprise_id, expires_at)
VALUES (%(hash)s, %(name)s, %(role)s, %(bases)s::smallint[], %(enterprise)s, %(expires)s)

-- name: list_tokens
-- Every token, without its hash.
SELECT t.token_id, t.name, t.role, ARRAY(SELECT b.code FROM base b WHERE b.base_id = ANY (t.bases) ORDER BY 1),
       (SELECT e.code FROM enterprise e WHERE e.enterprise_id = t.enterprise_id), t.created_at, t.expires_at, t.revoked_at
FROM token t ORDER BY token_id

-- name: revoke_token
-- End a valid token.
UPDATE token SET revoked_at = now() WHERE token_id = %(id)s AND revoked_at IS NULL RETURNING token_id

-- name: enterprise_by_code
-- The id of an enterprise.
SELECT enterprise_id FROM enterprise WHERE base_id = %(base)s AND code = %(code)s

-- name: bases
-- The bases this token may see.
SELECT b.code, b.name_zh, b.name_en, b.region, b.timezone, b.attributes -> 'plan' AS plan,
       (SELECT count(*) FROM enterprise e WHERE e.base_id = b.base_id) AS enterprises,
       (SELECT count(*) FROM point p WHERE p.base_id = b.base_id AND p.removed_at IS NULL) AS points
FROM base b WHERE b.base_id = ANY (visible_bases()) ORDER BY b.code

-- name: base_by_code
-- A base this token may see.
SELECT base_id, code, name_zh, name_en, timezone FROM base WHERE code = %(code)s

-- name: enterprises
-- The enterprises of a base.
SELECT code, name_zh, name_en, industry FROM enterprise WHERE base_id = %(base)s ORDER BY enterprise_id

-- name: units
-- The tree of a base's units, parents by their code.
SELECT u.code, p.code AS parent, e.code AS enterprise, u.name_zh, u.name_en, u.role, u.attributes
FROM unit u
LEFT JOIN unit p ON p.base_id = u.base_id AND p.unit_id = u.parent_id
LEFT JOIN enterprise e ON e.base_id = u.base_id AND e.enterprise_id = u.enterprise_id
WHERE u.base_id = %(base)s ORDER BY u.unit_id

-- name: points
-- Points with their newest reading, after the cursor (base, code).
SELECT b.code AS base, p.code, p.name_zh, p.name_en, p.quantity, p.unit, p.kind, p.carrier, p.direction, p.boundary,
       u.code AS belongs_to, e.code AS enterprise, d.code AS device, p.device_key, p.low, p.high, p.expected_s,
       p.accuracy_class, l.ts AS latest_at, l.value AS latest_value, l.quality AS latest_quality
FROM point p
JOIN base b USING (base_id)
LEFT JOIN unit u ON u.base_id = p.base_id AND u.unit_id = p.unit_id
LEFT JOIN enterprise e ON e.base_id = p.base_id AND e.enterprise_id = u.enterprise_id
LEFT JOIN device d ON d.base_id = p.base_id AND d.device_id = p.device_id
LEFT JOIN latest l ON l.base_id = p.base_id AND l.point_id = p.point_id
WHERE p.removed_at IS NULL
  AND (%(base)s::text IS NULL OR b.code = %(base)s)
  AND (%(unit)s::text IS NULL OR u.code = %(unit)s)
  AND (%(enterprise)s::text IS NULL OR e.code = %(enterprise)s)
  AND (%(quantity)s::text IS NULL OR p.quantity = %(quantity)s)
  AND (%(kind)s::text IS NULL OR p.kind = %(kind)s)
  AND (%(code)s::text[] IS NULL OR p.code = ANY (%(code)s))
  AND (%(after_base)s::text IS NULL OR (b.code, p.code) > (%(after_base)s, %(after_code)s))
ORDER BY b.code, p.code LIMIT %(limit)s

-- name: alerts
-- Alerts with what they are about, newest first, after the cursor (opened_at, alert_id).
SELECT a.alert_id AS id, b.code AS base, r.code AS rule, r.name_zh AS rule_zh, r.name_en AS rule_en, r.kind,
       p.code AS point, p.name_zh AS point_zh, p.name_en AS point_en, p.quantity,
       u.code AS unit_code, u.name_zh AS unit_zh, u.name_en AS unit_en, d.code AS device, e.code AS enterprise,
       a.severity, a.active, a.acknowledged, a.suppressed, a.shelved_until, a.assigned_to, a.opened_at, a.returned_at,
       a.acknowledged_at, a.closed_at, a.late, a.n_raised, a.value, a.expected, a.low, a.high, a.unit, a.channel, a.explanation,
       CASE WHEN a.closed_at IS NOT NULL THEN 'closed'
            WHEN a.shelved_until > now() THEN 'shelved'
            WHEN a.suppressed THEN 'suppressed'
            WHEN a.active AND a.acknowledged THEN 'acknowledged'
            WHEN a.active THEN 'unacknowledged'
            ELSE 'returned' END AS state
FROM alert a
JOIN base b USING (base_id)
LEFT JOIN rule r ON r.base_id = a.base_id AND r.rule_id = a.rule_id
LEFT JOIN point p ON p.base_id = a.base_id AND p.point_id = a.point_id
LEFT JOIN unit u ON u.base_id = a.base_id AND u.unit_id = coalesce(a.unit_id, p.unit_id)
LEFT JOIN device d ON d.base_id = a.base_id AND d.device_id = a.device_id
LEFT JOIN enterprise e ON e.base_id = a.base_id AND e.enterprise_id = u.enterprise_id
WHERE (%(id)s::bigint[] IS NULL OR a.alert_id = ANY (%(id)s))
  AND (%(base)s::text IS NULL OR b.code = %(base)s)
  AND (%(severity)s::text[] IS NULL OR a.severity = ANY (%(severity)s))
  AND (%(since)s::timestamptz IS NULL OR a.opened_at >= %(since)s)
  AND CASE %(state)s::text
        WHEN 'all' THEN true
        WHEN 'open' THEN a.closed_at IS NULL
        WHEN 'closed' THEN a.closed_at IS NOT NULL
        WHEN 'shelved' THEN a.closed_at IS NULL AND a.shelved_until > now()
        WHEN 'suppressed' THEN a.closed_at IS NULL AND a.suppressed
        WHEN 'unacknowledged' THEN a.closed_at IS NULL AND NOT a.acknowledged AND NOT a.suppressed
                                   AND (a.shelved_until > now()) IS NOT TRUE
        WHEN 'acknowledged' THEN a.closed_at IS NULL AND a.acknowledged
        WHEN 'active' THEN a.closed_at IS NULL AND a.active
        WHEN 'returned' THEN a.closed_at IS NULL AND NOT a.active END
  AND (%(after_at)s::timestamptz IS NULL OR (a.opened_at, a.alert_id) < (%(after_at)s, %(after_id)s::bigint))
ORDER BY a.opened_at DESC, a.alert_id DESC LIMIT %(limit)s

-- name: transitions_of_alert
-- Every step of an alert, oldest first.
SELECT t.transition_id AS id, t.at, t.change, t.actor, t.note, t.detail
FROM transition t WHERE t.alert_id = %(id)s ORDER BY t.transition_id

-- name: alert_step
-- One step of an operator; the function holds the table of states.
SELECT alert_step(a.base_id, a.alert_id, %(change)s, %(actor)s, %(note)s, %(detail)s) AS transition
FROM alert a WHERE a.alert_id = %(id)s

-- name: transitions
-- Transitions by their ids with whom they concern.
SELECT t.transition_id AS id, t.base_id, t.alert_id AS alert, t.at, t.change, t.actor, t.note, t.detail,
       coalesce(u.enterprise_id, v.enterprise_id, w.enterprise_id) AS enterprise_id
FROM transition t
JOIN alert a ON a.base_id = t.base_id AND a.alert_id = t.alert_id
LEFT JOIN unit u ON u.base_id = a.base_id AND u.unit_id = a.unit_id
LEFT JOIN point p ON p.base_id = a.base_id AND p.point_id = a.point_id
LEFT JOIN unit v ON v.base_id = a.base_id AND v.unit_id = p.unit_id
LEFT JOIN LATERAL (SELECT min(x.enterprise_id) AS enterprise_id FROM point q
                   JOIN unit x ON x.base_id = q.base_id AND x.unit_id = q.unit_id
                   WHERE q.base_id = a.base_id AND q.device_id = a.device_id
                   HAVING count(DISTINCT x.enterprise_id) = 1) w ON a.point_id IS NULL AND a.unit_id IS NULL
WHERE t.transition_id = ANY (%(ids)s) ORDER BY t.transition_id

-- name: transition_ids_after
-- Ids of the transitions after one, oldest first.
SELECT transition_id FROM transition WHERE transition_id > %(after)s ORDER BY transition_id LIMIT %(limit)s

-- name: newest_transition
-- The newest transition's id, or 0.
SELECT coalesce(max(transition_id), 0) AS id FROM transition

-- name: base_ids
-- Every base, for the listener that serves them all.
SELECT array_agg(base_id) AS ids FROM base

-- name: valid_tokens
-- Which of these tokens are still valid.
SELECT token_id FROM token
WHERE token_id = ANY (%(ids)s) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())

-- name: ready
-- How far the schema and the passes are.
SELECT (SELECT max(number) FROM migration) AS migration, now() AS at
