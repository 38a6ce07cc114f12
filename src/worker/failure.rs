//! The class of a task's failure: one word for the metrics, which says where to look. Everything else about a failure (what
//! it was about, and the error itself) is for the log alone.

use std::{error::Error, sync::Arc};

use crate::{
    geography::CountryFileError,
    lake::LakeError,
    service::audit::error::AuditError,
    storage::StorageError,
    store::{Cause, StoreError},
};

/// The class of a task that ended abnormally.
pub(super) const PANIC: &str = "panic";

/// The class of a failure: that of its innermost cause that has one.
pub(super) fn class(error: &(dyn Error + 'static)) -> &'static str {
    let (mut class, mut at) = ("internal", Some(error));
    while let Some(error) = at {
        class = class_of(error).unwrap_or(class);
        at = error.source();
    }
    class
}

fn class_of(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let store = error.downcast_ref::<StoreError>();
    let store = store.or_else(|| error.downcast_ref::<Arc<StoreError>>().map(AsRef::as_ref));
    if let Some(error) = store {
        return Some(of_database(error));
    }
    if let Some(error) = error.downcast_ref::<StorageError>() {
        return Some(match error {
            StorageError::Denied { .. } => "storage_denied",
            StorageError::Unavailable { .. } => "storage_unavailable",
            _ => "storage",
        });
    }
    if error.is::<CountryFileError>() {
        return Some("country_file");
    }
    match error.downcast_ref::<LakeError>() {
        Some(LakeError::Unavailable { .. }) => Some("storage_unavailable"),
        Some(_) => Some("table"),
        None => matches!(error.downcast_ref(), Some(AuditError::Broken(_))).then_some("trail"),
    }
}

fn of_database(error: &StoreError) -> &'static str {
    match error.cause() {
        Cause::Full => "database_full",
        Cause::ReadOnly => "database_read_only",
        Cause::Locked => "database_locked",
        Cause::Refused => "database_refused",
        Cause::Silent => "database_silent",
        Cause::Broken => "database_broken",
        Cause::Other if error.is_outage() => "database_unavailable",
        Cause::Other => "database",
    }
}

#[cfg(test)]
mod tests {
    use crate::{domain::audit::chain::Broken, service::core::error::ServiceError};

    use super::*;

    #[test]
    fn a_class_says_where_to_look_and_names_nothing() {
        let denied = || StorageError::Denied { path: "lake/ann".into(), source: "ann's key".into() };
        let rights = || StoreError::Rights("no right on ann".into());
        let cases: [(Box<dyn Error>, &str); 10] = [
            (Box::new(ServiceError::from(rights())), "database_refused"),
            (Box::new(AuditError::Store(rights())), "database_refused"),
            (Box::new(ServiceError::from(StoreError::Corrupt("jobs.state"))), "database"),
            (Box::new(AuditError::Storage(denied())), "storage_denied"),
            (Box::new(ServiceError::internal(denied())), "storage_denied"),
            (Box::new(StorageError::Changed { path: "ann".into() }), "storage"),
            (Box::new(AuditError::Broken(Broken::at(7, "ann"))), "trail"),
            (Box::new(AuditError::Refused("ann".into())), "internal"),
            (Box::new(ServiceError::internal(CountryFileError::Unfit { path: "ann".into() })), "country_file"),
            (Box::new(ServiceError::conflict("ann")), "internal"),
        ];
        for (error, expected) in cases {
            assert_eq!(class(&*error), expected, "{error:?}");
        }
    }
}
