-- A token that was handed out by a link and never used ends at `unused_until`; none where it was shown to an operator.
ALTER TABLE tokens ADD COLUMN unused_until timestamptz;

ALTER TABLE recipients ADD COLUMN limits text NOT NULL DEFAULT '{}';

-- The links of pending tokens. A link's code is never here, only its SHA-256. A row stays when its link is used, so
-- that a second use is recognised.
CREATE TABLE activations (
    token_id uuid NOT NULL CONSTRAINT activations_pk PRIMARY KEY
        CONSTRAINT activations_token REFERENCES tokens (id) ON DELETE CASCADE,
    code_hash bytea NOT NULL CONSTRAINT activations_code UNIQUE,
    expires_at timestamptz NOT NULL,
    life_seconds bigint NOT NULL,
    ends_token_id uuid
);

-- What was issued to recipients that have a limit on it, by day since 1970 (UTC).
CREATE TABLE recipient_days (
    recipient_id uuid NOT NULL CONSTRAINT recipient_days_recipient REFERENCES recipients (id) ON DELETE CASCADE,
    day bigint NOT NULL,
    bytes bigint NOT NULL,
    CONSTRAINT recipient_days_pk PRIMARY KEY (recipient_id, day)
);
