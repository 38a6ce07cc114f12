//! Delta tables that lie in storages and catalogs, and are not registered yet.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    domain::{core::secret::Secret, operators::Permission},
    http::admin::{
        Admin,
        core::{
            auth::{Operator, requiring},
            extract::AdminJson,
            problem::Problem,
            text::Text,
        },
    },
    service::{
        catalog::discovery::{
            CatalogEntry, DeltaFacts, DiscoveredTable, Discovery, DiscoveryCut, DiscoveryPlace, DiscoveryRequest,
            UnityPlace,
        },
        core::error::{FieldError, ServiceError},
    },
};

use super::tables::DeltaView;

/// Builds the routes of this module, each with the permission that it requires.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    requiring(Permission::ManageCatalog, OpenApiRouter::new().routes(routes!(discover)))
}

/// Where to look for tables: either `url` or `unity`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DiscoverBody {
    /// A prefix inside of a configured storage; the folders below it are looked into, down to twelve levels.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "s3://lake/warehouse")]
    pub url: Option<Text>,
    /// A Unity Catalog server.
    #[serde(default)]
    pub unity: Option<UnityBody>,
    /// The most tables in the answer.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    pub max_tables: Option<u32>,
    /// The longest time for the answer, in seconds.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 30, default = 10)]
    pub max_seconds: Option<u64>,
    /// The `next_page_token` of the answer before, to go on after it; absent for the first one.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub page_token: Option<Text>,
}

/// A Unity Catalog server, and what of it is looked at.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UnityBody {
    /// The server's address, one of `discovery.unity_urls` in the settings.
    #[schema(value_type = String, example = "https://uc.example.org")]
    pub url: Text,
    /// A token for the server. It is sent to no other address, and not kept.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub token: Option<Secret>,
    /// This catalog alone.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub catalog: Option<Text>,
    /// This schema of the catalog alone.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub schema: Option<Text>,
}

impl DiscoverBody {
    fn request(self) -> Result<DiscoveryRequest, ServiceError> {
        let place = match (self.url, self.unity) {
            (Some(url), None) => DiscoveryPlace::Prefix(url.0),
            (None, Some(UnityBody { url, token, catalog, schema })) => DiscoveryPlace::Unity(UnityPlace {
                url: url.0,
                token,
                catalog: catalog.map(|text| text.0),
                schema: schema.map(|text| text.0),
            }),
            (None, None) => {
                return Err(ServiceError::invalid(
                    "url",
                    "is missing; name a prefix of a storage here, or a server in `unity`",
                ));
            }
            (Some(_), Some(_)) => {
                let message = "is one place too many; ask for `url` or for `unity`";
                return Err(ServiceError::Invalid(vec![FieldError::new("unity", message)]));
            }
        };
        let page_token = self.page_token.map(|token| token.0);
        Ok(DiscoveryRequest { place, max_tables: self.max_tables, max_seconds: self.max_seconds, page_token })
    }
}

/// The tables that were found.
#[derive(Debug, Serialize, ToSchema)]
pub struct DiscoveryView {
    /// The tables, by location or by name in their catalog.
    pub items: Vec<DiscoveredTableView>,
    /// Whether this is all that there is, after the answers before.
    pub complete: bool,
    /// What was left out, and why.
    pub cut: Vec<DiscoveryCutView>,
    /// The `page_token` for the rest; absent where nothing follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub next_page_token: Option<String>,
}

/// Something that was left out.
#[derive(Debug, Serialize, ToSchema)]
pub struct DiscoveryCutView {
    /// The limit that it fell to: `max_tables`, `max_seconds`, `listed`, `columns`, `depth` or `unreadable`.
    #[schema(example = "max_seconds")]
    pub limit: &'static str,
    /// What that means, and what to do.
    pub message: String,
}

/// A Delta table that was found.
#[derive(Debug, Serialize, ToSchema)]
pub struct DiscoveredTableView {
    /// The folder that holds `_delta_log`; null where a catalog names none.
    pub location: Option<String>,
    /// The name that it is registered under, or a name that it could have: legal, and that of no other table.
    pub name: String,
    /// The names that the location is registered under; none if it is not registered.
    pub registered_as: Vec<String>,
    /// What the newest version of its log says; absent where that cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub delta: Option<DeltaView>,
    /// The size of its files, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub size_bytes: Option<u64>,
    /// The number of its files.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub files: Option<usize>,
    /// The number of its rows; absent where a file's statistics do not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub rows: Option<u64>,
    /// The table properties that say how it is read and how long its past is kept.
    #[schema(example = json!({"delta.enableChangeDataFeed": "true"}))]
    pub properties: BTreeMap<String, String>,
    /// Why its log cannot be read; absent where it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub problem: Option<String>,
    /// What the catalog says of it that it was found in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub catalog_entry: Option<CatalogEntryView>,
    /// A document that registers it; absent where it is registered, or cannot be.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub draft: Option<TableDraftView>,
}

