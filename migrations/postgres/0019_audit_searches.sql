-- Refusals are a small part of the trail, and what is looked for in it: their indexes cost only what is refused.
CREATE INDEX audit_events_denied ON audit_events (seq) WHERE decision = 'deny';
CREATE INDEX audit_events_denied_by_recipient ON audit_events (recipient_id, seq)
    WHERE decision = 'deny' AND recipient_id IS NOT NULL;
CREATE INDEX audit_events_denied_by_action ON audit_events (action, seq) WHERE decision = 'deny';

-- The earliest and the latest time of the events that a checkpoint covers, so that a search by time begins near its end:
-- an event's place says little about its time where clocks were set. Kept off the way of requests; events that have left
-- the database have none.
ALTER TABLE audit_checkpoints ADD COLUMN first_at timestamptz;
ALTER TABLE audit_checkpoints ADD COLUMN last_at timestamptz;
UPDATE audit_checkpoints SET (first_at, last_at) = (
    SELECT COALESCE(span.first_at, audit_checkpoints.created_at), COALESCE(span.last_at, audit_checkpoints.created_at)
    FROM (SELECT MIN(at) AS first_at, MAX(at) AS last_at, COUNT(*) AS events FROM audit_events
        WHERE seq > audit_checkpoints.previous_seq AND seq <= audit_checkpoints.seq) AS span);
CREATE INDEX audit_checkpoints_by_span ON audit_checkpoints (seq, previous_seq, first_at, last_at);
