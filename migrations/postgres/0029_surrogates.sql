-- The random texts that stand for values in the files of views with the mask `surrogate`: one set for each recipient, until
-- it ends. A value is known by a keyed digest of it and of its domain, never by itself.
CREATE TABLE surrogate_sets (
    id UUID NOT NULL,
    recipient_id UUID NOT NULL,
    begun_at TIMESTAMPTZ NOT NULL,
    drawn_at TIMESTAMPTZ NOT NULL,
    ended_at TIMESTAMPTZ,
    CONSTRAINT surrogate_sets_pk PRIMARY KEY (id)
);
CREATE UNIQUE INDEX surrogate_sets_recipient ON surrogate_sets (recipient_id) WHERE ended_at IS NULL;

CREATE TABLE surrogates (
    set_id UUID NOT NULL,
    digest UUID NOT NULL,
    random UUID NOT NULL,
    CONSTRAINT surrogates_pk PRIMARY KEY (set_id, digest),
    CONSTRAINT surrogates_random UNIQUE (set_id, random)
);

-- How many of a set were drawn for a view, for the bound on them.
CREATE TABLE surrogate_draws (
    view_id UUID NOT NULL,
    set_id UUID NOT NULL,
    drawn BIGINT NOT NULL,
    CONSTRAINT surrogate_draws_pk PRIMARY KEY (view_id, set_id)
);
