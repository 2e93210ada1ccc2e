//! Comparing a content with its digest, and containing it when it is damaged.
//!
//! The order is facts, then the file (R2): the row says that nothing vouches for the file before
//! it is moved away. A crash in between leaves a file that is hashed before it is ever used again.
//! Where a row is to vouch for a right file again, that is made durable first.
//! What is seen at first may be a push or a removal under way, so damage counts only when it is
//! seen again under the digest's stripe.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Registry;
use super::error::{Error, Result};
use crate::blob::{self, BlobFile, Hasher};
use crate::meta::{BlobRecord, BlobState, Place, Verdict};
use crate::oci::Digest;

/// Hashed at once; between two pieces the reader pauses, or stops.
const PIECE_SIZE_BYTES: u64 = 4 * 1024 * 1024;
/// What a content costs at least, however small: finding and opening it is work, too.
const CONTENT_COST_BYTES: u64 = 16 * 1024;
/// Errors that say that the bytes are damaged, not that the system is short of something: EIO,
/// EBADMSG and EUCLEAN (checksums of file systems), EILSEQ (checksums of block devices).
const DAMAGE_ERRNOS: [i32; 4] = [5, 74, 117, 84];

/// What is wrong with a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// Its row says that it has a file; there is none.
    MissingFile,
    /// Its file has another length.
    WrongSize {
        /// That of the file.
        found_size_bytes: u64,
    },
    /// Its file has other bytes, or cannot be read.
    WrongBytes,
    /// Its copy in the database is missing or has other bytes.
    WrongCopy,
    /// It is quarantined.
    Quarantined,
}

/// How a content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// There is no such content, or its file is being removed.
    Gone,
    /// As its row says.
    Sound,
    /// Damaged; the verdict says what was done, `None`: nothing.
    Damaged(Damage, Option<Verdict>),
    /// It could not be read, for a reason that is no damage.
    Unreadable(String),
}

/// How contents are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Whether bytes are hashed; otherwise only what is there and how long it is.
    pub read: bool,
    /// Whether damage is contained; otherwise it is only told.
    pub contain: bool,
}

/// How fast contents are read, and when to stop.
#[derive(Debug)]
pub struct Pace {
    /// `None`: as fast as it goes.
    bytes_per_second: Option<u64>,
    /// When the bytes that were read so far have had their time, on the monotonic clock.
    paid_until: Duration,
    stop: CancellationToken,
}

impl Pace {
    /// Reads at most so many bytes a second, until `stop`.
    pub fn new(bytes_per_second: Option<u64>, stop: CancellationToken) -> Self {
        Self { bytes_per_second, paid_until: Duration::ZERO, stop }
    }

    /// As fast as it goes, until the same stop.
    fn unlimited(&self) -> Self {
        Self::new(None, self.stop.clone())
    }

    /// Whether the work is to end.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Waits until `size_bytes` more may be read.
    async fn pay(&mut self, registry: &Registry, size_bytes: u64) {
        let Some(rate) = self.bytes_per_second else { return };
        let clock = &registry.inner.clock;
        let now = clock.monotonic();
        let cost = Duration::from_secs_f64(size_bytes as f64 / rate.max(1) as f64);
        self.paid_until = self.paid_until.max(now) + cost;
        tokio::select! {
            () = clock.sleep(self.paid_until - now) => {}
            () = self.stop.cancelled() => {}
        }
    }
}

/// What stands at a digest's path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum File {
    NotNeeded,
    Right,
    Wrong(Damage),
}

/// What was seen of a content.
struct Seen {
    row: BlobRecord,
    file: File,
    copy_is_right: Option<bool>,
}

impl Seen {
    fn damage(&self) -> Option<Damage> {
        match &self.file {
            _ if self.row.place == Place::Inline && self.copy_is_right == Some(false) => {
                Some(Damage::WrongCopy)
            }
            File::Wrong(Damage::MissingFile) if self.row.state == BlobState::Quarantined => {
                Some(Damage::Quarantined)
            }
            File::Wrong(damage) => Some(damage.clone()),
            _ if self.row.state == BlobState::Quarantined => Some(Damage::Quarantined),
            _ if self.copy_is_right == Some(false) => Some(Damage::WrongCopy),
            _ => None,
        }
    }

    /// Whether nothing can be done about it but to push it again.
    fn is_settled(&self) -> bool {
        self.row.state == BlobState::Quarantined && self.file == File::Wrong(Damage::MissingFile)
    }
}

