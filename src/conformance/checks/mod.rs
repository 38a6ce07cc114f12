//! Groups the checks, with one file for each part of the protocol. Each check is a function with a number, a title and
//! a section.

mod changes;
mod credentials;
mod files;
mod listings;
mod metadata;
mod paging;
mod predicates;
mod query;
mod table_changes;
mod time_travel;
mod transport;
mod version;

use super::check::Check;

/// All groups of checks.
pub(super) const GROUPS: &[&[Check]] = &[
    transport::CHECKS,
    listings::CHECKS,
    version::CHECKS,
    metadata::CHECKS,
    query::CHECKS,
    files::CHECKS,
    predicates::CHECKS,
    time_travel::CHECKS,
    paging::CHECKS,
    table_changes::CHECKS,
    changes::CHECKS,
    credentials::CHECKS,
];
