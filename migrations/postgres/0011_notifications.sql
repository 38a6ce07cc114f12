-- What is told to webhooks, one row for each message and receiver. What is noticed again is the same row.
CREATE TABLE notifications (
    id uuid NOT NULL CONSTRAINT notifications_pk PRIMARY KEY,
    webhook text NOT NULL,
    kind text NOT NULL,
    subject text NOT NULL,
    mark text NOT NULL,
    body text NOT NULL,
    state text NOT NULL,
    attempts bigint NOT NULL,
    created_at timestamptz NOT NULL,
    queued_at timestamptz NOT NULL,
    -- Who sends a message moves this on first, so that others leave it alone until then.
    next_attempt_at timestamptz NOT NULL,
    ended_at timestamptz,
    failure text,
    CONSTRAINT notifications_once UNIQUE (webhook, kind, subject, mark)
);
CREATE INDEX notifications_due ON notifications (webhook, next_attempt_at) WHERE state = 'pending';
CREATE INDEX notifications_ended ON notifications (ended_at) WHERE ended_at IS NOT NULL;

-- The networks that recipients were seen in, as far as somebody wants to be told of new ones; forgotten at the age of
-- what is personal in the trail.
CREATE TABLE recipient_networks (
    recipient_id uuid NOT NULL CONSTRAINT recipient_networks_recipient REFERENCES recipients (id) ON DELETE CASCADE,
    network text NOT NULL,
    last_seen_at timestamptz NOT NULL,
    CONSTRAINT recipient_networks_pk PRIMARY KEY (recipient_id, network)
);
