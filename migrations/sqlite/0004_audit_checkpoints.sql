-- Signed statements of how long the audit chain is. Each names the one before, so that none is left out or forked:
-- two checkpoints behind the same one cannot both be kept.
CREATE TABLE audit_checkpoints (
    seq INTEGER NOT NULL CONSTRAINT audit_checkpoints_pk PRIMARY KEY,
    previous_seq INTEGER NOT NULL CONSTRAINT audit_checkpoints_previous UNIQUE,
    frontier BLOB NOT NULL,
    note TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    exported_at INTEGER
) STRICT;
CREATE INDEX audit_checkpoints_unexported ON audit_checkpoints (seq) WHERE exported_at IS NULL;

-- The stub of events that live in the export only: everything up to a checkpoint.
CREATE TABLE audit_detachments (
    through_seq INTEGER NOT NULL CONSTRAINT audit_detachments_pk PRIMARY KEY
        CONSTRAINT audit_detachments_checkpoint REFERENCES audit_checkpoints (seq),
    detached_at INTEGER NOT NULL
) STRICT;

-- Which process does a background task at the moment.
CREATE TABLE leases (
    name TEXT NOT NULL CONSTRAINT leases_pk PRIMARY KEY,
    holder BLOB NOT NULL,
    held_until INTEGER NOT NULL
) STRICT;
