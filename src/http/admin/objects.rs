//! Objects: tables as they appear in a share.

use std::collections::{BTreeMap, BTreeSet};

use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    Admin,
    auth::Operator,
    disclosures::ReachView,
    extract::{AdminJson, AdminPath, AdminQuery, IfMatch},
    page::{PageQuery, PageView},
    problem::Problem,
    resource::{Resource, Tagged},
    text::{List, Text},
};
use crate::{
    domain::{
        delivery::Delivery,
        raw_disclosure::{DisclosureItem, RawDisclosure},
        share::{OnSchemaChange, SharedObject},
        table::Table,
    },
    service::{
        change::Change,
        objects::{ObjectChange, ObjectDetail, ObjectPath, SourceName},
        precondition::etag,
        schema_holds::SchemaHold,
    },
};

/// What is shared: a registered table file by file, or a published version of a view.
#[derive(Debug, ToSchema)]
pub struct SourceBody {
    /// The name of a registered table.
    #[schema(value_type = Option<String>, example = "claims.claims")]
    pub table: Option<Text>,
    /// A view and its version.
    #[schema(value_type = Option<String>, example = "claims.claims_fraud@v1")]
    pub view: Option<Text>,
}

impl<'de> Deserialize<'de> for SourceBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Source {
            table: Option<Text>,
            view: Option<Text>,
        }
        let Source { table, view } = Source::deserialize(deserializer)?;
        match (&table, &view) {
            (Some(_), None) | (None, Some(_)) => Ok(Self { table, view }),
            (Some(_), Some(_)) => Err(D::Error::custom("must name a `table` or a `view`, not both")),
            (None, None) => Err(D::Error::custom("must name a `table` or a `view`")),
        }
    }
}

impl From<SourceBody> for SourceName {
    fn from(body: SourceBody) -> Self {
        match (body.table, body.view) {
            (_, Some(view)) => Self::View(view.0),
            (table, None) => Self::Table(table.map(|text| text.0).unwrap_or_default()),
        }
    }
}

/// How a table should be shared (PUT) or how that changes (PATCH).
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectBody {
    /// What is shared; needed when the object is created, and never changed.
    #[serde(default)]
    #[schema(value_type = Option<SourceBody>)]
    pub source: Change<SourceBody>,
    /// Whether recipients may read older versions. False where it was never named.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    pub history: Change<bool>,
    /// The oldest version that recipients may read: the table's version when it was shared, where never named.
    #[serde(default)]
    #[schema(value_type = Option<i64>, minimum = 0)]
    pub start_version: Change<i64>,
    /// Whether recipients may read the change data feed; needs `history`.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    pub cdf: Change<bool>,
    /// How its files get to recipients, where storage and recipient leave a choice.
    #[serde(default)]
    #[schema(value_type = Option<Delivery>)]
    pub delivery: Change<Delivery>,
    /// What happens when the table's schema changes. `hold` accepts the schema that the table has when it is set, and
    /// serves the newest version that has it until another one is accepted.
    #[serde(default)]
    #[schema(value_type = Option<OnSchemaChange>)]
    pub on_schema_change: Change<OnSchemaChange>,
    /// What is acknowledged of what the table's files disclose; where the server requires it, everything that applies,
    /// when an object is created and when more of its past is shared.
    #[serde(default)]
    #[schema(value_type = Option<Vec<DisclosureItem>>)]
    pub acknowledge: Change<List<DisclosureItem>>,
    /// Whether files are presigned even for recipients that are bound to networks.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    pub presigned_despite_networks: Change<bool>,
    /// Free text for operators.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub description: Change<Text>,
}

impl From<ObjectBody> for ObjectChange {
    fn from(body: ObjectBody) -> Self {
        Self {
            source: body.source.map(SourceName::from),
            history: body.history,
            start_version: body.start_version,
            cdf: body.cdf,
            delivery: body.delivery,
            on_schema_change: body.on_schema_change,
            acknowledge: body.acknowledge.map(|items| items.0.into_iter().collect()),
            presigned_despite_networks: body.presigned_despite_networks,
            description: body.description.map(|text| text.0),
        }
    }
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
    /// What is shared.
    pub source: SourceView,
    /// Whether recipients may read older versions.
    pub history: bool,
    /// The oldest version that recipients may read.
    pub start_version: i64,
    /// Whether recipients may read the change data feed.
    pub cdf: bool,
    /// How its files get to recipients that do not ask for more.
    pub delivery: Delivery,
    /// What happens when the table's schema changes.
    pub on_schema_change: OnSchemaChange,
    /// What is held back from recipients because of the table's schema, null for nothing; absent where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Option<SchemaHoldView>)]
    pub schema_hold: Option<Option<SchemaHoldView>>,
    /// What was acknowledged of what its files disclose.
    pub acknowledge: BTreeSet<DisclosureItem>,
    /// What its files disclose beside what a query of them shows; only where its log was just looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub disclosure: Option<ObjectDisclosureView>,
    /// Whether files are presigned even for recipients that are bound to networks.
    pub presigned_despite_networks: bool,
    /// Free text for operators.
    pub description: Option<String>,
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

/// What is shared.
#[derive(Debug, Serialize, ToSchema)]
pub struct SourceView {
    /// The name of the registered table, where it is shared file by file.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub table: Option<String>,
    /// The view and its version, where one is shared.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub view: Option<String>,
}

impl SourceView {
    fn of(object: &SharedObject, table: &Table) -> Self {
        match &object.view {
            None => Self { table: Some(table.name.to_string()), view: None },
            Some(view) => Self { table: None, view: Some(view.to_string()) },
        }
    }
}

impl Tagged for ObjectView {
    fn etag(&self) -> &str {
        &self.etag
    }
}

impl From<ObjectDetail> for ObjectView {
    fn from(detail: ObjectDetail) -> Self {
        let ObjectDetail { object, share, table, delivery, clients, disclosure, schema_hold, reach } = detail;
        let is_told = disclosure.is_some() || reach.is_some();
        let told = ObjectDisclosureView { files: disclosure.map(Into::into), reach: reach.map(Into::into) };
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
            source: SourceView::of(&object, &table),
            acknowledge: object.acknowledged,
            history: object.history,
            start_version: object.start_version,
            cdf: object.cdf,
            delivery,
            on_schema_change: object.on_schema_change,
            presigned_despite_networks: object.presigned_despite_networks,
            description: object.description,
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
    request_body = ObjectBody,
    responses(
        (status = 201, description = "Shared", body = ObjectView),
        (status = 200, description = "As described", body = ObjectView)
    )
)]
pub async fn put_object(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(names): AdminPath<Names>,
    AdminJson(body): AdminJson<ObjectBody>,
) -> Result<Resource<ObjectView>, Problem> {
    let put = admin.service.put_object(&ctx, path(&names), body.into()).await?;
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
    request_body(content((ObjectBody = "application/merge-patch+json"), (ObjectBody = "application/json"))),
    responses((status = 200, body = ObjectView))
)]
pub async fn update_object(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(names): AdminPath<Names>,
    IfMatch(condition): IfMatch,
    AdminJson(body): AdminJson<ObjectBody>,
) -> Result<Resource<ObjectView>, Problem> {
    let detail = admin.service.update_object(&ctx, path(&names), condition.as_ref(), body.into()).await?;
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
