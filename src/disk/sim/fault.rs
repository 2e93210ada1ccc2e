//! Faults that a simulated disk was told to show.

use std::io;
use std::path::Path;

/// Input/output error.
pub const EIO: i32 = 5;
/// Interrupted system call.
pub const EINTR: i32 = 4;
/// Too many open files.
pub const EMFILE: i32 = 24;
/// No space left on device.
pub const ENOSPC: i32 = 28;
/// Read-only file system.
pub const EROFS: i32 = 30;
/// Disk quota exceeded.
pub const EDQUOT: i32 = 122;

/// What an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Of an existing file.
    Open,
    /// Of a new file.
    Create,
    /// Of a directory.
    CreateDir,
    /// Of either.
    Rename,
    /// Of a file.
    RemoveFile,
    /// Of a directory.
    RemoveDir,
    /// From a file.
    Read,
    /// Into a file.
    Write,
    /// Of a file.
    SetSize,
    /// In a file.
    Preallocate,
    /// Of a file's data.
    SyncFile,
    /// Of a directory's names.
    SyncDir,
}

impl Class {
    /// What takes room on a disk.
    pub const ROOM: [Self; 6] = [
        Self::Create,
        Self::CreateDir,
        Self::Rename,
        Self::Write,
        Self::SetSize,
        Self::Preallocate,
    ];
    /// What makes things durable.
    pub const SYNCS: [Self; 2] = [Self::SyncFile, Self::SyncDir];
    /// What changes something.
    pub const CHANGES: [Self; 9] = [
        Self::Create,
        Self::CreateDir,
        Self::Rename,
        Self::RemoveFile,
        Self::RemoveDir,
        Self::Write,
        Self::SetSize,
        Self::SyncFile,
        Self::SyncDir,
    ];

    pub(super) fn operation(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::CreateDir => "create directory",
            Self::Rename => "rename to",
            Self::RemoveFile => "remove",
            Self::RemoveDir => "remove directory",
            Self::Read => "read",
            Self::Write => "write",
            Self::SetSize => "truncate",
            Self::Preallocate => "preallocate",
            Self::SyncFile | Self::SyncDir => crate::disk::SYNC,
        }
    }
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// With this error, having done nothing.
    Error(i32),
    /// A write with this error, after the first half of its bytes.
    Short(i32),
    /// A sync with EIO; its pages are clean afterwards, and show the new bytes (ext4) or the old
    /// ones (btrfs).
    FailedSync {
        /// The new ones.
        visible: bool,
    },
    /// A read without an error, with one bit of it flipped. Databases are spared: they keep pages
    /// in memory, and take what they have read once for right.
    Flip,
}

/// Which operations fail, and how.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Any of these.
    pub classes: Vec<Class>,
    /// The how-manyth of them fails, from 1.
    pub nth: usize,
    /// How.
    pub kind: Kind,
    /// Whether all later ones fail, too.
    pub persistent: bool,
}

/// The faults of a disk.
#[derive(Debug, Default)]
pub(super) struct Plan {
    faults: Vec<(Fault, usize)>,
    fired: usize,
}

impl Plan {
    pub(super) fn add(&mut self, fault: Fault) {
        self.faults.push((fault, 0));
    }

    /// Ends the faults; how many operations they met.
    pub(super) fn heal(&mut self) -> usize {
        self.faults.clear();
        std::mem::take(&mut self.fired)
    }

    pub(super) fn fired(&self) -> usize {
        self.fired
    }

    /// Whether the next operation fails.
    pub(super) fn meet(&mut self, class: Class, path: &Path) -> Option<Kind> {
        let mut met = None;
        let is_database = path.extension().is_some_and(|extension| extension == "redb");
        for (fault, count) in &mut self.faults {
            let spared = fault.kind == Kind::Flip && is_database;
            if spared || !fault.classes.contains(&class) {
                continue;
            }
            *count += 1;
            if *count == fault.nth || (fault.persistent && *count > fault.nth) {
                met = Some(fault.kind);
            }
        }
        self.fired += usize::from(met.is_some());
        met
    }
}

pub(super) fn error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}
