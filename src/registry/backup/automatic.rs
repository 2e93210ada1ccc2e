//! Exports of the database beside it, made by the server itself: what a lost or damaged
//! `metadata.redb` is restored from.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::destination::{Generation, numbered};
use super::take::export_to;
use super::{Tools, open_export, unusable};
use crate::disk::Vfs;
use crate::disk::durable::{self, Step};
use crate::registry::Registry;
use crate::registry::error::Result;

/// How many exports are kept.
pub const KEPT_MAX: usize = 3;
/// Room that an export leaves on the disk: this, or a twentieth of it, whichever is less.
const FREE_BYTES_MIN: u64 = 1 << 30;
const DIRECTORY_MODE: u32 = 0o700;

/// Where the exports of the store whose private directory is `own` are.
pub(super) fn exports_of(own: &Path) -> PathBuf {
    own.join("exports")
}

/// The automatic exports of one store.
#[derive(Debug)]
pub struct Exports {
    tools: Tools,
    folder: PathBuf,
    database: PathBuf,
    /// [`crate::meta::Exporter::changes`] at the last one.
    exported: Option<u64>,
}

/// What one run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// This export was made.
    Exported(PathBuf),
    /// Nothing was changed since the last one.
    Unchanged,
    /// There is too little room for one.
    NoRoom,
}

impl Exports {
    /// Those below `own`, of the database beside them.
    pub fn new(tools: Tools, own: &Path, database: &Path) -> Self {
        Self { tools, folder: exports_of(own), database: database.to_owned(), exported: None }
    }

    async fn kept(&self) -> Result<Vec<Generation>> {
        let (vfs, folder) = (Arc::clone(&self.tools.vfs), self.folder.clone());
        self.tools.blocking.run(move || numbered(&*vfs, &folder)).await
    }

    /// How long ago the newest was made, by the wall clock; `None` when there is none that can be
    /// read, or it is of the future.
    async fn age(&self) -> Option<Duration> {
        let newest = self.kept().await.ok()?.pop()?;
        let vfs = Arc::clone(&self.tools.vfs);
        let header = move || open_export(&*vfs, &newest.path).map(|reader| reader.header().clone());
        let header = self.tools.blocking.run(header).await.ok()?;
        let age_ms = self.tools.clock.now().0.checked_sub(header.created_at.0)?;
        Some(Duration::from_millis(age_ms))
    }

    async fn has_room(&self) -> Result<bool> {
        let vfs = Arc::clone(&self.tools.vfs);
        let (folder, database) = (self.folder.clone(), self.database.clone());
        let room = move || {
            let step = Step::ExportsFolder;
            durable::create_dir_durable(&*vfs, &folder, DIRECTORY_MODE, step)?;
            let size_bytes = vfs.metadata(&database)?.map_or(0, |found| found.size_bytes);
            let space = vfs.space(&folder)?;
            let spare_bytes = FREE_BYTES_MIN.min(space.total_bytes / 20);
            Ok(space.free_bytes > size_bytes.saturating_add(spare_bytes))
        };
        self.tools.blocking.run(room).await.map_err(unusable)
    }
}

impl Registry {
    /// Makes an export, unless nothing was changed since the last; then removes all but the newest
    /// [`KEPT_MAX`].
    pub async fn export_once(&self, exports: &mut Exports) -> Result<Report> {
        let changes = self.meta().exporter().map(|exporter| exporter.changes());
        if exports.exported.is_some() && exports.exported == changes {
            return Ok(Report::Unchanged);
        }
        if !exports.has_room().await? {
            return Ok(Report::NoRoom);
        }
        let tools = &exports.tools;
        let (vfs, draft) = (Arc::clone(&tools.vfs), exports.folder.join("next.tmp"));
        let leftover = draft.clone();
        let remove = move || remove_if_there(&*vfs, &leftover);
        tools.blocking.run(remove.clone()).await.map_err(unusable)?;
        let made = export_to(tools, self.meta(), draft.clone()).await;
        let (file, _) = match made {
            Ok(made) => made,
            Err(error) => {
                // What failed is reported; a part of an export is of no use.
                let _ = tools.blocking.run(remove).await;
                return Err(error);
            }
        };
        let number = self.meta().counters().await?.transactions;
        let path = exports.folder.join(format!("{number:020}.export"));
        let (vfs, to) = (Arc::clone(&tools.vfs), path.clone());
        let steps = [Step::ExportData, Step::ExportName];
        let name = move || durable::name_file(&*vfs, &*file, &draft, &to, steps);
        tools.blocking.run(name).await.map_err(unusable)?;
        let kept = exports.kept().await?;
        let vfs = Arc::clone(&tools.vfs);
        let prune = move || {
            let old = kept.len().saturating_sub(KEPT_MAX);
            kept[..old].iter().try_for_each(|one| remove_if_there(&*vfs, &one.path))
        };
        tools.blocking.run(prune).await.map_err(unusable)?;
        exports.exported = changes;
        Ok(Report::Exported(path))
    }

    /// Exports at the configured interval, until `stop`; at once when the newest is older.
    pub async fn run_exports(&self, mut exports: Exports, stop: CancellationToken) {
        let interval = self.inner.options.export_interval;
        if interval.is_zero() {
            return;
        }
        let age = exports.age().await;
        let mut wait = age.map_or(Duration::ZERO, |age| interval.saturating_sub(age));
        loop {
            tokio::select! {
                () = self.inner.clock.sleep(wait) => {}
                () = stop.cancelled() => return,
            }
            wait = interval;
            if !self.is_ready() {
                continue;
            }
            match self.export_once(&mut exports).await {
                Ok(Report::Exported(path)) => {
                    tracing::info!(path = %path.display(), "the database was exported");
                }
                Ok(Report::Unchanged) => tracing::debug!("nothing to export"),
                Ok(Report::NoRoom) => {
                    tracing::warn!("no export of the database: there is too little room for one");
                }
                Err(error) => tracing::error!(%error, "the database could not be exported"),
            }
        }
    }
}

fn remove_if_there(vfs: &dyn Vfs, path: &Path) -> crate::disk::Result<()> {
    match vfs.remove_file(path) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}
