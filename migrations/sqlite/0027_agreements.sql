CREATE TABLE agreements (
    id BLOB NOT NULL CONSTRAINT agreements_pk PRIMARY KEY,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL CONSTRAINT agreements_name UNIQUE,
    spec TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    revision INTEGER NOT NULL
) STRICT;

-- What decisions ask of an agreement: derived from its spec, and its state. Agreements that take each other's place are one
-- succession, under the id of the first.
CREATE TABLE agreement_terms (
    agreement_id BLOB NOT NULL CONSTRAINT agreement_terms_pk PRIMARY KEY
        CONSTRAINT agreement_terms_agreement REFERENCES agreements (id) ON DELETE CASCADE,
    recipient_id BLOB NOT NULL,
    succession_id BLOB NOT NULL,
    position INTEGER NOT NULL,
    state TEXT NOT NULL,
    state_since INTEGER NOT NULL,
    activated_at INTEGER,
    valid_from INTEGER NOT NULL,
    ends_at INTEGER NOT NULL,
    purposes TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX agreement_terms_succession ON agreement_terms (succession_id, position);
CREATE INDEX agreement_terms_by_recipient ON agreement_terms (recipient_id);

-- Every state that an agreement came to, so that the past can be answered for.
CREATE TABLE agreement_moves (
    id BLOB NOT NULL CONSTRAINT agreement_moves_pk PRIMARY KEY,
    agreement_id BLOB NOT NULL CONSTRAINT agreement_moves_agreement REFERENCES agreements (id) ON DELETE CASCADE,
    state TEXT NOT NULL,
    moved_at INTEGER NOT NULL,
    moved_by TEXT NOT NULL,
    reason TEXT
) STRICT;
CREATE INDEX agreement_moves_by_time ON agreement_moves (agreement_id, moved_at, id);
CREATE TRIGGER agreement_moves_no_update BEFORE UPDATE ON agreement_moves BEGIN
    SELECT RAISE(ABORT, 'agreement_moves is append-only');
END;

CREATE TABLE grant_agreements (
    grant_id BLOB NOT NULL CONSTRAINT grant_agreements_grant REFERENCES grants (id),
    agreement_id BLOB NOT NULL CONSTRAINT grant_agreements_agreement REFERENCES agreements (id),
    succession_id BLOB NOT NULL,
    CONSTRAINT grant_agreements_pk PRIMARY KEY (grant_id, agreement_id)
) STRICT;
CREATE INDEX grant_agreements_by_succession ON grant_agreements (succession_id);
CREATE TRIGGER grant_agreements_no_update BEFORE UPDATE ON grant_agreements BEGIN
    SELECT RAISE(ABORT, 'grant_agreements is append-only');
END;
CREATE TRIGGER grant_agreements_no_delete BEFORE DELETE ON grant_agreements BEGIN
    SELECT RAISE(ABORT, 'grant_agreements is append-only');
END;

-- Null: any purpose. Derived from the spec.
ALTER TABLE tables ADD COLUMN allowed_purposes TEXT;

-- Each agreement that grants refer to becomes one of its own, for any purpose, active until it ends: its own end, or else
-- that of the last of its grants.
CREATE TABLE agreements_found AS
SELECT
    randomblob(16) AS id,
    found.*,
    row_number() OVER (PARTITION BY lower(agreement_ref) ORDER BY created_at, recipient_id) AS nth
FROM (
    SELECT
        recipient_id,
        min(recipient_name) AS recipient_name,
        agreement_ref,
        agreement_sha256,
        agreement_valid_until,
        min(min(valid_from, created_at)) AS valid_from,
        min(max(coalesce(agreement_valid_until, max(valid_until)), min(min(valid_from, created_at)) + 1), 253402300799000000)
            AS ends_at,
        min(created_at) AS created_at
    FROM grants
    WHERE agreement_ref IS NOT NULL
    GROUP BY recipient_id, agreement_ref, agreement_sha256, agreement_valid_until
) found;

INSERT INTO agreements (id, name, name_key, spec, created_at, updated_at, revision)
SELECT
    id,
    CASE WHEN is_name THEN agreement_ref ELSE 'agreement-' || lower(hex(id)) END,
    CASE WHEN is_name THEN lower(agreement_ref) ELSE 'agreement-' || lower(hex(id)) END,
    json_object(
        'recipient', recipient_name,
        'type', 'custom',
        'document', json_object('uri', agreement_ref, 'sha256', agreement_sha256),
        'purposes', json('["*"]'),
        'classes', json('[]'),
        'regions', NULL,
        'retention_days', NULL,
        'subprocessors', json('[]'),
        'valid_from', strftime('%Y-%m-%dT%H:%M:%S', valid_from / 1000000, 'unixepoch')
            || printf('.%06dZ', valid_from % 1000000),
        'valid_until', strftime('%Y-%m-%dT%H:%M:%S', ends_at / 1000000, 'unixepoch') || printf('.%06dZ', ends_at % 1000000),
        'review_at', NULL,
        'supersedes', NULL,
        'notice_days', NULL,
        'on_end', 'deny'
    ),
    created_at,
    created_at,
    1
FROM (
    SELECT
        *,
        nth = 1 AND length(agreement_ref) BETWEEN 3 AND 100 AND agreement_ref NOT GLOB '*[^A-Za-z0-9_-]*' AS is_name
    FROM agreements_found
);

INSERT INTO agreement_terms (
    agreement_id, recipient_id, succession_id, position, state, state_since, activated_at, valid_from, ends_at, purposes
)
SELECT id, recipient_id, id, 0, 'active', valid_from, valid_from, valid_from, ends_at, '["*"]' FROM agreements_found;

INSERT INTO agreement_moves (id, agreement_id, state, moved_at, moved_by, reason)
SELECT id, id, 'active', valid_from, 'migration', 'grants referred to it' FROM agreements_found;

INSERT INTO grant_agreements (grant_id, agreement_id, succession_id)
SELECT g.id, f.id, f.id
FROM grants g
JOIN agreements_found f ON f.recipient_id = g.recipient_id AND f.agreement_ref = g.agreement_ref
    AND f.agreement_sha256 IS g.agreement_sha256 AND f.agreement_valid_until IS g.agreement_valid_until;

DROP TABLE agreements_found;
