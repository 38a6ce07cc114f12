//! The hot path: looks up the access facts of many requests in one query, first by the names in the requests, and again
//! by the ids of their access bases, under the audit head's lock.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    hash::Hash,
    sync::Arc,
};

use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

use crate::{
    domain::{
        access::{
            decision::{Bearer, Credential, ObjectFacts, ShareAccess},
            grant::Grant,
            identity::Holder,
            token::{Token, TokenHash},
        },
        catalog::{
            requirements::Requirements,
            share::{Share, SharedObject},
            table::Table,
        },
    },
    store::{
        Result, StoreError,
        catalog::{
            objects::{ObjectRow, object_columns},
            shares::{ShareRow, share_columns},
            tables::table_columns,
        },
        core::{
            outer::{Joined, Outer},
            value::{Json, padded},
        },
        reads,
    },
};

use super::{
    agreements::{add_grant, join_terms, terms_columns},
    grants::{GrantedRow, grant_columns},
    recipients::{RecipientRow, recipient_columns},
    tokens::{TokenRow, token_columns},
};

/// The column that says whether everything is frozen.
macro_rules! frozen_column {
    () => {
        "EXISTS (SELECT 1 FROM freezes WHERE scope = 'everything' AND lifted_at IS NULL) AS frozen"
    };
}

macro_rules! holder_columns {
    () => {
        concat!(recipient_columns!(), ", ", frozen_column!())
    };
}

#[derive(FromRow)]
struct HolderRow {
    #[sqlx(flatten)]
    recipient: RecipientRow,
    frozen: bool,
}

impl TryFrom<HolderRow> for Holder {
    type Error = StoreError;

    fn try_from(row: HolderRow) -> Result<Self> {
        Ok(Self { recipient: row.recipient.try_into()?, frozen: row.frozen })
    }
}

#[derive(FromRow)]
struct BearerRow {
    #[sqlx(flatten)]
    token: TokenRow,
    #[sqlx(flatten)]
    holder: HolderRow,
}

impl TryFrom<BearerRow> for Bearer {
    type Error = StoreError;

    fn try_from(row: BearerRow) -> Result<Self> {
        Ok(Holder::try_from(row.holder)?.with(row.token.into()))
    }
}

impl Joined for TokenRow {
    const ID: &'static str = "token_id";
}

impl Joined for ShareRow {
    const ID: &'static str = "share_id";
}

impl Joined for ObjectRow {
    const ID: &'static str = "object_id";
}

/// A share with one of its grants and one of that grant's agreements, or with none.
#[derive(FromRow)]
struct AccessRow {
    #[sqlx(flatten)]
    share: ShareRow,
    #[sqlx(flatten)]
    grant: Outer<GrantedRow>,
}

/// The caller of a request, as the request identifies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seeker {
    /// The holder of the token with this hash.
    Token(TokenHash),
    /// The recipient with this id, whose credential is known.
    Recipient(Uuid),
}

/// The lookup key of a request: its caller and the names that it asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sought {
    /// The caller.
    pub by: Seeker,
    /// The name key of the requested share, if any.
    pub share: Option<String>,
    /// The name keys of the requested schema and table in that share, if any.
    pub table: Option<(String, String)>,
}

/// The things found by a request's names, whether or not the caller may have them. The object comes with its table; an
/// error in reading it concerns only callers that may have it.
pub type Reached = Found<Result<Option<(SharedObject, Table)>, Arc<StoreError>>>;

/// The ids in the access basis of an allowed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AccessBasisIds {
    /// The caller's credential.
    pub credential: Credential,
    /// The recipient that the credential belongs to.
    pub recipient_id: Uuid,
    /// The share that is read, if any.
    pub share_id: Option<Uuid>,
    /// The shared object in it that is read, if any.
    pub object_id: Option<Uuid>,
}

/// The current access facts of a request; of the object, if it is still in the share, what the decision depends on.
pub type AccessFacts = Found<Option<ObjectFacts>>;

/// The facts of a decision, with the requested object.
#[derive(Clone, Debug, PartialEq)]
pub struct Found<O> {
    /// The caller, if the credential still belongs to the recipient; `None` if the look-up was by recipient.
    pub bearer: Option<Bearer>,
    /// The share, with every grant that the recipient ever had on it.
    pub access: Option<ShareAccess>,
    /// The shared object in it.
    pub object: O,
}

/// The lookup key of one of many concurrent requests.
trait Lookup: Clone + Eq + Hash {
    /// A caller and a share, which together determine the grants.
    type Share: Eq + Hash;

    fn share(&self) -> Self::Share;

