-- What the audit trail comes to, by hour and by day (both counted in hours since 1970, UTC), recipient and shared object;
-- where an event names none, the nil id stands. Every event is in exactly one row of each period.
CREATE TABLE usage_counts (
    period TEXT NOT NULL,
    start INTEGER NOT NULL,
    recipient_id BLOB NOT NULL,
    share_id BLOB NOT NULL,
    table_id BLOB NOT NULL,
    events INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    file_reads INTEGER NOT NULL,
    denials INTEGER NOT NULL,
    files INTEGER NOT NULL,
    row_count INTEGER NOT NULL,
    answers_without_rows INTEGER NOT NULL,
    bytes_issued INTEGER NOT NULL,
    bytes_delivered INTEGER,
    addresses INTEGER NOT NULL,
    addresses_lost INTEGER NOT NULL,
    answers INTEGER NOT NULL,
    answer_ms INTEGER NOT NULL,
    within_10 INTEGER NOT NULL,
    within_30 INTEGER NOT NULL,
    within_100 INTEGER NOT NULL,
    within_300 INTEGER NOT NULL,
    within_1000 INTEGER NOT NULL,
    within_3000 INTEGER NOT NULL,
    within_10000 INTEGER NOT NULL,
    within_30000 INTEGER NOT NULL,
    within_100000 INTEGER NOT NULL,
    beyond INTEGER NOT NULL,
    CONSTRAINT usage_counts_pk PRIMARY KEY (period, start, recipient_id, share_id, table_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_counts_by_recipient ON usage_counts (recipient_id, period, start);

-- Which addresses these rows have seen, as keyed digests, for as long as the trail may keep the addresses themselves.
CREATE TABLE usage_addresses (
    period TEXT NOT NULL,
    start INTEGER NOT NULL,
    recipient_id BLOB NOT NULL,
    share_id BLOB NOT NULL,
    table_id BLOB NOT NULL,
    digest BLOB NOT NULL,
    CONSTRAINT usage_addresses_pk PRIMARY KEY (period, start, recipient_id, share_id, table_id, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_addresses_by_recipient ON usage_addresses (recipient_id, period, start);

-- The last names of what is counted, so that what was deleted still has one.
CREATE TABLE usage_names (
    id BLOB NOT NULL CONSTRAINT usage_names_pk PRIMARY KEY,
    name TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- How far the trail is counted; moved in the transaction that counts. From which hour on there are rows by the hour, and
-- digests of addresses.
CREATE TABLE usage_progress (
    id INTEGER NOT NULL CONSTRAINT usage_progress_pk PRIMARY KEY CONSTRAINT usage_progress_single CHECK (id = 1),
    seq INTEGER NOT NULL,
    hours_from INTEGER NOT NULL,
    addresses_from INTEGER NOT NULL,
    address_key BLOB
) STRICT;
INSERT INTO usage_progress (id, seq, hours_from, addresses_from) VALUES (1, 0, 0, 0);
