//! Who holds a content.

use super::super::{Explanation, Holder, Result};
use super::codec::Row as _;
use super::codec::{Key, LinkRow, Reader, Uses};
use super::rows;
use super::tables::Snapshot;
use crate::oci::Digest;

impl Snapshot {
    /// [`super::super::MetaStore::explain`]
    pub fn explain(&self, digest: &Digest, limit: usize) -> Result<Option<Explanation>> {
        let Some(row) = rows::content(&self.blobs()?, digest)? else {
            return Ok(None);
        };
        let table = self.blob_repositories()?;
        let page = rows::page(&table, &Key::digest(digest), None, limit, |key, value| {
            let (_, id) = Reader::digest_number_key("a key of blob_repositories", key)?;
            self.holder(id, digest, Uses::decode(value)?, limit).map(Some)
        })?;
        let unheld = row.record.repositories == 0;
        Ok(Some(Explanation {
            content: row.record,
            eligible_uptime_seconds: unheld.then_some(row.eligible_uptime_seconds),
            holders: page.items,
            more: page.more,
        }))
    }

    fn holder(&self, id: u64, digest: &Digest, uses: Uses, limit: usize) -> Result<Holder> {
        let key = Key::number(id).and_digest(digest);
        let link = if uses.blob {
            let row: LinkRow = rows::must_get(&self.repo_blobs()?, &key)?;
            Some(self.link_standing(id, digest, &row)?)
        } else {
            None
        };
        let manifests = self.manifests()?;
        let manifest = rows::manifest(&manifests, id, digest)?;
        let subject = match manifest.as_ref().and_then(|row| row.subject) {
            None => None,
            Some(subject) => {
                let key = Key::number(id).and_digest(&subject);
                Some((subject, rows::has(&manifests, &key)?))
            }
        };
        let tags = rows::page(&self.tags_by_manifest()?, &key, None, limit, |key, _| {
            Ok(Some(Reader::tag_by_manifest_key(key)?.2))
        })?;
        let parents = rows::page(&self.edges()?, &key, None, limit, |key, _| {
            let (_, _, kind, parent) = Reader::edge_key(key)?;
            Ok(Some((parent, kind)))
        })?;
        Ok(Holder {
            repository: rows::repository(&self.repositories()?, id)?.name,
            link,
            manifest: manifest.map(|row| row.standing()),
            tags: tags.items,
            parents: parents.items,
            subject,
            more: tags.more || parents.more,
        })
    }
}
