//! The vocabulary of the image and distribution specifications.
//!
//! Pure: no I/O, no async, no HTTP types. Every type exists only valid; below `http` no
//! function takes a `&str` that means one of them. Imports nothing of ours.

pub mod descriptor;
pub mod digest;
pub mod error_code;
pub mod manifest;
pub mod media_type;
pub mod name;
pub mod range;
pub mod reference;
pub mod shard;
pub mod upload_id;

pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest, DigestError};
pub use error_code::ErrorCode;
pub use media_type::MediaType;
pub use name::RepositoryName;
pub use reference::{Reference, Tag};
pub use shard::Shard;
pub use upload_id::UploadId;
