-- How far a device's own clock is ahead (negative: behind), from the times in its messages; NULL where it tells none.
ALTER TABLE device_state ADD COLUMN clock_offset_s double precision;

CREATE OR REPLACE VIEW board_device WITH (security_barrier) AS
SELECT b.code AS base, d.code AS device, d.protocol, coalesce(s.state, 'unknown') AS state, s.last_answer, s.latency_ms,
       s.errors::text AS errors, s.at, s.clock_offset_s
FROM device d JOIN base b USING (base_id) LEFT JOIN device_state s USING (base_id, device_id)
WHERE d.removed_at IS NULL AND d.base_id = ANY ((SELECT visible_bases())::smallint[]);
