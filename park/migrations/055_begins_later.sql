-- Counters of a total (enterprise NULL: the base's) that began within days, after others of it, without a meter on record that says since
-- when there was one: nothing tells whether anything flowed there before, so the total's earlier days are not missing them.
CREATE FUNCTION begins_later(base smallint, first_day date, last_day date)
RETURNS TABLE (enterprise text, carrier text, point text, day date)
LANGUAGE sql STABLE AS $$
    WITH member AS MATERIALIZED (
        SELECT m.enterprise_id, m.point_id, m.carrier FROM energy_member m WHERE m.base_id = base
    ), began AS MATERIALIZED (
        SELECT m.point_id, i.ts, (i.ts AT TIME ZONE b.timezone)::date AS day
        FROM (SELECT DISTINCT member.point_id FROM member) m JOIN base b ON b.base_id = base
        CROSS JOIN LATERAL (SELECT i.ts FROM interval_1d i WHERE i.base_id = base AND i.point_id = m.point_id AND i.n_known > 0
                            ORDER BY i.ts LIMIT 1) i
    ), total AS (
        SELECT m.enterprise_id, m.carrier, m.point_id, b.ts, b.day, min(b.ts) OVER (PARTITION BY m.enterprise_id) AS oldest
        FROM member m JOIN began b ON b.point_id = m.point_id
    )
    SELECT e.code, t.carrier, p.code, t.day
    FROM total t JOIN point p ON p.base_id = base AND p.point_id = t.point_id
    LEFT JOIN enterprise e ON e.base_id = base AND e.enterprise_id = t.enterprise_id
    WHERE t.day > first_day AND t.day <= last_day AND t.ts > t.oldest
      AND NOT EXISTS (SELECT FROM meter r WHERE r.base_id = base AND r.point_id = t.point_id)
$$;
