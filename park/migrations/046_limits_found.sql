-- Each day of an outlet's pollutant looks up the limit in force then: two thirds of a second of a year of 180 pollutants went there.
CREATE INDEX limit_value_of_unit ON limit_value (base_id, unit_id, quantity, statistic);
