//! The wire format of listings: page requests and pages.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::service::core::page::{Page, PageRequest};

/// Which page of a listing to return.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub max_results: Option<u32>,
    /// The `next_page_token` of the previous page; absent for the first page.
    pub page_token: Option<String>,
}

impl From<PageQuery> for PageRequest {
    fn from(PageQuery { max_results, page_token }: PageQuery) -> Self {
        Self { max_results, page_token }
    }
}

/// One page of a listing, in a fixed order.
#[derive(Debug, Serialize, ToSchema)]
pub struct PageView<T> {
    /// The items.
    pub items: Vec<T>,
    /// The `page_token` for the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub next_page_token: Option<String>,
}

impl<T> PageView<T> {
    /// Makes a page of converted items.
    pub fn new<U>(page: Page<U>, convert: impl Fn(U) -> T) -> Self {
        Self { items: page.items.into_iter().map(convert).collect(), next_page_token: page.next_page_token }
    }
}
