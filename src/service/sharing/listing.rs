//! Listings of a recipient's granted shares, schemas and tables.

use chrono::{DateTime, SecondsFormat, Utc};

use crate::{
    domain::{
        access::{
            decision::{Reason, in_scope},
            grant::in_force,
        },
        audit::action::Action,
        catalog::share::{Share, SharedObject},
        core::name::name_key,
    },
    service::core::error::ServiceError,
};

use super::{
    Caller, RequestedNames, Sharing,
    audited_request::{AuditedRequest, Granted, Subject},
};

/// The default and the largest number of items in a page (Delta Sharing protocol, 1.1).
pub const MAX_RESULTS: u32 = 500;
/// The share property with the end of the recipient's grant.
const GRANT_VALID_UNTIL: &str = "grant_valid_until";
/// The share property with the expiry of the caller's token.
const TOKEN_EXPIRES_AT: &str = "token_expires_at";
/// The share property with the support contact.
const SUPPORT_CONTACT: &str = "support_contact";
/// The reason in the event of a listing that is empty because every grant has ended.
const GRANTS_ENDED: &str = "GRANTS_ENDED";
/// How many shares are read at a time in the search for readable ones.
const READ_AT_ONCE: u32 = 500;

/// The requested page of a listing.
#[derive(Clone, Debug)]
pub struct ListingRequest {
    /// The most items; 0 asks only whether there are any.
    pub max_results: u32,
    /// The page token of the previous page.
    pub page_token: Option<String>,
}

/// A page of a listing.
#[derive(Clone, Debug)]
pub struct ListingPage<T> {
    /// The items, in the order of their names' keys.
    pub items: Vec<T>,
    /// The token for the next page; `None` on the last one.
    pub next_page_token: Option<String>,
}

/// A schema of a share.
#[derive(Clone, Debug)]
pub struct SchemaItem {
    /// The schema's name.
    pub name: String,
    /// The share's name, as it was created.
    pub share: String,
}

/// A table of a share.
#[derive(Clone, Debug)]
pub struct TableItem {
    /// The object, with its names as they were created.
    pub object: SharedObject,
    /// The share that it is in.
    pub share: Share,
}

impl Sharing {
    /// Lists the shares that the caller may read now; also returns whether there are none because every grant has
    /// ended.
    pub async fn list_granted_shares(
        &self,
        caller: &Caller,
        page: &ListingRequest,
    ) -> Result<(ListingPage<Share>, bool), ServiceError> {
        let mut attempt = AuditedRequest::begin(self, caller, Action::SharesList, RequestedNames::Own).await?;
        let granted = attempt.decide_own().await?;
        let recipient_id = granted.bearer.recipient.id;
        let context = format!("sharing/shares/{recipient_id}");
        let after = attempt.settle(self.open_listing(page, &context)).await?;
        let (rest, has_ended) = self.readable_shares(&granted, attempt.now, after, page).await?;
        let all_ended = has_ended && rest.is_empty() && page.page_token.is_none();
        if all_ended {
            attempt.event.reason = Some(GRANTS_ENDED.into());
        }
        let page = self.cut_listing(rest, page, &context, |share| share.name.key().to_owned());
        attempt.allow(&granted).await?;
        Ok((page, all_ended))
    }

    /// Finds shares after `after` that may be read at `now`, until there are more than fit on the page; also returns
    /// whether grants of other shares have ended.
    async fn readable_shares(
        &self,
        granted: &Granted,
        now: DateTime<Utc>,
        mut after: Option<String>,
        page: &ListingRequest,
    ) -> Result<(Vec<Share>, bool), ServiceError> {
        let wanted = limit(page) as usize;
        let (mut shares, mut has_ended) = (Vec::new(), false);
        while shares.len() < wanted {
            let found =
                self.core.db.list_share_access(granted.bearer.recipient.id, after.as_deref(), READ_AT_ONCE).await?;
            let Some(last) = found.last() else { break };
            after = Some(last.share.name.key().to_owned());
            let scoped = found.into_iter().filter(|access| in_scope(&granted.bearer.token, access.share.id));
            let (recipient, geography) = (&granted.bearer.recipient.spec, granted.basis.geography);
            let readable = scoped.filter(|access| {
                let grant = in_force(&access.grants, now);
                has_ended |= grant.is_none() && access.grants.iter().any(|grant| grant.valid_from <= now);
                grant.is_some_and(|grant| geography.check(grant.regions(now), recipient).is_ok())
            });
            shares.extend(readable.map(|access| {
                let grant_until = in_force(&access.grants, now).map(|grant| grant.until(now));
                self.described(access.share, granted, grant_until)
            }));
        }
        Ok((shares, has_ended))
    }

    /// Returns one share.
    pub async fn get_granted_share(&self, caller: &Caller, share: &str) -> Result<Share, ServiceError> {
        let mut attempt = AuditedRequest::begin(self, caller, Action::ShareGet, RequestedNames::Share(share)).await?;
        let granted = attempt.decide_share(&Subject::share(share)).await?;
        let share = self.described(granted.share()?.clone(), &granted, granted.grant_until);
        attempt.allow(&granted).await?;
        Ok(share)
    }

