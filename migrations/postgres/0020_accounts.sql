-- What was delivered of file URLs, whoever read them, for recipients whose bytes a day are limited; until the URL ends.
CREATE TABLE url_reads (
    url bytea NOT NULL CONSTRAINT url_reads_pk PRIMARY KEY,
    bytes bigint NOT NULL,
    ends_at timestamptz NOT NULL
);
CREATE INDEX url_reads_by_end ON url_reads (ends_at);

-- Which views use a scope of mixed files; without one it goes. And when it was last looked whether its files are still
-- named by the log of the table, which has this id, and from which version on the log told of them.
CREATE TABLE mixed_scopes (
    scope uuid NOT NULL,
    view_id uuid NOT NULL,
    delta_id text NOT NULL,
    earliest bigint NOT NULL,
    looked_at timestamptz NOT NULL,
    CONSTRAINT mixed_scopes_pk PRIMARY KEY (scope, view_id)
);

-- For the bytes of all copies, and of a recipient's.
CREATE INDEX copies_by_bytes ON copies (view_id, view_version, rules, bytes) WHERE state <> 'deleted' AND kind = 'file';
CREATE INDEX entitlements_by_recipient ON entitlements (recipient_id);
