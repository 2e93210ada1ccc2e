//! Which schema a database has, and the way to this release's.
//!
//! `schema` holds `version` (u32), `created_by` (a text), `history/NNNN` (one per step) and the
//! counters. A step and the version it leads to are one transaction: a crash leaves the version
//! before it or the one after it, never a mixture.

use redb::{
    Database, MultimapTableHandle, ReadTransaction, ReadableDatabase, ReadableTable, TableError,
    TableHandle, WriteTransaction,
};

use super::super::{Error, Result, Timestamp};
use super::codec::{Counter, Reader, Row};
use super::migrations::Step;
use super::tables::{self, SCHEMA};
use super::writes::TRANSACTIONS;

/// The name of the version in `schema`.
const VERSION: &str = "version";
const CREATED_BY: &str = "created_by";
/// What the rows of finished steps begin with.
pub const HISTORY: &str = "history/";
/// This release.
const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// The value of `version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version(u32);

impl Row for Version {
    const NAME: &'static str = "the schema version";

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.0.to_be_bytes());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(Self(reader.u32()?))
    }
}

/// A step that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Taken {
    name: String,
    release: String,
    at: Timestamp,
    rows: u64,
}

impl Row for Taken {
    const NAME: &'static str = "a finished step";

    fn write(&self, bytes: &mut Vec<u8>) {
        for text in [&self.name, &self.release] {
            bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes.extend_from_slice(&self.at.0.to_be_bytes());
        bytes.extend_from_slice(&self.rows.to_be_bytes());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            name: reader.text()?.to_owned(),
            release: reader.text()?.to_owned(),
            at: Timestamp(reader.u64()?),
            rows: reader.u64()?,
        })
    }
}

/// The version of a database; `None` when it has no table at all.
///
/// # Errors
/// [`Error::Foreign`] when it has tables but no `schema` of ours, [`Error::Corrupt`] when
/// `schema` has no readable version.
pub fn version(transaction: &ReadTransaction) -> Result<Option<u32>> {
    let schema = match transaction.open_table(SCHEMA) {
        Ok(schema) => schema,
        Err(TableError::TableDoesNotExist(_)) => return without_schema(transaction),
        Err(TableError::Storage(error)) => return Err(error.into()),
        Err(other) => {
            return Err(Error::Foreign(format!("its table `schema` is another: {other}")));
        }
    };
    let Some(version) = schema.get(VERSION)? else {
        return Err(Error::Corrupt("`schema` has no version".to_owned()));
    };
    Ok(Some(Version::decode(version.value())?.0))
}

fn without_schema(transaction: &ReadTransaction) -> Result<Option<u32>> {
    let tables = transaction.list_tables()?.map(|table| table.name().to_owned());
    let multimaps = transaction.list_multimap_tables()?.map(|table| table.name().to_owned());
    match tables.chain(multimaps).next() {
        None => Ok(None),
        Some(table) => Err(Error::Foreign(format!("it has the table `{table}` but no `schema`"))),
    }
}

/// The release that took the step to this version.
pub fn release_of(transaction: &ReadTransaction, version: u32) -> Result<String> {
    let schema = transaction.open_table(SCHEMA)?;
    let taken = schema.get(format!("{HISTORY}{version:04}").as_str())?;
    let taken = taken.map(|taken| Taken::decode(taken.value())).transpose()?;
    // A release from long after this one may keep its history elsewhere.
    Ok(taken.map_or_else(|| "unknown".to_owned(), |taken| taken.release))
}

/// Refuses a database of the current version whose tables are not those of this release.
pub fn check_tables(transaction: &ReadTransaction) -> Result<()> {
    let unknown = transaction.list_tables()?.find(|table| !tables::is_known(table.name()));
    let multimap = transaction.list_multimap_tables()?.next();
    let name = unknown.map(|table| table.name().to_owned());
    let name = name.or_else(|| multimap.map(|table| table.name().to_owned()));
    if let Some(name) = name {
        return Err(Error::Foreign(format!("it has the unknown table `{name}`")));
    }
    tables::Snapshot::check(transaction)
}

/// Takes the steps after `from`, each in a transaction of its own; `now` goes into the history.
pub fn run(database: &Database, from: u32, steps: &[Step], now: Timestamp) -> Result<()> {
    for step in steps.iter().filter(|step| step.to > from) {
        tracing::info!(to = step.to, step.name, step.what, "migrating the database");
        let mut transaction = database.begin_write()?;
        transaction.set_two_phase_commit(true);
        let rows = (step.apply)(&transaction)?;
        record(&transaction, step, rows, now)?;
        transaction.commit()?;
        (step.check)(&database.begin_read()?)?;
    }
    Ok(())
}

fn record(transaction: &WriteTransaction, step: &Step, rows: u64, now: Timestamp) -> Result<()> {
    let mut schema = transaction.open_table(SCHEMA)?;
    schema.insert(VERSION, Version(step.to).encode().as_slice())?;
    if step.to == 1 {
        schema.insert(CREATED_BY, RELEASE.as_bytes())?;
    }
    let taken = Taken { name: step.name.to_owned(), release: RELEASE.to_owned(), at: now, rows };
    let name = format!("{HISTORY}{:04}", step.to);
    schema.insert(name.as_str(), taken.encode().as_slice())?;
    let transactions = match schema.get(TRANSACTIONS)? {
        Some(bytes) => Counter::decode(bytes.value())?.0,
        None => 0,
    };
    schema.insert(TRANSACTIONS, Counter(transactions.saturating_add(1)).encode().as_slice())?;
    Ok(())
}

/// Whether a row of `schema` says where the database comes from, not what it holds.
pub fn is_provenance(name: &str) -> bool {
    name == CREATED_BY || name.starts_with(HISTORY)
}

/// The version this release writes.
pub fn newest(steps: &[Step]) -> u32 {
    steps.last().map_or(0, |step| step.to)
}

#[cfg(test)]
#[path = "migrate_tests.rs"]
mod tests;
