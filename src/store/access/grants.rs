//! Grants and their endings. Both are append-only, so that the database can always answer who could read what at any
//! time.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

use crate::{
    domain::access::grant::{Agreement, Ending, Grant},
    store::{
        Result, StoreError, Tx,
        core::{
            outer::{Joined, Outer},
            value::{Micros, micros, time},
        },
        one_row, reads, writes,
    },
};

use super::agreements::{TermsRow, add_grant, add_succession, in_force_agreement, join_terms, terms_columns};

/// The columns of [`GrantRow`], from `grants g` and `grant_endings e`.
macro_rules! grant_columns {
    () => {
        "g.id AS grant_id, g.share_id AS grant_share_id, g.recipient_id AS grant_recipient_id, \
         g.valid_from AS grant_valid_from, g.valid_until AS grant_valid_until, g.purpose AS grant_purpose, \
         g.agreement_ref, g.agreement_sha256, g.agreement_valid_until, g.granted_by AS grant_granted_by, \
         g.created_at AS grant_created_at, e.ended_at, e.end_reason, e.ended_by, e.replaced_by"
    };
}
pub(in crate::store) use grant_columns;

#[derive(FromRow)]
pub(in crate::store) struct GrantRow {
    grant_id: Uuid,
    grant_share_id: Uuid,
    grant_recipient_id: Uuid,
    grant_valid_from: Micros,
    grant_valid_until: Micros,
    grant_purpose: Option<String>,
    agreement_ref: Option<String>,
    agreement_sha256: Option<String>,
    agreement_valid_until: Option<Micros>,
    grant_granted_by: String,
    grant_created_at: Micros,
    ended_at: Option<Micros>,
    end_reason: Option<String>,
    ended_by: Option<String>,
    replaced_by: Option<Uuid>,
}

impl TryFrom<GrantRow> for Grant {
    type Error = StoreError;

    fn try_from(row: GrantRow) -> Result<Self> {
        let ending = match (row.ended_at, row.ended_by) {
            (None, None) => None,
            (Some(Micros(at)), Some(ended_by)) => {
                Some(Ending { at, reason: row.end_reason, ended_by, replaced_by: row.replaced_by })
            }
            _ => return Err(StoreError::Corrupt("grant_endings.ended_by")),
        };
        let agreement = row.agreement_ref.map(|reference| Agreement {
            reference,
            sha256: row.agreement_sha256,
            valid_until: time(row.agreement_valid_until),
        });
        Ok(Self {
            id: row.grant_id,
            share_id: row.grant_share_id,
            recipient_id: row.grant_recipient_id,
            valid_from: row.grant_valid_from.0,
            valid_until: row.grant_valid_until.0,
            purpose: row.grant_purpose,
            agreement,
            agreements: Vec::new(),
            granted_by: row.grant_granted_by,
            created_at: row.grant_created_at.0,
            ending,
        })
    }
}

/// A grant with the names of its share and recipient: the current names, or the last known ones of deleted things.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedGrant {
    /// The grant.
    pub grant: Grant,
    /// The share's name.
    pub share: String,
    /// The recipient's name.
    pub recipient: String,
    /// The names of the agreements that it names.
    pub agreements: Vec<String>,
}

/// A grant with one of the agreements that decide on it, or with none.
#[derive(FromRow)]
pub(in crate::store) struct GrantedRow {
    #[sqlx(flatten)]
    grant: GrantRow,
    #[sqlx(flatten)]
    terms: Outer<TermsRow>,
}

impl Joined for GrantedRow {
    const ID: &'static str = "grant_id";
}

impl TryFrom<GrantedRow> for Grant {
    type Error = StoreError;

    fn try_from(row: GrantedRow) -> Result<Self> {
        let agreements = row.terms.0.into_iter().map(TermsRow::succession).collect();
        Ok(Self { agreements, ..row.grant.try_into()? })
    }
}

#[derive(FromRow)]
struct NamedGrantRow {
    #[sqlx(flatten)]
    grant: GrantedRow,
    share_name: String,
    recipient_name: String,
    agreement_name: Option<String>,
}

/// Puts the rows of each grant together, which are adjacent.
fn named(rows: Vec<NamedGrantRow>) -> Result<Vec<NamedGrant>> {
    let mut found: Vec<NamedGrant> = Vec::new();
    for row in rows {
        let grant = Grant::try_from(row.grant)?;
        match found.last_mut().filter(|last| last.grant.id == grant.id) {
            Some(last) => {
                grant
                    .agreements
                    .into_iter()
                    .for_each(|agreement| add_succession(&mut last.grant.agreements, agreement));
                last.agreements.extend(row.agreement_name);
                last.agreements.dedup();
            }
            None => found.push(NamedGrant {
                grant,
                share: row.share_name,
                recipient: row.recipient_name,
                agreements: row.agreement_name.into_iter().collect(),
            }),
        }
    }
    Ok(found)
}

