//! Access over HTTP: who gets it, how it is handed out, and how it ends.

mod activation;
mod agreements;
mod ceilings;
mod decision;
mod exceptions;
mod freezes;
mod grants;
mod hooks;
mod purposes;
mod recipients;
mod tokens;
mod use_cases;
