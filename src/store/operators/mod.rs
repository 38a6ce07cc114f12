//! Stores operators and their tokens, which are kept as hashes.

mod groups;
mod identities;
pub(super) mod owners;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

use crate::domain::{
    access::token::TokenHash,
    core::{name::NameKind, word::Words},
    operators::{Operator, OperatorBearer, OperatorSpec, OperatorToken, Role},
};

use super::{
    Result, StoreError, Tx,
    core::value::{Json, Micros, micros, name, time},
    one_row, reads, writes,
};

/// The columns of [`OperatorRow`], from `operators o`.
macro_rules! operator_columns {
    () => {
        "o.id AS operator_id, o.name AS operator_name, o.spec AS operator_spec, o.disabled_at AS operator_disabled_at, \
         o.created_at AS operator_created_at, o.updated_at AS operator_updated_at, o.revision AS operator_revision"
    };
}

/// The columns of [`TokenRow`], from `operator_tokens t`.
macro_rules! operator_token_columns {
    () => {
        "t.id AS token_id, t.operator_id AS token_operator_id, t.created_at AS token_created_at, \
         t.expires_at AS token_expires_at, t.revoked_at AS token_revoked_at"
    };
}

macro_rules! select_operator_bearer {
    ($condition:literal) => {
        concat!(
            "SELECT ",
            operator_token_columns!(),
            ", ",
            operator_columns!(),
            " FROM operator_tokens t JOIN operators o ON o.id = t.operator_id WHERE ",
            $condition
        )
    };
}

/// Returns the plain role, by which admins are found; an empty word, which earlier servers refuse, without one.
fn role_column(spec: &OperatorSpec) -> &str {
    match &spec.role {
        _ if spec.is_admin() => Role::Admin.as_str(),
        Some(role) => role.as_str(),
        None => "",
    }
}

#[derive(FromRow)]
struct OperatorRow {
    operator_id: Uuid,
    operator_name: String,
    operator_spec: Json<OperatorSpec>,
    operator_disabled_at: Option<Micros>,
    operator_created_at: Micros,
    operator_updated_at: Micros,
    operator_revision: i64,
}

impl TryFrom<OperatorRow> for Operator {
    type Error = StoreError;

    fn try_from(row: OperatorRow) -> Result<Self> {
        Ok(Self {
            id: row.operator_id,
            name: name(NameKind::Operator, "operators.name", &row.operator_name)?,
            spec: row.operator_spec.0,
            disabled_at: time(row.operator_disabled_at),
            created_at: row.operator_created_at.0,
            updated_at: row.operator_updated_at.0,
            revision: row.operator_revision,
        })
    }
}

#[derive(FromRow)]
struct TokenRow {
    token_id: Uuid,
    token_operator_id: Uuid,
    token_created_at: Micros,
    token_expires_at: Micros,
    token_revoked_at: Option<Micros>,
}

impl From<TokenRow> for OperatorToken {
    fn from(row: TokenRow) -> Self {
        Self {
            id: row.token_id,
            operator_id: row.token_operator_id,
            created_at: row.token_created_at.0,
            expires_at: row.token_expires_at.0,
            revoked_at: time(row.token_revoked_at),
        }
    }
}

#[derive(FromRow)]
struct BearerRow {
    #[sqlx(flatten)]
    token: TokenRow,
    #[sqlx(flatten)]
    operator: OperatorRow,
}

impl TryFrom<BearerRow> for OperatorBearer {
    type Error = StoreError;

    fn try_from(row: BearerRow) -> Result<Self> {
        Ok(Self { token: row.token.into(), operator: row.operator.try_into()? })
    }
}

