-- Governed views: what they show, version by version, and the copies that they are read as.

CREATE TABLE views (
    id BLOB NOT NULL CONSTRAINT views_pk PRIMARY KEY,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL CONSTRAINT views_name UNIQUE,
    table_id BLOB NOT NULL CONSTRAINT views_table REFERENCES tables (id),
    draft TEXT,
    description TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    revision INTEGER NOT NULL
) STRICT;
CREATE INDEX views_by_table ON views (table_id);

-- A published version never changes: its definition, pinned to what it reads of the source's schema.
CREATE TABLE view_versions (
    view_id BLOB NOT NULL CONSTRAINT view_versions_view REFERENCES views (id) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    definition TEXT NOT NULL,
    published_by TEXT NOT NULL,
    published_at INTEGER NOT NULL,
    CONSTRAINT view_versions_pk PRIMARY KEY (view_id, version)
) STRICT;

ALTER TABLE objects ADD COLUMN view_id BLOB CONSTRAINT objects_view REFERENCES views (id);
ALTER TABLE objects ADD COLUMN view_version INTEGER;
CREATE INDEX objects_by_view ON objects (view_id) WHERE view_id IS NOT NULL;

-- The register of copies: a row before the first byte is written, and for ever after. Rules are a digest of what of a
-- recipient its copies depend on; a unit is one of one source file under one version and its rules.
CREATE TABLE copies (
    id BLOB NOT NULL CONSTRAINT copies_pk PRIMARY KEY,
    unit BLOB NOT NULL,
    kind TEXT NOT NULL,
    view_id BLOB NOT NULL,
    view_version INTEGER NOT NULL,
    rules BLOB NOT NULL,
    source TEXT NOT NULL,
    object_key TEXT NOT NULL,
    state TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    row_count INTEGER NOT NULL,
    stats TEXT,
    created_at INTEGER NOT NULL,
    needed_until INTEGER NOT NULL,
    holder BLOB NOT NULL,
    held_until INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    failure TEXT,
    deleted_at INTEGER
) STRICT;
CREATE UNIQUE INDEX copies_unit ON copies (unit) WHERE state NOT IN ('draining', 'deleted');
CREATE INDEX copies_by_rules ON copies (view_id, view_version, rules) WHERE state <> 'deleted';
CREATE INDEX copies_by_object ON copies (object_key);
CREATE INDEX copies_by_need ON copies (needed_until) WHERE state <> 'deleted';

-- Who shares which rules, and when each last asked.
CREATE TABLE entitlements (
    view_id BLOB NOT NULL,
    view_version INTEGER NOT NULL,
    rules BLOB NOT NULL,
    recipient_id BLOB NOT NULL,
    share_id BLOB NOT NULL,
    asked_at INTEGER NOT NULL,
    CONSTRAINT entitlements_pk PRIMARY KEY (view_id, view_version, rules, recipient_id, share_id)
) STRICT;

-- The version of the source that is served under some rules: the newest whose copies were all made.
CREATE TABLE servings (
    view_id BLOB NOT NULL,
    view_version INTEGER NOT NULL,
    rules BLOB NOT NULL,
    delta_id TEXT NOT NULL,
    table_version INTEGER NOT NULL,
    advanced_at INTEGER NOT NULL,
    CONSTRAINT servings_pk PRIMARY KEY (view_id, view_version, rules)
) STRICT;
