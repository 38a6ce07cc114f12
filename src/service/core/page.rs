//! Pages of listings: the end of a page is sealed into the token for the next.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Core, error::ServiceError};

/// The default number of items in a page.
pub const DEFAULT_ITEMS: u32 = 100;
/// The largest number of items in a page.
pub const MAX_ITEMS: u32 = 1000;

/// The requested page of a listing.
#[derive(Clone, Debug, Default)]
pub struct PageRequest {
    /// The most items.
    pub max_results: Option<u32>,
    /// The token from the previous page.
    pub page_token: Option<String>,
}

/// One page of a listing, in its fixed order.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// The token for the next page; `None` on the last one.
    pub next_page_token: Option<String>,
}

impl<T> Page<T> {
    /// The page without what somebody may not see; the next one is asked for all the same.
    pub(in crate::service) fn filter(mut self, is_seen: impl FnMut(&T) -> bool) -> Self {
        self.items.retain(is_seen);
        self
    }
}

/// A page request that was checked.
#[derive(Clone, Debug)]
pub(in crate::service) struct Opened {
    /// The sort key of the last item of the previous page.
    pub after: Option<String>,
    /// How many items to read: one more than the page holds, to find out whether it is the last.
    pub limit: u32,
    context: String,
}

impl Opened {
    /// Returns where the previous page ended, for listings by creation; see [`created_key`].
    pub(in crate::service) fn after_created(&self) -> Option<(DateTime<Utc>, Uuid)> {
        let (micros, id) = self.after.as_deref()?.split_once(' ')?;
        Some((DateTime::from_timestamp_micros(micros.parse().ok()?)?, Uuid::parse_str(id).ok()?))
    }
}

/// Returns the sort key of an item in a listing by creation.
pub(in crate::service) fn created_key(created_at: DateTime<Utc>, id: Uuid) -> String {
    format!("{} {id}", created_at.timestamp_micros())
}

impl Core {
    /// Checks a page request; `context` names the listing and its filters, and tokens are valid for that context only.
    pub(in crate::service) fn begin_page(
        &self,
        request: &PageRequest,
        context: String,
    ) -> Result<Opened, ServiceError> {
        let items = request.max_results.unwrap_or(DEFAULT_ITEMS);
        if !(1..=MAX_ITEMS).contains(&items) {
            return Err(ServiceError::Parameter(format!("`max_results` must be between 1 and {MAX_ITEMS}")));
        }
        let after = match &request.page_token {
            None => None,
            Some(token) => {
                let opened = self.pages.open(token, context.as_bytes()).ok();
                let cursor = opened.and_then(|plain| String::from_utf8(plain).ok());
                Some(cursor.ok_or_else(|| {
                    let message = "`page_token` is not one that this listing answered with the same filters; \
                                   start again without it";
                    ServiceError::Parameter(message.into())
                })?)
            }
        };
        Ok(Opened { after, limit: items + 1, context })
    }

    /// Makes a page of the items read with [`Opened::limit`]; `key` returns an item's sort key.
    pub(in crate::service) fn end_page<T>(
        &self,
        opened: Opened,
        mut items: Vec<T>,
        key: impl Fn(&T) -> String,
    ) -> Page<T> {
        let size = usize::try_from(opened.limit - 1).unwrap_or_default();
        let has_more = items.len() > size;
        items.truncate(size);
        let last = items.last().filter(|_| has_more);
        let next_page_token = last.map(|item| self.pages.seal(key(item).as_bytes(), opened.context.as_bytes()));
        Page { items, next_page_token }
    }

    /// Makes a page of the items found before the search was broken off; the next page continues at `key`.
    pub(in crate::service) fn break_page<T>(&self, opened: Opened, items: Vec<T>, key: &str) -> Page<T> {
        let next_page_token = Some(self.pages.seal(key.as_bytes(), opened.context.as_bytes()));
        Page { items, next_page_token }
    }
}