reads! {
    /// Finds the operator with this name key.
    pub async fn find_operator(self, db, name_key: &str) -> Result<Option<Operator>> {
        let sql = concat!("SELECT ", operator_columns!(), " FROM operators o WHERE o.name_key = $1");
        let row: Option<OperatorRow> = sqlx::query_as(sql).bind(name_key).fetch_optional(db).await?;
        row.map(Operator::try_from).transpose()
    }

    /// Lists operators by name key, after the key `after`.
    pub async fn list_operators(self, db, after: Option<&str>, limit: u32) -> Result<Vec<Operator>> {
        let sql = concat!(
            "SELECT ", operator_columns!(), " FROM operators o WHERE o.name_key > $1 ORDER BY o.name_key LIMIT $2"
        );
        // No key is empty.
        let rows: Vec<OperatorRow> =
            sqlx::query_as(sql).bind(after.unwrap_or("")).bind(i64::from(limit)).fetch_all(db).await?;
        rows.into_iter().map(Operator::try_from).collect()
    }

    /// Whether an admin other than `except` can sign in at `now`: enabled, with a token that works.
    pub async fn has_admin(self, db, except: Option<Uuid>, now: DateTime<Utc>) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM operators o JOIN operator_tokens t ON t.operator_id = o.id \
                   WHERE o.role = 'admin' AND o.disabled_at IS NULL AND o.id <> $1 AND t.expires_at > $2 \
                   AND (t.revoked_at IS NULL OR t.revoked_at > $2))";
        // No operator has the nil id.
        let query = sqlx::query_scalar(sql).bind(except.unwrap_or(Uuid::nil())).bind(Micros::from(now));
        Ok(query.fetch_one(db).await?)
    }

    /// Finds an operator's token by its hash, with its operator, whatever their states.
    pub async fn find_operator_bearer(self, db, hash: &TokenHash) -> Result<Option<OperatorBearer>> {
        let sql = select_operator_bearer!("t.hash = $1");
        let row: Option<BearerRow> = sqlx::query_as(sql).bind(&hash.0[..]).fetch_optional(db).await?;
        row.map(OperatorBearer::try_from).transpose()
    }

    /// Finds an operator's token by its id, with its operator, whatever their states.
    pub async fn find_operator_bearer_by_id(self, db, token_id: Uuid) -> Result<Option<OperatorBearer>> {
        let sql = select_operator_bearer!("t.id = $1");
        let row: Option<BearerRow> = sqlx::query_as(sql).bind(token_id).fetch_optional(db).await?;
        row.map(OperatorBearer::try_from).transpose()
    }

    /// Lists an operator's tokens by creation time, after the token created `after.0` with the id `after.1`.
    pub async fn list_operator_tokens(
        self, db, operator_id: Uuid, after: Option<(DateTime<Utc>, Uuid)>, limit: u32
    ) -> Result<Vec<OperatorToken>> {
        let mut query = QueryBuilder::new(concat!(
            "SELECT ", operator_token_columns!(), " FROM operator_tokens t WHERE t.operator_id = "
        ));
        query.push_bind(operator_id);
        if let Some((created_at, id)) = after {
            query.push(" AND (t.created_at, t.id) > (").push_bind(Micros::from(created_at));
            query.push(", ").push_bind(id).push(")");
        }
        query.push(" ORDER BY t.created_at, t.id LIMIT ").push_bind(i64::from(limit));
        let rows: Vec<TokenRow> = query.build_query_as().fetch_all(db).await?;
        Ok(rows.into_iter().map(OperatorToken::from).collect())
    }

    /// Counts an operator's tokens that are live at `now`.
    pub async fn count_live_operator_tokens(self, db, operator_id: Uuid, now: DateTime<Utc>) -> Result<i64> {
        let sql = "SELECT count(*) FROM operator_tokens WHERE operator_id = $1 AND expires_at > $2 \
                   AND (revoked_at IS NULL OR revoked_at > $2)";
        Ok(sqlx::query_scalar(sql).bind(operator_id).bind(Micros::from(now)).fetch_one(db).await?)
    }
}

impl Tx {
    /// Stores a new operator.
    pub async fn insert_operator(&mut self, operator: &Operator) -> Result<()> {
        const SQL: &str = "INSERT INTO operators (id, name, name_key, role, spec, disabled_at, created_at, \
            updated_at, revision) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        writes!(self, db => sqlx::query(SQL)
            .bind(operator.id)
            .bind(operator.name.as_str())
            .bind(operator.name.key())
            .bind(role_column(&operator.spec))
            .bind(Json(&operator.spec))
            .bind(micros(operator.disabled_at))
            .bind(Micros::from(operator.created_at))
            .bind(Micros::from(operator.updated_at))
            .bind(operator.revision)
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }

    /// Updates an operator and returns it with the next revision. Fails with [`StoreError::Stale`] if the row has
    /// another revision.
    pub async fn update_operator(&mut self, operator: Operator) -> Result<Operator> {
        const SQL: &str = "UPDATE operators SET role = $3, spec = $4, disabled_at = $5, updated_at = $6, \
            revision = revision + 1 WHERE id = $1 AND revision = $2";
        let spec = self.lay_spec("operators", operator.id, &operator.spec).await?;
        let changed = writes!(self, db => sqlx::query(SQL)
            .bind(operator.id)
            .bind(operator.revision)
            .bind(role_column(&operator.spec))
            .bind(spec)
            .bind(micros(operator.disabled_at))
            .bind(Micros::from(operator.updated_at))
            .execute(db)
            .await?
            .rows_affected());
        one_row(changed)?;
        Ok(Operator { revision: operator.revision + 1, ..operator })
    }

    /// Deletes an operator with its tokens. Fails with [`StoreError::Stale`] if the row has another revision.
    pub async fn delete_operator(&mut self, id: Uuid, revision: i64) -> Result<()> {
        const SQL: &str = "DELETE FROM operators WHERE id = $1 AND revision = $2";
        let gone = writes!(self, db => sqlx::query(SQL).bind(id).bind(revision).execute(db).await?.rows_affected());
        one_row(gone)
    }

    /// Stores a new token of an operator.
    pub async fn insert_operator_token(&mut self, token: &OperatorToken, hash: &TokenHash) -> Result<()> {
        const SQL: &str = "INSERT INTO operator_tokens (id, operator_id, hash, created_at, expires_at, revoked_at) \
            VALUES ($1, $2, $3, $4, $5, $6)";
        writes!(self, db => sqlx::query(SQL)
            .bind(token.id)
            .bind(token.operator_id)
            .bind(&hash.0[..])
            .bind(Micros::from(token.created_at))
            .bind(Micros::from(token.expires_at))
            .bind(micros(token.revoked_at))
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }

    /// Revokes an operator's token for good. Fails with [`StoreError::Stale`] if it is revoked already.
    pub async fn revoke_operator_token(&mut self, id: Uuid, revoked_at: DateTime<Utc>) -> Result<()> {
        const SQL: &str = "UPDATE operator_tokens SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";
        let at = Micros::from(revoked_at);
        let changed = writes!(self, db => sqlx::query(SQL).bind(id).bind(at).execute(db).await?.rows_affected());
        one_row(changed)
    }
}
