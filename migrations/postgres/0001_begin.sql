-- Times are timestamptz, in whole microseconds. Name keys are computed by the server and compare byte by byte, hence
-- COLLATE "C". Lists and maps are JSON text: jsonb would rewrite numbers and refuse U+0000.

CREATE TABLE tables (
    id uuid NOT NULL CONSTRAINT tables_pk PRIMARY KEY,
    name text NOT NULL,
    name_key text COLLATE "C" NOT NULL CONSTRAINT tables_name UNIQUE,
    location text NOT NULL,
    description text,
    owner text,
    delta_id text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision bigint NOT NULL
);

CREATE TABLE shares (
    id uuid NOT NULL CONSTRAINT shares_pk PRIMARY KEY,
    name text NOT NULL,
    name_key text COLLATE "C" NOT NULL CONSTRAINT shares_name UNIQUE,
    display_name text,
    description text,
    properties text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision bigint NOT NULL
);

CREATE TABLE objects (
    id uuid NOT NULL CONSTRAINT objects_pk PRIMARY KEY,
    share_id uuid NOT NULL CONSTRAINT objects_share REFERENCES shares (id),
    schema_name text NOT NULL,
    schema_key text COLLATE "C" NOT NULL,
    name text NOT NULL,
    name_key text COLLATE "C" NOT NULL,
    table_id uuid NOT NULL CONSTRAINT objects_table REFERENCES tables (id),
    history boolean NOT NULL,
    start_version bigint NOT NULL,
    cdf boolean NOT NULL,
    delivery text,
    on_schema_change text NOT NULL,
    presigned_despite_networks boolean NOT NULL,
    description text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision bigint NOT NULL,
    CONSTRAINT objects_name UNIQUE (share_id, schema_key, name_key)
);
CREATE INDEX objects_by_table ON objects (table_id);

CREATE TABLE recipients (
    id uuid NOT NULL CONSTRAINT recipients_pk PRIMARY KEY,
    name text NOT NULL,
    name_key text COLLATE "C" NOT NULL CONSTRAINT recipients_name UNIQUE,
    state text NOT NULL,
    display_name text,
    contacts text NOT NULL,
    properties text NOT NULL,
    allowed_cidrs text NOT NULL,
    delivery text,
    description text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision bigint NOT NULL
);

-- A token's secret is never here, only its SHA-256; none while its activation is pending.
CREATE TABLE tokens (
    id uuid NOT NULL CONSTRAINT tokens_pk PRIMARY KEY,
    recipient_id uuid NOT NULL CONSTRAINT tokens_recipient REFERENCES recipients (id) ON DELETE CASCADE,
    hash bytea CONSTRAINT tokens_hash UNIQUE,
    credential text NOT NULL,
    share_ids text NOT NULL,
    allowed_cidrs text NOT NULL,
    created_at timestamptz NOT NULL,
    activated_at timestamptz,
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz
);
CREATE INDEX tokens_by_recipient ON tokens (recipient_id, created_at, id);

-- Grants outlive what they were about, under the names that it had; so they refer to no other table.
CREATE TABLE grants (
    id uuid NOT NULL CONSTRAINT grants_pk PRIMARY KEY,
    share_id uuid NOT NULL,
    share_name text NOT NULL,
    recipient_id uuid NOT NULL,
    recipient_name text NOT NULL,
    valid_from timestamptz NOT NULL,
    valid_until timestamptz NOT NULL,
    purpose text,
    agreement_ref text,
    agreement_sha256 text,
    agreement_valid_until timestamptz,
    granted_by text NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX grants_by_recipient ON grants (recipient_id, share_id);
CREATE INDEX grants_by_share ON grants (share_id);
CREATE INDEX grants_by_creation ON grants (created_at, id);

CREATE TABLE grant_endings (
    grant_id uuid NOT NULL CONSTRAINT grant_endings_pk PRIMARY KEY CONSTRAINT grant_endings_grant REFERENCES grants (id),
    ended_at timestamptz NOT NULL,
    end_reason text,
    ended_by text NOT NULL,
    replaced_by uuid
);

CREATE TABLE freezes (
    id uuid NOT NULL CONSTRAINT freezes_pk PRIMARY KEY,
    scope text NOT NULL,
    reason text NOT NULL,
    frozen_by text NOT NULL,
    frozen_at timestamptz NOT NULL,
    lifted_by text,
    lifted_at timestamptz
);
CREATE UNIQUE INDEX freezes_live ON freezes (scope) WHERE lifted_at IS NULL;

CREATE TABLE key_fingerprints (
    fingerprint text NOT NULL CONSTRAINT key_fingerprints_pk PRIMARY KEY,
    first_seen_at timestamptz NOT NULL
);

CREATE TABLE idempotency_keys (
    operator text NOT NULL,
    idempotency_key text NOT NULL,
    request_digest bytea NOT NULL,
    resource_id uuid NOT NULL,
    status bigint NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT idempotency_keys_pk PRIMARY KEY (operator, idempotency_key)
);
CREATE INDEX idempotency_keys_by_creation ON idempotency_keys (created_at);

-- The chain. An event is the bytes of its body; every other column is derived from them, for searching.
CREATE TABLE audit_events (
    seq bigint NOT NULL CONSTRAINT audit_events_pk PRIMARY KEY,
    prev_hash bytea NOT NULL,
    hash bytea NOT NULL,
    body text NOT NULL,
    at timestamptz NOT NULL,
    action text NOT NULL,
    decision text NOT NULL,
    recipient_id uuid,
    share_id uuid,
    table_id uuid,
    token_id uuid,
    grant_id uuid,
    presigned_files bigint,
    presigned_until timestamptz
);
CREATE INDEX audit_events_by_recipient ON audit_events (recipient_id, seq) WHERE recipient_id IS NOT NULL;
CREATE INDEX audit_events_by_share ON audit_events (share_id, seq) WHERE share_id IS NOT NULL;
CREATE INDEX audit_events_by_table ON audit_events (table_id, seq) WHERE table_id IS NOT NULL;
CREATE INDEX audit_events_by_action ON audit_events (action, seq);
CREATE INDEX audit_events_by_time ON audit_events (at);
CREATE INDEX audit_events_presigned_by_token ON audit_events (token_id, presigned_until)
    WHERE presigned_until IS NOT NULL;
CREATE INDEX audit_events_presigned_by_grant ON audit_events (grant_id, presigned_until)
    WHERE presigned_until IS NOT NULL;

-- What is personal about an event; the only part of the trail that may be erased.
CREATE TABLE audit_personal (
    seq bigint NOT NULL CONSTRAINT audit_personal_pk PRIMARY KEY CONSTRAINT audit_personal_event REFERENCES audit_events (seq),
    salt bytea NOT NULL,
    personal text NOT NULL
);

-- One row that every append locks. Room on its page keeps the constant updates away from the index.
CREATE TABLE audit_head (
    id bigint NOT NULL CONSTRAINT audit_head_pk PRIMARY KEY CONSTRAINT audit_head_single CHECK (id = 1),
    seq bigint NOT NULL,
    hash bytea NOT NULL
) WITH (fillfactor = 10);
INSERT INTO audit_head (id, seq, hash) VALUES (1, 0, decode(repeat('00', 32), 'hex'));

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END
$$;
CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER grants_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON grants
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER grant_endings_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON grant_endings
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
