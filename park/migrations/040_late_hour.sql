-- Hours of points into which readings came late: more than a quarter of an hour after their quarter was over. Written by the
-- rollup pass that takes them, consumed by alerts, whose live judges have gone past those hours. `due_at`: when to look at it.
CREATE TABLE late_hour (
    base_id smallint NOT NULL,
    point_id integer NOT NULL,
    hour timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    PRIMARY KEY (base_id, point_id, hour)
);
SELECT secure_tables();
