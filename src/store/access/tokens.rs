//! Recipients' tokens, stored as hashes.

use chrono::{DateTime, Utc};
use ipnet::IpNet;
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

use crate::{
    domain::access::token::{Token, TokenHash},
    store::{
        Result, Tx,
        core::value::{Json, Micros, micros, padded, time},
        one_row, reads, writes,
    },
};

/// The columns of [`TokenRow`], from `tokens k`.
macro_rules! token_columns {
    () => {
        "k.id AS token_id, k.recipient_id AS token_recipient_id, k.credential AS token_credential, \
         k.share_ids AS token_share_ids, k.allowed_cidrs AS token_allowed_cidrs, k.created_at AS token_created_at, \
         k.activated_at AS token_activated_at, k.expires_at AS token_expires_at, k.revoked_at AS token_revoked_at, \
         k.last_used_at AS token_last_used_at, k.unused_until AS token_unused_until"
    };
}
pub(in crate::store) use token_columns;

#[derive(FromRow)]
pub(in crate::store) struct TokenRow {
    token_id: Uuid,
    token_recipient_id: Uuid,
    token_credential: String,
    token_share_ids: Json<Vec<Uuid>>,
    token_allowed_cidrs: Json<Vec<IpNet>>,
    token_created_at: Micros,
    token_activated_at: Option<Micros>,
    token_expires_at: Option<Micros>,
    token_revoked_at: Option<Micros>,
    token_last_used_at: Option<Micros>,
    token_unused_until: Option<Micros>,
}

impl From<TokenRow> for Token {
    fn from(row: TokenRow) -> Self {
        Self {
            id: row.token_id,
            recipient_id: row.token_recipient_id,
            credential: row.token_credential,
            share_ids: row.token_share_ids.0,
            allowed_cidrs: row.token_allowed_cidrs.0,
            created_at: row.token_created_at.0,
            activated_at: time(row.token_activated_at),
            expires_at: time(row.token_expires_at),
            revoked_at: time(row.token_revoked_at),
            last_used_at: time(row.token_last_used_at),
            unused_until: time(row.token_unused_until),
        }
    }
}

/// A token that expires soon, with its recipient's name.
#[derive(Clone, Debug, PartialEq)]
pub struct EndingToken {
    /// The token.
    pub token: Token,
    /// The recipient's name.
    pub recipient: String,
}

#[derive(FromRow)]
struct EndingTokenRow {
    #[sqlx(flatten)]
    token: TokenRow,
    recipient_name: String,
}

reads! {
    /// Lists activated tokens of active recipients that expire after `now` and by `until`, and that no other token of
    /// their credential outlives; in the order of their ids, after `after`.
    pub async fn list_ending_tokens(
        self, db, now: DateTime<Utc>, until: DateTime<Utc>, after: Uuid, limit: u32
    ) -> Result<Vec<EndingToken>> {
        let sql = concat!(
            "SELECT ", token_columns!(), ", r.name AS recipient_name FROM tokens k \
             JOIN recipients r ON r.id = k.recipient_id AND r.state = 'active' \
             WHERE k.expires_at > $1 AND k.expires_at <= $2 AND k.revoked_at IS NULL AND k.activated_at IS NOT NULL \
             AND k.id > $3 AND NOT EXISTS (SELECT 1 FROM tokens n WHERE n.recipient_id = k.recipient_id \
             AND n.credential = k.credential AND n.expires_at > k.expires_at AND n.revoked_at IS NULL) \
             ORDER BY k.id LIMIT $4"
        );
        let rows: Vec<EndingTokenRow> = sqlx::query_as(sql)
            .bind(Micros::from(now))
            .bind(Micros::from(until))
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?;
        Ok(rows.into_iter().map(|row| EndingToken { token: row.token.into(), recipient: row.recipient_name }).collect())
    }

    /// Finds the token with this id.
    pub async fn find_token(self, db, id: Uuid) -> Result<Option<Token>> {
        let sql = concat!("SELECT ", token_columns!(), " FROM tokens k WHERE k.id = $1");
        let row: Option<TokenRow> = sqlx::query_as(sql).bind(id).fetch_optional(db).await?;
        Ok(row.map(Token::from))
    }

    /// Lists a recipient's tokens in the order of their creation, after the one created at `after.0` with the id
    /// `after.1`.
    pub async fn list_tokens(
        self, db, recipient_id: Uuid, after: Option<(DateTime<Utc>, Uuid)>, limit: u32
    ) -> Result<Vec<Token>> {
        let mut query =
            QueryBuilder::new(concat!("SELECT ", token_columns!(), " FROM tokens k WHERE k.recipient_id = "));
        query.push_bind(recipient_id);
        if let Some((created_at, id)) = after {
            query.push(" AND (k.created_at, k.id) > (").push_bind(Micros::from(created_at));
            query.push(", ").push_bind(id).push(")");
        }
        query.push(" ORDER BY k.created_at, k.id LIMIT ").push_bind(i64::from(limit));
        let rows: Vec<TokenRow> = query.build_query_as().fetch_all(db).await?;
        Ok(rows.into_iter().map(Token::from).collect())
    }

    /// Lists tokens that were fetched by a link, not used in time as of `now`, and not revoked or expired.
    pub async fn list_unused_tokens(self, db, now: DateTime<Utc>, limit: u32) -> Result<Vec<Token>> {
        let sql = concat!(
            "SELECT ", token_columns!(), " FROM tokens k WHERE k.unused_until <= $1 AND k.last_used_at IS NULL \
             AND k.revoked_at IS NULL AND k.expires_at > $1 ORDER BY k.unused_until, k.id LIMIT $2"
        );
        let rows: Vec<TokenRow> =
            sqlx::query_as(sql).bind(Micros::from(now)).bind(i64::from(limit)).fetch_all(db).await?;
        Ok(rows.into_iter().map(Token::from).collect())
    }

    /// Lists a recipient's tokens that are live at `now`, including pending ones, in the order of their creation.
    pub async fn list_live_tokens(self, db, recipient_id: Uuid, now: DateTime<Utc>) -> Result<Vec<Token>> {
        let sql = concat!(
            "SELECT ", token_columns!(), " FROM tokens k WHERE k.recipient_id = $1 \
             AND (k.revoked_at IS NULL OR k.revoked_at > $2) AND (k.expires_at IS NULL OR k.expires_at > $2) \
             ORDER BY k.created_at, k.id"
        );
        let rows: Vec<TokenRow> = sqlx::query_as(sql).bind(recipient_id).bind(Micros::from(now)).fetch_all(db).await?;
        Ok(rows.into_iter().map(Token::from).filter(|token| token.is_live(now)).collect())
    }
}

