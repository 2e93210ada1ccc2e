//! Derived rows are lost, wrong or too many, and come back as they were.

use redb::ReadableTable as _;

use super::super::conformance::{digest, edge, link, push};
use super::super::{EdgeKind, LinkBlob, MetaStore, PushManifest, Timestamp, UploadRecord};
use super::codec::{ContentRow, Key, Mark, Queued, RepositoryRow, Uses};
use super::tables::Tables;
use super::*;
use crate::oci::Algorithm;

async fn store() -> (tempfile::TempDir, RedbMeta) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metadata.redb");
    let (vfs, options) = (Arc::new(crate::disk::OsVfs), Options::default());
    let meta = RedbMeta::open(vfs, &path, options, Blocking::Inline).unwrap();
    for n in 1..=4 {
        meta.link_blob(link("a", n, 10)).await.unwrap();
    }
    meta.link_blob(LinkBlob { content: None, ..link("b", 5, 20) }).await.unwrap();
    let layers = vec![edge(1, EdgeKind::Config), edge(2, EdgeKind::Layer)];
    meta.put_manifest(push("a", 11, layers, &["v1", "latest"])).await.unwrap();
    let child = vec![edge(11, EdgeKind::Child)];
    meta.put_manifest(push("a", 12, child, &["index"])).await.unwrap();
    for (n, subject) in [(13, 11), (14, 99)] {
        let subject = Some(digest(subject));
        meta.put_manifest(PushManifest { subject, ..push("a", n, vec![], &[]) }).await.unwrap();
    }
    meta.mark_spilled(vec![digest(1), digest(11)]).await.unwrap();
    meta.unlink_blob(&RepositoryName::parse("a").unwrap(), &digest(4), moment()).await.unwrap();
    let upload = UploadRecord {
        id: UploadId::from_random([7; 16]),
        repository: RepositoryName::parse("a").unwrap(),
        offset: 1,
        algorithm: Algorithm::Sha256,
        started_at: Timestamp(0),
        started_uptime_seconds: 3,
    };
    meta.save_upload(upload).await.unwrap();
    assert_eq!(meta.check().unwrap(), []);
    (directory, meta)
}

fn moment() -> Moment {
    super::super::conformance::moment(50)
}

