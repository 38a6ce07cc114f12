-- Columns of registered tables, nested ones by path: what kind of data each holds, as scans propose it and people decide it.
-- A column that a scan no longer finds stays, with what was decided, until its table goes.
CREATE TABLE columns (
    id BLOB NOT NULL CONSTRAINT columns_pk PRIMARY KEY,
    table_id BLOB NOT NULL CONSTRAINT columns_table REFERENCES tables (id) ON DELETE CASCADE,
    path TEXT NOT NULL,
    data_type TEXT NOT NULL,
    spec TEXT NOT NULL,
    class TEXT,
    state TEXT NOT NULL,
    evidence TEXT,
    decided_by TEXT,
    decided_at INTEGER,
    gone_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    CONSTRAINT columns_path UNIQUE (table_id, path)
) STRICT;
