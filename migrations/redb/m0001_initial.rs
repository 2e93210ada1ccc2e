//! The tables of the first release, all empty.

use redb::{Key, ReadTransaction, ReadableTableMetadata, TableDefinition, Value, WriteTransaction};

use super::{Result, Step};

pub(super) const STEP: Step =
    Step { to: 1, name: "initial", what: "create the tables", apply, check };

type Bytes = &'static [u8];

const NAMES: [TableDefinition<&str, u64>; 2] =
    [TableDefinition::new("repository_names-1"), TableDefinition::new("repository_ids-1")];

const ROWS: [TableDefinition<Bytes, Bytes>; 15] = [
    TableDefinition::new("repositories-1"),
    TableDefinition::new("tags-1"),
    TableDefinition::new("tags_by_manifest-1"),
    TableDefinition::new("manifests-1"),
    TableDefinition::new("references-1"),
    TableDefinition::new("edges-1"),
    TableDefinition::new("referrers-1"),
    TableDefinition::new("blobs-1"),
    TableDefinition::new("repo_blobs-1"),
    TableDefinition::new("blob_repositories-1"),
    TableDefinition::new("small_contents-1"),
    TableDefinition::new("spill_queue-1"),
    TableDefinition::new("uploads-1"),
    TableDefinition::new("uploads_by_time-1"),
    TableDefinition::new("gc_queue-1"),
];

const OUTBOX: TableDefinition<u64, Bytes> = TableDefinition::new("outbox-1");

fn apply(transaction: &WriteTransaction) -> Result<u64> {
    for table in NAMES {
        transaction.open_table(table)?;
    }
    for table in ROWS {
        transaction.open_table(table)?;
    }
    transaction.open_table(OUTBOX)?;
    Ok(0)
}

fn check(transaction: &ReadTransaction) -> Result<()> {
    for table in NAMES {
        must_be_empty(transaction, table)?;
    }
    for table in ROWS {
        must_be_empty(transaction, table)?;
    }
    must_be_empty(transaction, OUTBOX)
}

fn must_be_empty<K: Key + 'static, V: Value + 'static>(
    transaction: &ReadTransaction,
    table: TableDefinition<K, V>,
) -> Result<()> {
    let found = transaction.open_table(table)?;
    if found.is_empty()? {
        return Ok(());
    }
    Err(redb::Error::Corrupted(format!("the new table {table} is not empty")))
}
