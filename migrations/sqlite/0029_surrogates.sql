-- Surrogates are in a file of their own beside this one (migrations/sqlite_surrogates), so that drawing many of them never
-- waits for the audit trail, and the trail never for them.
SELECT 1;
