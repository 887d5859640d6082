-- The other fuels and working media of GB/T 2589-2020: what a park burns or buys beside the nine it began with.
INSERT INTO carrier (carrier, unit, zh, en, at_gate_only, scope) VALUES
    ('washed_coal', 't', '洗精煤', 'washed coal', false, 1),
    ('coke', 't', '焦炭', 'coke', false, 1),
    ('crude_oil', 't', '原油', 'crude oil', false, 1),
    ('fuel_oil', 't', '燃料油', 'fuel oil', false, 1),
    ('gasoline', 't', '汽油', 'gasoline', false, 1),
    ('kerosene', 't', '煤油', 'kerosene', false, 1),
    ('lpg', 't', '液化石油气', 'LPG', false, 1),
    ('lng', 't', '液化天然气', 'LNG', false, 1),
    ('refinery_gas', 't', '炼厂干气', 'refinery dry gas', false, 1),
    ('coke_oven_gas', 'Nm3', '焦炉煤气', 'coke-oven gas', false, 1),
    ('blast_furnace_gas', 'Nm3', '高炉煤气', 'blast-furnace gas', false, 1),
    ('softened_water', 't', '软水', 'softened water', true, NULL),
    ('deaerated_water', 't', '除氧水', 'deaerated water', true, NULL),
    ('oxygen', 'm3', '氧气', 'oxygen', true, NULL);
