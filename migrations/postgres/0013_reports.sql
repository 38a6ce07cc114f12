-- Monthly reports: one row for each month and recipient, the nil id for all of them. Who makes one moves claimed_until on
-- first, so that others leave it alone until then.
CREATE TABLE reports (
    id uuid NOT NULL CONSTRAINT reports_pk PRIMARY KEY,
    month text COLLATE "C" NOT NULL,
    recipient_id uuid NOT NULL,
    recipient text,
    state text NOT NULL,
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL,
    claimed_until timestamptz NOT NULL,
    ready_at timestamptz,
    failure text,
    checkpoint_seq bigint,
    CONSTRAINT reports_once UNIQUE (month, recipient_id)
);
CREATE INDEX reports_making ON reports (claimed_until) WHERE state = 'making';

-- What a report is, byte for byte; written once, with the report's being ready.
CREATE TABLE report_files (
    report_id uuid NOT NULL CONSTRAINT report_files_report REFERENCES reports (id),
    name text COLLATE "C" NOT NULL,
    bytes bigint NOT NULL,
    sha256 text NOT NULL,
    content bytea NOT NULL,
    CONSTRAINT report_files_pk PRIMARY KEY (report_id, name)
);
