-- Which files of a table are mixed with each other in the files of views: each file is put into a group once, and stays
-- there. A scope is one table, seen by views that show the same partition columns.
CREATE TABLE mixed_files (
    scope BLOB NOT NULL,
    file BLOB NOT NULL,
    group_id BLOB NOT NULL,
    grouped_as_of INTEGER NOT NULL,
    CONSTRAINT mixed_files_pk PRIMARY KEY (scope, file)
) STRICT, WITHOUT ROWID;
