-- name: ledger
-- Entries of the ledger, newest first, after the cursor; `superseded_by` names the correction of an entry, `documents` its evidence.
SELECT l.entry_id AS id, b.code AS base, l.kind, e.code AS enterprise, c.code AS counterparty, l.item, l.action, l.first_day,
       l.last_day, l.value, l.unit, l.status, l.evidence, l.note, l.reason, l.recorded_by, l.recorded_at, l.supersedes,
       (SELECT max(s.entry_id) FROM ledger s WHERE s.base_id = l.base_id AND s.supersedes = l.entry_id) AS superseded_by,
       coalesce((SELECT jsonb_agg(jsonb_build_object('id', d.evidence_id, 'name', d.name, 'media_type', d.media_type,
                                                     'size', octet_length(d.content), 'sha256', encode(d.sha256, 'hex')) ORDER BY d.evidence_id)
                 FROM ledger_evidence x JOIN evidence d USING (base_id, evidence_id)
                 WHERE x.base_id = l.base_id AND x.entry_id = l.entry_id), '[]') AS documents
FROM ledger l JOIN base b USING (base_id)
LEFT JOIN enterprise e ON e.base_id = l.base_id AND e.enterprise_id = l.enterprise_id
LEFT JOIN enterprise c ON c.base_id = l.base_id AND c.enterprise_id = l.counterparty_id
WHERE (%(base)s::text IS NULL OR b.code = %(base)s) AND (%(kind)s::text IS NULL OR l.kind = %(kind)s)
  AND (%(enterprise)s::text IS NULL OR e.code = %(enterprise)s)
  AND (%(first)s::date IS NULL OR l.last_day >= %(first)s) AND (%(last)s::date IS NULL OR l.first_day <= %(last)s)
  AND (%(superseded)s OR NOT EXISTS (SELECT FROM ledger s WHERE s.base_id = l.base_id AND s.supersedes = l.entry_id))
  AND (%(id)s::bigint IS NULL OR l.entry_id = %(id)s) AND (%(after)s::bigint IS NULL OR l.entry_id < %(after)s)
ORDER BY l.entry_id DESC LIMIT %(limit)s

-- name: ledger_lock
-- One correction of an entry at a time.
SELECT pg_advisory_xact_lock(hashtext('park ledger'), %(id)s::integer)

-- name: insert_ledger
-- A new entry; a correction names what it supersedes and why.
INSERT INTO ledger (base_id, kind, enterprise_id, counterparty_id, item, action, first_day, last_day, value, unit, status,
                    evidence, note, recorded_by, supersedes, reason)
VALUES (%(base)s, %(kind)s, %(enterprise)s, %(counterparty)s, %(item)s, %(action)s, %(first_day)s, %(last_day)s, %(value)s,
        %(unit)s, %(status)s, %(evidence)s, %(note)s, %(recorded_by)s, %(supersedes)s, %(reason)s)
RETURNING entry_id

-- name: attach_evidence
-- Documents to an entry; only those that the token may see.
INSERT INTO ledger_evidence (base_id, entry_id, evidence_id)
SELECT base_id, %(entry)s, evidence_id FROM evidence WHERE base_id = %(base)s AND evidence_id = ANY (%(ids)s) ON CONFLICT DO NOTHING

-- name: keep_evidence_of
-- A correction keeps the documents of what it corrects.
INSERT INTO ledger_evidence (base_id, entry_id, evidence_id)
SELECT base_id, %(entry)s, evidence_id FROM ledger_evidence WHERE base_id = %(base)s AND entry_id = %(former)s ON CONFLICT DO NOTHING

-- name: evidence_lock
-- One upload of a base at a time: what it may have in all is counted.
SELECT pg_advisory_xact_lock(hashtext('park evidence'), %(base)s::integer)

-- name: evidence_bytes
-- Bytes of all documents of a base, whoever may see them, and whether this content is there already.
SELECT evidence_bytes(%(base)s::smallint) AS bytes, EXISTS (
    SELECT FROM evidence WHERE base_id = %(base)s AND enterprise_id IS NOT DISTINCT FROM %(enterprise)s::integer
      AND sha256 = sha256(%(content)s)) AS known

-- name: insert_evidence
-- A document, once a base, owner and content.
INSERT INTO evidence (base_id, enterprise_id, sha256, name, media_type, content, recorded_by)
VALUES (%(base)s, %(enterprise)s, sha256(%(content)s), %(name)s, %(media_type)s, %(content)s, %(by)s)
ON CONFLICT DO NOTHING

-- name: evidence_of
-- A document without its content, by hash.
SELECT evidence_id AS id, name, media_type, octet_length(content) AS size, encode(sha256, 'hex') AS sha256, recorded_by, recorded_at
FROM evidence WHERE base_id = %(base)s AND enterprise_id IS NOT DISTINCT FROM %(enterprise)s::integer AND sha256 = sha256(%(content)s)

-- name: evidence
-- A document with its content.
SELECT name, media_type, content, encode(sha256, 'hex') AS sha256 FROM evidence WHERE base_id = %(base)s AND evidence_id = %(id)s

-- name: audit
-- Steps of the ledger, newest first, with what each correction replaced.
SELECT l.entry_id AS id, l.recorded_at AS at, l.recorded_by AS "by", l.kind, e.code AS enterprise, c.code AS counterparty, l.item, l.action,
       l.first_day, l.last_day, l.value, l.unit, l.status, l.evidence, l.note, l.reason, l.supersedes,
       CASE WHEN f.entry_id IS NOT NULL THEN jsonb_build_object('value', f.value, 'unit', f.unit, 'status', f.status, 'item', f.item,
           'action', f.action, 'first_day', f.first_day, 'last_day', f.last_day, 'evidence', f.evidence, 'note', f.note,
           'enterprise', fe.code, 'counterparty', fc.code) END AS former,
       (SELECT count(*) FROM ledger_evidence x WHERE x.base_id = l.base_id AND x.entry_id = l.entry_id)::integer AS documents
FROM ledger l JOIN base b USING (base_id)
LEFT JOIN ledger f ON f.base_id = l.base_id AND f.entry_id = l.supersedes
LEFT JOIN enterprise e ON e.base_id = l.base_id AND e.enterprise_id = l.enterprise_id
LEFT JOIN enterprise c ON c.base_id = l.base_id AND c.enterprise_id = l.counterparty_id
LEFT JOIN enterprise fe ON fe.base_id = f.base_id AND fe.enterprise_id = f.enterprise_id
LEFT JOIN enterprise fc ON fc.base_id = f.base_id AND fc.enterprise_id = f.counterparty_id
WHERE b.code = %(base)s AND (%(after)s::bigint IS NULL OR l.entry_id < %(after)s) ORDER BY l.entry_id DESC LIMIT %(limit)s

-- name: form_enterprises
-- Enterprises of a base that the token may see.
SELECT code, enterprise_id, name_zh, name_en FROM enterprise WHERE base_id = %(base)s ORDER BY enterprise_id

-- name: form_keys
-- What each current entry is about.
SELECT l.entry_id AS id, l.kind, e.code AS enterprise, c.code AS counterparty, l.item, l.action, l.first_day, l.last_day FROM ledger_known l
LEFT JOIN enterprise e ON e.base_id = l.base_id AND e.enterprise_id = l.enterprise_id
LEFT JOIN enterprise c ON c.base_id = l.base_id AND c.enterprise_id = l.counterparty_id
WHERE l.base_id = %(base)s
