-- What is told to webhooks, one row for each message and receiver. What is noticed again is the same row.
CREATE TABLE notifications (
    id BLOB NOT NULL CONSTRAINT notifications_pk PRIMARY KEY,
    webhook TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    mark TEXT NOT NULL,
    body TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    queued_at INTEGER NOT NULL,
    -- Who sends a message moves this on first, so that others leave it alone until then.
    next_attempt_at INTEGER NOT NULL,
    ended_at INTEGER,
    failure TEXT,
    CONSTRAINT notifications_once UNIQUE (webhook, kind, subject, mark)
) STRICT;
CREATE INDEX notifications_due ON notifications (webhook, next_attempt_at) WHERE state = 'pending';
CREATE INDEX notifications_ended ON notifications (ended_at) WHERE ended_at IS NOT NULL;

-- The networks that recipients were seen in, as far as somebody wants to be told of new ones; forgotten at the age of
-- what is personal in the trail.
CREATE TABLE recipient_networks (
    recipient_id BLOB NOT NULL CONSTRAINT recipient_networks_recipient REFERENCES recipients (id) ON DELETE CASCADE,
    network TEXT NOT NULL,
    last_seen_at INTEGER NOT NULL,
    CONSTRAINT recipient_networks_pk PRIMARY KEY (recipient_id, network)
) STRICT;
