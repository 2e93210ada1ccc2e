//! What is refused at start, on real files and the real database.

use std::fs;

use super::*;
use crate::disk::OsVfs;
use crate::disk::probe::{Class, EIO, ENOSPC, ProbeVfs};
use crate::meta::redb::{Options, RedbMeta};
use crate::meta::{Timestamp, UploadRecord};
use crate::oci::{Algorithm, RepositoryName};
use crate::ops::random::OsRandom;

/// Opens the store as `app` does, uses it once if asked to, and closes it.
async fn visit(root: &Path, use_it: bool) -> Result<(), Error> {
    visit_on(Arc::new(OsVfs), root, use_it).await
}

async fn visit_on(vfs: Arc<dyn Vfs>, root: &Path, use_it: bool) -> Result<(), Error> {
    let paths = Paths::new(root);
    let claim = claim(Arc::clone(&vfs), paths.clone())?;
    let options = Options { create: claim.is_new(), ..Options::default() };
    let meta = RedbMeta::open(vfs, &paths.database, options, Blocking::Inline)?;
    let confirmed = claim.confirm(&meta, &OsRandom, Blocking::Inline).await;
    if let (Ok(identity), true) = (&confirmed, use_it) {
        let upload = UploadRecord {
            id: UploadId::from_random(OsRandom.bytes()),
            repository: RepositoryName::parse("a").unwrap(),
            offset: 1,
            algorithm: Algorithm::Sha256,
            started_at: Timestamp(0),
            started_uptime_seconds: 0,
        };
        meta.save_upload(upload).await?;
        let transactions = meta.counters().await?.transactions;
        identity.record_transactions(transactions).await?;
    }
    meta.close().await?;
    confirmed.map(|_| ())
}

fn root() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("store");
    (directory, root)
}

#[tokio::test]
async fn a_store_opens_again_and_only_once_at_a_time() {
    let (_directory, root) = root();
    visit(&root, true).await.unwrap();
    visit(&root, false).await.unwrap();
    let held = claim(Arc::new(OsVfs), Paths::new(&root)).unwrap();
    assert!(matches!(visit(&root, false).await, Err(Error::Locked(_))));
    drop(held);
    visit(&root, false).await.unwrap();
}

#[tokio::test]
async fn a_store_of_distribution_is_refused_and_untouched() {
    let (_directory, root) = root();
    fs::create_dir_all(root.join("docker/registry/v2/repositories/a")).unwrap();
    assert!(matches!(visit(&root, false).await, Err(Error::Distribution(_))));
    assert!(!root.join("kelson").exists());
}

#[tokio::test]
async fn a_missing_older_or_foreign_database_is_refused() {
    let (_directory, root) = root();
    let database = Paths::new(&root).database;
    visit(&root, false).await.unwrap();
    let older = fs::read(&database).unwrap();
    visit(&root, true).await.unwrap();
    fs::write(&database, older).unwrap();
    assert!(matches!(visit(&root, false).await, Err(Error::DatabaseBehind { .. })));
    fs::remove_file(&database).unwrap();
    assert!(matches!(visit(&root, false).await, Err(Error::DatabaseMissing(_))));
    assert!(!database.exists());
    let (_other_directory, other) = self::root();
    for _ in 0..3 {
        visit(&other, true).await.unwrap();
    }
    fs::copy(Paths::new(&other).database, &database).unwrap();
    assert!(matches!(visit(&root, false).await, Err(Error::DatabaseForeign { .. })));
}

#[tokio::test]
async fn a_lost_identity_of_a_used_store_is_refused_and_that_of_a_new_one_is_made_again() {
    let (_directory, root) = root();
    let file = Paths::new(&root).store;
    for _ in 0..3 {
        // As after a crash between the database and `store.json`.
        visit(&root, false).await.unwrap();
        fs::remove_file(&file).unwrap();
    }
    visit(&root, true).await.unwrap();
    fs::remove_file(&file).unwrap();
    assert!(matches!(visit(&root, false).await, Err(Error::IdentityMissing)));
    fs::create_dir_all(root.join("docker/registry/v2/blobs")).unwrap();
    assert!(matches!(visit(&root, false).await, Err(Error::IdentityMissing)));
}

#[tokio::test]
async fn a_damaged_or_newer_identity_is_refused() {
    let (_directory, root) = root();
    let file = Paths::new(&root).store;
    visit(&root, false).await.unwrap();
    let good = fs::read_to_string(&file).unwrap();
    for damaged in ["", "{}", "nonsense", &good.replace("\"format\": 1", "\"format\": 0")] {
        fs::write(&file, damaged).unwrap();
        assert!(matches!(visit(&root, false).await, Err(Error::Damaged { .. })), "{damaged}");
    }
    fs::write(&file, good.replace("created", "adopting")).unwrap();
    assert!(matches!(visit(&root, false).await, Err(Error::Adopting)));
    fs::write(&file, good.replace("\"format\": 1", "\"format\": 2")).unwrap();
    assert!(matches!(visit(&root, false).await, Err(Error::TooNew { found: 2 })));
}

/// A probe on the store below `root`.
fn probe(root: &Path) -> ProbeVfs {
    ProbeVfs::new(Arc::new(OsVfs), root)
}

#[tokio::test]
async fn a_store_opens_on_a_disk_without_room_for_a_newer_identity() {
    let (_directory, root) = root();
    let file = Paths::new(&root).store;
    visit(&root, true).await.unwrap();
    let before = fs::read(&file).unwrap();
    for (errno, opens) in [(ENOSPC, true), (EIO, false)] {
        let disk = probe(&root);
        // The first is the lock, which is there; then comes what becomes `store.json`.
        disk.fail(Class::Create, 2, errno, true);
        let visited = visit_on(Arc::new(disk.clone()), &root, false).await;
        assert!(disk.heal());
        assert_eq!(visited.is_ok(), opens, "{visited:?}");
        assert_eq!(fs::read(&file).unwrap(), before, "the older value holds");
    }
    visit(&root, false).await.unwrap();
}

#[tokio::test]
async fn a_new_store_needs_room_for_its_identity() {
    let (_directory, root) = root();
    let disk = probe(root.parent().unwrap());
    disk.fail(Class::Rename, 2, ENOSPC, true);
    let error = visit_on(Arc::new(disk.clone()), &root, false).await.unwrap_err();
    assert!(matches!(&error, Error::Disk(error) if error.is_full()), "{error:?}");
    assert!(disk.heal(), "{:?}", disk.paths(Class::Rename));
    visit(&root, false).await.unwrap();
}

#[tokio::test]
async fn a_root_whose_name_cannot_be_synced_is_refused() {
    let (_directory, root) = root();
    for exists in [true, false] {
        let _ = fs::remove_dir_all(&root);
        if exists {
            fs::create_dir(&root).unwrap();
        }
        let disk = probe(root.parent().unwrap());
        disk.fail(Class::SyncDir, 1, EIO, false);
        let error = visit_on(Arc::new(disk.clone()), &root, false).await.unwrap_err();
        assert!(matches!(&error, Error::Disk(error) if error.is_failed_sync()), "{error:?}");
        assert!(disk.heal());
    }
}
