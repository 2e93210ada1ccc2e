//! Who holds a content.

use super::{BlobRecord, EdgeKind, Standing};
use crate::oci::{Digest, RepositoryName, Tag};

/// What is known of one content; one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The content.
    pub content: BlobRecord,
    /// Accumulated uptime from which it may go, when no repository has it.
    pub eligible_uptime_seconds: Option<u64>,
    /// Repositories that have it, in the order in which they were made.
    pub holders: Vec<Holder>,
    /// Whether there are more.
    pub more: bool,
}

/// One repository that has a content. Its lists have a limit; they say whether there are more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Which.
    pub repository: RepositoryName,
    /// As a blob that it may read.
    pub link: Option<Standing>,
    /// As a manifest.
    pub manifest: Option<Standing>,
    /// Tags on it.
    pub tags: Vec<Tag>,
    /// Manifests that refer to it, and as what.
    pub parents: Vec<(Digest, EdgeKind)>,
    /// What it is attached to, and whether that is there.
    pub subject: Option<(Digest, bool)>,
    /// Whether there are more tags or manifests.
    pub more: bool,
}
