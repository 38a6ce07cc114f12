//! The admin API over HTTP, on both databases.

mod agreements;
mod audit;
mod copies;
mod disclosures;
mod drills;
mod dry_runs;
mod endpoints;
mod freezes;
mod grants;
mod groups;
mod identities;
mod jobs;
mod notifications;
mod objects;
mod openapi;
mod operators;
mod purposes;
mod reading_ahead;
mod recipients;
mod reports;
mod roles;
mod scopes;
mod separation;
mod shares;
mod tables;
mod tokens;
mod unauthorized;
mod usage;
mod use_cases;
mod views;

use weir::{
    domain::{audit::Personal, operators::Permission},
    service::{
        core::{context::Run, places::Place},
        operators::sign_in::Asked,
    },
};

/// A request to create the share `s`, as the API sees it before it knows the caller.
fn asked_to_put_a_share() -> Asked {
    Asked {
        route: "/api/v1/shares/{share}".into(),
        method: "PUT".into(),
        path: "/api/v1/shares/s".into(),
        reads: false,
        run: Run::Real,
        needed: Permission::ManageSharing,
        request_id: "r1".into(),
        personal: Personal::default(),
        place: Place::default(),
    }
}
