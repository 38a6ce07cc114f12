-- Work that nobody waits for, one row for each piece, gone when it is done. Who does one holds it for a while, and says again
-- and again that it goes on; after that it is anybody's.
CREATE TABLE jobs (
    id BLOB NOT NULL CONSTRAINT jobs_pk PRIMARY KEY,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    holder BLOB,
    held_until INTEGER,
    ended_at INTEGER,
    failure TEXT,
    CONSTRAINT jobs_once UNIQUE (kind, key)
) STRICT;
CREATE INDEX jobs_due ON jobs (kind, due_at) WHERE state <> 'dead';

-- Reports are made by jobs, which have what was claimed here.
INSERT INTO jobs (id, kind, key, state, attempts, created_at, due_at, ended_at, failure)
    SELECT randomblob(16), 'report', lower(
        substr(hex(id), 1, 8) || '-' || substr(hex(id), 9, 4) || '-' || substr(hex(id), 13, 4) || '-' ||
        substr(hex(id), 17, 4) || '-' || substr(hex(id), 21)
    ), CASE state WHEN 'failed' THEN 'dead' ELSE 'due' END, 0, requested_at, requested_at,
        CASE state WHEN 'failed' THEN requested_at END, failure
    FROM reports WHERE state IN ('making', 'failed');
DROP INDEX reports_making;
ALTER TABLE reports DROP COLUMN claimed_until;
ALTER TABLE reports DROP COLUMN holder;
