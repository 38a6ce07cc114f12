//! Activation links, stored as hashes of their codes.

use sqlx::FromRow;
use uuid::Uuid;

use crate::{
    domain::access::activation::{Activation, CodeHash},
    store::{Result, StoreError, Tx, core::value::Micros, reads, writes},
};

#[derive(FromRow)]
struct ActivationRow {
    token_id: Uuid,
    expires_at: Micros,
    life_seconds: i64,
    ends_token_id: Option<Uuid>,
}

impl TryFrom<ActivationRow> for Activation {
    type Error = StoreError;

    fn try_from(row: ActivationRow) -> Result<Self> {
        Ok(Self {
            token_id: row.token_id,
            expires_at: row.expires_at.0,
            life_seconds: row.life_seconds.try_into().map_err(|_| StoreError::Corrupt("activations.life_seconds"))?,
            ends_token_id: row.ends_token_id,
        })
    }
}

reads! {
    /// Finds the link whose code has this hash.
    pub async fn find_activation(self, db, hash: &CodeHash) -> Result<Option<Activation>> {
        const SQL: &str =
            "SELECT token_id, expires_at, life_seconds, ends_token_id FROM activations WHERE code_hash = $1";
        let row: Option<ActivationRow> = sqlx::query_as(SQL).bind(&hash.0[..]).fetch_optional(db).await?;
        row.map(Activation::try_from).transpose()
    }
}

impl Tx {
    /// Stores the link of a pending token.
    pub async fn insert_activation(&mut self, activation: &Activation, hash: &CodeHash) -> Result<()> {
        const SQL: &str = "INSERT INTO activations (token_id, code_hash, expires_at, life_seconds, ends_token_id) \
            VALUES ($1, $2, $3, $4, $5)";
        let life_seconds = i64::try_from(activation.life_seconds).unwrap_or(i64::MAX);
        writes!(self, db => sqlx::query(SQL)
            .bind(activation.token_id)
            .bind(&hash.0[..])
            .bind(Micros::from(activation.expires_at))
            .bind(life_seconds)
            .bind(activation.ends_token_id)
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }
}
