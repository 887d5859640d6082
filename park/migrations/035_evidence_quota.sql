-- Bytes of all documents of a base, NULL for one that the session may not see: an enterprise's upload counts with those that it
-- may not see.
CREATE FUNCTION evidence_bytes(base smallint) RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    SELECT CASE WHEN base = ANY ((SELECT visible_bases())::smallint[])
                THEN (SELECT coalesce(sum(octet_length(content)), 0)::bigint FROM evidence WHERE base_id = base) END
$$;
