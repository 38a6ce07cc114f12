-- Governed views: what they show, version by version, and the copies that they are read as.

CREATE TABLE views (
    id uuid NOT NULL CONSTRAINT views_pk PRIMARY KEY,
    name text NOT NULL,
    name_key text COLLATE "C" NOT NULL CONSTRAINT views_name UNIQUE,
    table_id uuid NOT NULL CONSTRAINT views_table REFERENCES tables (id),
    draft text,
    description text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision bigint NOT NULL
);
CREATE INDEX views_by_table ON views (table_id);

-- A published version never changes: its definition, pinned to what it reads of the source's schema.
CREATE TABLE view_versions (
    view_id uuid NOT NULL CONSTRAINT view_versions_view REFERENCES views (id) ON DELETE CASCADE,
    version bigint NOT NULL,
    definition text NOT NULL,
    published_by text NOT NULL,
    published_at timestamptz NOT NULL,
    CONSTRAINT view_versions_pk PRIMARY KEY (view_id, version)
);

ALTER TABLE objects ADD COLUMN view_id uuid CONSTRAINT objects_view REFERENCES views (id);
ALTER TABLE objects ADD COLUMN view_version bigint;
CREATE INDEX objects_by_view ON objects (view_id) WHERE view_id IS NOT NULL;

-- The register of copies: a row before the first byte is written, and for ever after. Rules are a digest of what of a
-- recipient its copies depend on; a unit is one of one source file under one version and its rules.
CREATE TABLE copies (
    id uuid NOT NULL CONSTRAINT copies_pk PRIMARY KEY,
    unit bytea NOT NULL,
    kind text NOT NULL,
    view_id uuid NOT NULL,
    view_version bigint NOT NULL,
    rules bytea NOT NULL,
    source text NOT NULL,
    object_key text NOT NULL,
    state text NOT NULL,
    bytes bigint NOT NULL,
    row_count bigint NOT NULL,
    stats text,
    created_at timestamptz NOT NULL,
    needed_until timestamptz NOT NULL,
    holder uuid NOT NULL,
    held_until timestamptz NOT NULL,
    attempts bigint NOT NULL,
    failure text,
    deleted_at timestamptz
);
CREATE UNIQUE INDEX copies_unit ON copies (unit) WHERE state NOT IN ('draining', 'deleted');
CREATE INDEX copies_by_rules ON copies (view_id, view_version, rules) WHERE state <> 'deleted';
CREATE INDEX copies_by_object ON copies (object_key);
CREATE INDEX copies_by_need ON copies (needed_until) WHERE state <> 'deleted';

-- Who shares which rules, and when each last asked.
CREATE TABLE entitlements (
    view_id uuid NOT NULL,
    view_version bigint NOT NULL,
    rules bytea NOT NULL,
    recipient_id uuid NOT NULL,
    share_id uuid NOT NULL,
    asked_at timestamptz NOT NULL,
    CONSTRAINT entitlements_pk PRIMARY KEY (view_id, view_version, rules, recipient_id, share_id)
);

-- The version of the source that is served under some rules: the newest whose copies were all made.
CREATE TABLE servings (
    view_id uuid NOT NULL,
    view_version bigint NOT NULL,
    rules bytea NOT NULL,
    delta_id text NOT NULL,
    table_version bigint NOT NULL,
    advanced_at timestamptz NOT NULL,
    CONSTRAINT servings_pk PRIMARY KEY (view_id, view_version, rules)
);
