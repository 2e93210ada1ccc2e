//! Records of finding and containing damage.

use super::Timestamp;
use crate::oci::Digest;

/// What became of a content whose file was compared with its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody has such a content, or its file is being removed.
    Gone,
    /// It is what its row says; nothing changed.
    Sound,
    /// Its inline copy is right and its file is not: it stands in the spill queue again.
    Rewrite,
    /// Its file is right and the rest was not: a wrong inline copy was dropped, or a quarantined
    /// content is live again.
    Kept,
    /// Neither is right: it is quarantined from now on, or was already.
    Quarantined,
}

/// What a pass of the scrub has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScrubTotals {
    /// Contents compared.
    pub contents: u64,
    /// Their bytes.
    pub size_bytes: u64,
    /// Contents that were damaged, whether or not an intact copy was found.
    pub damaged: u64,
    /// Contents that could not be read for a reason that is no damage.
    pub unreadable: u64,
    /// Files without a row.
    pub orphans: u64,
}

/// Where the background scrub stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScrubRecord {
    /// Passes that reached their end.
    pub passes: u64,
    /// When the last one did; 0 before the first.
    pub finished_at: Timestamp,
    /// Accumulated uptime in seconds at which the pass under way, or the last one, began.
    pub started_uptime_seconds: u64,
    /// The shard to go on with; `None` between two passes.
    pub shard: Option<u32>,
    /// The last content of that shard that was compared.
    pub after: Option<Digest>,
    /// Of the pass under way, or of the last one.
    pub totals: ScrubTotals,
}
