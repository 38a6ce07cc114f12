-- What operators set of a thing is one JSON text; beside it stand the columns that things are found by.
ALTER TABLE shares ADD COLUMN spec TEXT NOT NULL DEFAULT '{}';
UPDATE shares SET spec = json_object(
    'display_name', display_name, 'description', description, 'properties', json(properties)
);
ALTER TABLE shares DROP COLUMN display_name;
ALTER TABLE shares DROP COLUMN description;
ALTER TABLE shares DROP COLUMN properties;

ALTER TABLE tables ADD COLUMN spec TEXT NOT NULL DEFAULT '{}';
UPDATE tables SET spec = json_object('location', location, 'description', description, 'owner', owner);
ALTER TABLE tables DROP COLUMN location;
ALTER TABLE tables DROP COLUMN description;
ALTER TABLE tables DROP COLUMN owner;

ALTER TABLE operators ADD COLUMN spec TEXT NOT NULL DEFAULT '{}';
UPDATE operators SET spec = json_object('role', role, 'description', description);
ALTER TABLE operators DROP COLUMN description;

ALTER TABLE recipients ADD COLUMN spec TEXT NOT NULL DEFAULT '{}';
UPDATE recipients SET spec = json_object(
    'display_name', display_name, 'contacts', json(contacts), 'properties', json(properties),
    'allowed_cidrs', json(allowed_cidrs), 'delivery', delivery,
    'oidc', json(CASE WHEN oidc_id IS NULL THEN NULL ELSE json_object(
        'issuer', oidc_issuer, 'audience', oidc_audience, 'claim', oidc_claim, 'value', oidc_value
    ) END),
    'limits', json(limits), 'description', description
);
ALTER TABLE recipients DROP COLUMN display_name;
ALTER TABLE recipients DROP COLUMN contacts;
ALTER TABLE recipients DROP COLUMN properties;
ALTER TABLE recipients DROP COLUMN allowed_cidrs;
ALTER TABLE recipients DROP COLUMN delivery;
ALTER TABLE recipients DROP COLUMN limits;
ALTER TABLE recipients DROP COLUMN description;

ALTER TABLE objects ADD COLUMN spec TEXT NOT NULL DEFAULT '{}';
UPDATE objects SET spec = json_object(
    'source', json(CASE WHEN view_id IS NULL
        THEN json_object('table', (SELECT t.name FROM tables t WHERE t.id = objects.table_id))
        ELSE json_object('view', (SELECT v.name FROM views v WHERE v.id = objects.view_id) || '@v' || view_version) END),
    'history', json(CASE WHEN history THEN 'true' ELSE 'false' END), 'start_version', start_version,
    'cdf', json(CASE WHEN cdf THEN 'true' ELSE 'false' END), 'delivery', delivery,
    'on_schema_change', on_schema_change, 'acknowledge', json(acknowledged),
    'presigned_despite_networks', json(CASE WHEN presigned_despite_networks THEN 'true' ELSE 'false' END),
    'description', description
);
ALTER TABLE objects DROP COLUMN history;
ALTER TABLE objects DROP COLUMN start_version;
ALTER TABLE objects DROP COLUMN cdf;
ALTER TABLE objects DROP COLUMN delivery;
ALTER TABLE objects DROP COLUMN acknowledged;
ALTER TABLE objects DROP COLUMN presigned_despite_networks;
ALTER TABLE objects DROP COLUMN description;

ALTER TABLE views ADD COLUMN spec TEXT NOT NULL DEFAULT '{}';
ALTER TABLE views ADD COLUMN is_draft INTEGER NOT NULL DEFAULT 1;
UPDATE views SET is_draft = 0, draft = (
    SELECT json_extract(n.definition, '$.definition') FROM view_versions n WHERE n.view_id = views.id
    ORDER BY n.version DESC LIMIT 1
) WHERE draft IS NULL;
UPDATE views SET spec = json_object(
    'source', json_object('table', (SELECT t.name FROM tables t WHERE t.id = views.table_id)),
    'columns', json_extract(draft, '$.columns'), 'row_filter', json_extract(draft, '$.row_filter'),
    'layout', json_extract(draft, '$.layout'), 'description', description
);
ALTER TABLE views DROP COLUMN draft;
ALTER TABLE views DROP COLUMN description;
