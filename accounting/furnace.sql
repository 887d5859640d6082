-- name: furnace_limits
-- Limits on five-minute means of an outlet's furnace temperature, in degC; later rows win: the permit, the newer.
SELECT limit_id, CASE unit WHEN 'K' THEN low - 273.15 ELSE low END, valid_from, valid_to, source, verified FROM limit_value
WHERE base_id = %(base)s AND unit_id = %(unit)s AND quantity = 'furnace_temperature' AND statistic = '5min' AND superseded_at IS NULL
  AND rank <> 'internal' AND low IS NOT NULL
ORDER BY rank = 'permit', valid_from, limit_id
