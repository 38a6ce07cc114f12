-- What operators set of a thing is one JSON text; beside it stand the columns that things are found by. The columns that it
-- takes the place of are generated from it, so that servers of the version before, which read them, go on answering until
-- they are exchanged; what these would change is refused. A later migration drops them. PostgreSQL takes no JSON with a NUL
-- in it apart: such texts, which servers of before took, are read with a mark in its place.
ALTER TABLE shares ADD COLUMN spec TEXT NOT NULL DEFAULT '{}';
UPDATE shares SET spec = json_build_object(
    'display_name', display_name, 'description', description, 'properties', properties::json
)::text;
ALTER TABLE shares DROP COLUMN display_name;
ALTER TABLE shares DROP COLUMN description;
ALTER TABLE shares DROP COLUMN properties;
ALTER TABLE shares
    ADD COLUMN display_name text GENERATED ALWAYS AS (replace(spec, '\u0000', '\ufffd')::json ->>'display_name') STORED,
    ADD COLUMN description text GENERATED ALWAYS AS (replace(spec, '\u0000', '\ufffd')::json ->>'description') STORED,
    ADD COLUMN properties text GENERATED ALWAYS AS ((replace(spec, '\u0000', '\ufffd')::json ->'properties')::text) STORED;

ALTER TABLE tables ADD COLUMN spec TEXT NOT NULL DEFAULT '{}';
UPDATE tables SET spec = json_build_object('location', location, 'description', description, 'owner', owner)::text;
ALTER TABLE tables DROP COLUMN location;
ALTER TABLE tables DROP COLUMN description;
ALTER TABLE tables DROP COLUMN owner;
ALTER TABLE tables
    ADD COLUMN location text GENERATED ALWAYS AS (replace(spec, '\u0000', '\ufffd')::json ->>'location') STORED,
    ADD COLUMN description text GENERATED ALWAYS AS (replace(spec, '\u0000', '\ufffd')::json ->>'description') STORED,
    ADD COLUMN owner text GENERATED ALWAYS AS (replace(spec, '\u0000', '\ufffd')::json ->>'owner') STORED;

ALTER TABLE operators ADD COLUMN spec TEXT NOT NULL DEFAULT '{}';
UPDATE operators SET spec = json_build_object('role', role, 'description', description)::text;
ALTER TABLE operators DROP COLUMN description;
ALTER TABLE operators
    ADD COLUMN description text GENERATED ALWAYS AS (replace(spec, '\u0000', '\ufffd')::json ->>'description') STORED;

ALTER TABLE recipients ADD COLUMN spec TEXT NOT NULL DEFAULT '{}';
UPDATE recipients SET spec = json_build_object(
    'display_name', display_name, 'contacts', contacts::json, 'properties', properties::json,
    'allowed_cidrs', allowed_cidrs::json, 'delivery', delivery,
    'oidc', (CASE WHEN oidc_id IS NULL THEN NULL ELSE json_build_object(
        'issuer', oidc_issuer, 'audience', oidc_audience, 'claim', oidc_claim, 'value', oidc_value
    ) END),
    'limits', limits::json, 'description', description
)::text;
ALTER TABLE recipients DROP COLUMN display_name;
ALTER TABLE recipients DROP COLUMN contacts;
ALTER TABLE recipients DROP COLUMN properties;
ALTER TABLE recipients DROP COLUMN allowed_cidrs;
ALTER TABLE recipients DROP COLUMN delivery;
ALTER TABLE recipients DROP COLUMN limits;
ALTER TABLE recipients DROP COLUMN description;
ALTER TABLE recipients
    ADD COLUMN display_name text GENERATED ALWAYS AS (replace(spec, '\u0000', '\ufffd')::json ->>'display_name') STORED,
    ADD COLUMN contacts text GENERATED ALWAYS AS ((replace(spec, '\u0000', '\ufffd')::json ->'contacts')::text) STORED,
    ADD COLUMN properties text GENERATED ALWAYS AS ((replace(spec, '\u0000', '\ufffd')::json ->'properties')::text) STORED,
    ADD COLUMN allowed_cidrs text GENERATED ALWAYS AS ((replace(spec, '\u0000', '\ufffd')::json ->'allowed_cidrs')::text) STORED,
    ADD COLUMN delivery text GENERATED ALWAYS AS (replace(spec, '\u0000', '\ufffd')::json ->>'delivery') STORED,
    ADD COLUMN limits text GENERATED ALWAYS AS ((replace(spec, '\u0000', '\ufffd')::json ->'limits')::text) STORED,
    ADD COLUMN description text GENERATED ALWAYS AS (replace(spec, '\u0000', '\ufffd')::json ->>'description') STORED;

