//! Every table. Key and value types are `&[u8]`, `&str` and `u64` only: what the bytes mean is
//! [`super::codec`]'s. A name carries the version of its layout.
//!
//! | table | key | value |
//! |---|---|---|
//! | `schema` | name | version, history, counters |
//! | `repository_names-1` | name | id; only while the repository has a manifest (M4) |
//! | `repository_ids-1` | name | id (M6) |
//! | `repositories-1` | id | [`super::codec::RepositoryRow`] |
//! | `tags-1` | id, tag | [`super::codec::TagRow`] |
//! | `tags_by_manifest-1` | id, digest, tag | mark |
//! | `manifests-1` | id, digest | [`super::codec::ManifestRow`] |
//! | `references-1` | id, parent | [`super::codec::References`]: what to take out of `edges-1` |
//! | `edges-1` | id, child, kind, parent | mark |
//! | `referrers-1` | id, subject, referrer | descriptor |
//! | `blobs-1` | digest | [`super::codec::ContentRow`] |
//! | `repo_blobs-1` | id, digest | [`super::codec::LinkRow`] |
//! | `blob_repositories-1` | digest, id | [`super::codec::Uses`] |
//! | `small_contents-1` | digest | the bytes |
//! | `spill_queue-1` | digest | mark |
//! | `uploads-1` | upload id | session |
//! | `uploads_by_time-1` | uptime seconds at its start, upload id | mark |
//! | `gc_queue-2` | eligible uptime seconds, id or 0, digest, kind | [`super::codec::Queued`] |
//! | `untagged_manifests-1` | eligible uptime seconds, id, digest | [`super::codec::Queued`] |
//! | `outbox-1` | sequence | event; nothing writes it yet |
//!
//! The list of a manifest's references is one row beside the manifest, not part of it: every
//! pull reads the manifest's row, and only a push or a delete needs the list.

use std::io::Write;

use redb::{
    ReadOnlyTable, ReadTransaction, ReadableTable, Table, TableDefinition, TableHandle,
    WriteTransaction,
};

use super::super::export::{self, TableKind};
use super::super::{Error, Result};

/// Bytes as a key or value.
pub type Bytes = &'static [u8];
/// A table of bytes, read through either kind of transaction.
pub trait Rows: ReadableTable<Bytes, Bytes> {}
impl<T: ReadableTable<Bytes, Bytes>> Rows for T {}
/// A table from repository names to ids, read through either kind of transaction.
pub trait Names: ReadableTable<&'static str, u64> {}
impl<T: ReadableTable<&'static str, u64>> Names for T {}

type RowsDefinition = TableDefinition<'static, Bytes, Bytes>;
type NamesDefinition = TableDefinition<'static, &'static str, u64>;

/// Version, history and counters; the one table without a version in its name.
pub const SCHEMA: TableDefinition<&str, Bytes> = TableDefinition::new("schema");
const REPOSITORY_NAMES: NamesDefinition = TableDefinition::new("repository_names-1");
const REPOSITORY_IDS: NamesDefinition = TableDefinition::new("repository_ids-1");
const REPOSITORIES: RowsDefinition = TableDefinition::new("repositories-1");
const TAGS: RowsDefinition = TableDefinition::new("tags-1");
const TAGS_BY_MANIFEST: RowsDefinition = TableDefinition::new("tags_by_manifest-1");
const MANIFESTS: RowsDefinition = TableDefinition::new("manifests-1");
const REFERENCES: RowsDefinition = TableDefinition::new("references-1");
const EDGES: RowsDefinition = TableDefinition::new("edges-1");
const REFERRERS: RowsDefinition = TableDefinition::new("referrers-1");
const BLOBS: RowsDefinition = TableDefinition::new("blobs-1");
const REPO_BLOBS: RowsDefinition = TableDefinition::new("repo_blobs-1");
const BLOB_REPOSITORIES: RowsDefinition = TableDefinition::new("blob_repositories-1");
const SMALL_CONTENTS: RowsDefinition = TableDefinition::new("small_contents-1");
const SPILL_QUEUE: RowsDefinition = TableDefinition::new("spill_queue-1");
const UPLOADS: RowsDefinition = TableDefinition::new("uploads-1");
const UPLOADS_BY_TIME: RowsDefinition = TableDefinition::new("uploads_by_time-1");
const GC_QUEUE: RowsDefinition = TableDefinition::new("gc_queue-2");
const UNTAGGED_MANIFESTS: RowsDefinition = TableDefinition::new("untagged_manifests-1");
const OUTBOX: TableDefinition<u64, Bytes> = TableDefinition::new("outbox-1");

