//! The foundations of every endpoint: authentication, bodies, pages, problems, and the API's own document.

pub(super) mod auth;
pub(super) mod declared;
pub(super) mod docs;
pub(super) mod extract;
pub(super) mod jobs;
pub(super) mod page;
pub(super) mod problem;
pub(super) mod resource;
pub(super) mod text;
