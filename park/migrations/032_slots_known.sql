-- Quarter-hours of counters as they were known at the instant that a transaction looks back to (park.as_of; now without one). A slot
-- keeps the values that it no longer has, not since when it was there: the day's row of that instant tells how many of its slots
-- were known and what they added up to. Slots beyond that number were written later; where the rest does not add up to the day
-- (a gap within it was filled later), it cannot be told which were there, and the day has no known slot: `certain` is false.
CREATE FUNCTION slots_known(base smallint, points integer[], low timestamptz, high timestamptz)
RETURNS TABLE (point_id integer, ts timestamptz, amount double precision, quality smallint, method smallint, certain boolean)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE zone text := (SELECT timezone FROM base_known WHERE base_id = base);
BEGIN
    IF NOT isfinite(known_at()) THEN
        RETURN QUERY SELECT i.point_id, i.ts, i.amount, i.quality, i.method, true FROM interval_15m i
        WHERE i.base_id = base AND i.point_id = ANY (points) AND i.ts >= low AND i.ts < high;
        RETURN;
    END IF;
    RETURN QUERY
    WITH day AS (
        SELECT d.point_id, (d.ts AT TIME ZONE zone)::date AS day, d.amount, d.n_known FROM interval_1d_known d
        WHERE d.base_id = base AND d.point_id = ANY (points) AND d.ts > low - interval '25 hours' AND d.ts < high
    ), version AS (
        SELECT i.point_id, i.ts, i.amount, i.quality, i.method, 'infinity'::timestamptz AS superseded_at FROM interval_15m i
        WHERE i.base_id = base AND i.point_id = ANY (points) AND i.ts > low - interval '25 hours' AND i.ts < high + interval '25 hours'
        UNION ALL
        SELECT h.point_id, h.ts, h.amount, h.quality, h.method, h.superseded_at FROM interval_15m_history h
        WHERE h.base_id = base AND h.point_id = ANY (points) AND h.ts > low - interval '25 hours' AND h.ts < high + interval '25 hours'
          AND h.superseded_at > known_at()
    ), slot AS (
        SELECT DISTINCT ON (v.point_id, v.ts) v.* FROM version v ORDER BY v.point_id, v.ts, v.superseded_at
    ), counted AS (
        SELECT s.*, d.day, d.amount AS of_day, d.n_known,
               count(s.amount) OVER (PARTITION BY d.point_id, d.day ORDER BY s.ts) <= d.n_known AND s.amount IS NOT NULL AS there
        FROM slot s JOIN day d ON d.point_id = s.point_id AND d.day = (s.ts AT TIME ZONE zone)::date
    ), judged AS (
        SELECT c.*, coalesce(count(*) FILTER (WHERE c.there) OVER w = c.n_known
                             AND abs(coalesce(sum(c.amount) FILTER (WHERE c.there) OVER w, 0) - coalesce(c.of_day, 0))
                                 <= 1e-6 * greatest(1, abs(c.of_day)), false) AS agrees
        FROM counted c WINDOW w AS (PARTITION BY c.point_id, c.day)
    )
    SELECT j.point_id, j.ts, CASE WHEN j.there AND j.agrees THEN j.amount END,
           CASE WHEN j.there AND j.agrees OR j.amount IS NULL THEN j.quality ELSE 16::smallint END, j.method, j.agrees
    FROM judged j WHERE j.ts >= low AND j.ts < high AND j.ts + interval '15 minutes' <= known_at();
END $$;
