//! What decisions ask of agreements: their terms, the states that they came to, and the grants that name them. The
//! agreements themselves are stored like every noun that is a name and a spec.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

use crate::{
    domain::{
        access::{
            agreement::{AgreementSuccession, AgreementTerms},
            grant::Grant,
        },
        core::word::AsWritten,
    },
    store::{
        Result, Tx,
        core::{
            outer::Joined,
            value::{Json, Micros, micros, padded, time},
        },
        one_row, reads, writes,
    },
};

/// The columns of [`TermsRow`], from `agreement_terms x` and its agreement `xa`.
macro_rules! terms_columns {
    () => {
        "x.agreement_id AS terms_agreement_id, x.succession_id AS terms_succession_id, x.position AS terms_position, \
         x.state AS terms_state, x.state_since AS terms_state_since, x.activated_at AS terms_activated_at, \
         x.valid_from AS terms_valid_from, x.ends_at AS terms_ends_at, x.purposes AS terms_purposes, \
         xa.spec AS terms_spec"
    };
}
pub(in crate::store) use terms_columns;

/// The tables of [`terms_columns!`].
macro_rules! terms_tables {
    () => {
        "agreement_terms x JOIN agreements xa ON xa.id = x.agreement_id"
    };
}

/// Joins the terms of every agreement that a grant `g` names, and of those that take its place, never of those before it:
/// several rows for one grant, which [`add_grant`] puts together.
macro_rules! join_terms {
    () => {
        " LEFT JOIN grant_agreements ga ON ga.grant_id = g.id \
         LEFT JOIN agreement_terms n ON n.agreement_id = ga.agreement_id \
         LEFT JOIN agreement_terms x ON x.succession_id = ga.succession_id AND x.position >= n.position \
         LEFT JOIN agreements xa ON xa.id = x.agreement_id "
    };
}
pub(in crate::store) use join_terms;

#[derive(FromRow)]
pub(in crate::store) struct TermsRow {
    terms_agreement_id: Uuid,
    terms_succession_id: Uuid,
    terms_position: i64,
    terms_state: String,
    terms_state_since: Micros,
    terms_activated_at: Option<Micros>,
    terms_valid_from: Micros,
    terms_ends_at: Micros,
    terms_purposes: Json<Vec<String>>,
    terms_spec: Json<Stated>,
}

/// What decisions read of an agreement's spec itself: columns derived from it would be wrong after a change by a server of
/// an earlier release, which does not know them.
#[derive(Deserialize)]
struct Stated {
    #[serde(default)]
    regions: Option<Vec<String>>,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    classes: Vec<String>,
}

impl Joined for TermsRow {
    const ID: &'static str = "terms_agreement_id";
}

impl TermsRow {
    fn terms(self) -> AgreementTerms {
        AgreementTerms {
            agreement_id: self.terms_agreement_id,
            position: self.terms_position,
            state: AsWritten::new(&self.terms_state),
            state_since: self.terms_state_since.0,
            activated_at: time(self.terms_activated_at),
            valid_from: self.terms_valid_from.0,
            ends_at: self.terms_ends_at.0,
            purposes: self.terms_purposes.0,
            regions: self.terms_spec.0.regions,
            kind: self.terms_spec.0.kind,
            classes: self.terms_spec.0.classes,
        }
    }

    /// The succession with these terms alone.
    pub(in crate::store) fn succession(self) -> AgreementSuccession {
        AgreementSuccession { id: self.terms_succession_id, members: vec![self.terms()] }
    }
}

/// Adds a grant as one row has it, with one agreement or none, to those of earlier rows.
pub(in crate::store) fn add_grant(grants: &mut Vec<Grant>, grant: Grant) {
    match grants.iter_mut().find(|known| known.id == grant.id) {
        Some(known) => grant.agreements.into_iter().for_each(|found| add_succession(&mut known.agreements, found)),
        None => grants.push(grant),
    }
}

pub(in crate::store) fn add_succession(known: &mut Vec<AgreementSuccession>, found: AgreementSuccession) {
    match known.iter_mut().find(|known| known.id == found.id) {
        Some(known) => {
            for terms in found.members {
                if !known.members.iter().any(|member| member.agreement_id == terms.agreement_id) {
                    known.members.push(terms);
                }
            }
        }
        None => known.push(found),
    }
}

/// An agreement's terms, with its party and its succession.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptTerms {
    /// The recipient that signed it, even when it is deleted.
    pub recipient_id: Uuid,
    /// The id of the first agreement of the succession.
    pub succession_id: Uuid,
    /// The terms.
    pub terms: AgreementTerms,
}

