-- Below which power a running treatment facility counts as idling, learned with its band: the 10th percentile of its power at
-- four levels of the production before it: {"peaks": {"<point of production>": kW}, "floors": [kW or null, ...]}.
ALTER TABLE power_band ADD COLUMN idle jsonb;
