//! Turns a location URL into an object store, and object paths into URLs that clients can fetch.
//!
//! Normalises locations, opens stores, signs URLs, and holds the two places that are written, [`Archive`] and
//! [`CopyRoot`]. Never here: the meaning of Delta logs, or access decisions. Start reading at [`Storages::locate`] and
//! [`TableLocation::sign`].

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
