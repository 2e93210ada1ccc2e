//! Settings of the registry.

use std::time::Duration;

use super::ScrubOptions;

/// Which content a manifest may refer to without it being in the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sparse {
    /// None.
    #[default]
    None,
    /// Configs and layers of images.
    Images,
    /// Children of indexes.
    Indexes,
    /// Both.
    All,
}

/// Settings of the registry.
#[derive(Debug, Clone)]
pub struct Options {
    /// `storage.delete.enabled`
    pub delete_enabled: bool,
    /// `storage.maintenance.readonly.enabled`
    pub read_only: bool,
    /// `kelson.manifests.sparse`
    pub sparse: Sparse,
    /// `kelson.storage.watermark`: free space below which nothing is added.
    pub watermark: Watermark,
    /// `kelson.storage.smallcontents`: largest content that is stored inline.
    pub small_content_size_bytes_max: u64,
    /// `kelson.limits.uploadsperrepository`
    pub uploads_per_repository_max: usize,
    /// `kelson.limits.uploads`
    pub uploads_max: usize,
    /// Uploads that keep their file open between two requests, by the limit of open files.
    pub uploads_open_max: usize,
    /// `kelson.gc.grace`: how long a content that lost its last use is kept.
    pub gc_grace: Duration,
    /// `kelson.scrub`; `None`: off.
    pub scrub: Option<ScrubOptions>,
    /// `kelson.storage.verifyonread`: whether whole blobs are compared with their digests while
    /// they are sent.
    pub verify_on_read: bool,
    /// `kelson.gc.lease`: how long a client may rely on being told that something is there.
    pub gc_lease: Duration,
    /// `kelson.gc.untagged`: the age at which untagged manifests go; `None`: they are kept.
    pub gc_untagged: Option<Duration>,
    /// `kelson.backup.interval`: how often the database is exported beside it; zero: never.
    pub export_interval: Duration,
    /// `validation.manifests.urls.allow`: when not empty, layer URLs must match one.
    pub urls_allow: Vec<regex::Regex>,
    /// `validation.manifests.urls.deny`: layer URLs must match none.
    pub urls_deny: Vec<regex::Regex>,
    /// `validation.manifests.indexes`: children that must exist; `None`: all.
    pub platforms: Option<Vec<Platform>>,
    /// `storage.maintenance.uploadpurging`; `None`: off.
    pub upload_purging: Option<UploadPurging>,
}

impl Default for Options {
    /// Those of a registry that was started without a configuration file.
    fn default() -> Self {
        Self {
            delete_enabled: true,
            read_only: false,
            sparse: Sparse::None,
            watermark: Watermark::default(),
            small_content_size_bytes_max: 64 * 1024,
            uploads_per_repository_max: 1000,
            uploads_max: 10_000,
            uploads_open_max: 1024,
            gc_grace: Duration::from_secs(24 * 3600),
            scrub: Some(ScrubOptions::default()),
            verify_on_read: false,
            gc_lease: Duration::from_secs(6 * 3600),
            gc_untagged: None,
            export_interval: Duration::from_secs(6 * 3600),
            urls_allow: Vec::new(),
            urls_deny: Vec::new(),
            platforms: None,
            upload_purging: Some(UploadPurging::default()),
        }
    }
}

/// How much of the file system is left free: of two bounds the smaller counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermark {
    /// Bytes; zero turns the watermark off.
    pub size_bytes: u64,
    /// Percent of the file system.
    pub percent: u8,
}

impl Default for Watermark {
    fn default() -> Self {
        Self { size_bytes: 1 << 30, percent: 5 }
    }
}

impl Watermark {
    /// The bound on a file system of this size, in bytes.
    pub fn mark_bytes(self, total_bytes: u64) -> u64 {
        self.size_bytes.min(total_bytes / 100 * u64::from(self.percent))
    }

    /// Whether content is added as long as the disk takes it.
    pub fn is_off(self) -> bool {
        self.size_bytes == 0
    }
}

/// A platform whose index children must exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// `architecture`
    pub architecture: String,
    /// `os`
    pub os: String,
}

/// How abandoned uploads are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadPurging {
    /// Older ones go; measured in time that the store was open.
    pub age: Duration,
    /// How often to look.
    pub interval: Duration,
    /// Only log what would go.
    pub dry_run: bool,
}

impl Default for UploadPurging {
    /// Those of distribution.
    fn default() -> Self {
        let hour = Duration::from_secs(3600);
        Self { age: 168 * hour, interval: 24 * hour, dry_run: false }
    }
}
