//! Objects: tables as they appear in a share.

use std::collections::BTreeMap;

use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    domain::{
        catalog::{raw_disclosure::RawDisclosure, share::ObjectSpec},
        core::{spec::Spec, word::Words},
        operators::Permission,
    },
    http::admin::{
        Admin,
        core::{
            auth::{Operator, requiring},
            extract::{AdminFields, AdminJson, AdminPath, AdminQuery, IfMatch},
            page::{PageQuery, PageView},
            problem::Problem,
            resource::{Resource, Tagged},
            text::Text,
        },
    },
    service::{
        catalog::{
            objects::{ObjectDetail, ObjectPath},
            schema_holds::SchemaHold,
        },
        core::precondition::etag,
    },
};

use super::disclosures::ReachView;

/// Builds the routes of this module, each with the permission that it requires.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .merge(requiring(
            Permission::ReadSharing,
            OpenApiRouter::new().routes(routes!(list_objects)).routes(routes!(get_object)),
        ))
        .merge(requiring(
            Permission::ManageSharing,
            OpenApiRouter::new()
                .routes(routes!(put_object, update_object, delete_object))
                .routes(routes!(accept_schema)),
        ))
}

/// An object: a table, or a version of a view, as it appears in a share.
#[derive(Debug, Serialize, ToSchema)]
pub struct ObjectView {
    /// The object's id; recipients see it as the table's id.
    pub id: Uuid,
    /// The share that holds the object.
    pub share: String,
    /// The schema under which recipients see the object.
    pub schema: String,
    /// The table name under which recipients see the object.
    pub name: String,
    /// The object's settings. Here `delivery` is how its files are delivered after storage and object are taken
    /// together; a recipient can only make it `proxied`.
    #[serde(flatten)]
    #[schema(value_type = ObjectSpec)]
    pub spec: Map<String, Value>,
    /// What is held back from recipients because of the table's schema: it is not accepted, or the view no longer fits
    /// it. Null if nothing is held back, absent if it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Option<SchemaHoldView>)]
    pub schema_hold: Option<Option<SchemaHoldView>>,
    /// What the object discloses. For a raw table in every answer about a single object, if the table's log could be
    /// read; for a view only in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub disclosure: Option<ObjectDisclosureView>,
    /// When the object was put into the share.
    pub created_at: DateTime<Utc>,
    /// When the object was last changed.
    pub updated_at: DateTime<Utc>,
    /// Changes with every change of the object; send it as `If-Match` to change only what you have read.
    pub etag: String,
    /// For each well-known connector `ok`, or why it cannot read the newest version. Only in the answer of PUT.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub clients: Option<BTreeMap<&'static str, String>>,
    /// The oldest version of each connector that can read the newest version, where a connector needs a certain one.
    /// Only in the answer of PUT.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub client_versions: Option<BTreeMap<&'static str, String>>,
}

/// What an object discloses.
#[derive(Debug, Serialize, ToSchema)]
pub struct ObjectDisclosureView {
    /// What its files disclose beyond the rows and columns of a query; only for raw tables.
    #[serde(flatten)]
    pub files: Option<DisclosureView>,
    /// Which recipients would newly see it; only in a dry run.
    #[serde(flatten)]
    pub reach: Option<ReachView>,
}

/// What the files of a raw table disclose beyond the rows and columns of a query, as far as the table's log tells.
#[derive(Debug, Serialize, ToSchema)]
pub struct DisclosureView {
    /// The number of rows that deletion vectors hide but the files still hold.
    pub deleted_rows: u64,
    /// Columns that the log once had and the schema no longer has; files may still hold them.
    pub dropped_columns: Vec<String>,
    /// The number of further dropped columns, known only from column ids.
    pub unnamed_dropped_columns: u64,
    /// Partition columns whose values are part of the files' paths, and so of URLs.
    pub partition_values_in_paths: Vec<String>,
    /// The oldest version that recipients may read; null if history is not shared.
    pub history_from: Option<u64>,
    /// The names of the table and column properties that answers in delta format carry.
    pub properties: Vec<String>,
}