    /// Returns the caller for the found token and recipient, if they match the key.
    fn bearer(&self, token: Option<Token>, holder: Holder) -> Option<Bearer>;
}

impl Lookup for Sought {
    type Share = (Seeker, Option<String>);

    fn share(&self) -> Self::Share {
        (self.by, self.share.clone())
    }

    fn bearer(&self, token: Option<Token>, holder: Holder) -> Option<Bearer> {
        token.map(|token| holder.with(token))
    }
}

impl Lookup for AccessBasisIds {
    type Share = (Uuid, Option<Uuid>);

    fn share(&self) -> Self::Share {
        (self.recipient_id, self.share_id)
    }

    fn bearer(&self, token: Option<Token>, holder: Holder) -> Option<Bearer> {
        match self.credential {
            Credential::Token(_) => token.map(|token| holder.with(token)),
            Credential::Identity { id, until } => holder.bearer(until).filter(|bearer| bearer.token.id == id),
        }
    }
}

/// A caller with a share, one of the grants on it and one of that grant's agreements.
#[derive(FromRow)]
struct CallerRow {
    /// The index of the lookup key.
    place: i32,
    #[sqlx(flatten)]
    token: Outer<TokenRow>,
    #[sqlx(flatten)]
    holder: HolderRow,
    #[sqlx(flatten)]
    share: Outer<ShareRow>,
    #[sqlx(flatten)]
    grant: Outer<GrantedRow>,
}

/// The columns of [`CallerRow`], from asked `a`, tokens `k`, recipients `r`, shares `s` and the joins of
/// [`join_grants!`].
macro_rules! caller_columns {
    () => {
        concat!(
            "a.place, ",
            token_columns!(),
            ", ",
            holder_columns!(),
            ", ",
            share_columns!(),
            ", ",
            grant_columns!(),
            ", ",
            terms_columns!()
        )
    };
}

/// Joins the grants of recipients `r` on shares `s` with their agreements, once for all lookup keys of the same share.
macro_rules! join_grants {
    () => {
        concat!(
            "LEFT JOIN grants g ON a.with_grants AND g.share_id = s.id AND g.recipient_id = r.id \
             LEFT JOIN grant_endings e ON e.grant_id = g.id",
            join_terms!()
        )
    };
}

#[derive(FromRow)]
struct ReachedRow {
    #[sqlx(flatten)]
    caller: CallerRow,
    #[sqlx(flatten)]
    object: Outer<ObjectRow>,
}

#[derive(FromRow)]
struct GroundRow {
    #[sqlx(flatten)]
    caller: CallerRow,
    object_revision: Option<i64>,
    object_purposes: Option<Json<Vec<String>>>,
    object_requirements: Option<Json<Requirements>>,
}

/// The index of padding entries; the others count from 0.
const NO_PLACE: i32 = -1;

/// Numbers `lookups`, marks the first of each share, and pads the list to a length that is a power of two.
fn numbered<L: Lookup>(lookups: &[L]) -> Vec<(i32, bool, &L)> {
    let mut shares = HashSet::with_capacity(lookups.len());
    let mut numbered: Vec<(i32, bool, &L)> =
        (0..).zip(lookups).map(|(place, lookup)| (place, shares.insert(lookup.share()), lookup)).collect();
    if let Some(last) = lookups.last() {
        numbered.resize(lookups.len().next_power_of_two(), (NO_PLACE, false, last));
    }
    numbered
}

/// Gathers the rows of each of `lookups`: one for each agreement of each of its grants, or a single one. `read` makes a row's object.
fn found<L: Lookup, T, O>(
    lookups: &[L],
    rows: impl Iterator<Item = (CallerRow, T)>,
    read: impl Fn(T) -> O,
) -> Result<HashMap<L, Found<O>>> {
    let mut found = HashMap::<L, Found<O>>::with_capacity(lookups.len());
    for (CallerRow { place, token, holder, share, grant }, object) in rows {
        let lookup = usize::try_from(place).ok().and_then(|place| lookups.get(place));
        let lookup = lookup.ok_or(StoreError::Corrupt("asked.place"))?;
        let grant = grant.0.map(Grant::try_from).transpose()?;
        match found.get_mut(lookup) {
            Some(found) => {
                found.access.iter_mut().zip(grant).for_each(|(access, grant)| add_grant(&mut access.grants, grant));
            }
            None => {
                let bearer = lookup.bearer(token.0.map(Token::from), holder.try_into()?);
                let share = share.0.map(Share::try_from).transpose()?;
                let access = share.map(|share| ShareAccess { share, grants: grant.into_iter().collect() });
                found.insert(lookup.clone(), Found { bearer, access, object: read(object) });
            }
        }
    }
    spread_grants(lookups, &mut found);
    Ok(found)
}

