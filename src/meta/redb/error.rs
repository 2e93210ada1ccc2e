//! What redb says, in the store's words.

use std::io;

use super::super::Error;
use crate::disk;

/// The error as an I/O error that redb passes through and [`from_io`] unpacks.
pub fn to_io(error: disk::Error) -> io::Error {
    io::Error::new(error.source.kind(), error)
}

fn from_io(error: io::Error) -> Error {
    match error.downcast::<disk::Error>() {
        Ok(error) if error.is_failed_sync() => Error::Poisoned,
        Ok(error) if error.is_full() => Error::Full,
        // Pages that its own rows name are not in the file: it was cut.
        Ok(error) if error.source.kind() == io::ErrorKind::UnexpectedEof => {
            Error::Corrupt(error.to_string())
        }
        Ok(error) => Error::Disk(error),
        // redb's own: "not a redb database".
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Error::Corrupt(error.to_string())
        }
        Err(error) => Error::Backend(error.to_string()),
    }
}

/// The same failure for one more caller.
pub fn duplicate(error: &Error) -> Error {
    match error {
        Error::Full => Error::Full,
        Error::Poisoned => Error::Poisoned,
        Error::Corrupt(text) => Error::Corrupt(text.clone()),
        Error::SchemaTooNew { release, found, supported } => {
            let release = release.clone();
            Error::SchemaTooNew { release, found: *found, supported: *supported }
        }
        Error::Foreign(text) => Error::Foreign(text.clone()),
        Error::Export(error) => Error::Backend(error.to_string()),
        Error::Disk(error) => Error::Disk(error.duplicate()),
        Error::Backend(text) => Error::Backend(text.clone()),
    }
}

/// Whether another handle on the same file may do better: redb refuses everything after the
/// first I/O error, until it is opened again.
pub fn needs_reopening(error: &Error) -> bool {
    match error {
        Error::Full | Error::Poisoned | Error::Disk(_) | Error::Backend(_) => true,
        Error::Corrupt(_) | Error::SchemaTooNew { .. } | Error::Foreign(_) | Error::Export(_) => {
            false
        }
    }
}

impl From<redb::StorageError> for Error {
    fn from(error: redb::StorageError) -> Self {
        match error {
            redb::StorageError::Io(error) => from_io(error),
            redb::StorageError::Corrupted(text) => Self::Corrupt(text),
            other => Self::Backend(other.to_string()),
        }
    }
}

impl From<redb::TableError> for Error {
    fn from(error: redb::TableError) -> Self {
        match error {
            redb::TableError::Storage(error) => error.into(),
            redb::TableError::TableAlreadyOpen(..) => Self::Backend(error.to_string()),
            other => Self::Corrupt(other.to_string()),
        }
    }
}

impl From<redb::TransactionError> for Error {
    fn from(error: redb::TransactionError) -> Self {
        match error {
            redb::TransactionError::Storage(error) => error.into(),
            other => Self::Backend(other.to_string()),
        }
    }
}

impl From<redb::CommitError> for Error {
    fn from(error: redb::CommitError) -> Self {
        match error {
            redb::CommitError::Storage(error) => error.into(),
            other => Self::Backend(other.to_string()),
        }
    }
}

impl From<redb::DatabaseError> for Error {
    fn from(error: redb::DatabaseError) -> Self {
        match error {
            redb::DatabaseError::Storage(error) => error.into(),
            redb::DatabaseError::DatabaseAlreadyOpen => {
                Self::Backend("another process has it open".to_owned())
            }
            redb::DatabaseError::UpgradeRequired(_) => Self::Foreign(error.to_string()),
            other => Self::Backend(other.to_string()),
        }
    }
}

impl From<redb::Error> for Error {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => from_io(error),
            redb::Error::Corrupted(text) => Self::Corrupt(text),
            other => Self::Backend(other.to_string()),
        }
    }
}
