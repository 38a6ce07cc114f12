CREATE TABLE operators (
    id uuid NOT NULL CONSTRAINT operators_pk PRIMARY KEY,
    name text NOT NULL,
    name_key text COLLATE "C" NOT NULL CONSTRAINT operators_name UNIQUE,
    role text NOT NULL,
    description text,
    disabled_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision bigint NOT NULL
);

-- A token's secret is never here, only its SHA-256.
CREATE TABLE operator_tokens (
    id uuid NOT NULL CONSTRAINT operator_tokens_pk PRIMARY KEY,
    operator_id uuid NOT NULL CONSTRAINT operator_tokens_operator REFERENCES operators (id) ON DELETE CASCADE,
    hash bytea NOT NULL CONSTRAINT operator_tokens_hash UNIQUE,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz
);
CREATE INDEX operator_tokens_by_operator ON operator_tokens (operator_id, created_at, id);
