-- What other systems told this server by its hooks, and what they were answered, so that a message that is sent again changes
-- nothing. Forgotten at a set age.
CREATE TABLE hook_events (
    hook TEXT NOT NULL,
    event_id TEXT NOT NULL,
    body_digest BLOB NOT NULL,
    received_at INTEGER NOT NULL,
    subject TEXT NOT NULL,
    state TEXT NOT NULL,
    why TEXT,
    CONSTRAINT hook_events_pk PRIMARY KEY (hook, event_id)
) STRICT;
CREATE INDEX hook_events_by_time ON hook_events (received_at);
CREATE TRIGGER hook_events_no_update BEFORE UPDATE ON hook_events BEGIN
    SELECT RAISE(ABORT, 'hook_events never change');
END;

-- The own time of the newest event of the contract system; and when such an event moved the agreement, which is `state_since`
-- unless somebody else has moved it since.
ALTER TABLE agreement_terms ADD COLUMN event_at INTEGER;
ALTER TABLE agreement_terms ADD COLUMN event_moved_at INTEGER;

-- The values that settings had which restrict sharing, each from a start of a server on.
CREATE TABLE safeguards (
    setting TEXT NOT NULL,
    since INTEGER NOT NULL,
    value TEXT NOT NULL,
    is_off INTEGER NOT NULL,
    CONSTRAINT safeguards_pk PRIMARY KEY (setting, since)
) STRICT;
CREATE TRIGGER safeguards_no_update BEFORE UPDATE ON safeguards BEGIN
    SELECT RAISE(ABORT, 'safeguards is append-only');
END;
CREATE TRIGGER safeguards_no_delete BEFORE DELETE ON safeguards BEGIN
    SELECT RAISE(ABORT, 'safeguards is append-only');
END;
