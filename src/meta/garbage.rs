//! Records of the collector: what waits, what was chosen, what went.

use crate::oci::{Digest, RepositoryName};

/// What a row of the collector's queues is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Garbage {
    /// A blob link that no manifest of its repository uses.
    Link,
    /// A manifest whose subject was deleted.
    Referrer,
    /// A content that no repository has.
    Content,
    /// A manifest without tag, index or living subject: garbage only where the operator says so.
    Untagged,
}

/// As what a repository has a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// As a blob that it may read.
    Blob,
    /// As a manifest.
    Manifest,
}

/// Whether a link or a manifest is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Something refers to it.
    Held,
    /// Nothing does: it stands in a queue of the collector.
    Waiting {
        /// Accumulated uptime from which it may go.
        eligible_uptime_seconds: u64,
    },
    /// The collector has chosen it. Still served; a use takes it back.
    Condemned,
}

/// Where the collector looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GcQueue {
    /// Links, referrers whose subject was deleted, contents (M7).
    Garbage,
    /// Untagged manifests (M8).
    Untagged,
}

/// A row of a queue: what may go, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Accumulated uptime from which it may go.
    pub eligible_uptime_seconds: u64,
    /// The repository's id; 0 for a content, which nobody has.
    pub repository_id: u64,
    /// The repository's name; `None` for a content.
    pub repository: Option<RepositoryName>,
    /// Which.
    pub digest: Digest,
    /// What it is.
    pub garbage: Garbage,
    /// Length of the content.
    pub size_bytes: u64,
}

/// What [`super::MetaStore::collect`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Collected {
    /// Links that went.
    pub links: u64,
    /// Manifests that went.
    pub manifests: u64,
    /// Contents of the batch that are unlinking now: their files may be removed.
    pub contents: Vec<Digest>,
}

/// A number of things and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// The lengths of their contents, each as often as it is counted.
    pub size_bytes: u64,
}

impl Amount {
    /// Counts one more.
    pub fn add(&mut self, size_bytes: u64) {
        self.count += 1;
        self.size_bytes = self.size_bytes.saturating_add(size_bytes);
    }
}

/// How much stands in the queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amounts {
    /// Links.
    pub links: Amount,
    /// Referrers whose subject was deleted.
    pub referrers: Amount,
    /// Contents that no repository has: what the disk gets back.
    pub contents: Amount,
    /// Untagged manifests.
    pub untagged: Amount,
}

impl Amounts {
    /// The amount of one kind.
    pub fn of(&mut self, garbage: Garbage) -> &mut Amount {
        match garbage {
            Garbage::Link => &mut self.links,
            Garbage::Referrer => &mut self.referrers,
            Garbage::Content => &mut self.contents,
            Garbage::Untagged => &mut self.untagged,
        }
    }
}

/// What [`super::MetaStore::waiting`] counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// May go now.
    pub eligible: Amounts,
    /// May go later.
    pub waiting: Amounts,
    /// Accumulated uptime from which the last of `gc_queue` may go.
    pub last_eligible_uptime_seconds: Option<u64>,
}
