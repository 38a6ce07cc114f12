//! Registered tables.

use std::collections::BTreeMap;

use axum::{extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    domain::{
        catalog::{
            ownership::Ownership,
            table::{Table, TableSpec},
        },
        operators::Permission,
    },
    http::admin::{
        Admin,
        core::{
            auth::{Operator, requiring},
            extract::{AdminFields, AdminPath, AdminQuery, IfMatch},
            page::PageView,
            problem::Problem,
            resource::{Resource, Tagged},
        },
    },
    lake::Column,
    service::{
        catalog::tables::{DeltaSummary, OpenedTable},
        core::{change::Put, page::PageRequest, precondition::etag},
    },
};

/// Builds the routes of this module, each with the permission that it requires.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .merge(requiring(
            Permission::ReadSharing,
            OpenApiRouter::new().routes(routes!(list_tables)).routes(routes!(get_table)),
        ))
        .merge(requiring(
            Permission::ManageCatalog,
            OpenApiRouter::new().routes(routes!(put_table, update_table, delete_table)),
        ))
}

/// A registered table.
#[derive(Debug, Serialize, ToSchema)]
pub struct TableView {
    /// The table's id.
    pub id: Uuid,
    /// The table's dotted name.
    pub name: String,
    /// The table's settings.
    #[serde(flatten)]
    pub spec: TableSpec,
    /// Who answers for it: its owner, or else that of its domain.
    pub effective_owner: Option<String>,
    /// Who looks after it: its steward, or else that of its domain.
    pub effective_steward: Option<String>,
    /// Whether it has an owner who was disabled, deleted or has expired: what shows it is granted to nobody else until it
    /// has another one. False for a table whose owner nobody ever named.
    pub ownerless: bool,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Changes with every change of the table; send it as `If-Match` to change only what you have read.
    pub etag: String,
    /// What the table's Delta log says; only if the log was opened for this answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub delta: Option<DeltaView>,
}

/// What a table's Delta log says.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeltaView {
    /// The Delta table id (`metaData.id`).
    pub id: String,
    /// The newest version.
    pub version: u64,
    /// The reader features that a connector needs to read the files.
    pub reader_features: Vec<String>,
    /// The top-level columns.
    pub columns: Vec<ColumnView>,
    /// The names of the columns by which the table is partitioned.
    pub partition_columns: Vec<String>,
    /// For each well-known connector `ok`, or why it cannot read the newest version.
    #[schema(example = json!({"pandas_parquet": "ok", "pandas_delta": "ok", "spark_parquet": "ok", "spark_delta": "ok"}))]
    pub clients: BTreeMap<&'static str, String>,
    /// The oldest version of each connector that can read the newest version, where a connector needs a certain one.
    #[schema(example = json!({"pandas_delta": "delta-sharing 1.1.0", "spark_delta": "delta-sharing-spark 3.1.0"}))]
    pub client_versions: BTreeMap<&'static str, String>,
}

/// A top-level column.
#[derive(Debug, Serialize, ToSchema)]
pub struct ColumnView {
    /// The column's name.
    pub name: String,
    /// The column's type, as SQL engines write it.
    #[serde(rename = "type")]
    #[schema(example = "decimal(10,2)")]
    pub data_type: String,
    /// Whether the column may hold nulls.
    pub nullable: bool,
}

impl Tagged for TableView {
    fn etag(&self) -> &str {
        &self.etag
    }
}

impl TableView {
    fn new((table, ownership): (Table, Ownership)) -> Self {
        Self {
            effective_owner: ownership.owner,
            effective_steward: ownership.steward,
            ownerless: ownership.is_ownerless,
            etag: etag(table.id, table.revision),
            id: table.id,
            name: table.name.to_string(),
            spec: table.spec,
            created_at: table.created_at,
            updated_at: table.updated_at,
            delta: None,
        }
    }
}

impl From<DeltaSummary> for DeltaView {
    fn from(summary: DeltaSummary) -> Self {
        let DeltaSummary { id, version, reader_features, columns, partition_columns, clients } = summary;
        let column = |column: Column| ColumnView {
            name: column.name,
            data_type: column.data_type,
            nullable: column.is_nullable,
        };
        Self {
            id,
            version,
            reader_features,
            columns: columns.into_iter().map(column).collect(),
            partition_columns,
            clients: clients.verdicts,
            client_versions: clients.oldest_versions,
        }
    }
}

impl From<OpenedTable> for DeltaView {
    fn from(OpenedTable { snapshot, .. }: OpenedTable) -> Self {
        DeltaSummary::from(&*snapshot).into()
    }
}

