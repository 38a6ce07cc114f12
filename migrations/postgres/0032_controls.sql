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
    updated_at timestamptz NOT NULL
);

-- What the masks in effect on a published version come from, so that none becomes weaker by itself.
CREATE TABLE tightenings (
    view_id uuid NOT NULL,
    view_version bigint NOT NULL,
    spec text NOT NULL,
    CONSTRAINT tightenings_pk PRIMARY KEY (view_id, view_version),
    CONSTRAINT tightenings_version FOREIGN KEY (view_id, view_version)
        REFERENCES view_versions (view_id, version) ON DELETE CASCADE
);
