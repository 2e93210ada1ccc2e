use std::fs;
use std::path::Path;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::blob::{BlobStore, FsBlobs};
use crate::disk::probe::{Class, EIO, ENOSPC, ProbeVfs};
use crate::disk::{OsVfs, Vfs};
use crate::ops::random::OsRandom;

struct Bench {
    _root: tempfile::TempDir,
    probe: ProbeVfs,
    layout: Layout,
    store: FsBlobs,
}

fn bench(blocking: Blocking) -> Bench {
    let root = tempfile::tempdir().unwrap();
    let probe = ProbeVfs::new(Arc::new(OsVfs), root.path());
    let vfs: Arc<dyn Vfs> = Arc::new(probe.clone());
    let store = FsBlobs::open(vfs, root.path(), blocking, Arc::new(OsRandom)).unwrap();
    Bench { layout: Layout::new(root.path()), _root: root, probe, store }
}

fn id() -> UploadId {
    UploadId::from_random([7; 16])
}

fn sha256(bytes: &[u8]) -> Digest {
    Hasher::digest_of(Algorithm::Sha256, bytes)
}

impl Bench {
    async fn stage(&self, bytes: &[u8]) -> Box<dyn Staging> {
        let mut staging = self.store.stage(id(), Algorithm::Sha256).await.unwrap();
        staging.append(vec![Bytes::copy_from_slice(bytes)]).await.unwrap();
        staging
    }

    fn file(&self) -> Vec<u8> {
        fs::read(self.layout.upload_data(id())).unwrap()
    }
}

/// Lets a future run up to its first wait.
fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn has_stalled(probe: &ProbeVfs) {
    while !probe.has_stalled() {
        std::hint::spin_loop();
    }
}

#[tokio::test]
async fn synced_bytes_and_their_name_are_durable() {
    let bench = bench(Blocking::Inline);
    let mut staging = bench.stage(b"content").await;
    let data = bench.layout.upload_data(id());
    assert!(!bench.probe.is_durable(&data));
    staging.sync().await.unwrap();
    assert!(bench.probe.is_durable(&data), "V1");
    staging.append(vec![" and more".into()]).await.unwrap();
    assert!(!bench.probe.is_durable(&data));
    let directories = bench.probe.paths(Class::SyncDir).len();
    staging.sync().await.unwrap();
    assert!(bench.probe.is_durable(&data), "V1");
    assert_eq!(bench.probe.paths(Class::SyncDir).len(), directories, "the name once");
    let files = bench.probe.paths(Class::SyncData).len();
    staging.sync().await.unwrap();
    assert_eq!(bench.probe.paths(Class::SyncData).len(), files, "nothing new to sync");
}

#[tokio::test]
async fn a_resumed_upload_is_synced_again() {
    let bench = bench(Blocking::Inline);
    drop(bench.stage(b"content").await);
    let resumed = bench.store.resume(id(), 4, Algorithm::Sha256).await.unwrap();
    resumed.unwrap().sync().await.unwrap();
    assert!(bench.probe.is_durable(&bench.layout.upload_data(id())), "V1");
    assert_eq!(bench.file(), b"cont");
}

#[tokio::test]
async fn a_failed_write_keeps_the_offset_and_is_cut_back() {
    let bench = bench(Blocking::Inline);
    let mut staging = bench.stage(b"kept").await;
    for nth in 1..=3 {
        bench.probe.fail(Class::Write, nth, ENOSPC, true);
        let chunks = ["one", "two", "three"].map(Bytes::from).to_vec();
        let error = staging.append(chunks).await.unwrap_err();
        assert!(matches!(error, Error::Full(_)), "{error}");
        assert!(bench.probe.heal());
        assert_eq!((staging.offset(), bench.file()), (4, b"kept".to_vec()));
    }
    staging.append(vec![" and more".into()]).await.unwrap();
    assert_eq!(staging.digest(Algorithm::Sha256).await.unwrap(), sha256(b"kept and more"));
    assert_eq!(staging.digest(Algorithm::Blake3).await.unwrap().algorithm(), Algorithm::Blake3);
}

#[tokio::test]
async fn a_tail_that_could_not_be_cut_back_is_cut_by_the_sync() {
    let bench = bench(Blocking::Inline);
    let mut staging = bench.stage(b"kept").await;
    staging.sync().await.unwrap();
    bench.probe.fail(Class::Write, 2, EIO, false);
    bench.probe.fail(Class::SetSize, 1, EIO, false);
    let chunks = vec!["a long tail".into(), "fails".into()];
    assert!(matches!(staging.append(chunks).await, Err(Error::Io(_))));
    assert!(bench.probe.heal());
    assert_eq!(staging.offset(), 4);
    assert!(bench.file().len() > 4, "the tail is still there");
    staging.sync().await.unwrap();
    assert_eq!(bench.file(), b"kept");
    assert!(bench.probe.is_durable(&bench.layout.upload_data(id())), "V1");
    staging.append(vec!["!".into()]).await.unwrap();
    staging.sync().await.unwrap();
    assert_eq!(bench.file(), b"kept!");
    assert!(bench.probe.is_durable(&bench.layout.upload_data(id())), "V1");
}

