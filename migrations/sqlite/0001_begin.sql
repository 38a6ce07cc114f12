-- Times are whole microseconds since 1970, UTC. Name keys are computed by the server and compare byte by byte, which is
-- what SQLite does by itself. Lists and maps are JSON text; UUIDs and hashes are blobs.

CREATE TABLE tables (
    id BLOB NOT NULL CONSTRAINT tables_pk PRIMARY KEY,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL CONSTRAINT tables_name UNIQUE,
    location TEXT NOT NULL,
    description TEXT,
    owner TEXT,
    delta_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    revision INTEGER NOT NULL
) STRICT;

CREATE TABLE shares (
    id BLOB NOT NULL CONSTRAINT shares_pk PRIMARY KEY,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL CONSTRAINT shares_name UNIQUE,
    display_name TEXT,
    description TEXT,
    properties TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    revision INTEGER NOT NULL
) STRICT;

CREATE TABLE objects (
    id BLOB NOT NULL CONSTRAINT objects_pk PRIMARY KEY,
    share_id BLOB NOT NULL CONSTRAINT objects_share REFERENCES shares (id),
    schema_name TEXT NOT NULL,
    schema_key TEXT NOT NULL,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL,
    table_id BLOB NOT NULL CONSTRAINT objects_table REFERENCES tables (id),
    history INTEGER NOT NULL,
    start_version INTEGER NOT NULL,
    cdf INTEGER NOT NULL,
    delivery TEXT,
    on_schema_change TEXT NOT NULL,
    presigned_despite_networks INTEGER NOT NULL,
    description TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    CONSTRAINT objects_name UNIQUE (share_id, schema_key, name_key)
) STRICT;
CREATE INDEX objects_by_table ON objects (table_id);

CREATE TABLE recipients (
    id BLOB NOT NULL CONSTRAINT recipients_pk PRIMARY KEY,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL CONSTRAINT recipients_name UNIQUE,
    state TEXT NOT NULL,
    display_name TEXT,
    contacts TEXT NOT NULL,
    properties TEXT NOT NULL,
    allowed_cidrs TEXT NOT NULL,
    delivery TEXT,
    description TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    revision INTEGER NOT NULL
) STRICT;

-- A token's secret is never here, only its SHA-256; none while its activation is pending.
CREATE TABLE tokens (
    id BLOB NOT NULL CONSTRAINT tokens_pk PRIMARY KEY,
    recipient_id BLOB NOT NULL CONSTRAINT tokens_recipient REFERENCES recipients (id) ON DELETE CASCADE,
    hash BLOB CONSTRAINT tokens_hash UNIQUE,
    credential TEXT NOT NULL,
    share_ids TEXT NOT NULL,
    allowed_cidrs TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    activated_at INTEGER,
    expires_at INTEGER,
    revoked_at INTEGER,
    last_used_at INTEGER
) STRICT;
CREATE INDEX tokens_by_recipient ON tokens (recipient_id, created_at, id);

-- Grants outlive what they were about, under the names that it had; so they refer to no other table.
CREATE TABLE grants (
    id BLOB NOT NULL CONSTRAINT grants_pk PRIMARY KEY,
    share_id BLOB NOT NULL,
    share_name TEXT NOT NULL,
    recipient_id BLOB NOT NULL,
    recipient_name TEXT NOT NULL,
    valid_from INTEGER NOT NULL,
    valid_until INTEGER NOT NULL,
    purpose TEXT,
    agreement_ref TEXT,
    agreement_sha256 TEXT,
    agreement_valid_until INTEGER,
    granted_by TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX grants_by_recipient ON grants (recipient_id, share_id);
CREATE INDEX grants_by_share ON grants (share_id);
CREATE INDEX grants_by_creation ON grants (created_at, id);

CREATE TABLE grant_endings (
    grant_id BLOB NOT NULL CONSTRAINT grant_endings_pk PRIMARY KEY CONSTRAINT grant_endings_grant REFERENCES grants (id),
    ended_at INTEGER NOT NULL,
    end_reason TEXT,
    ended_by TEXT NOT NULL,
    replaced_by BLOB
) STRICT;

CREATE TABLE freezes (
    id BLOB NOT NULL CONSTRAINT freezes_pk PRIMARY KEY,
    scope TEXT NOT NULL,
    reason TEXT NOT NULL,
    frozen_by TEXT NOT NULL,
    frozen_at INTEGER NOT NULL,
    lifted_by TEXT,
    lifted_at INTEGER
) STRICT;
CREATE UNIQUE INDEX freezes_live ON freezes (scope) WHERE lifted_at IS NULL;

CREATE TABLE key_fingerprints (
    fingerprint TEXT NOT NULL CONSTRAINT key_fingerprints_pk PRIMARY KEY,
    first_seen_at INTEGER NOT NULL
) STRICT;

CREATE TABLE idempotency_keys (
    operator TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    request_digest BLOB NOT NULL,
    resource_id BLOB NOT NULL,
    status INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    CONSTRAINT idempotency_keys_pk PRIMARY KEY (operator, idempotency_key)
) STRICT;
CREATE INDEX idempotency_keys_by_creation ON idempotency_keys (created_at);

-- The chain. An event is the bytes of its body; every other column is derived from them, for searching.
CREATE TABLE audit_events (
    seq INTEGER NOT NULL CONSTRAINT audit_events_pk PRIMARY KEY,
    prev_hash BLOB NOT NULL,
    hash BLOB NOT NULL,
    body TEXT NOT NULL,
    at INTEGER NOT NULL,
    action TEXT NOT NULL,
    decision TEXT NOT NULL,
    recipient_id BLOB,
    share_id BLOB,
    table_id BLOB,
    token_id BLOB,
    grant_id BLOB,
    presigned_files INTEGER,
    presigned_until INTEGER
) STRICT;
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
    seq INTEGER NOT NULL CONSTRAINT audit_personal_pk PRIMARY KEY CONSTRAINT audit_personal_event REFERENCES audit_events (seq),
    salt BLOB NOT NULL,
    personal TEXT NOT NULL
) STRICT;

-- One row that every append locks.
CREATE TABLE audit_head (
    id INTEGER NOT NULL CONSTRAINT audit_head_pk PRIMARY KEY CONSTRAINT audit_head_single CHECK (id = 1),
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL
) STRICT;
INSERT INTO audit_head (id, seq, hash) VALUES (1, 0, zeroblob(32));

CREATE TRIGGER audit_events_no_update BEFORE UPDATE ON audit_events BEGIN
    SELECT RAISE(ABORT, 'audit_events is append-only');
END;
CREATE TRIGGER audit_events_no_delete BEFORE DELETE ON audit_events BEGIN
    SELECT RAISE(ABORT, 'audit_events is append-only');
END;
CREATE TRIGGER grants_no_update BEFORE UPDATE ON grants BEGIN
    SELECT RAISE(ABORT, 'grants is append-only');
END;
CREATE TRIGGER grants_no_delete BEFORE DELETE ON grants BEGIN
    SELECT RAISE(ABORT, 'grants is append-only');
END;
CREATE TRIGGER grant_endings_no_update BEFORE UPDATE ON grant_endings BEGIN
    SELECT RAISE(ABORT, 'grant_endings is append-only');
END;
CREATE TRIGGER grant_endings_no_delete BEFORE DELETE ON grant_endings BEGIN
    SELECT RAISE(ABORT, 'grant_endings is append-only');
END;
