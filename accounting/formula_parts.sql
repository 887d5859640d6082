-- name: forget_formula_parts
-- Meters that stand behind no formula any more.
DELETE FROM formula_part f WHERE f.base_id = %(base)s
  AND (f.point_id, f.part_id) NOT IN (SELECT * FROM unnest(%(points)s::integer[], %(parts)s::integer[]))

-- name: note_formula_parts
-- Meters behind formulas, new or with another coefficient.
INSERT INTO formula_part AS f (base_id, point_id, part_id, coefficient)
SELECT %(base)s, * FROM unnest(%(points)s::integer[], %(parts)s::integer[], %(coefficients)s::float8[])
ON CONFLICT (base_id, point_id, part_id) DO UPDATE SET coefficient = excluded.coefficient
WHERE f.coefficient <> excluded.coefficient

-- name: forget_effects
-- Effects on points that have no formula any more, or one that is a sum with fixed coefficients.
DELETE FROM formula_effect e WHERE e.base_id = %(base)s AND NOT e.point_id = ANY (%(points)s)

-- name: read_effects
-- What meters do to virtual points in each quarter-hour: as kept, or by the coefficients of a sum.
COPY (
    SELECT ARRAY[q.point_id], ARRAY[q.part_id], array_agg(q.ts), array_agg(q.amount) FROM (
        SELECT e.point_id, e.part_id, e.ts, e.amount FROM formula_effect e
        WHERE e.base_id = %(base)s AND e.point_id = ANY (%(points)s) AND e.ts >= %(low)s AND e.ts < %(high)s
        UNION ALL
        SELECT f.point_id, f.part_id, i.ts, f.coefficient * i.amount
        FROM formula_part f JOIN interval_15m i ON i.base_id = f.base_id AND i.point_id = f.part_id AND i.ts >= %(low)s AND i.ts < %(high)s
        WHERE f.base_id = %(base)s AND f.point_id = ANY (%(points)s) AND i.amount IS NOT NULL) q
    GROUP BY q.point_id, q.part_id
) TO STDOUT (FORMAT binary)

-- name: write_effects
-- Effects of a window as they are; what stays is not written.
WITH fresh AS MATERIALIZED (
    SELECT * FROM unnest(%(parts)s::integer[], %(ts)s::timestamptz[], %(amounts)s::float8[]) AS f (part_id, ts, amount)
), gone AS (
    DELETE FROM formula_effect e WHERE e.base_id = %(base)s AND e.point_id = %(point)s AND e.ts >= %(low)s AND e.ts < %(high)s
      AND (e.part_id, e.ts) NOT IN (SELECT f.part_id, f.ts FROM fresh f)
)
INSERT INTO formula_effect AS e (base_id, point_id, part_id, ts, amount) SELECT %(base)s, %(point)s, * FROM fresh
ON CONFLICT (base_id, point_id, part_id, ts) DO UPDATE SET amount = excluded.amount
WHERE abs(e.amount - excluded.amount) > 1e-9 * (1 + abs(e.amount))
