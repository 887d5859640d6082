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
