//! One snapshot as an export, and a new database out of one.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable};

use super::super::export::{Content, Header, Reader, Record, TableKind, Totals, Writer};
use super::super::{BlobState, Error, Place, Result, Timestamp};
use super::codec::{ContentRow, Counter, Reader as Decoder, Row};
use super::handle::Handle;
use super::migrations::{self, Step};
use super::tables::{AnyTable, SCHEMA, Snapshot};
use super::writes::{TRANSACTIONS, counter};
use super::{Options, check, migrate};
use crate::disk::Vfs;

/// Bytes of rows in one transaction of an import.
const BATCH_SIZE_BYTES: usize = 4 << 20;
/// By how much a restored database is ahead of every copy that was made of it before: none of them
/// is ever taken for it, since `store.json` knows of more transactions than they have.
pub const LEAP: u64 = 1 << 40;

/// Writes what the snapshot holds; `now` goes into the header.
pub fn write(snapshot: &Snapshot, now: Timestamp, out: impl Write) -> Result<Totals> {
    let counters = snapshot.counters()?;
    let unnamed = || Error::Corrupt("the database does not say whose it is".to_owned());
    let schema = migrate::version(snapshot.transaction())?;
    let header = Header {
        schema: schema.ok_or_else(|| Error::Corrupt("it has no tables".to_owned()))?,
        store_id: snapshot.store_id()?.ok_or_else(unnamed)?,
        transactions: counters.transactions,
        uptime_seconds: counters.uptime_seconds,
        created_at: now,
        release: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let mut out = Writer::new(out, &header)?;
    for row in snapshot.blobs()?.iter()? {
        let (key, value) = row?;
        let digest = Decoder::digest_key("a key of blobs", key.value())?;
        let record = ContentRow::decode(value.value())?.record;
        out.content(&Content {
            digest,
            size_bytes: record.size_bytes,
            has_file: record.place != Place::Inline && record.state == BlobState::Live,
            has_bytes: record.place != Place::File,
        })?;
    }
    snapshot.export(&mut out)?;
    Ok(out.finish()?)
}

/// Makes a database at `path` out of an export, brings it up to this release's schema, and checks
/// it; it gets its name when all that went well. It has seen `transactions` or those of the
/// export, whichever are more, and [`LEAP`].
pub fn import(
    vfs: Arc<dyn Vfs>,
    path: &Path,
    options: Options,
    source: impl Read,
    transactions: u64,
) -> Result<Header> {
    Handle::make(vfs, path, options, |database| {
        let steps = migrations::ALL;
        let header = fill(database, source)?;
        bring_up(database, &header, steps, options.now)?;
        leap(database, transactions)?;
        let snapshot = Snapshot::new(database.begin_read()?);
        migrate::check_tables(snapshot.transaction())?;
        match check::check(&snapshot)?.first() {
            None => Ok(header),
            Some(finding) => Err(Error::Corrupt(format!("the export: {}", finding.0))),
        }
    })
}

/// Adds every row. What was committed before an error is thrown away with the file.
fn fill(database: &Database, source: impl Read) -> Result<Header> {
    let mut reader = Reader::new(source)?;
    let header = reader.header().clone();
    let newest = migrate::newest(migrations::ALL);
    if header.schema > newest {
        let (found, release) = (header.schema, header.release);
        return Err(Error::SchemaTooNew { release, found, supported: newest });
    }
    let mut at = None;
    while fill_batch(database, &mut reader, &mut at)? {}
    Ok(header)
}

/// One transaction; whether there is more. `at` is the table that the next row belongs to.
fn fill_batch(
    database: &Database,
    reader: &mut Reader<impl Read>,
    at: &mut Option<(TableKind, String)>,
) -> Result<bool> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    let mut size_bytes = 0;
    let mut more = true;
    {
        let open = |(kind, name): &(_, String)| AnyTable::open(&transaction, *kind, name);
        let mut table = at.as_ref().map(open).transpose()?;
        while size_bytes < BATCH_SIZE_BYTES {
            match reader.next_record()? {
                Some(Record::Content(_)) => {}
                Some(Record::Table(kind, name)) => {
                    // The one before must be closed: redb opens a table once in a transaction.
                    drop(table.take());
                    let next = (kind, name.to_owned());
                    table = Some(open(&next)?);
                    *at = Some(next);
                }
                Some(Record::Row(key, value)) => {
                    size_bytes += key.len() + value.len();
                    if let Some(table) = &mut table {
                        table.insert(key, value)?;
                    }
                }
                None => {
                    more = false;
                    break;
                }
            }
        }
    }
    transaction.commit()?;
    Ok(more)
}

fn bring_up(database: &Database, header: &Header, steps: &[Step], now: Timestamp) -> Result<()> {
    match migrate::version(&database.begin_read()?)? {
        Some(version) if version == header.schema => migrate::run(database, version, steps, now),
        _ => Err(Error::Corrupt("the export has another schema than its header says".to_owned())),
    }
}

fn leap(database: &Database, transactions: u64) -> Result<()> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    {
        let mut schema = transaction.open_table(SCHEMA)?;
        let found = counter(&schema, TRANSACTIONS)?.max(transactions);
        let leapt = Counter(found.saturating_add(LEAP)).encode();
        schema.insert(TRANSACTIONS, leapt.as_slice())?;
    }
    Ok(transaction.commit()?)
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