/// Why a content could not be looked at.
enum Blind {
    Gone,
    Stopped,
    Unreadable(blob::Error),
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Blind {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Registry {
    /// Compares a content with its digest. An error means that the store cannot be used.
    pub(super) async fn examine(
        &self,
        digest: &Digest,
        look: Look,
        pace: &mut Pace,
    ) -> Result<Health> {
        pace.pay(self, CONTENT_COST_BYTES).await;
        let seen = match self.look_at(digest, look.read, pace).await {
            Ok(seen) => seen,
            Err(blind) => return blind.health(),
        };
        match seen.damage() {
            None => return Ok(Health::Sound),
            Some(damage) if seen.is_settled() => return Ok(Health::Damaged(damage, None)),
            Some(_) => {}
        }
        let _stripe = self.inner.stripes.lock(digest).await;
        let read = look.read || look.contain;
        let seen = match self.look_at(digest, read, &mut pace.unlimited()).await {
            Ok(seen) => seen,
            Err(blind) => return blind.health(),
        };
        match seen.damage() {
            None => Ok(Health::Sound),
            Some(damage) if !look.contain => Ok(Health::Damaged(damage, None)),
            Some(damage) => self.contain(digest, &seen, damage).await,
        }
    }

    /// Facts, then the file. The caller holds the stripe.
    async fn contain(&self, digest: &Digest, seen: &Seen, damage: Damage) -> Result<Health> {
        let row = &seen.row;
        let mut is_right = seen.file == File::Right;
        if is_right && (row.state != BlobState::Live || row.place == Place::Inline) {
            // No row vouches for this file yet, so nobody needed to make it durable (R1).
            is_right = match self.inner.blobs.keep(digest, row.size_bytes).await {
                Ok(kept) => kept,
                Err(blob::Error::Poisoned) => return Err(Error::Poisoned),
                Err(error) => return Ok(Health::Unreadable(error.to_string())),
            };
        }
        let verdict = self.inner.meta.judge(digest, is_right).await?;
        let mut moved_to = None;
        match verdict {
            Verdict::Gone | Verdict::Sound => return Ok(Health::Sound),
            Verdict::Kept => {}
            Verdict::Rewrite | Verdict::Quarantined => {
                // The facts are what counts: a file that stays is hashed before it is used.
                moved_to = self.inner.blobs.quarantine(digest).await.unwrap_or_else(|error| {
                    tracing::error!(blob.digest = %digest, %error, "a damaged file stays in place");
                    None
                });
            }
        }
        self.count_damage(&damage, verdict);
        if verdict == Verdict::Rewrite {
            self.inner.spill_wanted.notify_one();
        }
        tracing::error!(
            blob.digest = %digest,
            ?damage,
            outcome = ?verdict,
            moved_to = moved_to.as_deref().unwrap_or("-"),
            "a damaged content was found"
        );
        Ok(Health::Damaged(damage, Some(verdict)))
    }

    async fn look_at(
        &self,
        digest: &Digest,
        read: bool,
        pace: &mut Pace,
    ) -> std::result::Result<Seen, Blind> {
        let stored = self.inner.meta.stored(digest).await?;
        let row = stored.filter(|row| row.state != BlobState::Unlinking).ok_or(Blind::Gone)?;
        let mut copy_is_right = None;
        if row.place != Place::File && row.state == BlobState::Live {
            let copy = self.inner.meta.small_content(digest).await?;
            copy_is_right = Some(copy.is_some_and(|copy| {
                copy.len() as u64 == row.size_bytes
                    && (!read || Digest::of(digest.algorithm(), &copy) == *digest)
            }));
        }
        let file = if row.place == Place::Inline && copy_is_right == Some(true) {
            File::NotNeeded
        } else {
            self.look_at_file(digest, row.size_bytes, read, pace).await?
        };
        Ok(Seen { row, file, copy_is_right })
    }

    async fn look_at_file(
        &self,
        digest: &Digest,
        size_bytes: u64,
        read: bool,
        pace: &mut Pace,
    ) -> std::result::Result<File, Blind> {
        let file = match self.inner.blobs.open(digest).await {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(File::Wrong(Damage::MissingFile)),
            Err(error) => return Err(Blind::Unreadable(error)),
        };
        let found_size_bytes = file.size_bytes;
        if found_size_bytes != size_bytes {
            return Ok(File::Wrong(Damage::WrongSize { found_size_bytes }));
        }
        if !read {
            return Ok(File::Right);
        }
        match self.hash(&file, digest, pace).await {
            Ok(None) => Err(Blind::Stopped),
            Ok(Some(true)) => Ok(File::Right),
            Ok(Some(false)) => Ok(File::Wrong(Damage::WrongBytes)),
            Err(error) if is_damage(&error) => Ok(File::Wrong(Damage::WrongBytes)),
            Err(error) => Err(Blind::Unreadable(error)),
        }
    }

    /// Whether the bytes are those of the digest; `None` when it was stopped before the end.
    async fn hash(
        &self,
        file: &BlobFile,
        digest: &Digest,
        pace: &mut Pace,
    ) -> blob::Result<Option<bool>> {
        let mut hasher = Hasher::new(digest.algorithm());
        let mut offset = 0;
        while offset < file.size_bytes {
            if pace.is_stopped() {
                return Ok(None);
            }
            let length = PIECE_SIZE_BYTES.min(file.size_bytes - offset);
            hasher = file.reader.hash(offset, length, hasher).await?;
            offset += length;
            pace.pay(self, length).await;
        }
        Ok(Some(hasher.finish() == *digest))
    }
}

impl Blind {
    fn health(self) -> Result<Health> {
        match self {
            Self::Gone => Ok(Health::Gone),
            // Nothing was seen; whoever stopped it looks at nothing that comes of it.
            Self::Stopped => Ok(Health::Sound),
            Self::Unreadable(error) => Ok(Health::Unreadable(error.to_string())),
            Self::Failed(error) => Err(error),
        }
    }
}

fn is_damage(error: &blob::Error) -> bool {
    let blob::Error::Io(error) = error else { return false };
    let errno = error.source.raw_os_error();
    error.source.kind() == std::io::ErrorKind::UnexpectedEof
        || errno.is_some_and(|errno| DAMAGE_ERRNOS.contains(&errno))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::*;
    use crate::disk;

    fn failed(source: io::Error) -> blob::Error {
        blob::Error::from(disk::Error::new("read", Path::new("/r"), source))
    }

    #[test]
    fn a_shortage_is_no_damage() {
        for errno in DAMAGE_ERRNOS {
            assert!(is_damage(&failed(io::Error::from_raw_os_error(errno))), "{errno}");
        }
        assert!(is_damage(&failed(io::ErrorKind::UnexpectedEof.into())), "cut off since");
        // EMFILE, ENOMEM, EACCES, ENOSPC.
        for errno in [24, 12, 13, 28] {
            assert!(!is_damage(&failed(io::Error::from_raw_os_error(errno))), "{errno}");
        }
        assert!(!is_damage(&blob::Error::Poisoned));
    }
}
