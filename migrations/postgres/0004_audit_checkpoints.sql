-- Signed statements of how long the audit chain is. Each names the one before, so that none is left out or forked:
-- two checkpoints behind the same one cannot both be kept.
CREATE TABLE audit_checkpoints (
    seq bigint NOT NULL CONSTRAINT audit_checkpoints_pk PRIMARY KEY,
    previous_seq bigint NOT NULL CONSTRAINT audit_checkpoints_previous UNIQUE,
    frontier bytea NOT NULL,
    note text NOT NULL,
    created_at timestamptz NOT NULL,
    exported_at timestamptz
);
CREATE INDEX audit_checkpoints_unexported ON audit_checkpoints (seq) WHERE exported_at IS NULL;

-- The stub of events that live in the export only: everything up to a checkpoint.
CREATE TABLE audit_detachments (
    through_seq bigint NOT NULL CONSTRAINT audit_detachments_pk PRIMARY KEY
        CONSTRAINT audit_detachments_checkpoint REFERENCES audit_checkpoints (seq),
    detached_at timestamptz NOT NULL
);

-- Which process does a background task at the moment.
CREATE TABLE leases (
    name text NOT NULL CONSTRAINT leases_pk PRIMARY KEY,
    holder uuid NOT NULL,
    held_until timestamptz NOT NULL
);
