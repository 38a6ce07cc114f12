-- Monthly reports: one row for each month and recipient, the nil id for all of them. Who makes one moves claimed_until on
-- first, so that others leave it alone until then.
CREATE TABLE reports (
    id BLOB NOT NULL CONSTRAINT reports_pk PRIMARY KEY,
    month TEXT NOT NULL,
    recipient_id BLOB NOT NULL,
    recipient TEXT,
    state TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    requested_at INTEGER NOT NULL,
    claimed_until INTEGER NOT NULL,
    ready_at INTEGER,
    failure TEXT,
    checkpoint_seq INTEGER,
    CONSTRAINT reports_once UNIQUE (month, recipient_id)
) STRICT;
CREATE INDEX reports_making ON reports (claimed_until) WHERE state = 'making';

-- What a report is, byte for byte; written once, with the report's being ready.
CREATE TABLE report_files (
    report_id BLOB NOT NULL CONSTRAINT report_files_report REFERENCES reports (id),
    name TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    content BLOB NOT NULL,
    CONSTRAINT report_files_pk PRIMARY KEY (report_id, name)
) STRICT;
