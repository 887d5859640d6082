-- Rollups as the roles of readers see them, as `reading_shown` for readings: queries that run as a role read these, so that an
-- engine may close the tables themselves (018).
DO $$
DECLARE grain text;
BEGIN
    FOREACH grain IN ARRAY ARRAY['15m', '1h', '1d', '1mo'] LOOP
        EXECUTE format('CREATE VIEW reading_%1$s_shown WITH (security_invoker = true) AS
            SELECT bucket, min, max, sum, first, last, increment, point_id, n, n_good, n_usable, base_id FROM reading_%1$s', grain);
        EXECUTE format('GRANT SELECT ON reading_%s_shown TO PUBLIC', grain);
    END LOOP;
END $$;
