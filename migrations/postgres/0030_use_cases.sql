CREATE TABLE use_cases (
    id uuid NOT NULL CONSTRAINT use_cases_pk PRIMARY KEY,
    name text NOT NULL,
    name_key text COLLATE "C" NOT NULL CONSTRAINT use_cases_name UNIQUE,
    spec text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision bigint NOT NULL
);
