-- What was acknowledged of a raw table's disclosures, and the schema that an object holds: its text is read only to say
-- how another one differs.
ALTER TABLE objects ADD COLUMN acknowledged text NOT NULL DEFAULT '[]';
ALTER TABLE objects ADD COLUMN accepted_version bigint;
ALTER TABLE objects ADD COLUMN accepted_digest text;
ALTER TABLE objects ADD COLUMN accepted_schema text;

-- Until now `hold` was kept and did nothing, and no schema was accepted. What was served goes on being served.
UPDATE objects SET on_schema_change = 'follow' WHERE on_schema_change = 'hold';
CREATE INDEX objects_on_hold ON objects (id) WHERE on_schema_change = 'hold';
