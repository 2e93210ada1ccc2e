//! Room on the disk: what would be added is refused while little is left, so that deletes, the
//! collector, the spill and the database go on (R6).
//!
//! The file system is asked at most once a second, and only when something is to be added.
//! Between two answers the account runs on: what was written since, and what the requests that
//! run were promised, so that a burst of them does not pass the mark either.
//!
//! Bytes are asked of everything, inodes only of what gets a file at once. A small content lies in
//! the database and can wait for its file there: where inodes are short, images whose layers are
//! begun can still be finished.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::error::{Error, Result};
use super::{Registry, Watermark};
use crate::blob::BlobStore;
use crate::disk::Space;
use crate::meta::MetaStore;
use crate::ops::Clock;

/// How old an answer of the file system may be.
const FRESH: Duration = Duration::from_secs(1);
/// How long nothing is added after the disk itself refused a write that the space it says is free
/// does not explain: a quota does not show there, and a refused write costs the database a new
/// handle.
const PAUSE: Duration = Duration::from_secs(3);
/// An upload is promised what it announced, at most this much, and beyond [`AHEAD_FROM_BYTES`]
/// never more than it has sent: a client cannot claim room by announcing.
const AHEAD_BYTES_MAX: u64 = 64 << 20;
const AHEAD_FROM_BYTES: u64 = 4 << 20;
/// One in so many inodes is left free, up to [`INODES_LEFT_MAX`] of them.
const INODE_SHARE: u64 = 100;
const INODES_LEFT_MAX: u64 = 1000;
/// A content takes its file, the directory of that, and at worst the one of its first byte.
const INODES_PER_FILE: u64 = 3;

/// How much can still be added.
#[derive(Debug)]
pub struct Room {
    blobs: Arc<dyn BlobStore>,
    meta: Arc<dyn MetaStore>,
    clock: Arc<dyn Clock>,
    watermark: Watermark,
    /// Held by whoever asks the file system.
    asking: tokio::sync::Mutex<()>,
    account: Mutex<Account>,
    /// Wakes [`Registry::run_room`] when additions begin to be refused.
    short: Notify,
}

#[derive(Debug, Default)]
struct Account {
    asked_at: Option<Duration>,
    free_bytes: u64,
    mark_bytes: u64,
    free_inodes: u64,
    inodes_left: u64,
    awaited: Amount,
    /// To requests that run, and not written yet.
    promised: Amount,
    /// Since the file system was asked.
    written: Amount,
    paused_until: Duration,
    /// The database lives on what was set aside for a full disk.
    reserve_used: bool,
    refusing: bool,
}

