-- As in 008, but chatter is counted by rule and object: a rule that closes its alerts by itself has a new alert with every raise, and
-- never chattered.
CREATE OR REPLACE VIEW alert_kpi_1d WITH (security_barrier) AS
WITH shown AS (
    SELECT b.base_id, b.timezone FROM base b WHERE b.base_id = ANY ((SELECT visible_bases())::smallint[])
), change AS (
    SELECT t.base_id, t.alert_id, t.change, t.at, (t.at AT TIME ZONE s.timezone)::date AS day,
           (t.detail ->> 'closed') = 'true' OR t.change = 'close' AS closes,
           max(t.at) FILTER (WHERE t.change IN ('raise', 'reraise'))
               OVER (PARTITION BY t.base_id, t.alert_id ORDER BY t.transition_id) AS raised_at
    FROM transition t JOIN shown s USING (base_id)
), flow AS (
    SELECT base_id, day, count(*) FILTER (WHERE change IN ('raise', 'reraise'))::integer AS raised,
           count(*) FILTER (WHERE closes)::integer AS closed,
           count(*) FILTER (WHERE change = 'ack')::integer AS acknowledged,
           avg(extract(epoch FROM at - raised_at)) FILTER (WHERE change = 'ack')::double precision AS mean_ack_s
    FROM change GROUP BY 1, 2
), burst AS (      -- a flood is more than 10 raises in 10 minutes (EEMUA 191)
    SELECT base_id, day, max(n)::integer AS peak_10min, count(*) FILTER (WHERE n > 10)::integer AS floods
    FROM (SELECT base_id, day, count(*) AS n FROM change WHERE change IN ('raise', 'reraise')
          GROUP BY base_id, day, date_bin('10 minutes', at, 'epoch')) x GROUP BY 1, 2
), chatter AS (    -- the same rule and object raised three times or more within an hour, in one alert or in several
    SELECT base_id, day, count(*)::integer AS chattering
    FROM (SELECT c.base_id, c.day FROM change c JOIN alert a ON a.base_id = c.base_id AND a.alert_id = c.alert_id
          WHERE c.change IN ('raise', 'reraise')
          GROUP BY c.base_id, c.day, a.rule_id, a.point_id, a.unit_id, a.device_id, date_bin('1 hour', c.at, 'epoch')
          HAVING count(*) >= 3) x GROUP BY 1, 2
), day AS (
    SELECT DISTINCT base_id, day FROM change
    UNION SELECT base_id, (now() AT TIME ZONE timezone)::date FROM shown
), stale AS (      -- active for more than 24 hours at the end of the day (or now)
    SELECT d.base_id, d.day, count(a.alert_id)::integer AS stale_24h
    FROM day d JOIN shown s USING (base_id)
    LEFT JOIN alert a ON a.base_id = d.base_id AND NOT a.late
        AND a.opened_at <= least((d.day + 1)::timestamp AT TIME ZONE s.timezone, now()) - interval '24 hours'
        AND coalesce(a.returned_at, a.closed_at, 'infinity') > least((d.day + 1)::timestamp AT TIME ZONE s.timezone, now())
    GROUP BY 1, 2
)
SELECT d.base_id, d.day, coalesce(f.raised, 0) AS raised, coalesce(f.closed, 0) AS closed,
       coalesce(f.acknowledged, 0) AS acknowledged, f.mean_ack_s, coalesce(b.peak_10min, 0) AS peak_10min,
       coalesce(c.chattering, 0) AS chattering, coalesce(s.stale_24h, 0) AS stale_24h, coalesce(b.floods, 0) AS floods
FROM day d LEFT JOIN flow f USING (base_id, day) LEFT JOIN burst b USING (base_id, day)
LEFT JOIN chatter c USING (base_id, day) LEFT JOIN stale s USING (base_id, day);