/// Sorts the grants of each share by when they begin, which would cost more in the statement, and copies the grants
/// read for the first lookup key of a share to its others.
fn spread_grants<L: Lookup, O>(lookups: &[L], found: &mut HashMap<L, Found<O>>) {
    let mut read = HashMap::<L::Share, Vec<Grant>>::with_capacity(lookups.len());
    for lookup in lookups {
        let Some(access) = found.get_mut(lookup).and_then(|found| found.access.as_mut()) else { continue };
        match read.entry(lookup.share()) {
            Entry::Occupied(read) => access.grants.clone_from(read.get()),
            Entry::Vacant(read) => {
                access.grants.sort_unstable_by_key(|grant| (grant.valid_from, grant.id));
                read.insert(access.grants.clone());
            }
        }
    }
}

/// Gathers the rows of each share, which are adjacent.
fn gather(rows: Vec<AccessRow>) -> Result<Vec<ShareAccess>> {
    let mut accesses: Vec<ShareAccess> = Vec::new();
    for row in rows {
        let share = Share::try_from(row.share)?;
        let grant = row.grant.0.map(Grant::try_from).transpose()?;
        match accesses.last_mut() {
            Some(access) if access.share.id == share.id => {
                grant.into_iter().for_each(|grant| add_grant(&mut access.grants, grant));
            }
            _ => accesses.push(ShareAccess { share, grants: grant.into_iter().collect() }),
        }
    }
    Ok(accesses)
}

