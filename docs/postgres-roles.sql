-- What the server's own role may do, so that not even a break-in on the server can change what was recorded.
--
-- Run by the role that owns the tables, after every `weir migrate`; safe to repeat. Before the first one, a superuser makes
-- both roles and the database:
--
--   CREATE ROLE weir_owner LOGIN PASSWORD '…';
--   CREATE ROLE weir_server LOGIN PASSWORD '…';
--   CREATE DATABASE weir OWNER weir_owner;
--
-- database.migrate_url names weir_owner, database.url names weir_server.

GRANT USAGE ON SCHEMA public TO weir_server;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM weir_server;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO weir_server;

-- What happened, and what was granted, is added and never changed.
REVOKE UPDATE, DELETE ON audit_events, grants, grant_endings, grant_agreements FROM weir_server;
-- The states that an agreement came to are added; they go with an agreement that no grant ever named.
REVOKE UPDATE ON agreement_moves FROM weir_server;
-- What a hook took is added, and goes at a set age.
REVOKE UPDATE ON hook_events FROM weir_server;
-- Which settings were off, and since when, is added.
REVOKE UPDATE, DELETE ON safeguards FROM weir_server;
-- Personal parts are erased at their age, never exchanged.
REVOKE UPDATE ON audit_personal FROM weir_server;
-- The chain's head is moved; triggers and keys hold the rest.
REVOKE INSERT, DELETE ON audit_head FROM weir_server;
-- A published version of a view never changes; it goes with its view.
REVOKE UPDATE ON view_versions FROM weir_server;
-- A file is put into the group that it is mixed in once; that goes when nobody can be served the file any more.
REVOKE UPDATE ON mixed_files FROM weir_server;
-- Random bytes stand for the same value for as long as their recipient lasts.
REVOKE UPDATE ON surrogates FROM weir_server;
-- A checkpoint is made once; only that it was exported is remembered later.
REVOKE UPDATE, DELETE ON audit_checkpoints FROM weir_server;
GRANT UPDATE (exported_at) ON audit_checkpoints TO weir_server;
-- Of a message only how far it is changes, never what it says.
REVOKE UPDATE ON notifications FROM weir_server;
GRANT UPDATE (state, attempts, queued_at, next_attempt_at, ended_at, failure) ON notifications TO weir_server;
-- Of a job only how far it is changes, never what it is about.
REVOKE UPDATE ON jobs FROM weir_server;
GRANT UPDATE (state, attempts, due_at, holder, held_until, ended_at, failure) ON jobs TO weir_server;
-- A report that was made is served as it is for ever.
REVOKE UPDATE, DELETE ON reports, report_files FROM weir_server;
GRANT UPDATE (state, claimed_until, holder, ready_at, failure, checkpoint_seq) ON reports TO weir_server;
-- Months are detached by the owner alone (`weir audit detach`), as are migrations.
REVOKE INSERT, UPDATE, DELETE ON audit_detachments, _sqlx_migrations FROM weir_server;
