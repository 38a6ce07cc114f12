CREATE TABLE controls (
    id BLOB NOT NULL CONSTRAINT controls_pk PRIMARY KEY,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL CONSTRAINT controls_name UNIQUE,
    spec TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    revision INTEGER NOT NULL
) STRICT;

-- What a shared object asks of its readers, derived from controls, columns and the object by every change of one of them.
CREATE TABLE requirements (
    object_id BLOB NOT NULL CONSTRAINT requirements_pk PRIMARY KEY
        CONSTRAINT requirements_object REFERENCES objects (id) ON DELETE CASCADE,
    spec TEXT NOT NULL,
    tightenings TEXT NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
