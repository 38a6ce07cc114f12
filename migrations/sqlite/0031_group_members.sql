-- By whom a group is found: the keys of the operators' names, and the ids of those who sign in by an issuer. Who is in a group
-- its spec says. A name beyond ASCII that a group has in another spelling is found once the group is changed.
CREATE TABLE operator_group_members (
    member TEXT NOT NULL,
    group_id BLOB NOT NULL REFERENCES operator_groups (id) ON DELETE CASCADE,
    CONSTRAINT operator_group_members_pk PRIMARY KEY (member, group_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX operator_group_members_by_group ON operator_group_members (group_id);
INSERT INTO operator_group_members (member, group_id)
    SELECT DISTINCT lower(m.value), g.id FROM operator_groups g, json_each(g.spec, '$.members') m;