/// A filter for grants; `None` means any.
#[derive(Clone, Copy, Debug, Default)]
pub struct GrantFilter {
    /// Only grants on this share.
    pub share_id: Option<Uuid>,
    /// Only grants of this recipient.
    pub recipient_id: Option<Uuid>,
    /// Only grants that allowed access at this moment; whether their agreements allow their purpose is not asked.
    pub in_force_at: Option<DateTime<Utc>>,
    /// Only grants that had not ended at this moment, whether begun or not; the agreement's end is ignored.
    pub open_at: Option<DateTime<Utc>>,
}

/// Grants with everything that they are shown with; the caller says which, and in what order.
macro_rules! select_named_grants {
    () => {
        concat!(
            "SELECT ",
            grant_columns!(),
            ", ",
            terms_columns!(),
            ", COALESCE(s.name, g.share_name) AS share_name, COALESCE(r.name, g.recipient_name) AS recipient_name, \
             c.name AS agreement_name FROM grants g LEFT JOIN grant_endings e ON e.grant_id = g.id \
             LEFT JOIN shares s ON s.id = g.share_id LEFT JOIN recipients r ON r.id = g.recipient_id",
            join_terms!(),
            "LEFT JOIN agreements c ON c.id = ga.agreement_id WHERE "
        )
    };
}

/// When the agreements of a grant end by time, as SQL: what they say themselves goes before what the grant was given. Of
/// agreements that take each other's place, the newest that was activated counts.
macro_rules! agreement_end {
    ($grant:literal) => {
        concat!(
            "COALESCE((SELECT MIN(x.ends_at) FROM grant_agreements ga JOIN agreement_terms x \
             ON x.succession_id = ga.succession_id AND x.position >= (SELECT n.position FROM agreement_terms n \
             WHERE n.agreement_id = ga.agreement_id) WHERE ga.grant_id = ",
            $grant,
            ".id AND x.state = 'active' AND NOT EXISTS (SELECT 1 FROM agreement_terms y \
             WHERE y.succession_id = x.succession_id AND y.position > x.position AND y.activated_at IS NOT NULL)), ",
            $grant,
            ".agreement_valid_until)"
        )
    };
}

/// The body of both queries for grants that end soon; `$end` is the column with the end.
macro_rules! ending {
    ($db:ident, $end:expr, $now:ident, $until:ident, $after:ident, $limit:ident) => {{
        let sql = concat!(
            select_named_grants!(),
            "g.id IN (SELECT g.id FROM grants g LEFT JOIN grant_endings e ON e.grant_id = g.id \
             JOIN shares s ON s.id = g.share_id JOIN recipients r ON r.id = g.recipient_id WHERE ",
            $end,
            " > $1 AND ",
            $end,
            " <= $2 AND g.valid_until > $1 AND e.grant_id IS NULL AND r.state <> 'offboarded' \
             AND g.id > $3 AND NOT EXISTS (SELECT 1 FROM grants n LEFT JOIN grant_endings m ON m.grant_id = n.id \
             WHERE n.recipient_id = g.recipient_id AND n.share_id = g.share_id AND m.grant_id IS NULL \
             AND n.valid_until > ",
            $end,
            " AND COALESCE(",
            agreement_end!("n"),
            " > ",
            $end,
            ", TRUE)) ORDER BY g.id LIMIT $4) ORDER BY g.id, c.name"
        );
        let rows: Vec<NamedGrantRow> = sqlx::query_as(sql)
            .bind(Micros::from($now))
            .bind(Micros::from($until))
            .bind($after)
            .bind(i64::from($limit))
            .fetch_all($db)
            .await?;
        named(rows)
    }};
}

