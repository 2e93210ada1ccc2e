//! Steps that bring `metadata.redb` from one schema version to the next; see `../README.md`.
//!
//! A step is frozen once it is released. It imports `redb`, `std` and [`Step`], nothing else.

mod m0001_initial;
mod m0002_collector;

use redb::{ReadTransaction, WriteTransaction};

/// Result of a step. A postcondition that does not hold is [`redb::Error::Corrupted`].
pub type Result<T> = std::result::Result<T, redb::Error>;

/// One step of the schema's history.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// The version after it.
    pub to: u32,
    /// Name of its file without `mNNNN_`.
    pub name: &'static str,
    /// What it does, for the log.
    pub what: &'static str,
    /// Does it, inside the transaction that also writes the version; returns how many rows it
    /// wrote.
    pub apply: fn(&WriteTransaction) -> Result<u64>,
    /// Its postcondition, checked after the commit.
    pub check: fn(&ReadTransaction) -> Result<()>,
}

/// Every step, oldest first.
pub const ALL: &[Step] = &[m0001_initial::STEP, m0002_collector::STEP];

/// The version after the last step.
pub const NEWEST: u32 = ALL[ALL.len() - 1].to;

const _: () = assert!(is_dense(ALL), "steps are numbered from 1 without a gap");

/// Whether step `i` leads to version `i + 1`.
const fn is_dense(steps: &[Step]) -> bool {
    let mut index = 0;
    while index < steps.len() {
        if steps[index].to as usize != index + 1 {
            return false;
        }
        index += 1;
    }
    true
}
