//! The errors of the store, and the one place that interprets the databases' errors.

use std::path::PathBuf;

use sqlx::migrate::MigrateError;

/// The result of store methods.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The change would break a rule of the schema.
    #[error("{0}")]
    Conflict(Constraint),
    /// The row is not as it was when the change was prepared: another change came first, or it is gone.
    #[error("it was changed by somebody else; read it again and repeat")]
    Stale,
    /// Another transaction was in the way; repeating the call may succeed.
    #[error("the database is busy with another change; try again")]
    Contended(#[source] sqlx::Error),
    /// The database does not answer at the moment.
    #[error("the database cannot be reached; check that it runs and that `database.url` is right")]
    Unavailable(#[source] sqlx::Error),
    /// A newer Weir has migrated the database.
    #[error("the database is at migration {found}, this weir knows {known}; run a newer weir")]
    SchemaTooNew {
        /// The newest migration in the database.
        found: i64,
        /// The newest migration of this binary.
        known: i64,
    },
    /// The database lacks migrations of this binary.
    #[error("the database is at migration {found}, this weir needs {needed}; run `weir migrate`")]
    PendingMigrations {
        /// The newest migration in the database, 0 if none.
        found: i64,
        /// The newest migration of this binary.
        needed: i64,
    },
    /// A migration failed, or one in the database differs from this binary's migration of that number.
    #[error("the migrations cannot be applied")]
    Migration(#[source] MigrateError),
    /// Another server runs on the SQLite file.
    #[error("another server holds `{}`; stop it first, or use PostgreSQL for several servers", .0.display())]
    Locked(PathBuf),
    /// A file of the database cannot be created or opened.
    #[error("cannot open `{}`; check the directory and its permissions", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// The database's URL is not of a supported kind. The URL may contain a password, so it is not shown.
    #[error("the database url must be `sqlite://<file>` or `postgres://…`; check `database.url`")]
    Url,
    /// The named column holds a value that no Weir writes.
    #[error("the database holds a value in `{0}` that makes no sense; restore it or ask for help")]
    Corrupt(&'static str),
    /// A value that the database cannot hold, such as a time before its calendar begins.
    #[error("a value is outside what the database can hold")]
    Unstorable(#[source] sqlx::Error),
    /// The database cannot be reached; the text says where it is, why not, and what to do.
    #[error("{0}")]
    Unreachable(String),
    /// The database role lacks a right.
    #[error("the database's role lacks a right ({0}); docs/postgres-roles.sql gives it its rights")]
    Rights(String),
    /// The statement failed in another way.
    #[error("the database refused a statement")]
    Query(#[source] sqlx::Error),
}

/// Why a database cannot do its work, as a word for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The disk is full.
    #[error("full")]
    Full,
    /// It accepts no changes: a read-only file or disk, or a standby.
    #[error("read-only")]
    ReadOnly,
    /// Another process or transaction holds a lock.
    #[error("locked")]
    Locked,
    /// It refuses this server.
    #[error("refused")]
    Refused,
    /// It does not answer.
    #[error("silent")]
    Silent,
    /// Its disk fails.
    #[error("input/output error")]
    Broken,
    /// Something else; the error says what.
    #[error("failed")]
    Other,
}

/// The rules of the schema that a change can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Constraint {
    /// A table of this name is registered.
    #[error("a table of this name exists already")]
    TableName,
    /// Another scan found this column at the same time.
    #[error("another scan of this table ended at the same time; scan it again")]
    ColumnPath,
    /// A view of this name exists.
    #[error("a view of this name exists already")]
    ViewName,
    /// A version of this number was published.
    #[error("another version was published at the same time; look at it and try again")]
    ViewVersion,
    /// A share of this name exists.
    #[error("a share of this name exists already")]
    ShareName,
    /// The share's schema has an object of this name.
    #[error("the schema has an object of this name already")]
    ObjectName,
    /// A recipient of this name exists.
    #[error("a recipient of this name exists already")]
    RecipientName,
    /// Another recipient is bound to this identity.
    #[error("another recipient is bound to this issuer, audience, claim and value")]
    RecipientIdentity,
    /// Another token has this hash.
    #[error("this token exists already")]
    TokenHash,
    /// An operator of this name exists.
    #[error("an operator of this name exists already")]
    OperatorName,
    /// A group of this name exists.
    #[error("a group of this name exists already")]
    GroupName,
    /// A purpose of this name exists.
    #[error("a purpose of this name exists already")]
    PurposeName,
    /// An agreement of this name exists.
    #[error("an agreement of this name exists already")]
    AgreementName,
    /// A use case of this name exists.
    #[error("a use case of this name exists already")]
    UseCaseName,
    /// A control of this class exists.
    #[error("a control of this class exists already")]
    ControlName,
    /// A domain of this name exists.
    #[error("a domain of this name exists already")]
    DomainName,
    /// An exception of this name exists.
    #[error("an exception of this name exists already")]
    ExceptionName,
    /// Another agreement takes the same place.
    #[error("another agreement supersedes this one already")]
    AgreementPlace,
    /// Another link has this activation code's hash.
    #[error("this activation link exists already")]
    ActivationCode,
    /// The grant already has an ending.
    #[error("the grant was ended already")]
    GrantEnded,
    /// The scope is already frozen.
    #[error("it is frozen already")]
    FreezeLive,
    /// Another checkpoint was already made after the same one.
    #[error("another replica has made this checkpoint already")]
    CheckpointTaken,
    /// The operator has already used the idempotency key.
    #[error("this idempotency key was used already")]
    IdempotencyKey,
    /// A row that it refers to is gone, or another row still refers to it.
    #[error("it refers to something that is gone, or something still refers to it")]
    Reference,
    /// The change would alter append-only data.
    #[error("it is append-only")]
    AppendOnly,
}

/// Unique constraints as PostgreSQL names them and as SQLite, which forgets their names, describes them.
const UNIQUE: [(&str, &str, Constraint); 25] = [
    ("views_name", "views.name_key", Constraint::ViewName),
    ("view_versions_pk", "view_versions.view_id, view_versions.version", Constraint::ViewVersion),
    ("tables_name", "tables.name_key", Constraint::TableName),
    ("columns_path", "columns.table_id, columns.path", Constraint::ColumnPath),
    ("shares_name", "shares.name_key", Constraint::ShareName),
    ("operator_groups_name", "operator_groups.name_key", Constraint::GroupName),
    ("purposes_name", "purposes.name_key", Constraint::PurposeName),
    ("use_cases_name", "use_cases.name_key", Constraint::UseCaseName),
    ("controls_name", "controls.name_key", Constraint::ControlName),
    ("domains_name", "domains.name_key", Constraint::DomainName),
    ("exceptions_name", "exceptions.name_key", Constraint::ExceptionName),
    ("agreements_name", "agreements.name_key", Constraint::AgreementName),
    (
        "agreement_terms_succession",
        "agreement_terms.succession_id, agreement_terms.position",
        Constraint::AgreementPlace,
    ),
    ("objects_name", "objects.share_id, objects.schema_key, objects.name_key", Constraint::ObjectName),
    ("recipients_name", "recipients.name_key", Constraint::RecipientName),
    (
        "recipients_identity",
        "recipients.oidc_issuer, recipients.oidc_audience, recipients.oidc_claim, recipients.oidc_value",
        Constraint::RecipientIdentity,
    ),
    ("tokens_hash", "tokens.hash", Constraint::TokenHash),
    ("operators_name", "operators.name_key", Constraint::OperatorName),
    ("operator_tokens_hash", "operator_tokens.hash", Constraint::TokenHash),
    ("activations_code", "activations.code_hash", Constraint::ActivationCode),
    ("grant_endings_pk", "grant_endings.grant_id", Constraint::GrantEnded),
    ("freezes_live", "freezes.scope", Constraint::FreezeLive),
    ("audit_checkpoints_pk", "audit_checkpoints.seq", Constraint::CheckpointTaken),
    ("audit_checkpoints_previous", "audit_checkpoints.previous_seq", Constraint::CheckpointTaken),
    ("idempotency_keys_pk", "idempotency_keys.operator, idempotency_keys.idempotency_key", Constraint::IdempotencyKey),
];

impl StoreError {
    /// Whether repeating the same call may succeed.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Contended(_))
    }

    /// Why the database cannot do its work.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Contended(_) => Cause::Locked,
            Self::Rights(_) => Cause::Refused,
            Self::Unavailable(error) | Self::Query(error) => cause(error),
            _ => Cause::Other,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match &error {
            E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed => Self::Unavailable(error),
            // Happens if the conversation breaks off, for example when a server is killed during connecting.
            E::Protocol(_) => Self::Unavailable(error),
            E::Database(database) => {
                if let Some(constraint) = constraint(database.as_ref()) {
                    return Self::Conflict(constraint);
                }
                match weather(database.as_ref()) {
                    Weather::Contended => Self::Contended(error),
                    Weather::Unavailable => Self::Unavailable(error),
                    // PostgreSQL, Appendix A: insufficient privilege.
                    Weather::Fair if database.code().as_deref() == Some("42501") => {
                        Self::Rights(database.message().to_owned())
                    }
                    // PostgreSQL, Appendix A: class 22, data exception.
                    Weather::Fair if database.code().is_some_and(|code| code.starts_with("22")) => {
                        Self::Unstorable(error)
                    }
                    Weather::Fair => Self::Query(error),
                }
            }
            _ => Self::Query(error),
        }
    }
}

impl From<MigrateError> for StoreError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) => error.into(),
            error => Self::Migration(error),
        }
    }
}

