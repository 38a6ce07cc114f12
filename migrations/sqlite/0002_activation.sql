-- A token that was handed out by a link and never used ends at `unused_until`; none where it was shown to an operator.
ALTER TABLE tokens ADD COLUMN unused_until INTEGER;

ALTER TABLE recipients ADD COLUMN limits TEXT NOT NULL DEFAULT '{}';

-- The links of pending tokens. A link's code is never here, only its SHA-256. A row stays when its link is used, so
-- that a second use is recognised.
CREATE TABLE activations (
    token_id BLOB NOT NULL CONSTRAINT activations_pk PRIMARY KEY
        CONSTRAINT activations_token REFERENCES tokens (id) ON DELETE CASCADE,
    code_hash BLOB NOT NULL CONSTRAINT activations_code UNIQUE,
    expires_at INTEGER NOT NULL,
    life_seconds INTEGER NOT NULL,
    ends_token_id BLOB
) STRICT;

-- What was issued to recipients that have a limit on it, by day since 1970 (UTC).
CREATE TABLE recipient_days (
    recipient_id BLOB NOT NULL CONSTRAINT recipient_days_recipient REFERENCES recipients (id) ON DELETE CASCADE,
    day INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    CONSTRAINT recipient_days_pk PRIMARY KEY (recipient_id, day)
) STRICT;
