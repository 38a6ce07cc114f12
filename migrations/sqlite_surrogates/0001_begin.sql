-- The file beside the database with the random texts that stand for values in the files of views with the mask `surrogate`:
-- one set for each recipient, until it ends. A value is known by a keyed digest of it and of its domain, never by itself.
CREATE TABLE surrogate_sets (
    id BLOB NOT NULL,
    recipient_id BLOB NOT NULL,
    begun_at INTEGER NOT NULL,
    drawn_at INTEGER NOT NULL,
    ended_at INTEGER,
    CONSTRAINT surrogate_sets_pk PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX surrogate_sets_recipient ON surrogate_sets (recipient_id) WHERE ended_at IS NULL;

CREATE TABLE surrogates (
    set_id BLOB NOT NULL,
    digest BLOB NOT NULL,
    random BLOB NOT NULL,
    CONSTRAINT surrogates_pk PRIMARY KEY (set_id, digest),
    CONSTRAINT surrogates_random UNIQUE (set_id, random)
) STRICT, WITHOUT ROWID;

-- How many of a set were drawn for a view, for the bound on them.
CREATE TABLE surrogate_draws (
    view_id BLOB NOT NULL,
    set_id BLOB NOT NULL,
    drawn INTEGER NOT NULL,
    CONSTRAINT surrogate_draws_pk PRIMARY KEY (view_id, set_id)
) STRICT, WITHOUT ROWID;