impl From<RawDisclosure> for DisclosureView {
    fn from(disclosure: RawDisclosure) -> Self {
        Self {
            deleted_rows: disclosure.deleted_rows,
            dropped_columns: disclosure.dropped_columns,
            unnamed_dropped_columns: disclosure.unnamed_dropped_columns,
            partition_values_in_paths: disclosure.partition_values_in_paths,
            history_from: disclosure.history_from,
            properties: disclosure.properties,
        }
    }
}

/// Versions of a table that are held back from an object's recipients, because their schema is not accepted or no
/// longer fits the view.
#[derive(Debug, Serialize, ToSchema)]
pub struct SchemaHoldView {
    /// The table version that is served; null if the table's log no longer has one with a fitting schema.
    pub serving_version: Option<u64>,
    /// The table's newest version.
    pub newest_version: u64,
    /// When the first version that is held back was committed; null if the log does not tell.
    pub since: Option<DateTime<Utc>>,
    /// How the newest schema differs from the accepted one, or why it no longer fits the view.
    pub changes: Vec<String>,
}

impl From<SchemaHold> for SchemaHoldView {
    fn from(hold: SchemaHold) -> Self {
        let SchemaHold { serving_version, newest_version, since, changes } = hold;
        Self { serving_version, newest_version, since, changes }
    }
}

/// Why the schema is accepted; `{}` gives no reason.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptSchemaBody {
    /// The reason, recorded in the audit trail.
    #[schema(value_type = Option<String>)]
    reason: Option<Text>,
}

impl Tagged for ObjectView {
    fn etag(&self) -> &str {
        &self.etag
    }
}

impl From<ObjectDetail> for ObjectView {
    fn from(detail: ObjectDetail) -> Self {
        let ObjectDetail { object, share, table: _, delivery, clients, disclosure, schema_hold, reach } = detail;
        let is_told = disclosure.is_some() || reach.is_some();
        let told = ObjectDisclosureView { files: disclosure.map(Into::into), reach: reach.map(Into::into) };
        let mut spec = object.spec.fields();
        spec.insert("delivery".to_owned(), delivery.as_str().into());
        let (clients, client_versions) = clients.map(|clients| (clients.verdicts, clients.oldest_versions)).unzip();
        Self {
            schema_hold: schema_hold.map(|hold| hold.map(Into::into)),
            disclosure: is_told.then_some(told),
            clients,
            client_versions,
            etag: etag(object.id, object.revision),
            id: object.id,
            share: share.name.to_string(),
            schema: object.schema.to_string(),
            name: object.name.to_string(),
            spec,
            created_at: object.created_at,
            updated_at: object.updated_at,
        }
    }
}

type Names = (String, String, String);

fn path((share, schema, name): &Names) -> ObjectPath<'_> {
    ObjectPath { share, schema, name }
}

/// Puts a table or a version of a view into a share, or confirms that it is shared as described.
#[utoipa::path(
    put, path = "/shares/{share}/objects/{schema}/{name}", tag = "objects",
    params(("share" = String, Path), ("schema" = String, Path), ("name" = String, Path)),
    request_body = ObjectSpec,
    responses(
        (status = 201, description = "Shared", body = ObjectView),
        (status = 200, description = "Exists as described", body = ObjectView)
    ),
    extensions(("x-weir-cli" = json!({
        "example": "weir object put insurer claims claims --source-table claims.claims --history",
        "discloses": true,
    })))
)]
pub async fn put_object(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(names): AdminPath<Names>,
    AdminFields { named, .. }: AdminFields<ObjectSpec>,
) -> Result<Resource<ObjectView>, Problem> {
    let put = admin.service.catalog.put_object(&ctx, path(&names), &named).await?;
    Ok(Resource::put(put.map(ObjectView::from)))
}