/// Everything but the number of transactions.
fn dump(meta: &RedbMeta) -> String {
    let mut text = Vec::new();
    meta.dump(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    text.lines().filter(|line| !line.contains("transactions")).collect::<Vec<_>>().join("\n")
}

fn change(meta: &RedbMeta, work: impl FnOnce(&mut Tables<'_>)) {
    let turn = meta.handle.turn();
    let transaction = meta.handle.begin_write(&turn).unwrap();
    work(&mut Tables::open(&transaction).unwrap());
    transaction.commit().unwrap();
}

type Damage = (&'static str, fn(&mut Tables<'_>));

const DAMAGES: &[Damage] = &[
    ("tags_by_manifest lost", |t| t.tags_by_manifest.retain(|_, _| false).unwrap()),
    ("edges lost", |t| t.edges.retain(|_, _| false).unwrap()),
    ("uses lost", |t| t.blob_repositories.retain(|_, _| false).unwrap()),
    ("spill queue lost", |t| t.spill_queue.retain(|_, _| false).unwrap()),
    ("collector's queue lost", |t| t.gc_queue.retain(|_, _| false).unwrap()),
    ("untagged lost", |t| t.untagged_manifests.retain(|_, _| false).unwrap()),
    ("uploads by time lost", |t| t.uploads_by_time.retain(|_, _| false).unwrap()),
    ("catalog lost", |t| t.repository_names.retain(|_, _| false).unwrap()),
    ("ids lost", |t| t.repository_ids.retain(|_, _| false).unwrap()),
    ("names too many", |t| {
        t.repository_names.insert("ghost", 99).unwrap();
        t.repository_ids.insert("ghost", 99).unwrap();
    }),
    ("marks too many", |t| {
        let key = Key::number(1).and_digest(&digest(40)).and_tag("ghost");
        rows::put(&mut t.tags_by_manifest, &key, &Mark).unwrap();
        let key = Key::number(1).and_digest(&digest(40)).and_kind(EdgeKind::Layer);
        rows::put(&mut t.edges, &key.and_digest(&digest(11)), &Mark).unwrap();
        rows::put(&mut t.spill_queue, &Key::digest(&digest(40)), &Mark).unwrap();
        let key = rows::queue_key(7, 1, &digest(1), Garbage::Link);
        rows::put(&mut t.gc_queue, &key, &Queued { size_bytes: 1 }).unwrap();
        let key = Key::number(9).and_upload(UploadId::from_random([8; 16]));
        rows::put(&mut t.uploads_by_time, &key, &Mark).unwrap();
        let uses = Uses { blob: true, manifest: true };
        let key = Key::digest(&digest(2)).and_number(44);
        rows::put(&mut t.blob_repositories, &key, &uses).unwrap();
    }),
    ("counters wrong", |t| {
        let key = Key::number(1);
        let row: RepositoryRow = rows::must_get(&t.repositories, &key).unwrap();
        let row = RepositoryRow { tags: 77, manifests: 0, size_bytes: 1, ..row };
        rows::put(&mut t.repositories, &key, &row).unwrap();
        let key = Key::digest(&digest(2));
        let mut row: ContentRow = rows::must_get(&t.blobs, &key).unwrap();
        (row.manifests, row.record.repositories) = (9, 0);
        rows::put(&mut t.blobs, &key, &row).unwrap();
    }),
];

#[tokio::test]
async fn derived_rows_come_back_as_they_were() {
    let (_directory, meta) = store().await;
    let whole = dump(&meta);
    assert_eq!(meta.rebuild_facts(0).await.unwrap(), 0, "nothing was wrong");
    for (what, damage) in DAMAGES {
        change(&meta, damage);
        assert_ne!(meta.check().unwrap(), [], "{what}: is found");
        assert!(meta.rebuild_facts(0).await.unwrap() > 0, "{what}: is changed");
        assert_eq!(meta.check().unwrap(), [], "{what}: is repaired");
        assert_eq!(dump(&meta), whole, "{what}: is as it was");
    }
    change(&meta, |tables| DAMAGES.iter().for_each(|(_, damage)| damage(tables)));
    meta.rebuild_facts(0).await.unwrap();
    assert_eq!(dump(&meta), whole, "all at once");
}

#[tokio::test]
async fn a_repair_never_shortens_a_grace() {
    let (_directory, meta) = store().await;
    change(&meta, |tables| {
        tables.gc_queue.retain(|_, _| false).unwrap();
        tables.untagged_manifests.retain(|_, _| false).unwrap();
    });
    meta.rebuild_facts(5000).await.unwrap();
    assert_eq!(meta.check().unwrap(), []);
    change(&meta, |tables| {
        for row in tables.gc_queue.iter().unwrap() {
            let (at, ..) = codec::Reader::garbage_key(row.unwrap().0.value()).unwrap();
            assert!(at >= 5000, "{at}");
        }
    });
}

#[tokio::test]
async fn what_follows_from_nothing_is_found_and_left_alone() {
    let (_directory, meta) = store().await;
    change(&meta, |tables| {
        let key = Key::number(1).and_digest(&digest(11));
        assert!(rows::remove(&mut tables.manifests, &key).unwrap());
    });
    meta.rebuild_facts(0).await.unwrap();
    let left = meta.check().unwrap();
    let is_about_tags = |finding: &Finding| finding.0.starts_with("M3: tag 1/");
    assert_eq!(left.len(), 2, "two tags without their manifest: {left:?}");
    assert!(left.iter().all(is_about_tags), "{left:?}");
}
