-- Work that nobody waits for, one row for each piece, gone when it is done. Who does one holds it for a while, and says again
-- and again that it goes on; after that it is anybody's.
CREATE TABLE jobs (
    id uuid NOT NULL CONSTRAINT jobs_pk PRIMARY KEY,
    kind text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    state text NOT NULL,
    attempts bigint NOT NULL,
    created_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    holder uuid,
    held_until timestamptz,
    ended_at timestamptz,
    failure text,
    CONSTRAINT jobs_once UNIQUE (kind, key)
);
CREATE INDEX jobs_due ON jobs (kind, due_at) WHERE state <> 'dead';

-- Reports are made by jobs. Servers of the version before go on claiming theirs by the columns that stay here; whoever ends
-- one first has made it. A later migration drops them.
ALTER TABLE reports ALTER COLUMN claimed_until SET DEFAULT now();
INSERT INTO jobs (id, kind, key, state, attempts, created_at, due_at, ended_at, failure)
    SELECT gen_random_uuid(), 'report', id::text, CASE state WHEN 'failed' THEN 'dead' ELSE 'due' END, 0, requested_at,
        requested_at, CASE state WHEN 'failed' THEN requested_at END, failure
    FROM reports WHERE state IN ('making', 'failed');
