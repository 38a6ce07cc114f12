//! Finding things by what callers call them: by name, and in filters by id too, since what is gone has no name left.

use uuid::Uuid;

use super::{Service, error::ServiceError};
use crate::domain::name::{Name, NameKind};

/// The key to find `name` by; a text that can be no name names nothing.
pub(super) fn key(kind: NameKind, name: &str) -> Result<String, ServiceError> {
    let not_found = |_| ServiceError::NotFound { kind: kind.noun(), name: name.to_owned() };
    Name::stored(kind, name).map(|name| name.key().to_owned()).map_err(not_found)
}

pub(super) fn unknown(parameter: &str) -> ServiceError {
    let message = format!("`{parameter}` names nothing that exists; what was deleted is found by its id");
    ServiceError::Parameter(message)
}

impl Service {
    /// The identity of the share that a filter means.
    pub(super) async fn filtered_share(&self, text: &str) -> Result<Uuid, ServiceError> {
        let found = match key(NameKind::Share, text) {
            Ok(key) => self.db.find_share(&key).await?.map(|share| share.id),
            Err(_) => None,
        };
        found.or_else(|| Uuid::parse_str(text).ok()).ok_or_else(|| unknown("share"))
    }

    /// The identity of the recipient that a filter means.
    pub(super) async fn filtered_recipient(&self, text: &str) -> Result<Uuid, ServiceError> {
        let found = match key(NameKind::Recipient, text) {
            Ok(key) => self.db.find_recipient(&key).await?.map(|recipient| recipient.id),
            Err(_) => None,
        };
        found.or_else(|| Uuid::parse_str(text).ok()).ok_or_else(|| unknown("recipient"))
    }

    /// The identity of the shared object that a filter means: `schema.table` in a share, or an id.
    pub(super) async fn filtered_object(&self, share: Option<Uuid>, text: &str) -> Result<Uuid, ServiceError> {
        if let Some((schema, table)) = text.split_once('.') {
            let share = share.ok_or_else(|| {
                ServiceError::Parameter("`table` names a table of a share; name the `share` too, or give its id".into())
            })?;
            let keys = (key(NameKind::Schema, schema), key(NameKind::Table, table));
            if let (Ok(schema), Ok(table)) = keys
                && let Some((object, _)) = self.db.find_object(share, &schema, &table).await?
            {
                return Ok(object.id);
            }
        }
        Uuid::parse_str(text).map_err(|_| unknown("table"))
    }
}
