-- Which files of a table are mixed with each other in the files of views: each file is put into a group once, and stays
-- there. A scope is one table, seen by views that show the same partition columns.
CREATE TABLE mixed_files (
    scope UUID NOT NULL,
    file UUID NOT NULL,
    group_id UUID NOT NULL,
    grouped_as_of BIGINT NOT NULL,
    CONSTRAINT mixed_files_pk PRIMARY KEY (scope, file)
);