reads! {
    /// Looks up each of these distinct keys, and returns the results by key; unknown callers are left out.
    pub async fn find_reached(self, db, sought: &[Sought]) -> Result<HashMap<Sought, Reached>> {
        if sought.is_empty() {
            return Ok(HashMap::new());
        }
        let mut query = QueryBuilder::new(
            "WITH asked (place, with_grants, hash, recipient_id, share_key, schema_key, table_key) AS ("
        );
        query.push_values(numbered(sought), |mut values, (place, with_grants, sought)| {
            let (hash, recipient_id) = match sought.by {
                Seeker::Token(hash) => (Some(hash.0.to_vec()), None),
                Seeker::Recipient(id) => (None, Some(id)),
            };
            let (schema, table) = sought.table.clone().unzip();
            values.push_bind(place).push_bind(with_grants).push_bind(hash).push_bind(recipient_id);
            values.push_bind(sought.share.clone()).push_bind(schema).push_bind(table);
        });
        query.push(concat!(
            ") SELECT ", caller_columns!(), ", ", object_columns!(), " FROM asked a \
             LEFT JOIN tokens k ON k.hash = a.hash JOIN recipients r ON r.id = COALESCE(k.recipient_id, a.recipient_id) \
             LEFT JOIN shares s ON s.name_key = a.share_key ", join_grants!(),
            "LEFT JOIN objects o ON o.share_id = s.id AND o.schema_key = a.schema_key AND o.name_key = a.table_key \
             LEFT JOIN tables t ON t.id = o.table_id LEFT JOIN views v ON v.id = o.view_id \
             LEFT JOIN requirements q ON q.object_id = o.id WHERE a.place >= 0"
        ));
        let rows: Vec<ReachedRow> = query.build_query_as().fetch_all(db).await?;
        let rows = rows.into_iter().map(|row| (row.caller, row.object));
        found(sought, rows, |object| object.0.map(TryInto::try_into).transpose().map_err(Arc::new))
    }

    /// Looks up the current access facts of each of these distinct bases; those of deleted recipients are left out.
    pub async fn find_access_facts(self, db, ids: &[AccessBasisIds]) -> Result<HashMap<AccessBasisIds, AccessFacts>> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let mut query = QueryBuilder::new(
            "WITH asked (place, with_grants, token_id, recipient_id, share_id, object_id) AS ("
        );
        query.push_values(numbered(ids), |mut values, (place, with_grants, ids)| {
            let token_id = match ids.credential {
                Credential::Token(id) => Some(id),
                Credential::Identity { .. } => None,
            };
            values.push_bind(place).push_bind(with_grants).push_bind(token_id).push_bind(ids.recipient_id);
            values.push_bind(ids.share_id).push_bind(ids.object_id);
        });
        query.push(concat!(
            ") SELECT ", caller_columns!(), ", o.revision AS object_revision, t.allowed_purposes AS object_purposes, \
             q.spec AS object_requirements FROM asked a \
             JOIN recipients r ON r.id = a.recipient_id \
             LEFT JOIN tokens k ON k.id = a.token_id AND k.recipient_id = a.recipient_id \
             LEFT JOIN shares s ON s.id = a.share_id ", join_grants!(),
            "LEFT JOIN objects o ON o.id = a.object_id AND o.share_id = a.share_id \
             LEFT JOIN tables t ON t.id = o.table_id LEFT JOIN requirements q ON q.object_id = o.id WHERE a.place >= 0"
        ));
        let rows: Vec<GroundRow> = query.build_query_as().fetch_all(db).await?;
        let rows = rows.into_iter().map(|GroundRow { caller, object_revision, object_purposes, object_requirements }| {
            (caller, (object_revision, object_purposes, object_requirements))
        });
        found(ids, rows, |(revision, purposes, requirements)| {
            let allowed_purposes = purposes.map(|purposes| purposes.0);
            let requirements = requirements.map(|requirements| Arc::new(requirements.0));
            revision.map(|revision| ObjectFacts { revision, allowed_purposes, requirements })
        })
    }

    /// Finds the token with this id and its recipient, whatever their states.
    pub async fn find_bearer_by_id(self, db, token_id: Uuid) -> Result<Option<Bearer>> {
        let sql = concat!(
            "SELECT ", token_columns!(), ", ", holder_columns!(),
            " FROM tokens k JOIN recipients r ON r.id = k.recipient_id WHERE k.id = $1"
        );
        let row: Option<BearerRow> = sqlx::query_as(sql).bind(token_id).fetch_optional(db).await?;
        row.map(Bearer::try_from).transpose()
    }

    /// Lists the recipients bound to an identity that a JWT of `issuer` with these `audiences` and `claims` matches; at
    /// most two, since a match of more than one is refused.
    pub async fn list_holders(
        self, db, issuer: &str, audiences: &[&str], claims: &[(&str, &str)]
    ) -> Result<Vec<Holder>> {
        if audiences.is_empty() || claims.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = QueryBuilder::new("WITH asked (claim, value) AS (");
        query.push_values(padded(claims), |mut pair, (claim, value)| {
            pair.push_bind(claim.to_owned()).push_bind(value.to_owned());
        });
        query.push(concat!(
            ") SELECT ", holder_columns!(), " FROM (SELECT DISTINCT claim, value FROM asked) a \
             JOIN recipients r ON r.oidc_claim = a.claim AND r.oidc_value = a.value WHERE r.oidc_issuer = "
        ));
        query.push_bind(issuer.to_owned()).push(" AND r.oidc_audience IN (");
        let mut list = query.separated(", ");
        padded(audiences).into_iter().for_each(|audience| {
            list.push_bind(audience.to_owned());
        });
        query.push(") LIMIT 2");
        let rows: Vec<HolderRow> = query.build_query_as().fetch_all(db).await?;
        rows.into_iter().map(Holder::try_from).collect()
    }

    /// Finds the recipient that is bound to the identity with this id.
    pub async fn find_holder(self, db, identity_id: Uuid) -> Result<Option<Holder>> {
        let sql = concat!("SELECT ", holder_columns!(), " FROM recipients r WHERE r.oidc_id = $1");
        let row: Option<HolderRow> = sqlx::query_as(sql).bind(identity_id).fetch_optional(db).await?;
        row.map(Holder::try_from).transpose()
    }

    /// Lists the shares that the recipient was ever granted, with those grants, in the order of their name keys, after
    /// the key `after`; `limit` counts shares.
    pub async fn list_share_access(
        self, db, recipient_id: Uuid, after: Option<&str>, limit: u32
    ) -> Result<Vec<ShareAccess>> {
        let sql = concat!(
            "SELECT ", share_columns!(), ", ", grant_columns!(), ", ", terms_columns!(), " FROM (SELECT * FROM shares WHERE name_key > $2 \
                 AND id IN (SELECT share_id FROM grants WHERE recipient_id = $1) ORDER BY name_key LIMIT $3) s \
             JOIN grants g ON g.share_id = s.id AND g.recipient_id = $1 \
             LEFT JOIN grant_endings e ON e.grant_id = g.id", join_terms!(), "ORDER BY s.name_key, g.valid_from, g.id"
        );
        // No key is empty.
        let after = after.unwrap_or("");
        let rows: Vec<AccessRow> =
            sqlx::query_as(sql).bind(recipient_id).bind(after).bind(i64::from(limit)).fetch_all(db).await?;
        gather(rows)
    }
}
