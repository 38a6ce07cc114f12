//! Listings: one line of JSON each (Delta Sharing protocol, 1.1).

use std::collections::BTreeMap;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, header};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    domain::{audit::action::Action, catalog::share::Share},
    service::{
        Services,
        core::error::ServiceError,
        sharing::{
            RequestedNames,
            listing::{ListingPage, ListingRequest, MAX_RESULTS, TableItem},
        },
    },
};

use super::{CallerOf, Error, JSON, wire::to_line};

/// The response header for notices that have no place in a listing's body.
const NOTICE: HeaderName = HeaderName::from_static("x-share-notice");
/// The notice of a listing of shares that is empty because all access has ended.
const ALL_ENDED: HeaderValue =
    HeaderValue::from_static("access to every share has ended; ask the data provider to renew it");

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListBody<T> {
    items: Vec<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShareBody {
    name: String,
    id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    properties: BTreeMap<String, String>,
}

impl From<Share> for ShareBody {
    fn from(share: Share) -> Self {
        Self {
            name: share.name.to_string(),
            id: share.id,
            display_name: share.spec.display_name,
            comment: share.spec.description,
            properties: share.spec.properties,
        }
    }
}

#[derive(Serialize)]
struct GetShareBody {
    share: ShareBody,
}

#[derive(Serialize)]
struct SchemaBody {
    name: String,
    share: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TableBody {
    name: String,
    schema: String,
    share: String,
    share_id: Uuid,
    id: Uuid,
}

impl From<TableItem> for TableBody {
    fn from(item: TableItem) -> Self {
        Self {
            name: item.object.name.to_string(),
            schema: item.object.schema.to_string(),
            share: item.share.name.to_string(),
            share_id: item.share.id,
            id: item.object.id,
        }
    }
}

pub(super) async fn list_shares(State(service): State<Services>, of: CallerOf) -> Result<Response, Error> {
    let page = match page_request(&of) {
        Ok(page) => page,
        Err(error) => return Err(of.refuse(&service, Action::SharesList, RequestedNames::Own, error).await),
    };
    let listed = service.sharing.list_granted_shares(&of.caller, &page).await;
    let (page, all_ended) = listed.map_err(|error| of.error(error))?;
    let mut response = list(page, ShareBody::from);
    if all_ended {
        response.headers_mut().insert(NOTICE, ALL_ENDED);
    }
    Ok(response)
}

pub(super) async fn get_share(State(service): State<Services>, of: CallerOf) -> Result<Response, Error> {
    let share =
        service.sharing.get_granted_share(&of.caller, &of.name("share")).await.map_err(|error| of.error(error))?;
    Ok(json(&GetShareBody { share: share.into() }))
}

pub(super) async fn list_schemas(State(service): State<Services>, of: CallerOf) -> Result<Response, Error> {
    let share = of.name("share");
    let page = match page_request(&of) {
        Ok(page) => page,
        Err(error) => return Err(of.refuse(&service, Action::SchemasList, RequestedNames::Share(&share), error).await),
    };
    let page =
        service.sharing.list_granted_schemas(&of.caller, &share, &page).await.map_err(|error| of.error(error))?;
    Ok(list(page, |schema| SchemaBody { name: schema.name, share: schema.share }))
}

pub(super) async fn list_tables(State(service): State<Services>, of: CallerOf) -> Result<Response, Error> {
    let schema = of.name("schema");
    list_tables_in(&service, &of, Some(&schema)).await
}

pub(super) async fn list_all_tables(State(service): State<Services>, of: CallerOf) -> Result<Response, Error> {
    list_tables_in(&service, &of, None).await
}

async fn list_tables_in(service: &Services, of: &CallerOf, schema: Option<&str>) -> Result<Response, Error> {
    let share = of.name("share");
    let page = match page_request(of) {
        Ok(page) => page,
        Err(error) => return Err(of.refuse(service, Action::TablesList, RequestedNames::Share(&share), error).await),
    };
    let tables = service.sharing.list_granted_tables(&of.caller, &share, schema, &page).await;
    Ok(list(tables.map_err(|error| of.error(error))?, TableBody::from))
}

fn page_request(of: &CallerOf) -> Result<ListingRequest, ServiceError> {
    let parameter = ServiceError::Parameter;
    let max_results = match of.parameter("maxResults") {
        None => MAX_RESULTS,
        Some(text) => {
            let number = text.parse::<i64>().map_err(|_| {
                parameter("maxResults: expected a number but the string didn't have the appropriate format".to_owned())
            })?;
            u32::try_from(number).ok().filter(|number| *number <= MAX_RESULTS).ok_or_else(|| {
                parameter(format!("Acceptable values of 'maxResults' are 0 to {MAX_RESULTS}, inclusive"))
            })?
        }
    };
    Ok(ListingRequest { max_results, page_token: of.parameter("pageToken").map(str::to_owned) })
}

fn list<T, B: Serialize>(page: ListingPage<T>, body: impl Fn(T) -> B) -> Response {
    let items = page.items.into_iter().map(body).collect();
    json(&ListBody { items, next_page_token: page.next_page_token })
}

fn json(body: &impl Serialize) -> Response {
    ([(header::CONTENT_TYPE, JSON)], to_line(body)).into_response()
}