/// A table with who answers for it.
async fn shown(admin: &Admin, table: Table) -> Result<TableView, Problem> {
    let ownership = admin.service.catalog.ownership_of(std::slice::from_ref(&table)).await?;
    Ok(TableView::new((table, ownership.into_iter().next().unwrap_or_default())))
}

/// Registers a table, or confirms that it is registered as described.
///
/// Opens the table's Delta log once and returns what it says. 422 if the location has no Delta log or is in no
/// configured storage.
#[utoipa::path(
    put, path = "/tables/{name}", tag = "tables",
    params(("name" = String, Path, description = "The table's dotted name")), request_body = TableSpec,
    responses(
        (status = 201, description = "Registered", body = TableView),
        (status = 200, description = "Exists as described", body = TableView)
    ),
    extensions(("x-weir-cli" = json!({
        "example": "weir table put claims.claims --location s3://lake/warehouse/claims",
    })))
)]
pub async fn put_table(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminFields { named, .. }: AdminFields<TableSpec>,
) -> Result<Resource<TableView>, Problem> {
    let put = admin.service.catalog.put_table(&ctx, &name, &named).await?;
    let (Put::Created(opened) | Put::Confirmed(opened)) = &put;
    let view = shown(&admin, opened.table.clone()).await?;
    Ok(Resource::put(put.map(|opened| TableView { delta: Some(opened.into()), ..view })))
}

/// Returns a registered table.
#[utoipa::path(
    get, path = "/tables/{name}", tag = "tables",
    params(("name" = String, Path, description = "The table's dotted name")),
    responses((status = 200, body = TableView)),
    extensions(("x-weir-cli" = json!({"example": "weir table get claims.claims"})))
)]
pub async fn get_table(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
) -> Result<Resource<TableView>, Problem> {
    let table = admin.service.catalog.get_table(&ctx, &name).await?;
    Ok(Resource::found(shown(&admin, table).await?))
}

/// Which registered tables to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TablesQuery {
    /// Only tables that are ownerless, or only those that are not. A page may then hold fewer items than were asked for, or
    /// none; there are more as long as it has a `next_page_token`.
    pub ownerless: Option<bool>,
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub max_results: Option<u32>,
    /// The `next_page_token` of the previous page; absent for the first page.
    pub page_token: Option<String>,
}

/// Lists registered tables by name.
#[utoipa::path(
    get, path = "/tables", tag = "tables", params(TablesQuery), responses((status = 200, body = PageView<TableView>)),
    extensions(("x-weir-cli" = json!({
        "example": "weir table list",
        "columns": ["name", "location", "owner", "updated_at"],
    })))
)]
pub async fn list_tables(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminQuery(TablesQuery { ownerless, max_results, page_token }): AdminQuery<TablesQuery>,
) -> Result<axum::Json<PageView<TableView>>, Problem> {
    let page = PageRequest { max_results, page_token };
    let page = admin.service.catalog.list_registered_tables(&ctx, ownerless, &page).await?;
    Ok(axum::Json(PageView::new(page, TableView::new)))
}

/// Changes a registered table.
///
/// 409 for another location while a share or a view uses the table.
#[utoipa::path(
    patch, path = "/tables/{name}", tag = "tables",
    params(("name" = String, Path, description = "The table's dotted name"), ("If-Match" = Option<String>, Header)),
    request_body(content(
        (TableSpec = "application/merge-patch+json"),
        (TableSpec = "application/json")
    )),
    responses((status = 200, body = TableView)),
    extensions(("x-weir-cli" = json!({
        "example": "weir table update claims.claims --owner data-team --unset description",
    })))
)]
pub async fn update_table(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    IfMatch(condition): IfMatch,
    AdminFields { named, .. }: AdminFields<TableSpec>,
) -> Result<Resource<TableView>, Problem> {
    let table = admin.service.catalog.update_table(&ctx, &name, condition.as_ref(), &named).await?;
    Ok(Resource::found(shown(&admin, table).await?))
}

/// Removes the registration of a table that no share and no view uses; its data stays where it is.
#[utoipa::path(
    delete, path = "/tables/{name}", tag = "tables",
    params(("name" = String, Path, description = "The table's dotted name"), ("If-Match" = Option<String>, Header)),
    responses((status = 204, description = "Removed")),
    extensions(("x-weir-cli" = json!({
        "example": "weir table delete claims.claims",
        "confirm": "its registration goes",
    })))
)]
pub async fn delete_table(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    IfMatch(condition): IfMatch,
) -> Result<StatusCode, Problem> {
    admin.service.catalog.delete_table(&ctx, &name, condition.as_ref()).await?;
    Ok(StatusCode::NO_CONTENT)
}
