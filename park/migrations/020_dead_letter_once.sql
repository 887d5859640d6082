-- A collector's dead letter lies here once. Delivered again under its number it is known from the ledger (ingest_batch); the
-- same bytes under another number (a data logger that sends again for want of an answer) are counted where they lie.
ALTER TABLE dead_letter ADD COLUMN content text,                  -- md5 of the payload, of collectors' letters only
                        ADD COLUMN repeats integer NOT NULL DEFAULT 0,
                        ADD COLUMN repeated_at timestamptz;
CREATE UNIQUE INDEX dead_letter_once ON dead_letter (base_id, source, reason, content)
    WHERE content IS NOT NULL AND replayed_at IS NULL;