#[derive(FromRow)]
struct KeptRow {
    recipient_id: Uuid,
    #[sqlx(flatten)]
    terms: TermsRow,
}

impl From<KeptRow> for KeptTerms {
    fn from(KeptRow { recipient_id, terms }: KeptRow) -> Self {
        Self { recipient_id, succession_id: terms.terms_succession_id, terms: terms.terms() }
    }
}

reads! {
    /// Finds the terms of these agreements, by agreement.
    pub async fn find_terms(self, db, ids: &[Uuid]) -> Result<HashMap<Uuid, KeptTerms>> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let sql = concat!("SELECT x.recipient_id, ", terms_columns!(), " FROM ", terms_tables!(), " WHERE x.agreement_id IN (");
        let mut query = QueryBuilder::new(sql);
        let mut list = query.separated(", ");
        padded(ids).into_iter().for_each(|id| {
            list.push_bind(id);
        });
        query.push(")");
        let rows: Vec<KeptRow> = query.build_query_as().fetch_all(db).await?;
        Ok(rows.into_iter().map(|row| (row.terms.terms_agreement_id, row.into())).collect())
    }

    /// Lists the terms of a succession, the first agreement first.
    pub async fn list_succession(self, db, succession_id: Uuid) -> Result<Vec<KeptTerms>> {
        let sql = concat!(
            "SELECT x.recipient_id, ", terms_columns!(),
            " FROM ", terms_tables!(), " WHERE x.succession_id = $1 ORDER BY x.position"
        );
        let rows: Vec<KeptRow> = sqlx::query_as(sql).bind(succession_id).fetch_all(db).await?;
        Ok(rows.into_iter().map(KeptTerms::from).collect())
    }

    /// Lists the name keys of a recipient's active agreements that end at this time.
    pub async fn list_agreements_ending_at(
        self, db, recipient_id: Uuid, ends_at: DateTime<Utc>, limit: u32
    ) -> Result<Vec<String>> {
        const SQL: &str = "SELECT a.name_key FROM agreement_terms x JOIN agreements a ON a.id = x.agreement_id \
            WHERE x.recipient_id = $1 AND x.ends_at = $2 AND x.state = 'active' ORDER BY a.name_key LIMIT $3";
        let query = sqlx::query_scalar(SQL).bind(recipient_id).bind(Micros::from(ends_at)).bind(i64::from(limit));
        Ok(query.fetch_all(db).await?)
    }

    /// Lists the name keys of a recipient's agreements that people have suspended or terminated.
    pub async fn list_interrupted_agreements(self, db, recipient_id: Uuid, limit: u32) -> Result<Vec<String>> {
        const SQL: &str = "SELECT a.name_key FROM agreement_terms x JOIN agreements a ON a.id = x.agreement_id \
            WHERE x.recipient_id = $1 AND x.state IN ('suspended', 'terminated') ORDER BY a.name_key LIMIT $2";
        Ok(sqlx::query_scalar(SQL).bind(recipient_id).bind(i64::from(limit)).fetch_all(db).await?)
    }

    /// Lists the ids of grants that name an agreement of this succession.
    pub async fn list_grants_under(self, db, succession_id: Uuid, limit: u32) -> Result<Vec<Uuid>> {
        const SQL: &str = "SELECT DISTINCT grant_id FROM grant_agreements WHERE succession_id = $1 ORDER BY grant_id LIMIT $2";
        Ok(sqlx::query_scalar(SQL).bind(succession_id).bind(i64::from(limit)).fetch_all(db).await?)
    }

    /// Counts the grants that name this very agreement.
    pub async fn count_grants_naming(self, db, agreement_id: Uuid) -> Result<i64> {
        const SQL: &str = "SELECT COUNT(*) FROM grant_agreements WHERE agreement_id = $1";
        Ok(sqlx::query_scalar(SQL).bind(agreement_id).fetch_one(db).await?)
    }
}

impl Tx {
    /// Stores the terms of a new agreement, with its first state.
    pub async fn insert_terms(&mut self, kept: &KeptTerms, by: &str, reason: Option<&str>) -> Result<()> {
        const SQL: &str = "INSERT INTO agreement_terms (agreement_id, recipient_id, succession_id, position, state, \
            state_since, activated_at, valid_from, ends_at, purposes) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let terms = &kept.terms;
        writes!(self, db => sqlx::query(SQL)
            .bind(terms.agreement_id)
            .bind(kept.recipient_id)
            .bind(kept.succession_id)
            .bind(terms.position)
            .bind(terms.state.as_str())
            .bind(Micros::from(terms.state_since))
            .bind(micros(terms.activated_at))
            .bind(Micros::from(terms.valid_from))
            .bind(Micros::from(terms.ends_at))
            .bind(Json(&terms.purposes))
            .execute(db)
            .await?
            .rows_affected());
        self.insert_agreement_move(terms, by, reason).await
    }

