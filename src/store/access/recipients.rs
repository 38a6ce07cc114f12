//! Stores recipients.

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use uuid::Uuid;

use crate::{
    domain::{
        access::{
            identity::Identity,
            recipient::{Recipient, RecipientSpec},
        },
        core::{name::NameKind, word::AsWritten},
    },
    store::{
        Result, StoreError, Tx,
        core::value::{Json, Micros, name},
        one_row, reads, writes,
    },
};

/// The columns of [`RecipientRow`], from `recipients r`.
macro_rules! recipient_columns {
    () => {
        "r.id AS recipient_id, r.name AS recipient_name, r.state AS recipient_state, r.spec AS recipient_spec, \
         r.oidc_id AS recipient_oidc_id, r.created_at AS recipient_created_at, r.updated_at AS recipient_updated_at, \
         r.revision AS recipient_revision"
    };
}
pub(in crate::store) use recipient_columns;

#[derive(FromRow)]
pub(in crate::store) struct RecipientRow {
    recipient_id: Uuid,
    recipient_name: String,
    recipient_state: String,
    recipient_spec: Json<RecipientSpec>,
    recipient_oidc_id: Option<Uuid>,
    recipient_created_at: Micros,
    recipient_updated_at: Micros,
    recipient_revision: i64,
}

impl TryFrom<RecipientRow> for Recipient {
    type Error = StoreError;

    fn try_from(row: RecipientRow) -> Result<Self> {
        let mut spec = row.recipient_spec.0;
        match (&mut spec.oidc, row.recipient_oidc_id) {
            (Some(identity), Some(id)) => identity.id = id,
            (None, None) => {}
            _ => return Err(StoreError::Corrupt("recipients.oidc_id")),
        }
        Ok(Self {
            id: row.recipient_id,
            name: name(NameKind::Recipient, "recipients.name", &row.recipient_name)?,
            state: AsWritten::new(&row.recipient_state),
            spec,
            created_at: row.recipient_created_at.0,
            updated_at: row.recipient_updated_at.0,
            revision: row.recipient_revision,
        })
    }
}

reads! {
    /// Finds the recipient with this name key.
    pub async fn find_recipient(self, db, name_key: &str) -> Result<Option<Recipient>> {
        let sql = concat!("SELECT ", recipient_columns!(), " FROM recipients r WHERE r.name_key = $1");
        let row: Option<RecipientRow> = sqlx::query_as(sql).bind(name_key).fetch_optional(db).await?;
        row.map(Recipient::try_from).transpose()
    }

    /// Finds the recipient with this id.
    pub async fn find_recipient_by_id(self, db, id: Uuid) -> Result<Option<Recipient>> {
        let sql = concat!("SELECT ", recipient_columns!(), " FROM recipients r WHERE r.id = $1");
        let row: Option<RecipientRow> = sqlx::query_as(sql).bind(id).fetch_optional(db).await?;
        row.map(Recipient::try_from).transpose()
    }

    /// Finds the recipient that is bound to the same identity.
    pub async fn find_recipient_by_identity(self, db, identity: &Identity) -> Result<Option<Recipient>> {
        let sql = concat!(
            "SELECT ", recipient_columns!(), " FROM recipients r WHERE r.oidc_issuer = $1 AND r.oidc_audience = $2 \
             AND r.oidc_claim = $3 AND r.oidc_value = $4"
        );
        let Identity { issuer, audience, claim, value, .. } = identity;
        let query = sqlx::query_as(sql).bind(issuer).bind(audience).bind(claim).bind(value);
        let row: Option<RecipientRow> = query.fetch_optional(db).await?;
        row.map(Recipient::try_from).transpose()
    }

    /// Lists, by name, the recipients with a grant on a share that has not ended at `open_at`, whether begun or not; at
    /// most `limit`.
    pub async fn list_readers(
        self, db, share_id: Uuid, open_at: DateTime<Utc>, limit: u32
    ) -> Result<Vec<Recipient>> {
        let sql = concat!(
            "SELECT ", recipient_columns!(), " FROM recipients r WHERE r.id IN (SELECT g.recipient_id FROM grants g \
             LEFT JOIN grant_endings e ON e.grant_id = g.id WHERE g.share_id = $1 AND g.valid_until > $2 \
             AND (e.ended_at IS NULL OR e.ended_at > $2)) ORDER BY r.name_key LIMIT $3"
        );
        let open_at = Micros::from(open_at);
        let rows: Vec<RecipientRow> =
            sqlx::query_as(sql).bind(share_id).bind(open_at).bind(i64::from(limit)).fetch_all(db).await?;
        rows.into_iter().map(Recipient::try_from).collect()
    }

    /// Lists recipients in the order of their name keys, after the key `after`.
    pub async fn list_recipients(self, db, after: Option<&str>, limit: u32) -> Result<Vec<Recipient>> {
        let sql = concat!(
            "SELECT ", recipient_columns!(), " FROM recipients r WHERE r.name_key > $1 ORDER BY r.name_key LIMIT $2"
        );
        // No key is empty.
        let rows: Vec<RecipientRow> =
            sqlx::query_as(sql).bind(after.unwrap_or("")).bind(i64::from(limit)).fetch_all(db).await?;
        rows.into_iter().map(Recipient::try_from).collect()
    }
}