#[tokio::test]
async fn after_a_failed_sync_of_the_file_the_upload_is_lost_and_only_it() {
    let bench = bench(Blocking::Inline);
    let mut staging = bench.stage(b"content").await;
    bench.probe.fail(Class::SyncData, 1, EIO, false);
    assert!(matches!(staging.sync().await, Err(Error::Io(_))));
    assert!(bench.probe.heal());
    assert!(!bench.store.is_poisoned());
    let syncs = bench.probe.paths(Class::SyncData).len();
    assert!(staging.sync().await.is_err());
    assert!(staging.append(vec!["x".into()]).await.is_err());
    assert!(staging.digest(Algorithm::Sha256).await.is_err());
    assert!(bench.store.publish(staging, &sha256(b"content"), 7, false).await.is_err());
    assert_eq!(bench.probe.paths(Class::SyncData).len(), syncs, "V3");
    bench.store.discard(id()).await.unwrap();
    let mut again = bench.stage(b"content").await;
    again.sync().await.unwrap();
}

#[tokio::test]
async fn an_append_dropped_while_it_runs_has_not_happened() {
    let bench = bench(Blocking::Pool);
    let mut staging = bench.stage(b"kept").await;
    let release = bench.probe.stall(Class::Write);
    {
        let mut append = Box::pin(staging.append(vec!["lost".into()]));
        assert!(poll_once(append.as_mut()).is_pending());
        has_stalled(&bench.probe);
    }
    assert_eq!(staging.offset(), 4);
    drop(release);
    staging.append(vec![" and more".into()]).await.unwrap();
    assert_eq!(staging.digest(Algorithm::Sha256).await.unwrap(), sha256(b"kept and more"));
    staging.sync().await.unwrap();
    assert_eq!(bench.file(), b"kept and more");
}

#[tokio::test]
async fn an_append_dropped_before_it_ran_has_not_happened() {
    let bench = bench(Blocking::Pool);
    let mut staging = bench.stage(b"kept").await;
    let release = bench.probe.stall(Class::SyncData);
    {
        let mut sync = Box::pin(staging.sync());
        assert!(poll_once(sync.as_mut()).is_pending());
        has_stalled(&bench.probe);
    }
    // Its work waits behind the sync, which nobody waits for but which still runs.
    drop(Box::pin(staging.append(vec!["never".into()])));
    {
        let mut append = Box::pin(staging.append(vec!["lost".into()]));
        assert!(poll_once(append.as_mut()).is_pending());
    }
    drop(release);
    assert_eq!(staging.contents().await.unwrap(), "kept");
    assert_eq!(staging.digest(Algorithm::Sha256).await.unwrap(), sha256(b"kept"));
}

#[tokio::test]
async fn resume_waits_for_the_older_handles_write_and_undoes_it() {
    let bench = bench(Blocking::Pool);
    let mut older = bench.stage(b"prefix").await;
    let release = bench.probe.stall(Class::Write);
    let mut append = Box::pin(older.append(vec![" of the older".into()]));
    assert!(poll_once(append.as_mut()).is_pending());
    has_stalled(&bench.probe);
    let mut resume = Box::pin(bench.store.resume(id(), 6, Algorithm::Sha256));
    for _ in 0..50 {
        assert!(poll_once(resume.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    drop(release);
    let mut newer = resume.await.unwrap().unwrap();
    assert!(append.await.is_err(), "nobody is told that these bytes arrived");
    newer.append(vec![" of the newer".into()]).await.unwrap();
    assert_eq!(newer.contents().await.unwrap(), "prefix of the newer");
    assert_eq!(bench.file(), b"prefix of the newer");
    assert!(older.sync().await.is_err());
}

#[tokio::test]
async fn room_is_reserved_in_proportion_and_given_back() {
    let bench = bench(Blocking::Inline);
    let mut staging = bench.store.stage(id(), Algorithm::Sha256).await.unwrap();
    let mebibyte = Bytes::from(vec![7; 1 << 20]);
    let reserved = || bench.probe.paths(Class::Preallocate).len();
    for _ in 0..3 {
        staging.append(vec![mebibyte.clone()]).await.unwrap();
    }
    assert_eq!(reserved(), 0, "short uploads claim no room");
    for _ in 3..20 {
        staging.append(vec![mebibyte.clone()]).await.unwrap();
    }
    assert_eq!(reserved(), 3, "at 4, 9 and 19 MiB");
    staging.sync().await.unwrap();
    assert_eq!(bench.file().len(), 20 << 20);
    assert_blocks(&bench.layout.upload_data(id()), 20 << 20);
}

/// The file uses little more room than its length.
fn assert_blocks(path: &Path, size_bytes: u64) {
    use std::os::unix::fs::MetadataExt;
    let used_bytes = fs::metadata(path).unwrap().blocks() * 512;
    assert!(used_bytes <= size_bytes + (1 << 20), "{used_bytes}");
}

#[tokio::test]
async fn no_room_to_reserve_is_no_error() {
    let bench = bench(Blocking::Inline);
    let mut staging = bench.store.stage(id(), Algorithm::Sha256).await.unwrap();
    bench.probe.fail(Class::Preallocate, 1, ENOSPC, true);
    for _ in 0..6 {
        staging.append(vec![vec![7; 1 << 20].into()]).await.unwrap();
    }
    assert!(bench.probe.heal());
    assert_eq!(bench.probe.paths(Class::Preallocate).len(), 1, "asked once");
    staging.sync().await.unwrap();
    assert_eq!(staging.offset(), 6 << 20);
}