    /// Stores what an agreement's changed spec means for decisions, beside what they read of it itself; its state stays.
    pub async fn update_terms(&mut self, terms: &AgreementTerms) -> Result<()> {
        const SQL: &str =
            "UPDATE agreement_terms SET valid_from = $2, ends_at = $3, purposes = $4 WHERE agreement_id = $1";
        let changed = writes!(self, db => sqlx::query(SQL)
            .bind(terms.agreement_id)
            .bind(Micros::from(terms.valid_from))
            .bind(Micros::from(terms.ends_at))
            .bind(Json(&terms.purposes))
            .execute(db)
            .await?
            .rows_affected());
        one_row(changed)
    }

    /// Brings an agreement to the state that its terms have. If an event moves it, [`Tx::update_event_order`] follows.
    pub async fn move_agreement(&mut self, terms: &AgreementTerms, by: &str, reason: &str) -> Result<()> {
        const SQL: &str = "UPDATE agreement_terms SET state = $2, state_since = $3, activated_at = $4, event_moved_at = NULL \
             WHERE agreement_id = $1";
        let changed = writes!(self, db => sqlx::query(SQL)
            .bind(terms.agreement_id)
            .bind(terms.state.as_str())
            .bind(Micros::from(terms.state_since))
            .bind(micros(terms.activated_at))
            .execute(db)
            .await?
            .rows_affected());
        one_row(changed)?;
        self.insert_agreement_move(terms, by, Some(reason)).await
    }

    async fn insert_agreement_move(&mut self, terms: &AgreementTerms, by: &str, reason: Option<&str>) -> Result<()> {
        const SQL: &str = "INSERT INTO agreement_moves (id, agreement_id, state, moved_at, moved_by, reason) \
            VALUES ($1, $2, $3, $4, $5, $6)";
        writes!(self, db => sqlx::query(SQL)
            .bind(Uuid::now_v7())
            .bind(terms.agreement_id)
            .bind(terms.state.as_str())
            .bind(Micros::from(terms.state_since))
            .bind(by)
            .bind(reason)
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }

    /// Stores which agreements a new grant names.
    pub async fn insert_grant_agreements(&mut self, grant_id: Uuid, named: &[KeptTerms]) -> Result<()> {
        const SQL: &str = "INSERT INTO grant_agreements (grant_id, agreement_id, succession_id) VALUES ($1, $2, $3)";
        for kept in named {
            writes!(self, db => sqlx::query(SQL)
                .bind(grant_id)
                .bind(kept.terms.agreement_id)
                .bind(kept.succession_id)
                .execute(db)
                .await?
                .rows_affected());
        }
        Ok(())
    }
}

/// Whether the agreement `x` was in force at a moment, as SQL for both databases: `$at` is the moment.
macro_rules! in_force_agreement {
    ($query:ident, $at:expr) => {{
        let at = $at;
        $query.push(
            " AND NOT EXISTS (SELECT 1 FROM grant_agreements ga WHERE ga.grant_id = g.id AND NOT EXISTS (\
             SELECT 1 FROM agreement_terms x WHERE x.succession_id = ga.succession_id AND x.position >= \
             (SELECT n.position FROM agreement_terms n WHERE n.agreement_id = ga.agreement_id) AND x.valid_from <= ",
        );
        $query.push_bind(at).push(" AND x.ends_at > ").push_bind(at);
        $query.push(
            " AND (SELECT m.state FROM agreement_moves m WHERE m.agreement_id = x.agreement_id AND m.moved_at <= ",
        );
        $query.push_bind(at).push(" ORDER BY m.moved_at DESC, m.id DESC LIMIT 1) = 'active'");
        $query.push(
            " AND NOT EXISTS (SELECT 1 FROM agreement_terms y WHERE y.succession_id = x.succession_id \
             AND y.position > x.position AND NOT (y.state = 'terminated' AND y.state_since < y.valid_from) \
             AND y.activated_at <= ",
        );
        $query.push_bind(at).push(" AND y.valid_from <= ").push_bind(at).push(")))");
        $query.push(" AND (g.agreement_valid_until IS NULL OR g.agreement_valid_until > ").push_bind(at);
        $query.push(" OR EXISTS (SELECT 1 FROM grant_agreements ga WHERE ga.grant_id = g.id))");
    }};
}
pub(in crate::store) use in_force_agreement;