/// Returns an object.
#[utoipa::path(
    get, path = "/shares/{share}/objects/{schema}/{name}", tag = "objects",
    params(("share" = String, Path), ("schema" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = ObjectView)),
    extensions(("x-weir-cli" = json!({"example": "weir object get insurer claims claims"})))
)]
pub async fn get_object(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(names): AdminPath<Names>,
) -> Result<Resource<ObjectView>, Problem> {
    Ok(Resource::found(admin.service.catalog.get_object(&ctx, path(&names)).await?.into()))
}

/// Lists a share's objects by schema and name.
#[utoipa::path(
    get, path = "/shares/{share}/objects", tag = "objects", params(("share" = String, Path), PageQuery),
    responses((status = 200, body = PageView<ObjectView>)),
    extensions(("x-weir-cli" = json!({
        "example": "weir object list insurer",
        "columns": ["schema", "name", "source", "history", "cdf", "delivery", "on_schema_change"],
    })))
)]
pub async fn list_objects(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(share): AdminPath<String>,
    AdminQuery(page): AdminQuery<PageQuery>,
) -> Result<Json<PageView<ObjectView>>, Problem> {
    let page = admin.service.catalog.list_objects(&ctx, &share, &page.into()).await?;
    Ok(Json(PageView::new(page, ObjectView::from)))
}

/// Changes how an object is shared.
#[utoipa::path(
    patch, path = "/shares/{share}/objects/{schema}/{name}", tag = "objects",
    params(
        ("share" = String, Path), ("schema" = String, Path), ("name" = String, Path),
        ("If-Match" = Option<String>, Header)
    ),
    request_body(content((ObjectSpec = "application/merge-patch+json"), (ObjectSpec = "application/json"))),
    responses((status = 200, body = ObjectView)),
    extensions(("x-weir-cli" = json!({
        "example": "weir object update insurer claims claims --history=false",
        "discloses": true,
    })))
)]
pub async fn update_object(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(names): AdminPath<Names>,
    IfMatch(condition): IfMatch,
    AdminFields { named, .. }: AdminFields<ObjectSpec>,
) -> Result<Resource<ObjectView>, Problem> {
    let detail = admin.service.catalog.update_object(&ctx, path(&names), condition.as_ref(), &named).await?;
    Ok(Resource::found(detail.into()))
}

/// Accepts the current schema of a raw table whose object holds its schema.
///
/// Recipients are then served the table's newest version. 409 if the object does not hold its schema.
#[utoipa::path(
    post, path = "/shares/{share}/objects/{schema}/{name}/accept-schema", tag = "objects",
    params(("share" = String, Path), ("schema" = String, Path), ("name" = String, Path)),
    request_body = AcceptSchemaBody, responses((status = 200, body = ObjectView)),
    extensions(("x-weir-cli" = json!({
        "example": "weir object accept-schema insurer claims claims --reason 'agreed with acme'",
        "discloses": true,
    })))
)]
pub async fn accept_schema(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(names): AdminPath<Names>,
    AdminJson(body): AdminJson<AcceptSchemaBody>,
) -> Result<Resource<ObjectView>, Problem> {
    let reason = body.reason.as_ref().map(|text| text.0.as_str());
    Ok(Resource::found(admin.service.catalog.accept_schema(&ctx, path(&names), reason).await?.into()))
}

/// Removes an object from a share; recipients no longer see it.
#[utoipa::path(
    delete, path = "/shares/{share}/objects/{schema}/{name}", tag = "objects",
    params(
        ("share" = String, Path), ("schema" = String, Path), ("name" = String, Path),
        ("If-Match" = Option<String>, Header)
    ),
    responses((status = 204, description = "Removed")),
    extensions(("x-weir-cli" = json!({
        "example": "weir object delete insurer claims claims",
        "confirm": "recipients no longer see it",
    })))
)]
pub async fn delete_object(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(names): AdminPath<Names>,
    IfMatch(condition): IfMatch,
) -> Result<StatusCode, Problem> {
    admin.service.catalog.delete_object(&ctx, path(&names), condition.as_ref()).await?;
    Ok(StatusCode::NO_CONTENT)
}
