//! Checks once whether a database can be reached, before anything waits for it. The error names host, port and the next
//! step, which the errors of a pool lack.

use std::{path::Path, time::Duration};

use sqlx::{Connection, Error, PgConnection, postgres::PgConnectOptions};
use tokio::time::timeout;

use crate::{
    domain::core::message::without_number,
    store::{Result, StoreError},
};

/// How long a server may take to answer, and to log in.
const PATIENCE: Duration = Duration::from_secs(3);

/// Connects once to the server in `options`.
pub(in crate::store) async fn reach(options: &PgConnectOptions) -> Result<()> {
    match timeout(PATIENCE, PgConnection::connect_with(options)).await {
        Ok(Ok(connection)) => {
            // Errors while closing do not matter: the server has accepted the login.
            drop(connection.close().await);
            Ok(())
        }
        Ok(Err(error)) => Err(StoreError::Unreachable(explained(options, &error))),
        Err(_) => Err(StoreError::Unreachable(format!(
            "the database at {} does not answer within {} seconds; check that it runs, the network between, and host and \
             port in [database]",
            place(options),
            PATIENCE.as_secs()
        ))),
    }
}

/// The server's address, as people write it.
fn place(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(socket) => format!("`{}`", socket.display()),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

/// Explains why an attempt to connect failed, and what to do. Messages contain no URL, because it may contain a
/// password.
fn explained(options: &PgConnectOptions, error: &Error) -> String {
    let (place, role) = (place(options), options.get_username());
    let database = options.get_database().unwrap_or(role);
    let Error::Database(refusal) = error else {
        let cause = match error {
            Error::Io(error) => without_number(&error.to_string()),
            Error::Tls(error) => format!("TLS: {error}"),
            error => error.to_string(),
        };
        return format!(
            "the database at {place} cannot be reached ({cause}); start it, or mend host and port in [database]"
        );
    };
    let said = refusal.message();
    match refusal.code().as_deref() {
        Some("3D000") => format!(
            "there is no database `{database}` at {place}; make it as docs/postgres-roles.sql says, or name another in \
             [database]"
        ),
        Some("28P01") => format!(
            "the database at {place} refuses the role `{role}`: its password is wrong, or there is no such role; mend the \
             password in [database], or make the role as docs/postgres-roles.sql says"
        ),
        Some("28000") => format!(
            "the database at {place} refuses the role `{role}` ({said}); make it as docs/postgres-roles.sql says, or let \
             it in by pg_hba.conf"
        ),
        Some("42501") => format!(
            "the role `{role}` may not use the database `{database}` at {place} ({said}); docs/postgres-roles.sql gives \
             it its rights"
        ),
        Some(code) if code.starts_with("57") => {
            format!("the database at {place} takes no connections now ({said}); try again when it does")
        }
        _ => format!("the database at {place} refuses the connection ({said}); see its log"),
    }
}

/// Explains why a SQLite file cannot be opened as one.
pub(in crate::store) fn unopened(path: &Path, error: Error) -> StoreError {
    let shown = path.display();
    let code = match &error {
        // The low byte is the primary code: 8 READONLY, 14 CANTOPEN, 26 NOTADB (sqlite.org/rescode.html).
        Error::Database(refusal) => refusal.code().and_then(|code| Some(code.parse::<u32>().ok()? & 0xff)),
        _ => None,
    };
    match code {
        Some(8) => StoreError::Unreachable(format!(
            "`{shown}` cannot be written; give the file and its folder to the user that runs this"
        )),
        Some(26) => {
            StoreError::Unreachable(format!("`{shown}` is no SQLite database; name another file in database.url"))
        }
        Some(14) => StoreError::Unreachable(format!(
            "`{shown}` cannot be opened; check that it is a file and that its folder can be written"
        )),
        _ => error.into(),
    }
}
