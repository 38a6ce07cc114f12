//! The database itself: connections, transactions, migrations, values, and what the storage of every noun uses.

pub(super) mod backup;
pub(super) mod clock;
pub(super) mod connect;
pub(super) mod declared;
pub(super) mod durability;
pub(super) mod error;
pub(super) mod idempotency;
pub(super) mod jobs;
pub(super) mod keys;
pub(super) mod lock;
pub(super) mod outer;
pub(super) mod reach;
pub(super) mod safeguards;
pub(super) mod schema;
pub(super) mod servers;
pub(super) mod specs;
pub(super) mod sqlite;
pub(super) mod value;
