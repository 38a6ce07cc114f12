-- What other systems told this server by its hooks, and what they were answered, so that a message that is sent again changes
-- nothing. Forgotten at a set age.
CREATE TABLE hook_events (
    hook text NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    body_digest bytea NOT NULL,
    received_at timestamptz NOT NULL,
    subject text NOT NULL,
    state text NOT NULL,
    why text,
    CONSTRAINT hook_events_pk PRIMARY KEY (hook, event_id)
);
CREATE INDEX hook_events_by_time ON hook_events (received_at);
CREATE TRIGGER hook_events_no_update BEFORE UPDATE OR TRUNCATE ON hook_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The own time of the newest event of the contract system; and when such an event moved the agreement, which is `state_since`
-- unless somebody else has moved it since.
ALTER TABLE agreement_terms ADD COLUMN event_at timestamptz;
ALTER TABLE agreement_terms ADD COLUMN event_moved_at timestamptz;

-- The values that settings had which restrict sharing, each from a start of a server on.
CREATE TABLE safeguards (
    setting text COLLATE "C" NOT NULL,
    since timestamptz NOT NULL,
    value text NOT NULL,
    is_off boolean NOT NULL,
    CONSTRAINT safeguards_pk PRIMARY KEY (setting, since)
);
CREATE TRIGGER safeguards_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON safeguards
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
