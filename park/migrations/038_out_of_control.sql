-- A mark of another kind: the instrument was out of control (a failed calibration or comparison), its data are not valid back to the
-- last check that it passed. Such hours are not exempt: they are replaced upward, counted from the mark's beginning.
ALTER TABLE exempt_period DROP CONSTRAINT exempt_period_kind_check;
ALTER TABLE exempt_period ADD CONSTRAINT exempt_period_kind_check CHECK (
    kind IN ('start_up', 'shut_down', 'maintenance', 'calibration', 'fault', 'emergency', 'other', 'out_of_control'));