    /// Adds information for the recipient to the share's properties.
    fn described(&self, mut share: Share, granted: &Granted, grant_until: Option<DateTime<Utc>>) -> Share {
        let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let contact = Some(&self.settings.support_contact).filter(|contact| !contact.is_empty());
        for (key, value) in [
            (GRANT_VALID_UNTIL, grant_until.map(time)),
            (TOKEN_EXPIRES_AT, granted.bearer.token.expires_at.map(time)),
            (SUPPORT_CONTACT, contact.cloned()),
        ] {
            if let Some(value) = value {
                share.spec.properties.insert(key.to_owned(), value);
            }
        }
        share
    }

    /// Lists the schemas of a share.
    pub async fn list_granted_schemas(
        &self,
        caller: &Caller,
        share: &str,
        page: &ListingRequest,
    ) -> Result<ListingPage<SchemaItem>, ServiceError> {
        let mut attempt =
            AuditedRequest::begin(self, caller, Action::SchemasList, RequestedNames::Share(share)).await?;
        let granted = attempt.decide_share(&Subject::share(share)).await?;
        let share = granted.share()?;
        let context = format!("sharing/schemas/{}/{}", granted.bearer.recipient.id, share.id);
        let after = attempt.settle(self.open_listing(page, &context)).await?;
        let rest = self.core.db.list_schemas(share.id, after.as_deref(), limit(page)).await?;
        let page = self.cut_listing(rest, page, &context, |schema| schema.key().to_owned());
        let to_item = |schema: crate::domain::core::name::Name| SchemaItem {
            name: schema.to_string(),
            share: share.name.to_string(),
        };
        let page =
            ListingPage { items: page.items.into_iter().map(to_item).collect(), next_page_token: page.next_page_token };
        attempt.allow(&granted).await?;
        Ok(page)
    }

    /// Lists the tables of one schema of a share, or of all its schemas.
    pub async fn list_granted_tables(
        &self,
        caller: &Caller,
        share: &str,
        schema: Option<&str>,
        page: &ListingRequest,
    ) -> Result<ListingPage<TableItem>, ServiceError> {
        let mut attempt = AuditedRequest::begin(self, caller, Action::TablesList, RequestedNames::Share(share)).await?;
        let granted = attempt.decide_share(&Subject::share(share)).await?;
        let found = granted.share()?.clone();
        let schema_key = schema.map(name_key);
        let context = format!(
            "sharing/tables/{}/{}/{}",
            granted.bearer.recipient.id,
            found.id,
            schema_key.as_deref().unwrap_or("*/")
        );
        let after = attempt.settle(self.open_listing(page, &context)).await?;
        let after = after.as_deref().and_then(|after| after.split_once('\u{0}'));
        let objects = self.core.db.list_objects(found.id, schema_key.as_deref(), after, limit(page)).await?;
        if let Some(schema) = schema
            && objects.is_empty()
            // A schema exists only through its tables, and a page token proves that there were some.
            && page.page_token.is_none()
        {
            return Err(attempt.refuse(Reason::SchemaNotFound, Some(&Subject::schema(share, schema))).await);
        }
        let page = self.cut_listing(objects, page, &context, |(object, _)| {
            format!("{}\u{0}{}", object.schema.key(), object.name.key())
        });
        let to_item = |(object, _)| TableItem { object, share: found.clone() };
        let page =
            ListingPage { items: page.items.into_iter().map(to_item).collect(), next_page_token: page.next_page_token };
        attempt.allow(&granted).await?;
        Ok(page)
    }

    /// Returns the last key of the previous page.
    fn open_listing(&self, page: &ListingRequest, context: &str) -> Result<Option<String>, ServiceError> {
        let Some(token) = &page.page_token else { return Ok(None) };
        let opened =
            self.core.pages.open(token, context.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        opened.map(Some).ok_or_else(|| {
            ServiceError::Parameter("invalid 'nextPageToken'; start the listing again without pageToken".to_owned())
        })
    }

    /// Cuts `rest`, which begins after the previous page, to one page.
    fn cut_listing<T>(
        &self,
        mut rest: Vec<T>,
        page: &ListingRequest,
        context: &str,
        key: impl Fn(&T) -> String,
    ) -> ListingPage<T> {
        let wanted = usize::try_from(page.max_results).unwrap_or(usize::MAX);
        let has_more = rest.len() > wanted;
        rest.truncate(wanted);
        // An empty page continues where it began.
        let next_page_token = has_more.then(|| match rest.last() {
            Some(last) => self.core.pages.seal(key(last).as_bytes(), context.as_bytes()),
            None => page.page_token.clone().unwrap_or_else(|| self.core.pages.seal(b"", context.as_bytes())),
        });
        ListingPage { items: rest, next_page_token }
    }
}

/// Returns one more than the page's size, to find out whether there is another page.
fn limit(page: &ListingRequest) -> u32 {
    page.max_results.saturating_add(1)
}
