-- Why a customer (enterprise NULL: the base's own gate) has no bill of a month. detail names what it is about: the tariff row with the
-- reason, the points with the days of which anything is known, the rows that hold in other months. As it stands now.
CREATE TABLE bill_missing (
    base_id smallint NOT NULL,
    enterprise_id integer,
    month date NOT NULL,
    cause text NOT NULL CHECK (cause IN ('no_gate', 'no_tariff', 'tariff_unreadable', 'no_readings')),
    detail jsonb NOT NULL DEFAULT '{}',
    UNIQUE NULLS NOT DISTINCT (base_id, enterprise_id, month)
);
CREATE POLICY enterprise ON bill_missing AS RESTRICTIVE TO park_enterprise USING (enterprise_id = visible_enterprise());
SELECT secure_tables();