/// Tables from bytes to bytes.
const ROWS: [RowsDefinition; 16] = [
    REPOSITORIES,
    TAGS,
    TAGS_BY_MANIFEST,
    MANIFESTS,
    REFERENCES,
    EDGES,
    REFERRERS,
    BLOBS,
    REPO_BLOBS,
    BLOB_REPOSITORIES,
    SMALL_CONTENTS,
    SPILL_QUEUE,
    UPLOADS,
    UPLOADS_BY_TIME,
    GC_QUEUE,
    UNTAGGED_MANIFESTS,
];

/// Whether the current schema has a table of that name.
pub fn is_known(name: &str) -> bool {
    name == SCHEMA.name()
        || name == OUTBOX.name()
        || [REPOSITORY_NAMES, REPOSITORY_IDS].iter().any(|table| table.name() == name)
        || ROWS.iter().any(|table| table.name() == name)
}

/// The tables of one write transaction.
pub struct Tables<'t> {
    /// See the module's table.
    pub schema: Table<'t, &'static str, Bytes>,
    /// See the module's table.
    pub repository_names: Table<'t, &'static str, u64>,
    /// See the module's table.
    pub repository_ids: Table<'t, &'static str, u64>,
    /// See the module's table.
    pub repositories: Table<'t, Bytes, Bytes>,
    /// See the module's table.
    pub tags: Table<'t, Bytes, Bytes>,
    /// See the module's table.
    pub tags_by_manifest: Table<'t, Bytes, Bytes>,
    /// See the module's table.
    pub manifests: Table<'t, Bytes, Bytes>,
    /// See the module's table.
    pub references: Table<'t, Bytes, Bytes>,
    /// See the module's table.
    pub edges: Table<'t, Bytes, Bytes>,
    /// See the module's table.
    pub referrers: Table<'t, Bytes, Bytes>,
    /// See the module's table.
    pub blobs: Table<'t, Bytes, Bytes>,
    /// See the module's table.
    pub repo_blobs: Table<'t, Bytes, Bytes>,
    /// See the module's table.
    pub blob_repositories: Table<'t, Bytes, Bytes>,
    /// See the module's table.
    pub small_contents: Table<'t, Bytes, Bytes>,
    /// See the module's table.
    pub spill_queue: Table<'t, Bytes, Bytes>,
    /// See the module's table.
    pub uploads: Table<'t, Bytes, Bytes>,
    /// See the module's table.
    pub uploads_by_time: Table<'t, Bytes, Bytes>,
    /// See the module's table.
    pub gc_queue: Table<'t, Bytes, Bytes>,
    /// See the module's table.
    pub untagged_manifests: Table<'t, Bytes, Bytes>,
}

impl<'t> Tables<'t> {
    /// Opens every table that writes use.
    pub fn open(transaction: &'t WriteTransaction) -> Result<Self> {
        Ok(Self {
            schema: transaction.open_table(SCHEMA)?,
            repository_names: transaction.open_table(REPOSITORY_NAMES)?,
            repository_ids: transaction.open_table(REPOSITORY_IDS)?,
            repositories: transaction.open_table(REPOSITORIES)?,
            tags: transaction.open_table(TAGS)?,
            tags_by_manifest: transaction.open_table(TAGS_BY_MANIFEST)?,
            manifests: transaction.open_table(MANIFESTS)?,
            references: transaction.open_table(REFERENCES)?,
            edges: transaction.open_table(EDGES)?,
            referrers: transaction.open_table(REFERRERS)?,
            blobs: transaction.open_table(BLOBS)?,
            repo_blobs: transaction.open_table(REPO_BLOBS)?,
            blob_repositories: transaction.open_table(BLOB_REPOSITORIES)?,
            small_contents: transaction.open_table(SMALL_CONTENTS)?,
            spill_queue: transaction.open_table(SPILL_QUEUE)?,
            uploads: transaction.open_table(UPLOADS)?,
            uploads_by_time: transaction.open_table(UPLOADS_BY_TIME)?,
            gc_queue: transaction.open_table(GC_QUEUE)?,
            untagged_manifests: transaction.open_table(UNTAGGED_MANIFESTS)?,
        })
    }
}

/// A table of any kind, to fill a database from an export.
pub enum AnyTable<'t> {
    /// Bytes to bytes.
    Bytes(Table<'t, Bytes, Bytes>),
    /// Texts to bytes.
    Texts(Table<'t, &'static str, Bytes>),
    /// Texts to numbers.
    Names(Table<'t, &'static str, u64>),
    /// Numbers to bytes.
    Numbers(Table<'t, u64, Bytes>),
}

impl<'t> AnyTable<'t> {
    /// Opens or makes the table of that name, which may be one of an older schema.
    pub fn open(transaction: &'t WriteTransaction, kind: TableKind, name: &str) -> Result<Self> {
        Ok(match kind {
            TableKind::Bytes => Self::Bytes(transaction.open_table(TableDefinition::new(name))?),
            TableKind::Texts => Self::Texts(transaction.open_table(TableDefinition::new(name))?),
            TableKind::Names => Self::Names(transaction.open_table(TableDefinition::new(name))?),
            TableKind::Numbers => {
                Self::Numbers(transaction.open_table(TableDefinition::new(name))?)
            }
        })
    }

    /// Adds a row; numbers are eight bytes, big-endian.
    pub fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        match self {
            Self::Bytes(table) => drop(table.insert(key, value)?),
            Self::Texts(table) => drop(table.insert(text(key)?, value)?),
            Self::Names(table) => drop(table.insert(text(key)?, number(value)?)?),
            Self::Numbers(table) => drop(table.insert(number(key)?, value)?),
        }
        Ok(())
    }
}

