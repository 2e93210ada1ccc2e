use std::fs;

use super::*;
use crate::disk::OsVfs;
use crate::disk::probe::{Class, EIO, ENOSPC, ProbeVfs};

const ATOMIC: [Step; 2] = [Step::IdentityData, Step::IdentityName];

fn probed() -> (tempfile::TempDir, ProbeVfs) {
    let root = tempfile::tempdir().unwrap();
    let probe = ProbeVfs::new(Arc::new(OsVfs), root.path());
    (root, probe)
}

#[test]
fn made_directories_are_durable_with_their_ancestors() {
    let (root, probe) = probed();
    let deep = root.path().join("a/b/c");
    create_dir_durable(&probe, &deep, 0o700, Step::Root).unwrap();
    assert!(probe.is_durable(&deep), "V1");
    create_dir_durable(&probe, &deep, 0o700, Step::Root).unwrap();
}

#[test]
fn the_name_of_a_directory_that_was_only_found_becomes_durable() {
    let (root, probe) = probed();
    let found = root.path().join("found");
    probe.create_dir(&found, 0o700).unwrap();
    assert!(!probe.is_durable(&found));
    create_dir_durable(&probe, &found, 0o700, Step::Root).unwrap();
    assert!(probe.is_durable(&found), "V1");
}

#[test]
fn a_file_in_a_directorys_place_is_an_error() {
    let (root, probe) = probed();
    let file = root.path().join("file");
    fs::write(&file, b"kept").unwrap();
    let error = create_dir_durable(&probe, &file, 0o700, Step::Root).unwrap_err();
    assert_eq!(error.source.kind(), io::ErrorKind::NotADirectory);
    assert!(create_dir_durable(&probe, &file.join("below"), 0o700, Step::Root).is_err());
    assert_eq!(fs::read(&file).unwrap(), b"kept");
}

#[test]
fn an_atomic_write_is_durable_and_leaves_no_temporary_file() {
    let (root, probe) = probed();
    let path = root.path().join("store.json");
    fs::write(root.path().join("store.json.tmp"), b"of a crash").unwrap();
    for content in [b"one".as_slice(), b"three"] {
        write_atomic(&probe, &path, content, 0o600, ATOMIC).unwrap();
        assert_eq!(fs::read(&path).unwrap(), content);
        assert!(probe.is_durable(&path), "V1");
    }
    assert_eq!(probe.violations(), Vec::<String>::new());
    assert_eq!(probe.list(root.path()).unwrap(), ["store.json"]);
}

#[test]
fn an_atomic_write_that_fails_keeps_the_old_content() {
    for class in Class::CHANGES {
        let (root, probe) = probed();
        let path = root.path().join("store.json");
        write_atomic(&probe, &path, b"old", 0o600, ATOMIC).unwrap();
        probe.fail(class, 1, ENOSPC, false);
        let written = write_atomic(&probe, &path, b"new", 0o600, ATOMIC);
        let fired = probe.heal();
        // Removing the temporary file of a crash comes first; the rename comes before its sync.
        let visible = written.is_ok() || class == Class::SyncDir;
        assert_eq!(written.is_err(), fired, "{class:?}");
        let expected: &[u8] = if visible { b"new" } else { b"old" };
        assert_eq!(fs::read(&path).unwrap(), expected, "{class:?}");
        assert_eq!(probe.list(root.path()).unwrap(), ["store.json"], "{class:?}");
    }
}

fn directories(root: &Path, names: &[&str]) -> Vec<PathBuf> {
    let made = names.iter().map(|name| {
        let directory = root.join(name);
        fs::create_dir_all(&directory).unwrap();
        directory
    });
    made.collect()
}

#[tokio::test]
async fn callers_that_meet_share_a_round_and_each_directory_is_synced_once() {
    let (root, probe) = probed();
    let syncs = DirectorySyncs::new(Arc::new(probe.clone()), Blocking::Pool);
    let paths = directories(root.path(), &["a", "b", "first"]);
    let release = probe.stall(Class::SyncDir);
    let first = tokio::spawn({
        let (syncs, path) = (syncs.clone(), paths[2].clone());
        async move { syncs.sync(&[path], Step::PublishedNames).await }
    });
    while !probe.has_stalled() {
        tokio::task::yield_now().await;
    }
    let waiting: Vec<_> = (0..20)
        .map(|n| {
            let (syncs, mine) = (syncs.clone(), paths[n % 2..=1].to_vec());
            tokio::spawn(async move { syncs.sync(&mine, Step::PublishedNames).await })
        })
        .collect();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    drop(release);
    first.await.unwrap().unwrap();
    for caller in waiting {
        caller.await.unwrap().unwrap();
    }
    let expected = [&paths[2], &paths[0], &paths[1]].map(Clone::clone);
    assert_eq!(probe.paths(Class::SyncDir), expected);
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_the_others_their_outcome() {
    let (root, probe) = probed();
    let syncs = DirectorySyncs::new(Arc::new(probe.clone()), Blocking::Pool);
    let paths = directories(root.path(), &["a", "b"]);
    let release = probe.stall(Class::SyncDir);
    let first = tokio::spawn({
        let (syncs, path) = (syncs.clone(), paths[0].clone());
        async move { syncs.sync(&[path], Step::PublishedNames).await }
    });
    while !probe.has_stalled() {
        tokio::task::yield_now().await;
    }
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    let second = tokio::spawn({
        let (syncs, path) = (syncs.clone(), paths[1].clone());
        async move { syncs.sync(&[path], Step::PublishedNames).await }
    });
    drop(release);
    second.await.unwrap().unwrap();
    assert_eq!(probe.paths(Class::SyncDir), paths);
}

#[tokio::test]
async fn a_failed_sync_poisons_and_is_never_tried_again() {
    let (root, probe) = probed();
    let syncs = DirectorySyncs::new(Arc::new(probe.clone()), Blocking::Inline);
    let paths = directories(root.path(), &["a", "b"]);
    probe.fail(Class::SyncDir, 1, EIO, false);
    assert!(
        matches!(syncs.sync(&paths, Step::PublishedNames).await, Err(SyncError::Poisoned)),
        "V3"
    );
    assert!(probe.heal());
    assert!(syncs.is_poisoned());
    assert!(
        matches!(syncs.sync(&paths, Step::PublishedNames).await, Err(SyncError::Poisoned)),
        "V3"
    );
    assert_eq!(probe.paths(Class::SyncDir).len(), 1, "V3");
}

#[tokio::test]
async fn a_directory_that_is_gone_fails_its_caller_and_poisons_nothing() {
    let (root, probe) = probed();
    let syncs = DirectorySyncs::new(Arc::new(probe.clone()), Blocking::Inline);
    let there = directories(root.path(), &["there"]);
    let error = syncs
        .sync(&[root.path().join("gone"), there[0].clone()], Step::PublishedNames)
        .await
        .unwrap_err();
    assert!(matches!(&error, SyncError::Unopened(error) if error.is_not_found()), "{error}");
    syncs.sync(&there, Step::PublishedNames).await.unwrap();
    assert!(!syncs.is_poisoned());
}