fn constraint(error: &dyn sqlx::error::DatabaseError) -> Option<Constraint> {
    let text = error.message();
    if error.is_unique_violation() {
        let columns = text.strip_prefix("UNIQUE constraint failed: ");
        let same = |(name, described, _): &&(&str, &str, Constraint)| {
            error.constraint() == Some(*name) || columns == Some(*described)
        };
        return UNIQUE.iter().find(same).map(|(_, _, constraint)| *constraint);
    }
    if error.is_foreign_key_violation() {
        return Some(Constraint::Reference);
    }
    // The triggers of both databases end their messages with this.
    text.ends_with(" is append-only").then_some(Constraint::AppendOnly)
}

fn cause(error: &sqlx::Error) -> Cause {
    use std::io::ErrorKind;
    let database = match error {
        sqlx::Error::PoolTimedOut => return Cause::Silent,
        sqlx::Error::Io(error) => {
            return match error.kind() {
                ErrorKind::ConnectionRefused => Cause::Refused,
                ErrorKind::TimedOut => Cause::Silent,
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Cause::Full,
                _ => Cause::Other,
            };
        }
        sqlx::Error::Database(database) => database,
        _ => return Cause::Other,
    };
    let code = database.code().unwrap_or_default();
    if database.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
        return match code.parse::<u32>().map(|code| code & 0xff) {
            Ok(8) => Cause::ReadOnly,
            Ok(10) => Cause::Broken,
            Ok(13) => Cause::Full,
            // 3 PERM, 14 CANTOPEN, 23 AUTH.
            Ok(3 | 14 | 23) => Cause::Refused,
            _ => Cause::Other,
        };
    }
    // PostgreSQL, Appendix A: disk full, IO error, query cancelled, too many connections, invalid authorization.
    match code.as_ref() {
        "25006" => Cause::ReadOnly,
        "53100" => Cause::Full,
        "58030" => Cause::Broken,
        "57014" => Cause::Silent,
        "53300" | "57P03" => Cause::Refused,
        code if code.starts_with("28") => Cause::Refused,
        _ => Cause::Other,
    }
}

/// What an error says about the database's condition, as opposed to the statement.
enum Weather {
    Fair,
    Contended,
    Unavailable,
}

fn weather(error: &dyn sqlx::error::DatabaseError) -> Weather {
    let code = error.code().unwrap_or_default();
    if error.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
        // The low byte is the primary code: 5 BUSY, 6 LOCKED; 8 READONLY, 10 IOERR, 13 FULL, 14 CANTOPEN
        // (sqlite.org/rescode.html).
        return match code.parse::<u32>().map(|code| code & 0xff) {
            Ok(5 | 6) => Weather::Contended,
            Ok(8 | 10 | 13 | 14) => Weather::Unavailable,
            _ => Weather::Fair,
        };
    }
    // PostgreSQL, Appendix A: serialization failure, deadlock, lock not available; connections, resources, operator
    // intervention (time-outs among them), and a standby that took over the address.
    match code.as_ref() {
        "40001" | "40P01" | "55P03" => Weather::Contended,
        "25006" | "25P03" => Weather::Unavailable,
        code if ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class)) => Weather::Unavailable,
        _ => Weather::Fair,
    }
}
