//! Upload sessions.

use super::super::super::{Result, UploadRecord};
use super::super::codec::{Key, Mark};
use super::super::rows;
use super::super::tables::Tables;
use super::{Decision, Operation};
use crate::oci::UploadId;

fn time_key(upload: &UploadRecord) -> Key {
    Key::number(upload.started_uptime_seconds).and_upload(upload.id)
}

impl Tables<'_> {
    /// Ends a session; whether there was one.
    pub(super) fn forget_upload(&mut self, id: UploadId) -> Result<bool> {
        let key = Key::upload(id);
        let found: Option<UploadRecord> = rows::get(&self.uploads, &key)?;
        let Some(found) = found else {
            return Ok(false);
        };
        rows::remove(&mut self.uploads, &key)?;
        rows::remove(&mut self.uploads_by_time, &time_key(&found))?;
        Ok(true)
    }
}

/// [`super::super::super::MetaStore::save_upload`]
pub struct Save(pub UploadRecord);

impl Operation for Save {
    type Plan = Option<UploadRecord>;
    type Answer = ();

    fn check(&self, tables: &Tables<'_>) -> Result<Decision<Self::Plan, ()>> {
        let found = rows::get(&tables.uploads, &Key::upload(self.0.id))?;
        Ok(if found.as_ref() == Some(&self.0) {
            Decision::Answer(())
        } else {
            Decision::Apply(found)
        })
    }

    fn apply(&self, found: Self::Plan, tables: &mut Tables<'_>) -> Result<()> {
        if let Some(found) = found {
            rows::remove(&mut tables.uploads_by_time, &time_key(&found))?;
        }
        rows::put(&mut tables.uploads, &Key::upload(self.0.id), &self.0)?;
        rows::put(&mut tables.uploads_by_time, &time_key(&self.0), &Mark)
    }
}

/// [`super::super::super::MetaStore::forget_upload`]
pub struct Forget(pub UploadId);

impl Operation for Forget {
    type Plan = ();
    type Answer = ();

    fn check(&self, tables: &Tables<'_>) -> Result<Decision<(), ()>> {
        let found: Option<UploadRecord> = rows::get(&tables.uploads, &Key::upload(self.0))?;
        Ok(if found.is_some() { Decision::Apply(()) } else { Decision::Answer(()) })
    }

    fn apply(&self, (): (), tables: &mut Tables<'_>) -> Result<()> {
        tables.forget_upload(self.0).map(|_| ())
    }
}
