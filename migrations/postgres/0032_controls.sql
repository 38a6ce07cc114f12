CREATE TABLE controls (
    id uuid NOT NULL CONSTRAINT controls_pk PRIMARY KEY,
    name text NOT NULL,
    name_key text COLLATE "C" NOT NULL CONSTRAINT controls_name UNIQUE,
    spec text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision bigint NOT NULL
);

-- What a shared object asks of its readers, derived from controls, columns and the object by every change of one of them.
CREATE TABLE requirements (
    object_id uuid NOT NULL CONSTRAINT requirements_pk PRIMARY KEY
        CONSTRAINT requirements_object REFERENCES objects (id) ON DELETE CASCADE,
    spec text NOT NULL,
    tightenings text NOT NULL,
    updated_at timestamptz NOT NULL
);
