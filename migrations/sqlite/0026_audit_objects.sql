-- The shared object of an event. Before, `table_id` had it; from now on that is the registered table's. Events of before stay as they
-- are, so that what is searched for is looked for in both columns.
ALTER TABLE audit_events ADD COLUMN object_id BLOB;
CREATE INDEX audit_events_by_object ON audit_events (object_id, seq) WHERE object_id IS NOT NULL;
