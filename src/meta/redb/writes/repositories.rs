//! Repositories: their rows, ids and counters, and the counters of the store.

use redb::ReadableTable;

use super::super::super::{Error, Result};
use super::super::codec::{Counter, Key, RepositoryRow, Row};
use super::super::rows;
use super::super::tables::{Bytes, Tables};
use crate::oci::RepositoryName;

/// The number of committed transactions, in `schema`.
pub const TRANSACTIONS: &str = "transactions";
/// The accumulated uptime in seconds, in `schema`.
pub const UPTIME: &str = "uptime_seconds";
/// The newest repository id, in `schema` (M6). Ids start at 1.
pub const NEWEST_REPOSITORY: &str = "newest_repository_id";

/// A counter of `schema`; 0 when nothing has counted yet.
pub fn counter(schema: &impl ReadableTable<&'static str, Bytes>, name: &str) -> Result<u64> {
    match schema.get(name)? {
        Some(bytes) => Ok(Counter::decode(bytes.value())?.0),
        None => Ok(0),
    }
}

/// Raises the number of committed transactions, in the transaction that it counts, and returns
/// it.
pub fn count_transaction(tables: &mut Tables<'_>) -> Result<u64> {
    tables.add_to_counter(TRANSACTIONS, 1)?;
    counter(&tables.schema, TRANSACTIONS)
}

/// A repository that a write is about.
#[derive(Debug, Clone)]
pub struct Repository {
    pub id: u64,
    pub row: RepositoryRow,
}

impl Tables<'_> {
    /// Adds to a counter of `schema` and returns what it was.
    pub(super) fn add_to_counter(&mut self, name: &str, more: u64) -> Result<u64> {
        let before = counter(&self.schema, name)?;
        let after = Counter(before.saturating_add(more));
        self.schema.insert(name, after.encode().as_slice())?;
        Ok(before)
    }

    /// The repository of that name.
    pub(super) fn repository(&self, name: &RepositoryName) -> Result<Option<Repository>> {
        let Some(id) = rows::id_of(&self.repository_ids, name)? else {
            return Ok(None);
        };
        Ok(Some(Repository { id, row: rows::repository(&self.repositories, id)? }))
    }

    /// The repository that `check` found, or a new one.
    pub(super) fn repository_or_new(&mut self, name: &RepositoryName) -> Result<Repository> {
        if let Some(found) = self.repository(name)? {
            return Ok(found);
        }
        let id = self.add_to_counter(NEWEST_REPOSITORY, 1)?.saturating_add(1);
        self.repository_ids.insert(name.as_str(), id)?;
        Ok(Repository { id, row: RepositoryRow::new(name.clone()) })
    }

    /// The repository of that id, which a row of it says is there.
    pub(super) fn repository_of(&self, id: u64) -> Result<Repository> {
        Ok(Repository { id, row: rows::repository(&self.repositories, id)? })
    }

    /// Stores the counters, and puts the repository into the catalog or takes it out (M4). One
    /// with nothing in it goes (M6); a session names its repository, and needs no row.
    pub(super) fn save_repository(&mut self, repository: &Repository) -> Result<()> {
        let Repository { id, row } = repository;
        let name = row.name.as_str();
        if row.manifests == 0 && row.blobs == 0 {
            rows::remove(&mut self.repositories, &Key::number(*id))?;
            self.repository_ids.remove(name)?;
        } else {
            rows::put(&mut self.repositories, &Key::number(*id), row)?;
        }
        let listed = self.repository_names.get(name)?.is_some();
        if row.manifests > 0 && !listed {
            self.repository_names.insert(name, id)?;
        } else if row.manifests == 0 && listed {
            self.repository_names.remove(name)?;
        }
        Ok(())
    }
}

/// Lowers a counter that another row says is not 0.
pub fn lower(counter: &mut u64, by: u64) -> Result<()> {
    let lowered = counter.checked_sub(by);
    *counter = lowered.ok_or_else(|| Error::Corrupt("a counter is too low".to_owned()))?;
    Ok(())
}
