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
    updated_at INTEGER NOT NULL
) STRICT;

-- What the masks in effect on a published version come from, so that none becomes weaker by itself.
CREATE TABLE tightenings (
    view_id BLOB NOT NULL,
    view_version INTEGER NOT NULL,
    spec TEXT NOT NULL,
    CONSTRAINT tightenings_pk PRIMARY KEY (view_id, view_version),
    CONSTRAINT tightenings_version FOREIGN KEY (view_id, view_version)
        REFERENCES view_versions (view_id, version) ON DELETE CASCADE
) STRICT;
