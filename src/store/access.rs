//! The hot path: what a decision is made from, each in one query; and the same again for a whole batch of requests
//! under the audit head's lock.

use std::collections::HashMap;

use sqlx::{ColumnIndex, Decode, FromRow, QueryBuilder, Row, Type};
use uuid::Uuid;

use super::{
    Result, StoreError, Tx,
    grants::{GrantRow, grant_columns},
    on_tx, reads,
    recipients::{RecipientRow, recipient_columns},
    shares::{ShareRow, share_columns},
    tokens::{LONGEST_LIST, TokenRow, token_columns},
    value::{digest, padded},
};
use crate::domain::{
    decision::{Bearer, ShareAccess},
    grant::Grant,
    identity::Holder,
    share::Share,
    token::TokenHash,
};

/// Whether everything is frozen, beside what is looked up.
macro_rules! frozen_column {
    () => {
        "EXISTS (SELECT 1 FROM freezes WHERE scope = 'everything' AND lifted_at IS NULL) AS frozen"
    };
}

macro_rules! bearer_columns {
    () => {
        concat!(
            token_columns!(),
            ", ",
            recipient_columns!(),
            ", ",
            frozen_column!(),
            " FROM tokens k JOIN recipients r ON r.id = k.recipient_id WHERE "
        )
    };
}

macro_rules! select_bearers {
    () => {
        concat!("SELECT ", bearer_columns!())
    };
}

#[derive(FromRow)]
struct BearerRow {
    #[sqlx(flatten)]
    token: TokenRow,
    #[sqlx(flatten)]
    recipient: RecipientRow,
    frozen: bool,
}

impl TryFrom<BearerRow> for Bearer {
    type Error = StoreError;

    fn try_from(row: BearerRow) -> Result<Self> {
        Ok(Self { token: row.token.into(), recipient: row.recipient.try_into()?, frozen: row.frozen })
    }
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

/// A bearer and the hash that it was asked for by.
#[derive(FromRow)]
struct AskedBearerRow {
    token_hash: Vec<u8>,
    #[sqlx(flatten)]
    bearer: BearerRow,
}

/// A share beside a grant, and the recipient that it was asked for.
#[derive(FromRow)]
struct AskedAccessRow {
    asked_recipient_id: Uuid,
    #[sqlx(flatten)]
    access: AccessRow,
}

/// A share beside one of its grants, or beside none.
#[derive(FromRow)]
struct AccessRow {
    #[sqlx(flatten)]
    share: ShareRow,
    #[sqlx(flatten)]
    grant: JoinedGrant,
}

/// The grant of an outer join.
struct JoinedGrant(Option<GrantRow>);

impl<'r, R: Row> FromRow<'r, R> for JoinedGrant
where
    GrantRow: FromRow<'r, R>,
    Option<Uuid>: Decode<'r, R::Database> + Type<R::Database>,
    &'static str: ColumnIndex<R>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        let id: Option<Uuid> = row.try_get("grant_id")?;
        Ok(Self(id.map(|_| GrantRow::from_row(row)).transpose()?))
    }
}

/// Gathers the rows of each share, which stand together.
fn gather(rows: Vec<AccessRow>) -> Result<Vec<ShareAccess>> {
    let mut accesses: Vec<ShareAccess> = Vec::new();
    for row in rows {
        let share = Share::try_from(row.share)?;
        let grant = row.grant.0.map(TryInto::try_into).transpose()?;
        match accesses.last_mut() {
            Some(access) if access.share.id == share.id => access.grants.extend(grant),
            _ => accesses.push(ShareAccess { share, grants: grant.into_iter().collect() }),
        }
    }
    Ok(accesses)
}

