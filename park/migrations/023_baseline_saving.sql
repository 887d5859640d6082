-- Savings against a baseline by month and year, kept by the accounting pass for the readers that are not accounting.
CREATE TABLE baseline_saving (
    base_id smallint NOT NULL,
    baseline_id integer NOT NULL,
    period text NOT NULL,                        -- 2026 or 2026-11, base-local
    days integer NOT NULL,                       -- compared
    days_unknown integer NOT NULL,               -- energy or a variable not known
    days_outside integer NOT NULL,               -- compared although a variable lies outside the baseline's range
    expected double precision NOT NULL,          -- in the counter's unit, of the days compared
    actual double precision NOT NULL,
    saving double precision NOT NULL,
    half_width double precision,                 -- of the 95 % interval; NULL: not to be told
    PRIMARY KEY (base_id, baseline_id, period),
    FOREIGN KEY (base_id, baseline_id) REFERENCES baseline
);
SELECT keep_history('baseline_saving', ARRAY['base_id', 'baseline_id', 'period']);
SELECT secure_tables();
