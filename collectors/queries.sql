-- name: base_codes
-- Codes of all bases, whose devices one collector serves when it gets no catalogue files.
SELECT code FROM base ORDER BY code