reads! {
    /// The tokens with these hashes and their recipients, whatever their states, by hash; what is not known is left out.
    pub async fn find_bearers_by_hash(self, db, hashes: &[TokenHash]) -> Result<HashMap<TokenHash, Bearer>> {
        if hashes.is_empty() {
            return Ok(HashMap::new());
        }
        let mut query = QueryBuilder::new(concat!("SELECT k.hash AS token_hash, ", bearer_columns!(), "k.hash IN ("));
        let mut list = query.separated(", ");
        padded(hashes).into_iter().for_each(|hash| {
            list.push_bind(hash.0.to_vec());
        });
        query.push(")");
        let rows: Vec<AskedBearerRow> = query.build_query_as().fetch_all(db).await?;
        let found = rows.into_iter().map(|row| {
            Ok((TokenHash(digest("tokens.hash", &row.token_hash)?), Bearer::try_from(row.bearer)?))
        });
        found.collect()
    }

    /// The token with this id and its recipient, whatever their states.
    pub async fn find_bearer_by_id(self, db, token_id: Uuid) -> Result<Option<Bearer>> {
        let sql = concat!(select_bearers!(), "k.id = $1");
        let row: Option<BearerRow> = sqlx::query_as(sql).bind(token_id).fetch_optional(db).await?;
        row.map(Bearer::try_from).transpose()
    }

    /// The recipients that are bound to an identity at `issuer` which JWTs made out to `audiences` with these `claims`
    /// speak for; two at most, since more than one is as good as none.
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

    /// The recipient that is bound to the identity with this id.
    pub async fn find_holder(self, db, identity_id: Uuid) -> Result<Option<Holder>> {
        let sql = concat!("SELECT ", holder_columns!(), " FROM recipients r WHERE r.oidc_id = $1");
        let row: Option<HolderRow> = sqlx::query_as(sql).bind(identity_id).fetch_optional(db).await?;
        row.map(Holder::try_from).transpose()
    }

    /// The shares with these name keys, each with every grant that the recipient it is asked for ever had on it, by recipient
    /// id and key; shares that are not there are left out.
    pub async fn find_share_accesses_by_key(
        self, db, pairs: &[(Uuid, &str)]
    ) -> Result<HashMap<(Uuid, String), ShareAccess>> {
        if pairs.is_empty() {
            return Ok(HashMap::new());
        }
        let mut query = QueryBuilder::new("WITH asked (recipient_id, share_key) AS (");
        query.push_values(padded(pairs), |mut pair, (recipient_id, share_key)| {
            pair.push_bind(recipient_id).push_bind(share_key.to_owned());
        });
        query.push(concat!(
            ") SELECT a.recipient_id AS asked_recipient_id, ", share_columns!(), ", ", grant_columns!(),
            " FROM (SELECT DISTINCT recipient_id, share_key FROM asked) a JOIN shares s ON s.name_key = a.share_key              LEFT JOIN grants g ON g.share_id = s.id AND g.recipient_id = a.recipient_id              LEFT JOIN grant_endings e ON e.grant_id = g.id ORDER BY g.valid_from, g.id"
        ));
        let rows: Vec<AskedAccessRow> = query.build_query_as().fetch_all(db).await?;
        let mut accesses = HashMap::<(Uuid, String), ShareAccess>::with_capacity(pairs.len());
        for AskedAccessRow { asked_recipient_id, access } in rows {
            let share = Share::try_from(access.share)?;
            let grant = access.grant.0.map(Grant::try_from).transpose()?;
            let key = (asked_recipient_id, share.name.key().to_owned());
            accesses.entry(key).or_insert_with(|| ShareAccess { share, grants: vec![] }).grants.extend(grant);
        }
        Ok(accesses)
    }

    /// The shares that the recipient was ever granted, with those grants, in the order of their name keys, from behind
    /// the key `after`; `limit` counts shares.
    pub async fn list_share_access(
        self, db, recipient_id: Uuid, after: Option<&str>, limit: u32
    ) -> Result<Vec<ShareAccess>> {
        let sql = concat!(
            "SELECT ", share_columns!(), ", ", grant_columns!(), " FROM (SELECT * FROM shares WHERE name_key > $2 \
                 AND id IN (SELECT share_id FROM grants WHERE recipient_id = $1) ORDER BY name_key LIMIT $3) s \
             JOIN grants g ON g.share_id = s.id AND g.recipient_id = $1 \
             LEFT JOIN grant_endings e ON e.grant_id = g.id ORDER BY s.name_key, g.valid_from, g.id"
        );
        // No key is empty.
        let after = after.unwrap_or("");
        let rows: Vec<AccessRow> =
            sqlx::query_as(sql).bind(recipient_id).bind(after).bind(i64::from(limit)).fetch_all(db).await?;
        gather(rows)
    }
}

