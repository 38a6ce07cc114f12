CREATE TABLE operators (
    id BLOB NOT NULL CONSTRAINT operators_pk PRIMARY KEY,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL CONSTRAINT operators_name UNIQUE,
    role TEXT NOT NULL,
    description TEXT,
    disabled_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    revision INTEGER NOT NULL
) STRICT;

-- A token's secret is never here, only its SHA-256.
CREATE TABLE operator_tokens (
    id BLOB NOT NULL CONSTRAINT operator_tokens_pk PRIMARY KEY,
    operator_id BLOB NOT NULL CONSTRAINT operator_tokens_operator REFERENCES operators (id) ON DELETE CASCADE,
    hash BLOB NOT NULL CONSTRAINT operator_tokens_hash UNIQUE,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;
CREATE INDEX operator_tokens_by_operator ON operator_tokens (operator_id, created_at, id);
