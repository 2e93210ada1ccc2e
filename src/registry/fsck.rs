//! The check of a whole store: facts against facts, rows against files, bytes against digests.
//!
//! It runs beside pushes. Facts are compared in one snapshot, and what files are concerned is a
//! finding only when it is seen again under the digest's stripe. Repair rebuilds rows that follow
//! from others, contains damaged contents as the scrub does, and moves files without a row to
//! the quarantine; it deletes nothing but the remains of uploads without a session.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Registry;
use super::error::{Error, Result};
use super::examine::{Damage, Health, Look, Pace};
use crate::meta::Verdict;
use crate::oci::{Digest, Shard, UploadId};
use crate::ops::Progress;
use crate::ops::progress::Unit;

/// What is to be checked, and what to do about findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FsckOptions {
    /// Whether findings are repaired.
    pub repair: bool,
    /// Whether contents are read and hashed.
    pub read_data: bool,
    /// Bytes read in a second at most.
    pub bytes_per_second: Option<u64>,
    /// Of so many equal parts of the contents only this one is read: `(1, 7)`.
    pub subset: Option<(u32, u32)>,
}

/// What was found and done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FsckReport {
    /// Contents that were looked at.
    pub contents: u64,
    /// Bytes of those that were read.
    pub read_bytes: u64,
    /// Everything that is not as it should be.
    pub findings: u64,
    /// Of these, what was put right without a loss.
    pub repaired: u64,
    /// Of these, contents that are not served until they are pushed again.
    pub quarantined: u64,
}

impl FsckReport {
    /// Whether nothing is left that is not as it should be.
    pub fn is_sound(&self) -> bool {
        self.findings == self.repaired
    }
}

/// A check under way.
struct Fsck<'a> {
    registry: &'a Registry,
    options: FsckOptions,
    progress: Progress,
    report: FsckReport,
}

impl Registry {
    /// Checks the whole store; findings are items of `progress`. Every file of the tree of blobs
    /// should have a row: a store whose adoption is not finished is not opened (see `identity`).
    pub async fn fsck(&self, options: FsckOptions, progress: Progress) -> Result<FsckReport> {
        if options.repair && !self.is_ready() {
            return Err(Error::Poisoned);
        }
        let report = FsckReport::default();
        let mut fsck = Fsck { registry: self, options, progress, report };
        let staged = self.idle_uploads().await?;
        fsck.facts().await?;
        fsck.contents().await?;
        fsck.uploads(&staged).await?;
        Ok(fsck.report)
    }

    /// Staging directories that nobody writes to and that no session knows.
    async fn idle_uploads(&self) -> Result<BTreeSet<UploadId>> {
        let mut idle = BTreeSet::new();
        for id in self.inner.blobs.idle().await? {
            if self.inner.sessions.get(id).is_none() && self.inner.meta.upload(id).await?.is_none()
            {
                idle.insert(id);
            }
        }
        Ok(idle)
    }
}

