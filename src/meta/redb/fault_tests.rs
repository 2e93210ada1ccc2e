//! Disks that fail: no acknowledged fact is lost, a refused one is not there, service returns.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::testing::{Fault, MemoryVfs, Operation};
use super::{Options, RedbMeta};
use crate::disk::{Open, Vfs};
use crate::meta::conformance::{digest, edge, link, moment, name, push, size_bytes, tag};
use crate::meta::{EdgeKind, Error, MetaStore, PutManifest, Result};
use crate::oci::Reference;
use crate::ops::Blocking;

const PATH: &str = "/store/metadata.redb";
/// Small, so that reads reach the disk.
const OPTIONS: Options = Options {
    cache_size_bytes: 0,
    ballast_size_bytes: 0,
    create: true,
    verify: false,
    now: crate::meta::Timestamp(0),
};

fn open(vfs: &MemoryVfs) -> Result<RedbMeta> {
    RedbMeta::open(Arc::new(vfs.clone()), Path::new(PATH), OPTIONS, Blocking::Inline)
}

/// Pushes image `n`: a blob, and a manifest under a tag.
async fn push_image(store: &RedbMeta, n: u8) -> Result<()> {
    store.link_blob(link("a", n, 1)).await?;
    let manifest = push("a", n + 100, vec![edge(n, EdgeKind::Layer)], &[&format!("v{n}")]);
    assert_eq!(store.put_manifest(manifest).await?, PutManifest::Stored);
    Ok(())
}

async fn has_image(store: &RedbMeta, n: u8) -> Result<bool> {
    let reference = Reference::Tag(tag(&format!("v{n}")));
    let Some((record, bytes)) = store.manifest(&name("a"), &reference).await? else {
        return Ok(false);
    };
    assert_eq!(record.digest, digest(n + 100));
    assert_eq!(bytes.unwrap().len() as u64, size_bytes(n + 100));
    assert!(store.blob(&name("a"), &digest(n)).await?.is_some());
    Ok(true)
}

/// What became of each image.
async fn push_images(store: &RedbMeta, numbers: std::ops::Range<u8>) -> Vec<(u8, Result<()>)> {
    let mut results = Vec::new();
    for n in numbers {
        results.push((n, push_image(store, n).await));
    }
    results
}

async fn acknowledged_are_there(store: &RedbMeta, results: &[(u8, Result<()>)], when: &str) {
    for (n, result) in results {
        if result.is_ok() {
            assert!(has_image(store, *n).await.unwrap(), "{when}: image {n} is lost");
        }
    }
    assert_eq!(store.check().unwrap(), [], "{when}");
}

/// Runs `test` with the fault at the first, second, ... operation until there are no more.
async fn at_every_operation(
    operation: Operation,
    kind: io::ErrorKind,
    count: usize,
    test: impl AsyncFn(&MemoryVfs, &RedbMeta, Fault) -> Vec<(u8, Result<()>)>,
) {
    // A long fault meets the same operations from many beginnings.
    for first in (0..10_000).step_by(count.div_ceil(4)) {
        let vfs = MemoryVfs::default();
        let store = open(&vfs).unwrap();
        let mut results = push_images(&store, 0..3).await;
        let fault = Fault { operation, first, count, kind };
        vfs.arm(fault);
        results.extend(test(&vfs, &store, fault).await);
        let fired = vfs.disarm();
        for (disk, when) in [(vfs.after_power_cut(), "power cut"), (vfs.after_kill(), "kill")] {
            let reopened = open(&disk).unwrap();
            let when = format!("{fault:?}, after a {when}");
            acknowledged_are_there(&reopened, &results, &when).await;
            push_image(&reopened, 90).await.unwrap();
        }
        if fired == 0 {
            assert!(first > 10, "the fault was never met");
            return;
        }
    }
    panic!("the workload never ends");
}

