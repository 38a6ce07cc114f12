-- Servers that are at work, each by the id that its claims name, and until when it counts as alive. What it writes into
-- filler shows that there is room for more.
CREATE TABLE servers (
    id uuid NOT NULL CONSTRAINT servers_pk PRIMARY KEY,
    alive_until timestamptz NOT NULL,
    filler bytea
);
