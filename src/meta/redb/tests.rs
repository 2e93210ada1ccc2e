use std::sync::Arc;

use super::*;
use crate::disk::OsVfs;
use crate::meta::{Edge, EdgeKind, Expect};
use crate::oci::{Algorithm, MediaType};

impl RedbMeta {
    /// Removes a row of a table of bytes; says which, or that there is none.
    pub fn remove_nth(&self, table: usize, row: usize) -> Result<Option<String>> {
        let turn = self.handle.turn();
        let transaction = self.handle.begin_write(&turn)?;
        let found = remove_nth(&mut tables::Tables::open(&transaction)?, table, row)?;
        transaction.commit()?;
        Ok(found.then(|| format!("row {row} of table {table}")))
    }
}

fn remove_nth(tables: &mut tables::Tables<'_>, table: usize, row: usize) -> Result<bool> {
    use redb::ReadableTable;
    let tables: [&mut redb::Table<'_, tables::Bytes, tables::Bytes>; 16] = [
        &mut tables.repositories,
        &mut tables.tags,
        &mut tables.tags_by_manifest,
        &mut tables.manifests,
        &mut tables.references,
        &mut tables.edges,
        &mut tables.referrers,
        &mut tables.blobs,
        &mut tables.repo_blobs,
        &mut tables.blob_repositories,
        &mut tables.small_contents,
        &mut tables.spill_queue,
        &mut tables.uploads,
        &mut tables.uploads_by_time,
        &mut tables.gc_queue,
        &mut tables.untagged_manifests,
    ];
    let found = tables[table].iter()?.nth(row).transpose()?;
    let Some(key) = found.map(|(key, _)| key.value().to_vec()) else {
        return Ok(false);
    };
    tables[table].remove(key.as_slice())?;
    Ok(true)
}

fn digest(byte: u8) -> Digest {
    Digest::from_bytes(Algorithm::Sha256, &[byte; 32]).unwrap()
}

fn moment(seconds: u64) -> Moment {
    Moment { time: Timestamp(seconds * 1000), eligible_uptime_seconds: seconds }
}

#[tokio::test]
async fn an_image_survives_closing_and_opening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metadata.redb");
    let open =
        || RedbMeta::open(Arc::new(OsVfs), &path, Options::default(), Blocking::Pool).unwrap();
    let name = RepositoryName::parse("a/b").unwrap();
    let store = open();
    let link = LinkBlob {
        repository: name.clone(),
        digest: digest(1),
        size_bytes: 3,
        content: Some(Bytes::from_static(b"abc")),
        upload: None,
        moment: moment(1),
    };
    store.link_blob(link).await.unwrap();
    let push = PushManifest {
        repository: name.clone(),
        digest: digest(2),
        media_type: MediaType::parse("a/b").unwrap(),
        size_bytes: 2,
        content: Some(Bytes::from_static(b"{}")),
        edges: vec![Edge {
            digest: digest(1),
            kind: EdgeKind::Layer,
            size_bytes: 3,
            optional: false,
        }],
        subject: None,
        config_type: None,
        artifact_type: None,
        annotations: std::collections::BTreeMap::default(),
        tags: vec![Tag::parse("latest").unwrap()],
        expect: Expect::Anything,
        moment: moment(2),
    };
    assert_eq!(store.put_manifest(push).await.unwrap(), PutManifest::Stored);
    store.close().await.unwrap();
    drop(store);
    let store = open();
    let reference = Reference::Tag(Tag::parse("latest").unwrap());
    let (record, bytes) = store.manifest(&name, &reference).await.unwrap().unwrap();
    assert_eq!((record.digest, bytes.unwrap()), (digest(2), Bytes::from_static(b"{}")));
}

/// Table 10 has the small contents.
#[tokio::test]
async fn one_damaged_small_content_does_not_keep_the_others_from_their_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metadata.redb");
    let options = Options::default();
    let store = RedbMeta::open(Arc::new(OsVfs), &path, options, Blocking::Pool).unwrap();
    for byte in 1..=3 {
        let link = LinkBlob {
            repository: RepositoryName::parse("a").unwrap(),
            digest: digest(byte),
            size_bytes: 3,
            content: Some(Bytes::from_static(b"abc")),
            upload: None,
            moment: moment(1),
        };
        store.link_blob(link).await.unwrap();
    }
    store.remove_nth(10, 0).unwrap().unwrap();
    let unspilled = store.unspilled(None, 2, 99).await.unwrap();
    let digests: Vec<_> = unspilled.iter().map(|(digest, _)| *digest).collect();
    assert_eq!(digests, [digest(2), digest(3)]);
}
