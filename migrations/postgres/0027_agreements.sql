CREATE TABLE agreements (
    id uuid NOT NULL CONSTRAINT agreements_pk PRIMARY KEY,
    name text NOT NULL,
    name_key text COLLATE "C" NOT NULL CONSTRAINT agreements_name UNIQUE,
    spec text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision bigint NOT NULL
);

-- What decisions ask of an agreement: derived from its spec, and its state. Agreements that take each other's place are one
-- succession, under the id of the first.
CREATE TABLE agreement_terms (
    agreement_id uuid NOT NULL CONSTRAINT agreement_terms_pk PRIMARY KEY
        CONSTRAINT agreement_terms_agreement REFERENCES agreements (id) ON DELETE CASCADE,
    recipient_id uuid NOT NULL,
    succession_id uuid NOT NULL,
    position bigint NOT NULL,
    state text NOT NULL,
    state_since timestamptz NOT NULL,
    activated_at timestamptz,
    valid_from timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    purposes text NOT NULL
);
CREATE UNIQUE INDEX agreement_terms_succession ON agreement_terms (succession_id, position);
CREATE INDEX agreement_terms_by_recipient ON agreement_terms (recipient_id);

-- Every state that an agreement came to, so that the past can be answered for.
CREATE TABLE agreement_moves (
    id uuid NOT NULL CONSTRAINT agreement_moves_pk PRIMARY KEY,
    agreement_id uuid NOT NULL CONSTRAINT agreement_moves_agreement REFERENCES agreements (id) ON DELETE CASCADE,
    state text NOT NULL,
    moved_at timestamptz NOT NULL,
    moved_by text NOT NULL,
    reason text
);
CREATE INDEX agreement_moves_by_time ON agreement_moves (agreement_id, moved_at, id);
CREATE TRIGGER agreement_moves_no_update BEFORE UPDATE OR TRUNCATE ON agreement_moves
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE grant_agreements (
    grant_id uuid NOT NULL CONSTRAINT grant_agreements_grant REFERENCES grants (id),
    agreement_id uuid NOT NULL CONSTRAINT grant_agreements_agreement REFERENCES agreements (id),
    succession_id uuid NOT NULL,
    CONSTRAINT grant_agreements_pk PRIMARY KEY (grant_id, agreement_id)
);
CREATE INDEX grant_agreements_by_succession ON grant_agreements (succession_id);
CREATE TRIGGER grant_agreements_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON grant_agreements
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Null: any purpose. Derived from the spec.
ALTER TABLE tables ADD COLUMN allowed_purposes text;

-- Each agreement that grants refer to becomes one of its own, for any purpose, active until it ends: its own end, or else
-- that of the last of its grants.
CREATE TABLE agreements_found AS
SELECT
    gen_random_uuid() AS id,
    found.*,
    row_number() OVER (PARTITION BY lower(agreement_ref) ORDER BY created_at, recipient_id) AS nth
FROM (
    SELECT
        recipient_id,
        min(recipient_name) AS recipient_name,
        agreement_ref,
        agreement_sha256,
        agreement_valid_until,
        min(least(valid_from, created_at)) AS valid_from,
        least(
            greatest(
                coalesce(agreement_valid_until, max(valid_until)),
                min(least(valid_from, created_at)) + interval '1 microsecond'
            ),
            timestamptz '9999-12-31 23:59:59+00'
        ) AS ends_at,
        min(created_at) AS created_at
    FROM grants
    WHERE agreement_ref IS NOT NULL
    GROUP BY recipient_id, agreement_ref, agreement_sha256, agreement_valid_until
) found;

INSERT INTO agreements (id, name, name_key, spec, created_at, updated_at, revision)
SELECT
    id,
    CASE WHEN is_name THEN agreement_ref ELSE 'agreement-' || replace(id::text, '-', '') END,
    CASE WHEN is_name THEN lower(agreement_ref) ELSE 'agreement-' || replace(id::text, '-', '') END,
    json_build_object(
        'recipient', recipient_name,
        'type', 'custom',
        'document', json_build_object('uri', agreement_ref, 'sha256', agreement_sha256),
        'purposes', json '["*"]',
        'classes', json '[]',
        'regions', NULL,
        'retention_days', NULL,
        'subprocessors', json '[]',
        'valid_from', to_char(valid_from AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'valid_until', to_char(ends_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'review_at', NULL,
        'supersedes', NULL,
        'notice_days', NULL,
        'on_end', 'deny'
    )::text,
    created_at,
    created_at,
    1
FROM (
    SELECT *, nth = 1 AND agreement_ref ~ '^[A-Za-z0-9_-]{3,100}$' AS is_name FROM agreements_found
) named;

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
    AND f.agreement_sha256 IS NOT DISTINCT FROM g.agreement_sha256
    AND f.agreement_valid_until IS NOT DISTINCT FROM g.agreement_valid_until;

DROP TABLE agreements_found;