impl Tx {
    /// Stores a new token; a pending token has no secret and so no hash yet.
    pub async fn insert_token(&mut self, token: &Token, hash: Option<&TokenHash>) -> Result<()> {
        const SQL: &str = "INSERT INTO tokens (id, recipient_id, hash, credential, share_ids, allowed_cidrs, \
            created_at, activated_at, expires_at, revoked_at, last_used_at, unused_until) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
        writes!(self, db => sqlx::query(SQL)
            .bind(token.id)
            .bind(token.recipient_id)
            .bind(hash.map(|hash| &hash.0[..]))
            .bind(&token.credential)
            .bind(Json(&token.share_ids))
            .bind(Json(&token.allowed_cidrs))
            .bind(Micros::from(token.created_at))
            .bind(micros(token.activated_at))
            .bind(micros(token.expires_at))
            .bind(micros(token.revoked_at))
            .bind(micros(token.last_used_at))
            .bind(micros(token.unused_until))
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }

    /// Gives a pending token its secret's hash and its expiry; `StoreError::Stale` if it is no longer pending.
    pub async fn activate_token(
        &mut self,
        id: Uuid,
        hash: &TokenHash,
        activated_at: DateTime<Utc>,
        expires_at: DateTime<Utc>,
        unused_until: Option<DateTime<Utc>>,
    ) -> Result<()> {
        const SQL: &str = "UPDATE tokens SET hash = $2, activated_at = $3, expires_at = $4, unused_until = $5 \
            WHERE id = $1 AND activated_at IS NULL AND revoked_at IS NULL";
        let changed = writes!(self, db => sqlx::query(SQL)
            .bind(id)
            .bind(&hash.0[..])
            .bind(Micros::from(activated_at))
            .bind(Micros::from(expires_at))
            .bind(micros(unused_until))
            .execute(db)
            .await?
            .rows_affected());
        one_row(changed)
    }

    /// Makes a token expire sooner; `StoreError::Stale` if it is revoked or would not expire sooner.
    pub async fn shorten_token(&mut self, id: Uuid, expires_at: DateTime<Utc>) -> Result<()> {
        const SQL: &str = "UPDATE tokens SET expires_at = $2 \
            WHERE id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)";
        let at = Micros::from(expires_at);
        let changed = writes!(self, db => sqlx::query(SQL).bind(id).bind(at).execute(db).await?.rows_affected());
        one_row(changed)
    }

    /// Revokes a token for good; `StoreError::Stale` if it is revoked already.
    pub async fn revoke_token(&mut self, id: Uuid, revoked_at: DateTime<Utc>) -> Result<()> {
        const SQL: &str = "UPDATE tokens SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";
        let at = Micros::from(revoked_at);
        let changed = writes!(self, db => sqlx::query(SQL).bind(id).bind(at).execute(db).await?.rows_affected());
        one_row(changed)
    }

    /// Notes that these tokens authenticated a request at `used_at`, unless a later use is recorded.
    pub async fn update_tokens_used(&mut self, ids: &[Uuid], used_at: DateTime<Utc>) -> Result<()> {
        for ids in ids.chunks(LONGEST_LIST) {
            let at = Micros::from(used_at);
            writes!(self, db => {
                let mut query = QueryBuilder::new("UPDATE tokens SET last_used_at = ");
                query.push_bind(at).push(" WHERE (last_used_at IS NULL OR last_used_at < ").push_bind(at);
                query.push(") AND id IN (");
                let mut list = query.separated(", ");
                padded(ids).into_iter().for_each(|id| {
                    list.push_bind(id);
                });
                query.push(")");
                query.build().execute(db).await?.rows_affected()
            });
        }
        Ok(())
    }
}

/// The most ids in one statement.
const LONGEST_LIST: usize = 256;
