-- Whoever has signed in by the operators' issuer. Its id is made of issuer and subject.
CREATE TABLE operator_identities (
    id uuid NOT NULL CONSTRAINT operator_identities_pk PRIMARY KEY,
    issuer text NOT NULL,
    subject text NOT NULL,
    name text NOT NULL,
    disabled_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision bigint NOT NULL
);
CREATE INDEX operator_identities_by_creation ON operator_identities (created_at, id);

CREATE TABLE operator_groups (
    id uuid NOT NULL CONSTRAINT operator_groups_pk PRIMARY KEY,
    name text NOT NULL,
    name_key text COLLATE "C" NOT NULL CONSTRAINT operator_groups_name UNIQUE,
    spec text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision bigint NOT NULL
);