fn text(key: &[u8]) -> Result<&str> {
    std::str::from_utf8(key).map_err(|_| Error::Corrupt("a key is not UTF-8".to_owned()))
}

fn number(bytes: &[u8]) -> Result<u64> {
    let bytes = bytes.try_into().map_err(|_| Error::Corrupt("a number is cut".to_owned()))?;
    Ok(u64::from_be_bytes(bytes))
}

/// A table of one read transaction.
pub type View = ReadOnlyTable<Bytes, Bytes>;

/// One read transaction. Each table is opened when it is asked for: a read needs two or three.
pub struct Snapshot(ReadTransaction);

macro_rules! views {
    ($($name:ident $definition:ident)*) => {
        $(
            /// Opens the table; see the module's table.
            pub fn $name(&self) -> Result<View> {
                Ok(self.0.open_table($definition)?)
            }
        )*
    };
}

impl Snapshot {
    /// Reads what this transaction sees.
    pub fn new(transaction: ReadTransaction) -> Self {
        Self(transaction)
    }

    /// Opens the table; see the module's table.
    pub fn schema(&self) -> Result<ReadOnlyTable<&'static str, Bytes>> {
        Ok(self.0.open_table(SCHEMA)?)
    }

    /// Opens the table; see the module's table.
    pub fn repository_names(&self) -> Result<ReadOnlyTable<&'static str, u64>> {
        Ok(self.0.open_table(REPOSITORY_NAMES)?)
    }

    /// Opens the table; see the module's table.
    pub fn repository_ids(&self) -> Result<ReadOnlyTable<&'static str, u64>> {
        Ok(self.0.open_table(REPOSITORY_IDS)?)
    }

    /// Opens the table; see the module's table.
    pub fn outbox(&self) -> Result<ReadOnlyTable<u64, Bytes>> {
        Ok(self.0.open_table(OUTBOX)?)
    }

    /// The transaction itself.
    pub fn transaction(&self) -> &ReadTransaction {
        &self.0
    }

    /// Writes every table with its rows.
    pub fn export<W: Write>(&self, out: &mut export::Writer<W>) -> Result<()> {
        out.table(TableKind::Texts, SCHEMA.name())?;
        for row in self.schema()?.iter()? {
            let (name, value) = row?;
            out.row(name.value().as_bytes(), value.value())?;
        }
        for table in [REPOSITORY_NAMES, REPOSITORY_IDS] {
            out.table(TableKind::Names, table.name())?;
            for row in self.0.open_table(table)?.iter()? {
                let (name, id) = row?;
                out.row(name.value().as_bytes(), &id.value().to_be_bytes())?;
            }
        }
        for table in ROWS {
            out.table(TableKind::Bytes, table.name())?;
            for row in self.0.open_table(table)?.iter()? {
                let (key, value) = row?;
                out.row(key.value(), value.value())?;
            }
        }
        out.table(TableKind::Numbers, OUTBOX.name())?;
        for row in self.outbox()?.iter()? {
            let (sequence, event) = row?;
            out.row(&sequence.value().to_be_bytes(), event.value())?;
        }
        Ok(())
    }

    /// Refuses a database in which a table is missing or of another type.
    pub fn check(transaction: &ReadTransaction) -> Result<()> {
        transaction.open_table(SCHEMA)?;
        transaction.open_table(REPOSITORY_NAMES)?;
        transaction.open_table(REPOSITORY_IDS)?;
        transaction.open_table(OUTBOX)?;
        for table in ROWS {
            transaction.open_table(table)?;
        }
        Ok(())
    }

    views! {
        repositories REPOSITORIES
        tags TAGS
        tags_by_manifest TAGS_BY_MANIFEST
        manifests MANIFESTS
        references REFERENCES
        edges EDGES
        referrers REFERRERS
        blobs BLOBS
        repo_blobs REPO_BLOBS
        blob_repositories BLOB_REPOSITORIES
        small_contents SMALL_CONTENTS
        spill_queue SPILL_QUEUE
        uploads UPLOADS
        uploads_by_time UPLOADS_BY_TIME
        gc_queue GC_QUEUE
        untagged_manifests UNTAGGED_MANIFESTS
    }
}
