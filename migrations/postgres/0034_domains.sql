CREATE TABLE domains (
    id uuid NOT NULL CONSTRAINT domains_pk PRIMARY KEY,
    name text NOT NULL,
    name_key text COLLATE "C" NOT NULL CONSTRAINT domains_name UNIQUE,
    spec text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision bigint NOT NULL
);

-- The names of operators and groups that were deleted: what they owned has an owner who cannot answer any more, while other
-- texts were never anybody's name.
CREATE TABLE former_owners (
    name_key text COLLATE "C" NOT NULL CONSTRAINT former_owners_pk PRIMARY KEY,
    deleted_at timestamptz NOT NULL
);

CREATE TABLE exceptions (
    id uuid NOT NULL CONSTRAINT exceptions_pk PRIMARY KEY,
    name text NOT NULL,
    name_key text COLLATE "C" NOT NULL CONSTRAINT exceptions_name UNIQUE,
    spec text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision bigint NOT NULL
);

-- What is asked of an exception: derived from its spec, by the identity of its object, and its state.
CREATE TABLE exception_states (
    exception_id uuid NOT NULL CONSTRAINT exception_states_pk PRIMARY KEY
        CONSTRAINT exception_states_exception REFERENCES exceptions (id) ON DELETE CASCADE,
    rule text NOT NULL,
    object_kind text NOT NULL,
    object_id uuid NOT NULL,
    object_version bigint,
    expires_at timestamptz NOT NULL,
    state text NOT NULL,
    state_since timestamptz NOT NULL,
    proposer text NOT NULL,
    proposed_by text NOT NULL,
    approved_by text
);
CREATE INDEX exception_states_by_object ON exception_states (object_id, rule);
