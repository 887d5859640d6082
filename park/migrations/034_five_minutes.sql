-- Limits on five-minute means: the furnace temperature of waste incineration.
ALTER TABLE limit_value DROP CONSTRAINT limit_value_statistic_check;
ALTER TABLE limit_value ADD CONSTRAINT limit_value_statistic_check
    CHECK (statistic IN ('instant', '5min', 'hour', 'day', 'month', 'year'));