reads! {
    /// Finds the grant with this id.
    pub async fn find_grant(self, db, id: Uuid) -> Result<Option<NamedGrant>> {
        let sql = concat!(select_named_grants!(), "g.id = $1 ORDER BY c.name");
        Ok(named(sqlx::query_as(sql).bind(id).fetch_all(db).await?)?.into_iter().next())
    }

    /// Lists grants in the order of their creation, after the one created at `after.0` with the id `after.1`.
    pub async fn list_grants(
        self, db, filter: &GrantFilter, after: Option<(DateTime<Utc>, Uuid)>, limit: u32
    ) -> Result<Vec<NamedGrant>> {
        let mut query = QueryBuilder::new(concat!(
            select_named_grants!(),
            "g.id IN (SELECT g.id FROM grants g LEFT JOIN grant_endings e ON e.grant_id = g.id WHERE TRUE"
        ));
        if let Some(share_id) = filter.share_id {
            query.push(" AND g.share_id = ").push_bind(share_id);
        }
        if let Some(recipient_id) = filter.recipient_id {
            query.push(" AND g.recipient_id = ").push_bind(recipient_id);
        }
        for at in [filter.in_force_at, filter.open_at].into_iter().flatten().map(Micros::from) {
            query.push(" AND g.valid_until > ").push_bind(at);
            query.push(" AND (e.ended_at IS NULL OR e.ended_at > ").push_bind(at).push(")");
        }
        if let Some(at) = filter.in_force_at.map(Micros::from) {
            query.push(" AND g.valid_from <= ").push_bind(at).push(" AND g.created_at <= ").push_bind(at);
            in_force_agreement!(query, at);
        }
        if let Some((created_at, id)) = after {
            query.push(" AND (g.created_at, g.id) > (").push_bind(Micros::from(created_at));
            query.push(", ").push_bind(id).push(")");
        }
        query.push(" ORDER BY g.created_at, g.id LIMIT ").push_bind(i64::from(limit));
        query.push(") ORDER BY g.created_at, g.id, c.name");
        named(query.build_query_as().fetch_all(db).await?)
    }

    /// Lists grants that end after `now` and by `until`, and that no other grant of the recipient on the share
    /// outlives; in the order of their ids, after `after`.
    pub async fn list_ending_grants(
        self, db, now: DateTime<Utc>, until: DateTime<Utc>, after: Uuid, limit: u32
    ) -> Result<Vec<NamedGrant>> {
        ending!(db, "g.valid_until", now, until, after, limit)
    }

    /// Lists grants whose agreement ends after `now` and by `until`, and that no other grant of the recipient on the
    /// share outlives; in the order of their ids, after `after`.
    pub async fn list_grants_of_ending_agreements(
        self, db, now: DateTime<Utc>, until: DateTime<Utc>, after: Uuid, limit: u32
    ) -> Result<Vec<NamedGrant>> {
        ending!(db, agreement_end!("g"), now, until, after, limit)
    }

    /// Lists all grants that a recipient ever had on a share, by when they begin. Callers that add a grant hold the
    /// audit head's lock, so that the list stays true until the commit.
    pub async fn list_grants_of(self, db, share_id: Uuid, recipient_id: Uuid) -> Result<Vec<Grant>> {
        let sql = concat!(
            "SELECT ", grant_columns!(), ", ", terms_columns!(),
            " FROM grants g LEFT JOIN grant_endings e ON e.grant_id = g.id", join_terms!(),
            "WHERE g.recipient_id = $1 AND g.share_id = $2 ORDER BY g.valid_from, g.id"
        );
        let rows: Vec<GrantedRow> = sqlx::query_as(sql).bind(recipient_id).bind(share_id).fetch_all(db).await?;
        let mut grants = Vec::new();
        for row in rows {
            add_grant(&mut grants, row.try_into()?);
        }
        Ok(grants)
    }
}

impl Tx {
    /// Stores a new grant, which has no ending yet; [`StoreError::Stale`] if its share or its recipient is gone. The
    /// agreements that it names are stored by [`Self::insert_grant_agreements`].
    pub async fn insert_grant(&mut self, grant: &Grant) -> Result<()> {
        const SQL: &str = "INSERT INTO grants (id, share_id, share_name, recipient_id, recipient_name, valid_from, \
            valid_until, purpose, agreement_ref, agreement_sha256, agreement_valid_until, granted_by, created_at) \
            SELECT $1, s.id, s.name, r.id, r.name, $4, $5, $6, $7, $8, $9, $10, $11 \
            FROM shares s, recipients r WHERE s.id = $2 AND r.id = $3";
        let agreement = grant.agreement.as_ref();
        let added = writes!(self, db => sqlx::query(SQL)
            .bind(grant.id)
            .bind(grant.share_id)
            .bind(grant.recipient_id)
            .bind(Micros::from(grant.valid_from))
            .bind(Micros::from(grant.valid_until))
            .bind(&grant.purpose)
            .bind(agreement.map(|agreement| agreement.reference.as_str()))
            .bind(agreement.and_then(|agreement| agreement.sha256.as_deref()))
            .bind(micros(agreement.and_then(|agreement| agreement.valid_until)))
            .bind(&grant.granted_by)
            .bind(Micros::from(grant.created_at))
            .execute(db)
            .await?
            .rows_affected());
        one_row(added)
    }

    /// Ends a grant for good; a second ending is [`Constraint::GrantEnded`](crate::store::Constraint::GrantEnded).
    pub async fn end_grant(&mut self, id: Uuid, ending: &Ending) -> Result<()> {
        const SQL: &str = "INSERT INTO grant_endings (grant_id, ended_at, end_reason, ended_by, replaced_by) \
            VALUES ($1, $2, $3, $4, $5)";
        writes!(self, db => sqlx::query(SQL)
            .bind(id)
            .bind(Micros::from(ending.at))
            .bind(&ending.reason)
            .bind(&ending.ended_by)
            .bind(ending.replaced_by)
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }
}
