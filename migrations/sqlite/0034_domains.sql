CREATE TABLE domains (
    id BLOB NOT NULL CONSTRAINT domains_pk PRIMARY KEY,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL CONSTRAINT domains_name UNIQUE,
    spec TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    revision INTEGER NOT NULL
) STRICT;

-- The names of operators and groups that were deleted: what they owned has an owner who cannot answer any more, while other
-- texts were never anybody's name.
CREATE TABLE former_owners (
    name_key TEXT NOT NULL CONSTRAINT former_owners_pk PRIMARY KEY,
    deleted_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE exceptions (
    id BLOB NOT NULL CONSTRAINT exceptions_pk PRIMARY KEY,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL CONSTRAINT exceptions_name UNIQUE,
    spec TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    revision INTEGER NOT NULL
) STRICT;

-- What is asked of an exception: derived from its spec, by the identity of its object, and its state.
CREATE TABLE exception_states (
    exception_id BLOB NOT NULL CONSTRAINT exception_states_pk PRIMARY KEY
        CONSTRAINT exception_states_exception REFERENCES exceptions (id) ON DELETE CASCADE,
    rule TEXT NOT NULL,
    object_kind TEXT NOT NULL,
    object_id BLOB NOT NULL,
    object_version INTEGER,
    expires_at INTEGER NOT NULL,
    state TEXT NOT NULL,
    state_since INTEGER NOT NULL,
    proposer TEXT NOT NULL,
    proposed_by TEXT NOT NULL,
    approved_by TEXT
) STRICT;
CREATE INDEX exception_states_by_object ON exception_states (object_id, rule);