impl Tx {
    /// The tokens with these ids and their recipients, by token id; those that are gone are left out.
    pub async fn find_bearers(&mut self, token_ids: &[Uuid]) -> Result<HashMap<Uuid, Bearer>> {
        let mut bearers = HashMap::with_capacity(token_ids.len());
        for ids in token_ids.chunks(LONGEST_LIST) {
            let rows: Vec<BearerRow> = on_tx!(self, db => {
                let mut query = QueryBuilder::new(concat!(select_bearers!(), "k.id IN ("));
                let mut list = query.separated(", ");
                padded(ids).into_iter().for_each(|id| {
                    list.push_bind(id);
                });
                query.push(")");
                query.build_query_as().fetch_all(db).await?
            });
            for row in rows {
                let bearer = Bearer::try_from(row)?;
                bearers.insert(bearer.token.id, bearer);
            }
        }
        Ok(bearers)
    }

    /// The recipients that are bound to the identities with these ids, by that id; those that are gone are left out.
    pub async fn find_holders(&mut self, identity_ids: &[Uuid]) -> Result<HashMap<Uuid, Holder>> {
        let mut holders = HashMap::with_capacity(identity_ids.len());
        for ids in identity_ids.chunks(LONGEST_LIST) {
            let rows: Vec<HolderRow> = on_tx!(self, db => {
                let mut query =
                    QueryBuilder::new(concat!("SELECT ", holder_columns!(), " FROM recipients r WHERE r.oidc_id IN ("));
                let mut list = query.separated(", ");
                padded(ids).into_iter().for_each(|id| {
                    list.push_bind(id);
                });
                query.push(")");
                query.build_query_as().fetch_all(db).await?
            });
            for row in rows {
                let holder = Holder::try_from(row)?;
                holders.extend(holder.recipient.identity.as_ref().map(|identity| identity.id).map(|id| (id, holder)));
            }
        }
        Ok(holders)
    }

    /// What recipients may do with shares, by recipient id and share id, with every grant that they ever had; pairs
    /// without one, and shares that are gone, are left out.
    pub async fn find_share_accesses(&mut self, pairs: &[(Uuid, Uuid)]) -> Result<HashMap<(Uuid, Uuid), ShareAccess>> {
        let mut accesses = HashMap::<(Uuid, Uuid), ShareAccess>::with_capacity(pairs.len());
        for pairs in pairs.chunks(LONGEST_LIST) {
            let rows: Vec<AccessRow> = on_tx!(self, db => {
                // As a join, because SQLite would look through every grant for a list of pairs.
                let mut query = QueryBuilder::new("WITH asked (recipient_id, share_id) AS (");
                query.push_values(padded(pairs), |mut pair, (recipient_id, share_id)| {
                    pair.push_bind(recipient_id).push_bind(share_id);
                });
                query.push(concat!(
                    ") SELECT ",
                    share_columns!(),
                    ", ",
                    grant_columns!(),
                    " FROM (SELECT DISTINCT recipient_id, share_id FROM asked) a \
                     JOIN grants g ON g.recipient_id = a.recipient_id AND g.share_id = a.share_id \
                     JOIN shares s ON s.id = g.share_id LEFT JOIN grant_endings e ON e.grant_id = g.id \
                     ORDER BY g.valid_from, g.id"
                ));
                query.build_query_as().fetch_all(db).await?
            });
            for row in rows {
                let share = Share::try_from(row.share)?;
                let Some(grant) = row.grant.0.map(Grant::try_from).transpose()? else { continue };
                let key = (grant.recipient_id, share.id);
                accesses.entry(key).or_insert_with(|| ShareAccess { share, grants: vec![] }).grants.push(grant);
            }
        }
        Ok(accesses)
    }
}
