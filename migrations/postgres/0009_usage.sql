-- What the audit trail comes to, by hour and by day (both counted in hours since 1970, UTC), recipient and shared object;
-- where an event names none, the nil id stands. Every event is in exactly one row of each period.
CREATE TABLE usage_counts (
    period text COLLATE "C" NOT NULL,
    start bigint NOT NULL,
    recipient_id uuid NOT NULL,
    share_id uuid NOT NULL,
    table_id uuid NOT NULL,
    events bigint NOT NULL,
    requests bigint NOT NULL,
    file_reads bigint NOT NULL,
    denials bigint NOT NULL,
    files bigint NOT NULL,
    row_count bigint NOT NULL,
    answers_without_rows bigint NOT NULL,
    bytes_issued bigint NOT NULL,
    bytes_delivered bigint,
    addresses bigint NOT NULL,
    addresses_lost bigint NOT NULL,
    answers bigint NOT NULL,
    answer_ms bigint NOT NULL,
    within_10 bigint NOT NULL,
    within_30 bigint NOT NULL,
    within_100 bigint NOT NULL,
    within_300 bigint NOT NULL,
    within_1000 bigint NOT NULL,
    within_3000 bigint NOT NULL,
    within_10000 bigint NOT NULL,
    within_30000 bigint NOT NULL,
    within_100000 bigint NOT NULL,
    beyond bigint NOT NULL,
    CONSTRAINT usage_counts_pk PRIMARY KEY (period, start, recipient_id, share_id, table_id)
);
CREATE INDEX usage_counts_by_recipient ON usage_counts (recipient_id, period, start);

-- Which addresses these rows have seen, as keyed digests, for as long as the trail may keep the addresses themselves.
CREATE TABLE usage_addresses (
    period text COLLATE "C" NOT NULL,
    start bigint NOT NULL,
    recipient_id uuid NOT NULL,
    share_id uuid NOT NULL,
    table_id uuid NOT NULL,
    digest bytea NOT NULL,
    CONSTRAINT usage_addresses_pk PRIMARY KEY (period, start, recipient_id, share_id, table_id, digest)
);
CREATE INDEX usage_addresses_by_recipient ON usage_addresses (recipient_id, period, start);

-- The last names of what is counted, so that what was deleted still has one.
CREATE TABLE usage_names (
    id uuid NOT NULL CONSTRAINT usage_names_pk PRIMARY KEY,
    name text NOT NULL
);

-- How far the trail is counted; moved in the transaction that counts. From which hour on there are rows by the hour, and
-- digests of addresses.
CREATE TABLE usage_progress (
    id bigint NOT NULL CONSTRAINT usage_progress_pk PRIMARY KEY CONSTRAINT usage_progress_single CHECK (id = 1),
    seq bigint NOT NULL,
    hours_from bigint NOT NULL,
    addresses_from bigint NOT NULL,
    address_key bytea
);
INSERT INTO usage_progress (id, seq, hours_from, addresses_from) VALUES (1, 0, 0, 0);