#[tokio::test]
async fn a_full_disk_refuses_and_serves_again_when_there_is_room() {
    for count in [1, 25] {
        at_every_operation(
            Operation::Write,
            io::ErrorKind::StorageFull,
            count,
            async |vfs, store, fault| {
                let mut results = push_images(store, 3..5).await;
                for (n, result) in &results {
                    assert!(
                        matches!(result, Ok(()) | Err(Error::Full)),
                        "{fault:?}: {n} {result:?}"
                    );
                    // While the disk stays full it cannot be told whether a commit took place.
                    if result.is_err() && count == 1 {
                        assert!(
                            !has_image(store, *n).await.unwrap(),
                            "{fault:?}: {n} is half there"
                        );
                    }
                }
                // Reads go on while the disk is full.
                assert!(has_image(store, 0).await.unwrap(), "{fault:?}");
                if vfs.disarm() > 0 {
                    results.extend(push_images(store, 6..8).await);
                    assert!(
                        results.iter().rev().take(2).all(|(_, result)| result.is_ok()),
                        "{fault:?}"
                    );
                    assert!(!store.is_poisoned());
                }
                results
            },
        )
        .await;
    }
}

#[tokio::test]
async fn with_ballast_a_write_that_finds_no_room_succeeds() {
    let options = Options { ballast_size_bytes: 64 << 10, ..OPTIONS };
    for first in 0.. {
        let vfs = MemoryVfs::default();
        let disk = Arc::new(vfs.clone());
        let store = RedbMeta::open(disk, Path::new(PATH), options, Blocking::Inline).unwrap();
        push_image(&store, 0).await.unwrap();
        let mut fired = 0;
        for n in [1, 3] {
            // Once more after the first success has set the ballast aside again.
            let kind = io::ErrorKind::StorageFull;
            vfs.arm(Fault { operation: Operation::Write, first, count: 1, kind });
            for n in n..n + 2 {
                push_image(&store, n).await.unwrap();
            }
            fired += vfs.disarm();
        }
        for n in 0..5 {
            assert!(has_image(&store, n).await.unwrap(), "write {first}, image {n}");
        }
        assert_eq!(store.check().unwrap(), []);
        if fired == 0 {
            assert!(first > 10, "the fault was never met");
            return;
        }
    }
}

#[tokio::test]
async fn a_failed_write_refuses_its_batch_and_no_other() {
    at_every_operation(Operation::Write, io::ErrorKind::Other, 1, async |_, store, fault| {
        let results = push_images(store, 3..7).await;
        let failed = results.iter().filter(|(_, result)| result.is_err()).count();
        assert!(failed <= 1, "{fault:?}: {results:?}");
        assert!(!store.is_poisoned(), "{fault:?}");
        acknowledged_are_there(store, &results, &format!("{fault:?}")).await;
        results
    })
    .await;
}

#[tokio::test]
async fn a_failed_read_is_tried_once_more_on_a_new_handle() {
    at_every_operation(Operation::Read, io::ErrorKind::Other, 1, async |_, store, fault| {
        for n in 0..3 {
            assert!(has_image(store, n).await.unwrap(), "{fault:?}");
        }
        let results = push_images(store, 3..5).await;
        let failed = results.iter().filter(|(_, result)| result.is_err()).count();
        assert!(failed <= 1, "{fault:?}: {results:?}");
        results
    })
    .await;
}

#[tokio::test]
async fn a_failed_sync_poisons_writes_and_reads_go_on() {
    at_every_operation(Operation::Sync, io::ErrorKind::Other, 1, async |vfs, store, fault| {
        let results = push_images(store, 3..6).await;
        let first_failure = results.iter().position(|(_, result)| result.is_err());
        assert_eq!(first_failure.is_some(), store.is_poisoned(), "{fault:?}");
        if let Some(first) = first_failure {
            let poisoned = |(_, result): &(u8, Result<()>)| matches!(result, Err(Error::Poisoned));
            assert!(results[first..].iter().all(poisoned), "{fault:?}: {results:?}");
            let before = vfs.bytes(Path::new(PATH));
            acknowledged_are_there(store, &results, &format!("{fault:?}, poisoned")).await;
            assert!(matches!(push_image(store, 50).await, Err(Error::Poisoned)));
            assert!(before == vfs.bytes(Path::new(PATH)), "{fault:?}: written after a failed sync");
        }
        results
    })
    .await;
}

