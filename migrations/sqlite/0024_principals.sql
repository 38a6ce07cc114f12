-- Whoever has signed in by the operators' issuer. Its id is made of issuer and subject.
CREATE TABLE operator_identities (
    id BLOB NOT NULL CONSTRAINT operator_identities_pk PRIMARY KEY,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    name TEXT NOT NULL,
    disabled_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    revision INTEGER NOT NULL
) STRICT;
CREATE INDEX operator_identities_by_creation ON operator_identities (created_at, id);

CREATE TABLE operator_groups (
    id BLOB NOT NULL CONSTRAINT operator_groups_pk PRIMARY KEY,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL CONSTRAINT operator_groups_name UNIQUE,
    spec TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    revision INTEGER NOT NULL
) STRICT;
