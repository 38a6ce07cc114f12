//! A double of a Unity Catalog server: answers its open REST API as the specification says, in pages of two, and notes what
//! it is asked.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

/// The token that the server wants.
pub const UNITY_TOKEN: &str = "unity-token-0123456789";
/// How many things a page has.
const PAGE: usize = 2;

/// How the server answers.
#[derive(Clone, Debug, Default)]
pub enum Manner {
    /// As it should.
    #[default]
    Well,
    /// With a redirect to this address.
    Redirect(String),
    /// With this status.
    Status(u16),
    /// With this text.
    Text(String),
}

#[derive(Default)]
struct Shared {
    /// The tables by catalog and schema.
    tables: BTreeMap<String, BTreeMap<String, Vec<Value>>>,
    manner: Manner,
    asked: Vec<String>,
}

/// A running server. Stops when it is dropped.
pub struct UnityServer {
    pub url: String,
    shared: Arc<Mutex<Shared>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for UnityServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl UnityServer {
    /// Starts on a free port of the loopback interface.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Mutex::new(Shared::default()));
        let routes = Router::new()
            .route("/api/2.1/unity-catalog/{noun}", get(list))
            .fallback(|| async { StatusCode::NOT_FOUND })
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { url, shared, task }
    }

    /// Adds a schema with these tables, which are answered in this order.
    pub fn add(&self, catalog: &str, schema: &str, tables: Vec<Value>) {
        let mut shared = self.shared.lock().unwrap();
        shared.tables.entry(catalog.to_owned()).or_default().insert(schema.to_owned(), tables);
    }

    /// Sets how it answers.
    pub fn is(&self, manner: Manner) {
        self.shared.lock().unwrap().manner = manner;
    }

    /// What it was asked since the last time, with each request's `authorization`.
    pub fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.lock().unwrap().asked)
    }
}

/// A table as the server describes it.
pub fn unity_table(name: &str, format: &str, location: &str) -> Value {
    json!({
        "name": name, "table_type": "EXTERNAL", "data_source_format": format, "storage_location": location,
        "columns": [{"name": "id", "type_name": "LONG", "position": 0, "comment": "a number"}, {"name": "x"}],
        "properties": {"team": "claims"}, "owner": "jo@example.org", "comment": format!("the table {name}"),
        "table_id": "d0d0", "created_at": 1, "something_new": {"of": "tomorrow"},
    })
}

async fn list(
    State(shared): State<Arc<Mutex<Shared>>>,
    Path(noun): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let mut shared = shared.lock().unwrap();
    let authorization = headers.get(header::AUTHORIZATION).map_or("", |value| value.to_str().unwrap()).to_owned();
    shared.asked.push(format!("{noun} {query:?} {authorization}"));
    match &shared.manner {
        Manner::Well => {}
        Manner::Redirect(to) => {
            return (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to.clone())]).into_response();
        }
        Manner::Status(status) => {
            let body = json!({"error_code": "X", "message": "hunter2"});
            return (StatusCode::from_u16(*status).unwrap(), Json(body)).into_response();
        }
        Manner::Text(text) => return text.clone().into_response(),
    }
    if authorization != format!("Bearer {UNITY_TOKEN}") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let named = |name: &String| json!({"name": name, "comment": null, "properties": {}});
    let of = |parameter: &str| query.get(parameter).map_or("", String::as_str);
    let schemas = shared.tables.get(of("catalog_name"));
    let all: Option<Vec<Value>> = match noun.as_str() {
        "catalogs" => Some(shared.tables.keys().map(named).collect()),
        "schemas" => schemas.map(|schemas| schemas.keys().map(named).collect()),
        "tables" => schemas.and_then(|schemas| schemas.get(of("schema_name")).cloned()),
        _ => None,
    };
    let Some(all) = all else { return StatusCode::NOT_FOUND.into_response() };
    let from: usize = query.get("page_token").map_or(0, |token| token.parse().unwrap());
    let items: Vec<&Value> = all.iter().skip(from).take(PAGE).collect();
    let next = (from + PAGE < all.len()).then(|| (from + PAGE).to_string());
    Json(json!({noun: items, "next_page_token": next})).into_response()
}