#[tokio::test]
async fn a_database_is_created_whole_or_not_at_all() {
    for operation in [Operation::Write, Operation::Sync] {
        for first in 0.. {
            let vfs = MemoryVfs::default();
            vfs.arm(Fault { operation, first, count: 1, kind: io::ErrorKind::StorageFull });
            let opened = open(&vfs);
            let fired = vfs.disarm() > 0;
            if let (Ok(store), true, Operation::Write) = (&opened, fired, operation) {
                // Giving room back to the disk is the one thing that may fail unnoticed.
                push_image(store, 2).await.unwrap();
            }
            drop(opened);
            for disk in [vfs.after_power_cut(), vfs.after_kill(), vfs] {
                let store = open(&disk).unwrap();
                push_image(&store, 1).await.unwrap();
                assert_eq!(disk.names(), [PATH]);
            }
            if !fired {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_closed_store_answers_with_an_error() {
    let vfs = MemoryVfs::default();
    let store = open(&vfs).unwrap();
    push_image(&store, 1).await.unwrap();
    store.close().await.unwrap();
    assert!(push_image(&store, 2).await.is_err());
    assert!(has_image(&store, 1).await.is_err());
    assert!(store.close().await.is_err());
    let store = open(&vfs).unwrap();
    assert!(has_image(&store, 1).await.unwrap());
    assert!(store.delete_manifest(&name("a"), &digest(101), moment(2)).await.unwrap());
}

#[tokio::test]
async fn two_handles_on_one_file_are_refused() {
    let vfs = MemoryVfs::default();
    let _store = open(&vfs).unwrap();
    let refused = open(&vfs).unwrap_err();
    assert_eq!(refused.to_string(), "database: another process has it open");
}

/// As on a full disk, where every failed commit replaces the handle.
#[tokio::test]
async fn a_read_is_tried_once_more_on_a_handle_that_stays() {
    let vfs = MemoryVfs::default();
    let store = open(&vfs).unwrap();
    push_image(&store, 1).await.unwrap();
    let replace = || {
        let handle = Arc::clone(&store.handle);
        std::thread::spawn(move || handle.recover(&handle.turn()))
    };
    let replacing = Mutex::new(Vec::new());
    let found = store.handle.read(|snapshot| {
        let mut replacing = replacing.lock().unwrap();
        let started = replace();
        if replacing.is_empty() {
            started.join().unwrap();
            replacing.push(None);
        } else {
            // Time enough, were it not kept from it.
            std::thread::sleep(Duration::from_millis(50));
            replacing.push(Some(started));
        }
        snapshot.counters()
    });
    found.unwrap();
    let replacing = replacing.into_inner().unwrap();
    assert_eq!(replacing.len(), 2, "the first try met a closed database");
    for started in replacing.into_iter().flatten() {
        started.join().unwrap();
    }
}

#[tokio::test]
async fn a_database_that_was_cut_is_damaged_wherever_that_was() {
    let vfs = MemoryVfs::default();
    let store = open(&vfs).unwrap();
    push_image(&store, 1).await.unwrap();
    store.close().await.unwrap();
    drop(store);
    let file = vfs.open(Path::new(PATH), Open::ReadWrite).unwrap();
    let whole = file.size_bytes().unwrap();
    for size_bytes in [whole - 4096, 4096, 4095, 320, 290, 9, 1, 0] {
        file.set_size(size_bytes).unwrap();
        let error = open(&vfs).unwrap_err();
        assert!(matches!(error, Error::Corrupt(_) | Error::Foreign(_)), "{size_bytes}: {error:?}");
    }
}
