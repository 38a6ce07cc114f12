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
        core::spec::Spec,
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

/// The operations here, each with the permission that it needs.
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

/// A table as it appears in a share.
#[derive(Debug, Serialize, ToSchema)]
pub struct ObjectView {
    /// Its identity, which recipients see too.
    pub id: Uuid,
    /// The share that it is in.
    pub share: String,
    /// The schema that it appears under.
    pub schema: String,
    /// The name that it appears under.
    pub name: String,
    /// What was set of it; `delivery` is how its files get to recipients that do not ask for more.
    #[serde(flatten)]
    #[schema(value_type = ObjectSpec)]
    pub spec: Map<String, Value>,
    /// What is held back from recipients because of the table's schema, null for nothing; absent where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Option<SchemaHoldView>)]
    pub schema_hold: Option<Option<SchemaHoldView>>,
    /// What its files disclose beside what a query of them shows; only where its log was just looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub disclosure: Option<ObjectDisclosureView>,
    /// When it was shared.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Changes with every change; for `If-Match`.
    pub etag: String,
    /// For each well-known connector `ok`, or why it cannot read the newest version; only where the log was just opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub clients: Option<BTreeMap<&'static str, String>>,
    /// For each connector that needs a certain version to read it, the oldest one; where `clients` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub client_versions: Option<BTreeMap<&'static str, String>>,
}

/// What an object discloses.
#[derive(Debug, Serialize, ToSchema)]
pub struct ObjectDisclosureView {
    /// Beside what a query shows; of raw tables alone.
    #[serde(flatten)]
    pub files: Option<DisclosureView>,
    /// Newly, and to whom; of a dry run alone.
    #[serde(flatten)]
    pub reach: Option<ReachView>,
}

/// What an object over a raw table discloses beside the rows and columns that a query shows, as its log tells.
#[derive(Debug, Serialize, ToSchema)]
pub struct DisclosureView {
    /// Rows that deletion vectors hide and that are still in the files.
    pub deleted_rows: u64,
    /// Columns that the log once had and that are no longer in the schema; files may still hold them.
    pub dropped_columns: Vec<String>,
    /// How many further columns are gone, where column ids tell.
    pub unnamed_dropped_columns: u64,
    /// Partition columns whose values stand in the keys of objects, and so in URLs.
    pub partition_values_in_paths: Vec<String>,
    /// The oldest version that recipients may read, where history is shared.
    pub history_from: Option<u64>,
    /// Names of what an answer in delta format says of the table and its columns beside names and types.
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

/// What is held back from an object's recipients because nobody accepted the table's schema.
#[derive(Debug, Serialize, ToSchema)]
pub struct SchemaHoldView {
    /// The version that is served; null where the table's log no longer holds one with the accepted schema.
    pub serving_version: Option<u64>,
    /// The table's newest version.
    pub newest_version: u64,
    /// When the first version was committed that is held back, where the log tells.
    pub since: Option<DateTime<Utc>>,
    /// How the accepted schema became the newest one.
    pub changes: Vec<String>,
}

impl From<SchemaHold> for SchemaHoldView {
    fn from(hold: SchemaHold) -> Self {
        let SchemaHold { serving_version, newest_version, since, changes } = hold;
        Self { serving_version, newest_version, since, changes }
    }
}

/// Why a schema is accepted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptSchemaBody {
    /// For the audit trail.
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

/// Puts a table into a share, or confirms that it is there as described.
#[utoipa::path(
    put, path = "/shares/{share}/objects/{schema}/{name}", tag = "objects",
    params(("share" = String, Path), ("schema" = String, Path), ("name" = String, Path)),
    request_body = ObjectSpec,
    responses(
        (status = 201, description = "Shared", body = ObjectView),
        (status = 200, description = "Exists as described", body = ObjectView)
    )
)]
pub async fn put_object(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(names): AdminPath<Names>,
    AdminFields { named, .. }: AdminFields<ObjectSpec>,
) -> Result<Resource<ObjectView>, Problem> {
    let put = admin.service.put_object(&ctx, path(&names), &named).await?;
    Ok(Resource::put(put.map(ObjectView::from)))
}

/// Answers an object.
#[utoipa::path(
    get, path = "/shares/{share}/objects/{schema}/{name}", tag = "objects",
    params(("share" = String, Path), ("schema" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = ObjectView))
)]
pub async fn get_object(
    State(admin): State<Admin>,
    AdminPath(names): AdminPath<Names>,
) -> Result<Resource<ObjectView>, Problem> {
    Ok(Resource::found(admin.service.get_object(path(&names)).await?.into()))
}

/// Lists a share's objects by schema and name.
#[utoipa::path(
    get, path = "/shares/{share}/objects", tag = "objects", params(("share" = String, Path), PageQuery),
    responses((status = 200, body = PageView<ObjectView>))
)]
pub async fn list_objects(
    State(admin): State<Admin>,
    AdminPath(share): AdminPath<String>,
    AdminQuery(page): AdminQuery<PageQuery>,
) -> Result<Json<PageView<ObjectView>>, Problem> {
    let page = admin.service.list_objects(&share, &page.into()).await?;
    Ok(Json(PageView::new(page, ObjectView::from)))
}

/// Changes how a table is shared.
#[utoipa::path(
    patch, path = "/shares/{share}/objects/{schema}/{name}", tag = "objects",
    params(
        ("share" = String, Path), ("schema" = String, Path), ("name" = String, Path),
        ("If-Match" = Option<String>, Header)
    ),
    request_body(content((ObjectSpec = "application/merge-patch+json"), (ObjectSpec = "application/json"))),
    responses((status = 200, body = ObjectView))
)]
pub async fn update_object(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(names): AdminPath<Names>,
    IfMatch(condition): IfMatch,
    AdminFields { named, .. }: AdminFields<ObjectSpec>,
) -> Result<Resource<ObjectView>, Problem> {
    let detail = admin.service.update_object(&ctx, path(&names), condition.as_ref(), &named).await?;
    Ok(Resource::found(detail.into()))
}

/// Accepts the schema that the table of an object on hold has now.
#[utoipa::path(
    post, path = "/shares/{share}/objects/{schema}/{name}/accept-schema", tag = "objects",
    params(("share" = String, Path), ("schema" = String, Path), ("name" = String, Path)),
    request_body = AcceptSchemaBody, responses((status = 200, body = ObjectView))
)]
pub async fn accept_schema(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(names): AdminPath<Names>,
    AdminJson(body): AdminJson<AcceptSchemaBody>,
) -> Result<Resource<ObjectView>, Problem> {
    let reason = body.reason.as_ref().map(|text| text.0.as_str());
    Ok(Resource::found(admin.service.accept_schema(&ctx, path(&names), reason).await?.into()))
}

/// Takes a table out of a share; recipients no longer see it.
#[utoipa::path(
    delete, path = "/shares/{share}/objects/{schema}/{name}", tag = "objects",
    params(
        ("share" = String, Path), ("schema" = String, Path), ("name" = String, Path),
        ("If-Match" = Option<String>, Header)
    ),
    responses((status = 204, description = "Taken out"))
)]
pub async fn delete_object(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(names): AdminPath<Names>,
    IfMatch(condition): IfMatch,
) -> Result<StatusCode, Problem> {
    admin.service.delete_object(&ctx, path(&names), condition.as_ref()).await?;
    Ok(StatusCode::NO_CONTENT)
}
