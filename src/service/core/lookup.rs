//! Finds things by name, and in filters also by id, since deleted things have no name.

use uuid::Uuid;

use crate::{
    domain::{
        core::{
            name::{Name, NameKind},
            nearest::{did_you_mean, nearest},
        },
        operators::group::Group,
    },
    store::{StoreError, Tx},
};

use super::{Core, error::ServiceError};

/// How many names are searched for the one that was probably meant.
const LOOKED_THROUGH: u32 = 1_000;

/// Returns the lookup key of `name`; a text that cannot be a name is answered "not found".
pub(in crate::service) fn key(kind: NameKind, name: &str) -> Result<String, ServiceError> {
    let not_found = |_| ServiceError::NotFound { kind: kind.noun(), name: name.to_owned() };
    Name::stored(kind, name).map(|name| name.key().to_owned()).map_err(not_found)
}

pub(in crate::service) fn unknown(parameter: &str) -> ServiceError {
    let message = format!("`{parameter}` names nothing that exists; what was deleted is found by its id");
    ServiceError::Parameter(message)
}

/// The error that there is no such recipient.
pub(in crate::service) fn no_such_recipient(name: &str) -> ServiceError {
    ServiceError::NotFound { kind: "recipient", name: name.to_owned() }
}

/// Returns the message about a missing share, with the name that was probably meant.
pub(in crate::service) async fn no_share(tx: &mut Tx, name: &str) -> Result<String, StoreError> {
    let shares = tx.list_shares(None, LOOKED_THROUGH).await?;
    let near = did_you_mean(name, shares.iter().map(|share| share.name.as_str()));
    Ok(absent("share", near, format!("PUT /shares/{name}")))
}

/// Returns the message about a missing recipient, with the name that was probably meant.
pub(in crate::service) async fn no_recipient(tx: &mut Tx, name: &str) -> Result<String, StoreError> {
    let recipients = tx.list_recipients(None, LOOKED_THROUGH).await?;
    let near = did_you_mean(name, recipients.iter().map(|recipient| recipient.name.as_str()));
    Ok(absent("recipient", near, format!("PUT /recipients/{name}")))
}

fn absent(kind: &str, near: String, call: String) -> String {
    match near.is_empty() {
        true => format!("names no {kind}; create it with {call}"),
        false => format!("names no {kind}{near}"),
    }
}

impl Core {
    /// Returns the name of a `kind` that was probably meant by the missing `name`.
    pub async fn suggest(&self, kind: &str, name: &str) -> Option<String> {
        let known = self.names_of(kind, name).await.ok()?;
        nearest(name, known.iter().map(String::as_str)).map(str::to_owned)
    }

    async fn names_of(&self, kind: &str, name: &str) -> Result<Vec<String>, StoreError> {
        let (db, most) = (&self.db, LOOKED_THROUGH);
        Ok(match kind {
            "share" => db.list_shares(None, most).await?.into_iter().map(|share| share.name.to_string()).collect(),
            "table" => db.list_tables(None, most).await?.into_iter().map(|table| table.name.to_string()).collect(),
            "view" => db.list_views(None, most).await?.into_iter().map(|(view, _)| view.name.to_string()).collect(),
            "recipient" => {
                let recipients = db.list_recipients(None, most).await?;
                recipients.into_iter().map(|recipient| recipient.name.to_string()).collect()
            }
            "operator" => {
                let operators = db.list_operators(None, most).await?;
                operators.into_iter().map(|operator| operator.name.to_string()).collect()
            }
            "group" => {
                let groups: Vec<Group> = db.list_declared(None, most).await?;
                groups.into_iter().map(|group| group.name.to_string()).collect()
            }
            "object" => self.names_of_objects(name).await?,
            _ => Vec::new(),
        })
    }

