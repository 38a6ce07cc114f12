-- PostgreSQL drops the foreign key of audit_personal here. SQLite cannot without copying the table, and pays next to
-- nothing for it.
SELECT 1;