impl Fsck<'_> {
    /// One finding: `what` is a word for programs, `action` what was done about it.
    async fn found(&mut self, what: &str, about: &str, detail: &str, action: Option<&str>) {
        self.report.findings += 1;
        let item = json!({
            "kind": "finding", "what": what, "about": about, "detail": detail, "action": action,
        });
        self.progress.item(item).await;
    }

    async fn facts(&mut self) -> Result<()> {
        self.progress.phase("checking facts", None, Unit::Items).await;
        let meta = &self.registry.inner.meta;
        let found = meta.check_facts().await?;
        for finding in &found {
            self.found("facts", "metadata.redb", &finding.0, None).await;
        }
        if found.is_empty() || !self.options.repair {
            return Ok(());
        }
        let eligible = self.registry.moment().eligible_uptime_seconds;
        let rows = meta.rebuild_facts(eligible).await?;
        tracing::warn!(rows, "rows were rebuilt from those that they follow from");
        let left = meta.check_facts().await?;
        self.report.repaired += found.len().saturating_sub(left.len()) as u64;
        for finding in &left {
            let item = json!({
                "kind": "left", "what": "facts", "about": "metadata.redb", "detail": finding.0,
            });
            self.progress.item(item).await;
        }
        Ok(())
    }

    async fn contents(&mut self) -> Result<()> {
        let shards = u64::from(Shard::COUNT);
        self.progress.phase("checking contents", Some(shards), Unit::Items).await;
        for path in self.registry.inner.blobs.foreign().await? {
            self.found("foreign", &path, "nothing of the registry lies there", None).await;
        }
        let mut pace = Pace::new(self.options.bytes_per_second, CancellationToken::new());
        for (done, shard) in (1..).zip(Shard::all()) {
            self.shard(shard, &mut pace).await?;
            self.progress.advance(done)?;
        }
        Ok(())
    }

    async fn shard(&mut self, shard: Shard, pace: &mut Pace) -> Result<()> {
        let options = self.options;
        let look = move |digest: &Digest| Look {
            read: options.read_data && options.subset.is_none_or(|part| is_in(digest, part)),
            contain: options.repair,
        };
        let mut after = None;
        loop {
            let page = self.registry.examine_page(shard, after.as_ref(), &look, pace).await?;
            self.report.contents += page.contents;
            self.report.read_bytes = self.report.read_bytes.saturating_add(page.read_bytes);
            for (digest, health) in page.unsound {
                self.unsound(&digest, health).await;
            }
            after = page.last;
            if !page.more {
                break;
            }
        }
        let listed = match self.registry.inner.blobs.shard_files(shard).await {
            Ok(listed) => listed,
            Err(error) => {
                let detail = error.to_string();
                self.found("unreadable", "docker/registry/v2/blobs", &detail, None).await;
                return Ok(());
            }
        };
        for path in listed.foreign {
            self.found("foreign", &path, "nothing of the registry lies there", None).await;
        }
        for (digest, size_bytes) in self.registry.orphans(listed.files, shard).await? {
            self.orphan(&digest, size_bytes).await?;
        }
        Ok(())
    }

    async fn unsound(&mut self, digest: &Digest, health: Health) {
        let about = digest.to_string();
        let (damage, verdict) = match health {
            Health::Gone | Health::Sound => return,
            Health::Unreadable(error) => {
                return self.found("unreadable", &about, &error, None).await;
            }
            Health::Damaged(damage, verdict) => (damage, verdict),
        };
        let detail = match &damage {
            Damage::WrongSize { found_size_bytes } => format!("has {found_size_bytes} bytes"),
            other => other.text().to_owned(),
        };
        let action = match verdict {
            Some(Verdict::Rewrite) => Some("written again from its copy in the database"),
            Some(Verdict::Kept) => Some("kept: its file is right"),
            Some(Verdict::Quarantined) => Some("quarantined; the next push of it heals it"),
            Some(Verdict::Gone | Verdict::Sound) | None => None,
        };
        match verdict {
            Some(Verdict::Rewrite | Verdict::Kept) => self.report.repaired += 1,
            Some(Verdict::Quarantined) => self.report.quarantined += 1,
            _ if damage == Damage::Quarantined => self.report.quarantined += 1,
            _ => {}
        }
        self.found(damage.word(), &about, &detail, action).await;
    }

    async fn orphan(&mut self, digest: &Digest, size_bytes: u64) -> Result<()> {
        let mut action = None;
        if self.options.repair {
            let inner = &self.registry.inner;
            let _stripe = inner.stripes.lock(digest).await;
            // A push that came since has given it a row.
            let is_orphan = inner.meta.stored(digest).await?.is_none();
            if !is_orphan || inner.blobs.quarantine(digest).await?.is_none() {
                return Ok(());
            }
            action = Some("moved to kelson/quarantine");
            self.report.repaired += 1;
        }
        let detail = format!("a file of {size_bytes} bytes without a row");
        self.found("orphan", &digest.to_string(), &detail, action).await;
        Ok(())
    }

    /// What was idle before and still is belongs to no request; nor to a spill, since one that
    /// ran then holds the stripes of what it spills until its end.
    async fn uploads(&mut self, before: &BTreeSet<UploadId>) -> Result<()> {
        self.registry.spill_once().await?;
        let now = self.registry.idle_uploads().await?;
        for id in before.intersection(&now) {
            let mut action = None;
            if self.options.repair {
                self.registry.inner.blobs.discard(*id).await?;
                action = Some("removed");
                self.report.repaired += 1;
            }
            let path = format!("kelson/staging/{id}");
            self.found("staging", &path, "an upload without a session", action).await;
        }
        Ok(())
    }
}

impl Damage {
    /// A word for programs.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::MissingFile => "missing_file",
            Self::WrongSize { .. } => "wrong_size",
            Self::WrongBytes => "wrong_bytes",
            Self::WrongCopy => "wrong_copy",
            Self::Quarantined => "quarantined",
        }
    }

    fn text(&self) -> &'static str {
        match self {
            Self::MissingFile => "has no file",
            Self::WrongSize { .. } => "has another length",
            Self::WrongBytes => "has other bytes than its digest says",
            Self::WrongCopy => "has a wrong copy in the database",
            Self::Quarantined => "is quarantined; the next push of it heals it",
        }
    }
}

/// Whether a digest is in part `number` of `parts`, counted from 1.
fn is_in(digest: &Digest, (number, parts): (u32, u32)) -> bool {
    // The last bytes: shards are divided evenly, too.
    let bytes = digest.as_bytes().last_chunk::<4>().copied().unwrap_or_default();
    u32::from_be_bytes(bytes) % parts.max(1) == number.saturating_sub(1)
}