    /// Returns the names of the objects in the share of `name`, which has the form `share.schema.name`.
    async fn names_of_objects(&self, name: &str) -> Result<Vec<String>, StoreError> {
        // Schemas and tables have no dots, but shares may.
        let share = name.rsplitn(3, '.').nth(2).and_then(|share| key(NameKind::Share, share).ok());
        let Some(share) = share else { return Ok(Vec::new()) };
        let Some(share) = self.db.find_share(&share).await? else { return Ok(Vec::new()) };
        let objects = self.db.list_objects(share.id, None, None, LOOKED_THROUGH).await?;
        let named = objects.into_iter().map(|(object, _)| format!("{}.{}.{}", share.name, object.schema, object.name));
        Ok(named.collect())
    }

    /// Returns the message about a missing registered table, with the name that was probably meant.
    pub(in crate::service) async fn no_table(&self, name: &str) -> String {
        match self.suggest("table", name).await {
            Some(near) => format!("names no registered table; did you mean `{near}`?"),
            None => format!("names no registered table; register it with PUT /tables/{name}"),
        }
    }

    /// Returns the message about a missing view, with the name that was probably meant.
    pub(in crate::service) async fn no_view(&self, name: &str) -> String {
        match self.suggest("view", name).await {
            Some(near) => format!("names no view; did you mean `{near}`?"),
            None => format!("names no view; draft it with PUT /views/{name}"),
        }
    }

    /// Returns the error for a filter that names nothing, with the name that was probably meant.
    async fn unknown_or_near(&self, kind: &str, text: &str) -> ServiceError {
        match self.suggest(kind, text).await {
            Some(near) => {
                ServiceError::Parameter(format!("`{kind}` names nothing that exists; did you mean `{near}`?"))
            }
            None => unknown(kind),
        }
    }

    /// Returns the id of the share that a filter names.
    pub(in crate::service) async fn filtered_share(&self, text: &str) -> Result<Uuid, ServiceError> {
        let found = match key(NameKind::Share, text) {
            Ok(key) => self.db.find_share(&key).await?.map(|share| share.id),
            Err(_) => None,
        };
        match found.or_else(|| Uuid::parse_str(text).ok()) {
            Some(id) => Ok(id),
            None => Err(self.unknown_or_near("share", text).await),
        }
    }

    /// Returns the id of the recipient that a filter names.
    pub(in crate::service) async fn filtered_recipient(&self, text: &str) -> Result<Uuid, ServiceError> {
        let found = match key(NameKind::Recipient, text) {
            Ok(key) => self.db.find_recipient(&key).await?.map(|recipient| recipient.id),
            Err(_) => None,
        };
        match found.or_else(|| Uuid::parse_str(text).ok()) {
            Some(id) => Ok(id),
            None => Err(self.unknown_or_near("recipient", text).await),
        }
    }

    /// Returns the id of the shared object that a filter names: `schema.table` in a share, or an id.
    pub(in crate::service) async fn filtered_object(
        &self,
        share: Option<Uuid>,
        text: &str,
    ) -> Result<Uuid, ServiceError> {
        if let Some((schema, table)) = text.split_once('.') {
            let share = share.ok_or_else(|| {
                let message =
                    "a shared object is named within its share; name the `share` too, or give the object's id";
                ServiceError::Parameter(message.into())
            })?;
            let keys = (key(NameKind::Schema, schema), key(NameKind::Table, table));
            if let (Ok(schema), Ok(table)) = keys
                && let Some((object, _)) = self.db.find_object(share, &schema, &table).await?
            {
                return Ok(object.id);
            }
        }
        Uuid::parse_str(text).map_err(|_| unknown("object"))
    }

    /// The identity of what a filter calls a table: in a share the object that the protocol calls so, otherwise a
    /// registered table; or an id of either.
    pub(in crate::service) async fn filtered_table(
        &self,
        share: Option<Uuid>,
        text: &str,
    ) -> Result<Uuid, ServiceError> {
        if share.is_some() {
            return self.filtered_object(share, text).await;
        }
        let found = match key(NameKind::RegisteredTable, text) {
            Ok(key) => self.db.find_table(&key).await?.map(|table| table.id),
            Err(_) => None,
        };
        match found.or_else(|| Uuid::parse_str(text).ok()) {
            Some(id) => Ok(id),
            None => Err(ServiceError::Parameter(
                "`table` names no registered table; name the `share` too where it is a table of a share, or give an id"
                    .to_owned(),
            )),
        }
    }
}