/// Contents, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Amount {
    /// The lesser of each.
    pub fn min(self, other: Self) -> Self {
        Self { files: self.files.min(other.files), bytes: self.bytes.min(other.bytes) }
    }

    fn add(&mut self, other: Self) {
        self.files = self.files.saturating_add(other.files);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    /// Takes away what is there of it.
    pub fn take(&mut self, other: Self) {
        self.files = self.files.saturating_sub(other.files);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

impl Account {
    fn spoken_for(&self) -> Amount {
        let mut sum = Amount::default();
        for amount in [self.promised, self.written, self.awaited] {
            sum.add(amount);
        }
        sum
    }

    /// Whether so many bytes more can be added.
    fn fits(&self, bytes: u64, now: Duration) -> bool {
        let bytes = self.spoken_for().bytes.saturating_add(bytes);
        now >= self.paused_until
            && !self.reserve_used
            && self.mark_bytes.saturating_add(bytes) <= self.free_bytes
    }

    /// Whether so many files more can be made. Those that are awaited come first.
    fn fits_files(&self, files: u64) -> bool {
        let files = self.spoken_for().files.saturating_add(files);
        let inodes = files.saturating_mul(INODES_PER_FILE);
        self.inodes_left.saturating_add(inodes) <= self.free_inodes
    }

    /// Takes in an answer. `written` was written before the question.
    fn learn(&mut self, space: Space, mark_bytes: u64, written: Amount, now: Duration) {
        self.asked_at = Some(now);
        self.inodes_left = (space.total_inodes / INODE_SHARE).min(INODES_LEFT_MAX);
        self.free_inodes = space.free_inodes;
        self.free_bytes = space.free_bytes;
        self.mark_bytes = mark_bytes;
        self.written.take(written);
        if space.free_inodes < INODES_PER_FILE {
            // That is why a write was refused, and bytes can be added all the same.
            self.paused_until = Duration::ZERO;
        }
        if self.refusing && self.fits(0, now) && self.fits_files(1) {
            self.refusing = false;
            let free_bytes = self.free_bytes;
            tracing::info!(free_bytes, mark_bytes, "there is room again: uploads are taken");
        }
    }
}

impl Room {
    /// On the file system of `blobs`.
    pub fn new(
        blobs: Arc<dyn BlobStore>,
        meta: Arc<dyn MetaStore>,
        clock: Arc<dyn Clock>,
        watermark: Watermark,
    ) -> Self {
        let (asking, account, short) = Default::default();
        Self { blobs, meta, clock, watermark, asking, account, short }
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        // Its numbers are whole after every statement.
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_fresh(&self) -> bool {
        let now = self.clock.monotonic();
        self.account().asked_at.is_some_and(|at| now < at + FRESH)
    }

    async fn refresh(&self) {
        if self.is_fresh() {
            return;
        }
        let _asking = self.asking.lock().await;
        if self.is_fresh() {
            return;
        }
        let (now, written) = (self.clock.monotonic(), self.account().written);
        if self.meta.uses_reserve() {
            self.meta.restore_reserve().await;
        }
        self.account().reserve_used = self.meta.uses_reserve();
        match self.blobs.space().await {
            Ok(space) => {
                let mark_bytes = self.watermark.mark_bytes(space.total_bytes);
                self.account().learn(space, mark_bytes, written, now);
            }
            // Whoever writes finds out more.
            Err(error) => {
                tracing::warn!(%error, "the free space is unknown");
                let all = u64::MAX;
                let plenty =
                    Space { free_bytes: all, total_bytes: all, free_inodes: all, total_inodes: 0 };
                self.account().learn(plenty, 0, written, now);
            }
        }
    }

    /// Whether content may be added to the database. What is set aside for a full disk is for what
    /// makes room: deletes and the collector. This holds without a watermark as well.
    ///
    /// # Errors
    /// [`Error::LowSpace`], or without a watermark [`Error::Full`]
    pub async fn check_reserve(&self) -> Result<()> {
        if !self.meta.uses_reserve() {
            return Ok(());
        }
        self.refresh().await;
        if !self.meta.uses_reserve() {
            return Ok(());
        }
        if self.watermark.is_off() {
            Err(Error::Full)
        } else {
            Err(self.refuse(&mut self.account()))
        }
    }

    /// Whether another content may get a file at once.
    ///
    /// # Errors
    /// [`Error::LowSpace`]
    pub async fn check_file(&self) -> Result<()> {
        if self.watermark.is_off() {
            return Ok(());
        }
        self.refresh().await;
        let mut account = self.account();
        if account.fits_files(1) { Ok(()) } else { Err(self.refuse(&mut account)) }
    }

    /// Whether so many bytes may be added.
    ///
    /// # Errors
    /// [`Error::LowSpace`]
    pub async fn check(&self, bytes: u64) -> Result<()> {
        self.check_reserve().await?;
        if self.watermark.is_off() {
            return Ok(());
        }
        self.refresh().await;
        let now = self.clock.monotonic();
        let mut account = self.account();
        if account.fits(bytes, now) {
            return Ok(());
        }
        if account.fits(bytes.min(AHEAD_BYTES_MAX), now) {
            let (free_bytes, mark_bytes) = (account.free_bytes, account.mark_bytes);
            tracing::info!(size_bytes = bytes, free_bytes, mark_bytes, "an upload does not fit");
            return Err(Error::LowSpace);
        }
        Err(self.refuse(&mut account))
    }

    fn refuse(&self, account: &mut Account) -> Error {
        if !account.refusing {
            account.refusing = true;
            self.short.notify_one();
            let Account { free_bytes, mark_bytes, free_inodes, promised, awaited, .. } = *account;
            tracing::warn!(
                free_bytes,
                mark_bytes,
                free_inodes,
                promised.bytes,
                awaited.files,
                "too little room is left: uploads are refused until there is more"
            );
        }
        Error::LowSpace
    }

    /// Looks at why a request failed: when the disk refused it, nothing is added for a moment.
    pub fn note(&self, error: &Error) {
        if matches!(error, Error::Full) && !self.watermark.is_off() {
            let mut account = self.account();
            account.paused_until = self.clock.monotonic() + PAUSE;
            account.asked_at = None;
            self.refuse(&mut account);
        }
    }

    /// Nothing yet, for one request.
    pub fn promise(&self) -> Promise<'_> {
        Promise { room: self, left: Amount::default() }
    }

    /// A content of so many bytes was acknowledged whose file is still to be written.
    pub fn await_file(&self, bytes: u64) {
        self.account().awaited.add(Amount { files: 1, bytes });
    }

    /// The files that are awaited now.
    pub fn awaited(&self) -> Amount {
        self.account().awaited
    }

    /// These were written, or cannot be.
    pub fn end_waiting(&self, awaited: Amount) {
        let mut account = self.account();
        account.awaited.take(awaited);
        account.written.add(awaited);
    }

    fn is_short(&self) -> bool {
        self.account().refusing
    }
}

/// What one request may write; ends with it.
#[derive(Debug)]
pub struct Promise<'a> {
    room: &'a Room,
    /// What is promised and not written yet.
    left: Amount,
}

impl Promise<'_> {
    /// Makes it at least `bytes`.
    ///
    /// # Errors
    /// [`Error::LowSpace`]
    pub async fn cover(&mut self, bytes: u64) -> Result<()> {
        let bytes = bytes.saturating_sub(self.left.bytes);
        if bytes == 0 || self.room.watermark.is_off() {
            return Ok(());
        }
        self.room.refresh().await;
        let now = self.room.clock.monotonic();
        let mut account = self.room.account();
        if !account.fits(bytes, now) {
            return Err(self.room.refuse(&mut account));
        }
        account.promised.bytes += bytes;
        self.left.bytes += bytes;
        Ok(())
    }

    /// Adds a file that is about to be made.
    ///
    /// # Errors
    /// [`Error::LowSpace`]
    pub async fn cover_file(&mut self) -> Result<()> {
        if self.room.watermark.is_off() {
            return Ok(());
        }
        self.room.refresh().await;
        let mut account = self.room.account();
        if !account.fits_files(1) {
            return Err(self.room.refuse(&mut account));
        }
        account.promised.files += 1;
        self.left.files += 1;
        Ok(())
    }

    /// So many of its bytes were written.
    pub fn written(&mut self, bytes: u64) {
        self.move_to_written(Amount { files: 0, bytes });
    }

    fn move_to_written(&mut self, amount: Amount) {
        let amount = amount.min(self.left);
        let mut account = self.room.account();
        account.promised.take(amount);
        account.written.add(amount);
        self.left.take(amount);
    }
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        // Its file may be there, though not all of its bytes are.
        self.move_to_written(Amount { files: self.left.files, bytes: 0 });
        self.room.account().promised.take(self.left);
    }
}

/// What an upload that has sent `received` bytes is promised of the `left` that it announced.
pub fn ahead_bytes(received: u64, left: u64) -> u64 {
    left.min(received.max(AHEAD_FROM_BYTES)).min(AHEAD_BYTES_MAX)
}

impl Registry {
    /// While uploads are refused: looks once a second whether there is room again, until `stop`.
    pub async fn run_room(&self, stop: CancellationToken) {
        let room = &self.inner.room;
        loop {
            tokio::select! {
                () = room.short.notified() => {}
                () = stop.cancelled() => return,
            }
            while room.is_short() {
                tokio::select! {
                    () = self.inner.clock.sleep(FRESH) => room.refresh().await,
                    () = stop.cancelled() => return,
                }
            }
            // What found no room may find it now.
            self.inner.spill_wanted.notify_one();
        }
    }
}

#[cfg(test)]
#[path = "room_tests.rs"]
mod tests;