/// What a catalog says of a table.
#[derive(Debug, Serialize, ToSchema)]
pub struct CatalogEntryView {
    /// Its name there.
    #[schema(example = "main.claims.claims")]
    pub name: String,
    /// Its owner there.
    pub owner: Option<String>,
    /// What its owner says of it.
    pub comment: Option<String>,
    /// The comments of its columns.
    pub column_comments: BTreeMap<String, String>,
    /// Its properties there.
    pub properties: BTreeMap<String, String>,
}

/// A document that registers a table.
#[derive(Debug, Serialize, ToSchema)]
pub struct TableDraftView {
    /// `table`.
    pub kind: &'static str,
    /// The suggested name.
    pub name: String,
    /// The settings, as `PUT /tables/{name}` takes them.
    pub spec: TableDraftSpecView,
}

/// The settings of a table that could be registered.
#[derive(Debug, Serialize, ToSchema)]
pub struct TableDraftSpecView {
    /// The folder that holds `_delta_log`.
    pub location: String,
    /// What the catalog or the table's writer says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub description: Option<String>,
    /// Its owner in the catalog.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub owner: Option<String>,
}

impl From<Discovery> for DiscoveryView {
    fn from(Discovery { tables, cuts, next_page_token }: Discovery) -> Self {
        Self {
            items: tables.into_iter().map(Into::into).collect(),
            complete: cuts.is_empty(),
            cut: cuts.into_iter().map(|DiscoveryCut { limit, message }| DiscoveryCutView { limit, message }).collect(),
            next_page_token,
        }
    }
}

impl From<DiscoveredTable> for DiscoveredTableView {
    fn from(DiscoveredTable { location, name, registered_as, log, entry }: DiscoveredTable) -> Self {
        let draft = match (&location, &log) {
            (Some(location), Ok(facts)) if registered_as.is_empty() => {
                let comment = entry.as_ref().and_then(|entry| entry.comment.clone());
                let spec = TableDraftSpecView {
                    location: location.clone(),
                    description: comment.or_else(|| facts.description.clone()),
                    owner: entry.as_ref().and_then(|entry| entry.owner.clone()),
                };
                Some(TableDraftView { kind: "table", name: name.clone(), spec })
            }
            _ => None,
        };
        let catalog_entry = entry.map(|CatalogEntry { name, owner, comment, column_comments, properties }| {
            CatalogEntryView { name, owner, comment, column_comments, properties }
        });
        let view = Self {
            location,
            name,
            registered_as,
            delta: None,
            size_bytes: None,
            files: None,
            rows: None,
            properties: BTreeMap::new(),
            problem: None,
            catalog_entry,
            draft,
        };
        match log {
            Err(problem) => Self { problem: Some(problem), ..view },
            Ok(DeltaFacts { summary, size_bytes, files, rows, properties, description: _ }) => Self {
                delta: Some(summary.into()),
                size_bytes: Some(size_bytes),
                files: Some(files),
                rows,
                properties,
                ..view
            },
        }
    }
}

/// Finds Delta tables below a prefix of a storage, or in a Unity Catalog server.
///
/// Reads the log of each, and answers its schema, its size, which connectors can read it, and a draft that registers it.
/// Nothing is registered or shared. The search is recorded. What is cut because of its time or size goes on with
/// `next_page_token`. Needs the right to register tables everywhere. 422 for a place outside every storage, or a server that
/// `discovery.unity_urls` does not name.
#[utoipa::path(
    post, path = "/discover", tag = "tables", request_body = DiscoverBody,
    responses((status = 200, body = DiscoveryView)),
    extensions(("x-weir-cli" = json!({
        "example": "weir discover --root s3://lake/warehouse --write drafts",
        "own": true,
    })))
)]
pub async fn discover(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminJson(body): AdminJson<DiscoverBody>,
) -> Result<Json<DiscoveryView>, Problem> {
    Ok(Json(admin.service.catalog.discover(&ctx, body.request()?).await?.into()))
}
