//! Where bytes live: a location URL becomes an object store, and object paths become URLs that clients can fetch.
//!
//! Lives here: normalising locations, opening stores, signing URLs, and the two places that are written, [`Archive`] and
//! [`CopyRoot`]. Never here: what a Delta log means, or whether somebody may read a table. Start reading at [`Storages::locate`] and [`TableLocation::sign`].

mod archive;
mod azure;
mod bounded;
mod copies;
mod error;
mod gcs;
mod local;
mod location;
mod options;
mod private;
pub mod s3;
mod storages;
mod table;
mod window;

pub use archive::Archive;
pub use copies::CopyRoot;
pub use error::StorageError;
pub use local::LocalDirectory;
pub use location::{Location, refusal_of as path_refusal};
pub use private::mode_if_open;
pub use storages::{Storage, Storages};
pub use table::{Object, TableLocation};
