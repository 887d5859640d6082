-- What the notifier asks for every second, however long the history: what is due, and what happened in the last days.
CREATE INDEX delivery_due ON delivery (channel, next_at) WHERE state = 'due';
CREATE INDEX transition_by_time ON transition (base_id, at);
