-- Columns of registered tables, nested ones by path: what kind of data each holds, as scans propose it and people decide it.
-- A column that a scan no longer finds stays, with what was decided, until its table goes.
CREATE TABLE columns (
    id uuid NOT NULL CONSTRAINT columns_pk PRIMARY KEY,
    table_id uuid NOT NULL CONSTRAINT columns_table REFERENCES tables (id) ON DELETE CASCADE,
    path text COLLATE "C" NOT NULL,
    data_type text NOT NULL,
    spec text NOT NULL,
    class text,
    state text NOT NULL,
    evidence text,
    decided_by text,
    decided_at timestamptz,
    gone_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision bigint NOT NULL,
    CONSTRAINT columns_path UNIQUE (table_id, path)
);
