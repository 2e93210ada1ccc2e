//! The spill of small contents, the clock that ages are measured on, the store's identity.

use redb::ReadableTable;

use super::super::super::{BlobState, Place, Result};
use super::super::codec::{ContentRow, Key, Row, StoreId};
use super::super::rows;
use super::super::tables::{Bytes, Tables};
use super::repositories::UPTIME;
use super::{Decision, Operation};
use crate::oci::Digest;

/// [`super::super::super::MetaStore::mark_spilled`]
pub struct MarkSpilled(pub Vec<Digest>);

impl Operation for MarkSpilled {
    type Plan = Vec<Digest>;
    type Answer = ();

    fn check(&self, tables: &Tables<'_>) -> Result<Decision<Vec<Digest>, ()>> {
        let mut inline = Vec::new();
        for digest in &self.0 {
            let row = rows::content(&tables.blobs, digest)?;
            let is_pending = |row: ContentRow| {
                row.record.place == Place::Inline && row.record.state != BlobState::Unlinking
            };
            if row.is_some_and(is_pending) {
                inline.push(*digest);
            }
        }
        Ok(if inline.is_empty() { Decision::Answer(()) } else { Decision::Apply(inline) })
    }

    fn apply(&self, inline: Vec<Digest>, tables: &mut Tables<'_>) -> Result<()> {
        for digest in &inline {
            tables.mark_spilled(digest)?;
        }
        Ok(())
    }
}

impl Tables<'_> {
    fn mark_spilled(&mut self, digest: &Digest) -> Result<()> {
        let key = Key::digest(digest);
        let Some(mut row) = rows::content(&self.blobs, digest)? else {
            return Ok(());
        };
        row.record.place = Place::Both;
        self.drop_inline_copy(&mut row, digest)?;
        rows::remove(&mut self.spill_queue, &key)?;
        rows::put(&mut self.blobs, &key, &row)
    }
}

/// [`super::super::super::MetaStore::advance_uptime`]
pub struct AdvanceUptime(pub u64);

impl Operation for AdvanceUptime {
    type Plan = ();
    type Answer = ();

    fn check(&self, _: &Tables<'_>) -> Result<Decision<(), ()>> {
        Ok(if self.0 == 0 { Decision::Answer(()) } else { Decision::Apply(()) })
    }

    fn apply(&self, (): (), tables: &mut Tables<'_>) -> Result<()> {
        tables.add_to_counter(UPTIME, self.0).map(|_| ())
    }
}

/// The id of the store, in `schema`.
const STORE_ID: &str = "store_id";

/// The store that the database belongs to.
pub fn store_id(schema: &impl ReadableTable<&'static str, Bytes>) -> Result<Option<[u8; 16]>> {
    match schema.get(STORE_ID)? {
        Some(bytes) => Ok(Some(StoreId::decode(bytes.value())?.0)),
        None => Ok(None),
    }
}

/// [`super::super::super::MetaStore::set_store_id`]
pub struct SetStoreId(pub [u8; 16]);

impl Operation for SetStoreId {
    type Plan = ();
    type Answer = ();

    fn check(&self, tables: &Tables<'_>) -> Result<Decision<(), ()>> {
        let same = store_id(&tables.schema)? == Some(self.0);
        Ok(if same { Decision::Answer(()) } else { Decision::Apply(()) })
    }

    fn apply(&self, (): (), tables: &mut Tables<'_>) -> Result<()> {
        tables.schema.insert(STORE_ID, StoreId(self.0).encode().as_slice())?;
        Ok(())
    }
}
