//! Exposure: who sees which column, and what a recipient sees.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    domain::{
        access::decision::Reason,
        catalog::{
            column::{Class, ColumnState, IdentifierRole},
            view::mask::Mask,
        },
        core::word::AsWritten,
        operators::Permission,
    },
    http::admin::{
        Admin,
        core::{
            auth::{Operator, requiring},
            extract::AdminPath,
            problem::Problem,
        },
    },
    service::catalog::exposure::{ExposedColumn, ExposedObject, Exposure, Reader, ShownAs},
};

/// Builds the routes of this module, each with the permission that it requires.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    let of_table = OpenApiRouter::new().routes(routes!(get_table_exposure));
    let of_recipient = OpenApiRouter::new().routes(routes!(get_recipient_exposure));
    requiring(Permission::ReadRecipients, of_table).merge(requiring(Permission::ReadRecipients, of_recipient))
}

/// Who sees which column, where, with which mask, under which agreements, until when.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExposureView {
    /// The shared objects, and who reads them.
    pub objects: Vec<ExposedObjectView>,
    /// The columns, by table and path.
    pub columns: Vec<ExposedColumnView>,
    /// Whether objects or grants were left out, because there are more than a thousand.
    pub truncated: bool,
}

/// A shared object, and who reads it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExposedObjectView {
    /// The object: `share.schema.table`.
    pub object: String,
    /// The registered table, or the version of a view, that it shows.
    pub source: String,
    /// The recipients with a grant in force.
    pub readers: Vec<ReaderView>,
}

/// A recipient with a grant in force.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReaderView {
    /// The recipient.
    pub recipient: String,
    /// The grant.
    pub grant_id: Uuid,
    /// What the data may be used for.
    pub purpose: Option<String>,
    /// The agreements that the grant names.
    pub agreements: Vec<String>,
    /// When access ends by itself.
    pub until: DateTime<Utc>,
    /// Why the recipient reads nothing of it now in spite of the grant: a reason code, as in the audit trail.
    pub refused: Option<&'static str>,
}

/// A column of a registered table.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExposedColumnView {
    /// The registered table.
    pub table: String,
    /// The column's path.
    pub path: String,
    /// Its class; null if none was proposed.
    #[schema(value_type = Option<String>)]
    pub class: Option<AsWritten<Class>>,
    /// Whether it tells who somebody is; null if no scan has found it.
    pub role: Option<String>,
    /// Whether the class was confirmed; null if no scan has found it.
    pub state: Option<String>,
    /// Where it is shown; empty if nowhere.
    pub shown: Vec<ShownAsView>,
}

/// How an object shows a column.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownAsView {
    /// The object.
    pub object: String,
    /// The name that readers see.
    pub name: String,
    /// The mask in effect; null if values are shown as they are.
    pub mask: Option<Value>,
}

impl From<Exposure> for ExposureView {
    fn from(exposure: Exposure) -> Self {
        Self {
            objects: exposure.objects.into_iter().map(Into::into).collect(),
            columns: exposure.columns.into_iter().map(Into::into).collect(),
            truncated: exposure.is_cut,
        }
    }
}

impl From<ExposedObject> for ExposedObjectView {
    fn from(object: ExposedObject) -> Self {
        let ExposedObject { object, source, readers } = object;
        Self { object, source, readers: readers.into_iter().map(Into::into).collect() }
    }
}

impl From<Reader> for ReaderView {
    fn from(reader: Reader) -> Self {
        let Reader { recipient, grant_id, purpose, agreements, until, refused } = reader;
        Self { recipient, grant_id, purpose, agreements, until, refused: refused.map(Reason::code) }
    }
}

impl From<ExposedColumn> for ExposedColumnView {
    fn from(column: ExposedColumn) -> Self {
        let ExposedColumn { table, path, column, shown } = column;
        let spec = column.map(|column| column.spec);
        let role = |role: &AsWritten<IdentifierRole>| role.as_str().to_owned();
        let state = |state: &AsWritten<ColumnState>| state.as_str().to_owned();
        Self {
            table,
            path,
            role: spec.as_ref().map(|spec| role(&spec.role)),
            state: spec.as_ref().map(|spec| state(&spec.state)),
            class: spec.and_then(|spec| spec.class),
            shown: shown.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<ShownAs> for ShownAsView {
    fn from(shown: ShownAs) -> Self {
        let ShownAs { object, name, mask } = shown;
        Self { object, name, mask: mask.as_ref().map(Mask::to_json) }
    }
}

/// Tells which recipient sees which column of a table: by which object, with which mask, under which agreements, until when.
#[utoipa::path(
    get, path = "/tables/{table}/exposure", tag = "tables", params(("table" = String, Path)),
    responses((status = 200, body = ExposureView)),
    extensions(("x-weir-cli" = json!({"example": "weir exposure table claims.claims"})))
)]
pub async fn get_table_exposure(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(table): AdminPath<String>,
) -> Result<Json<ExposureView>, Problem> {
    Ok(Json(admin.service.catalog.exposure_of_table(&ctx, &table).await?.into()))
}

/// Tells which columns a recipient sees: of which table, by which object, with which mask, under which agreements, until when.
#[utoipa::path(
    get, path = "/recipients/{recipient}/exposure", tag = "recipients", params(("recipient" = String, Path)),
    responses((status = 200, body = ExposureView)),
    extensions(("x-weir-cli" = json!({"example": "weir exposure recipient acme"})))
)]
pub async fn get_recipient_exposure(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(recipient): AdminPath<String>,
) -> Result<Json<ExposureView>, Problem> {
    Ok(Json(admin.service.catalog.exposure_of_recipient(&ctx, &recipient).await?.into()))
}