ALTER TABLE objects ADD COLUMN spec TEXT NOT NULL DEFAULT '{}';
UPDATE objects SET spec = json_build_object(
    'source', CASE WHEN view_id IS NULL
        THEN json_build_object('table', (SELECT t.name FROM tables t WHERE t.id = objects.table_id))
        ELSE json_build_object('view', (SELECT v.name FROM views v WHERE v.id = objects.view_id) || '@v' || view_version) END,
    'history', history, 'start_version', start_version,
    'cdf', cdf, 'delivery', delivery,
    'on_schema_change', on_schema_change, 'acknowledge', acknowledged::json,
    'presigned_despite_networks', presigned_despite_networks,
    'description', description
)::text;
ALTER TABLE objects DROP COLUMN history;
ALTER TABLE objects DROP COLUMN start_version;
ALTER TABLE objects DROP COLUMN cdf;
ALTER TABLE objects DROP COLUMN delivery;
ALTER TABLE objects DROP COLUMN acknowledged;
ALTER TABLE objects DROP COLUMN presigned_despite_networks;
ALTER TABLE objects DROP COLUMN description;
ALTER TABLE objects
    ADD COLUMN history boolean GENERATED ALWAYS AS ((replace(spec, '\u0000', '\ufffd')::json ->>'history')::boolean) STORED,
    ADD COLUMN start_version bigint GENERATED ALWAYS AS ((replace(spec, '\u0000', '\ufffd')::json ->>'start_version')::bigint) STORED,
    ADD COLUMN cdf boolean GENERATED ALWAYS AS ((replace(spec, '\u0000', '\ufffd')::json ->>'cdf')::boolean) STORED,
    ADD COLUMN delivery text GENERATED ALWAYS AS (replace(spec, '\u0000', '\ufffd')::json ->>'delivery') STORED,
    ADD COLUMN acknowledged text GENERATED ALWAYS AS ((replace(spec, '\u0000', '\ufffd')::json ->'acknowledge')::text) STORED,
    ADD COLUMN presigned_despite_networks boolean GENERATED ALWAYS AS ((replace(spec, '\u0000', '\ufffd')::json ->>'presigned_despite_networks')::boolean) STORED,
    ADD COLUMN description text GENERATED ALWAYS AS (replace(spec, '\u0000', '\ufffd')::json ->>'description') STORED;

ALTER TABLE views ADD COLUMN spec TEXT NOT NULL DEFAULT '{}';
ALTER TABLE views ADD COLUMN is_draft BOOLEAN NOT NULL DEFAULT true;
UPDATE views SET is_draft = false, draft = (
    SELECT replace(
        (replace(n.definition, '\u0000', '\u0001\u0002\u0003')::json -> 'definition')::text, '\u0001\u0002\u0003', '\u0000'
    ) FROM view_versions n WHERE n.view_id = views.id
    ORDER BY n.version DESC LIMIT 1
) WHERE draft IS NULL;
UPDATE views SET spec = replace(json_build_object(
    'source', json_build_object('table', (SELECT t.name FROM tables t WHERE t.id = views.table_id)),
    'columns', replace(draft, '\u0000', '\u0001\u0002\u0003')::json -> 'columns',
    'row_filter', replace(draft, '\u0000', '\u0001\u0002\u0003')::json -> 'row_filter',
    'layout', replace(draft, '\u0000', '\u0001\u0002\u0003')::json -> 'layout', 'description', description
)::text, '\u0001\u0002\u0003', '\u0000');
ALTER TABLE views DROP COLUMN draft;
ALTER TABLE views DROP COLUMN description;
ALTER TABLE views
    ADD COLUMN draft text GENERATED ALWAYS AS (CASE WHEN is_draft THEN '{"columns":' || (replace(spec, '\u0000', '\ufffd')::json ->'columns')::text || ',"row_filter":' || coalesce((replace(spec, '\u0000', '\ufffd')::json ->'row_filter')::text, 'null')
        || ',"layout":' || coalesce((replace(spec, '\u0000', '\ufffd')::json ->'layout')::text, 'null') || '}' END) STORED,
    ADD COLUMN description text GENERATED ALWAYS AS (replace(spec, '\u0000', '\ufffd')::json ->>'description') STORED;