impl Tx {
    /// Stores a new recipient.
    pub async fn insert_recipient(&mut self, recipient: &Recipient) -> Result<()> {
        const SQL: &str = "INSERT INTO recipients (id, name, name_key, state, spec, oidc_id, oidc_issuer, oidc_audience, \
            oidc_claim, oidc_value, created_at, updated_at, revision) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
        let identity = recipient.spec.oidc.as_ref();
        writes!(self, db => sqlx::query(SQL)
            .bind(recipient.id)
            .bind(recipient.name.as_str())
            .bind(recipient.name.key())
            .bind(recipient.state.as_str())
            .bind(Json(&recipient.spec))
            .bind(identity.map(|identity| identity.id))
            .bind(identity.map(|identity| identity.issuer.as_str()))
            .bind(identity.map(|identity| identity.audience.as_str()))
            .bind(identity.map(|identity| identity.claim.as_str()))
            .bind(identity.map(|identity| identity.value.as_str()))
            .bind(Micros::from(recipient.created_at))
            .bind(Micros::from(recipient.updated_at))
            .bind(recipient.revision)
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }

    /// Stores a changed recipient if its row still has the value's revision ([`StoreError::Stale`] otherwise); returns
    /// it with the next revision.
    pub async fn update_recipient(&mut self, recipient: Recipient) -> Result<Recipient> {
        const SQL: &str = "UPDATE recipients SET state = $3, spec = $4, oidc_id = $5, oidc_issuer = $6, \
            oidc_audience = $7, oidc_claim = $8, oidc_value = $9, updated_at = $10, revision = revision + 1 \
            WHERE id = $1 AND revision = $2";
        let identity = recipient.spec.oidc.as_ref();
        let spec = self.lay_spec("recipients", recipient.id, &recipient.spec).await?;
        let changed = writes!(self, db => sqlx::query(SQL)
            .bind(recipient.id)
            .bind(recipient.revision)
            .bind(recipient.state.as_str())
            .bind(spec)
            .bind(identity.map(|identity| identity.id))
            .bind(identity.map(|identity| identity.issuer.as_str()))
            .bind(identity.map(|identity| identity.audience.as_str()))
            .bind(identity.map(|identity| identity.claim.as_str()))
            .bind(identity.map(|identity| identity.value.as_str()))
            .bind(Micros::from(recipient.updated_at))
            .execute(db)
            .await?
            .rows_affected());
        one_row(changed)?;
        Ok(Recipient { revision: recipient.revision + 1, ..recipient })
    }

    /// Deletes a recipient and its tokens, if its row has this revision. Its grants stay as history, so they must have
    /// ended before.
    pub async fn delete_recipient(&mut self, id: Uuid, revision: i64) -> Result<()> {
        const SQL: &str = "DELETE FROM recipients WHERE id = $1 AND revision = $2";
        let gone = writes!(self, db => sqlx::query(SQL).bind(id).bind(revision).execute(db).await?.rows_affected());
        one_row(gone)
    }
}
