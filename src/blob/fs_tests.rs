use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};

use super::*;
use crate::blob::conformance::{self, Subject, blob, push};
use crate::blob::{Layout, MemoryBlobs};
use crate::disk::OsVfs;
use crate::disk::probe::{Class, EIO, ENOSPC, ProbeVfs};

/// Ids in a fixed order.
#[derive(Debug, Default)]
struct Counter(AtomicU8);

impl Random for Counter {
    fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0xff; 16];
        bytes[0] = self.0.fetch_add(1, Ordering::Relaxed);
        bytes
    }
}

/// A store on a probed file system.
struct Bench {
    root: tempfile::TempDir,
    probe: ProbeVfs,
    layout: Layout,
    random: Arc<Counter>,
    store: Arc<FsBlobs>,
    blocking: Blocking,
}

impl Bench {
    fn new(blocking: Blocking) -> Self {
        let root = tempfile::tempdir().unwrap();
        let probe = ProbeVfs::new(Arc::new(OsVfs), root.path());
        let random = Arc::new(Counter::default());
        let store =
            FsBlobs::open(Arc::new(probe.clone()), root.path(), blocking, random.clone()).unwrap();
        let layout = Layout::new(root.path());
        Self { root, probe, layout, random, store: Arc::new(store), blocking }
    }

    fn inline() -> Self {
        Self::new(Blocking::Inline)
    }

    /// Whether the blob would be there, right and whole, after a power cut; nothing unsynced was
    /// ever renamed.
    fn assert_durable(&self, digest: &Digest, bytes: &[u8]) {
        let data = self.layout.blob_data(digest);
        assert_eq!(fs::read(&data).unwrap(), bytes);
        assert!(self.probe.is_durable(&data), "V1: {}", data.display());
        assert_eq!(self.probe.violations(), Vec::<String>::new());
    }
}

impl Subject for Bench {
    fn store(&self) -> Arc<dyn BlobStore> {
        self.store.clone()
    }

    fn restart(&mut self) {
        let vfs = Arc::new(self.probe.clone());
        let random = self.random.clone();
        let store = FsBlobs::open(vfs, self.root.path(), self.blocking, random);
        self.store = Arc::new(store.unwrap());
    }

    fn plant(&self, digest: &Digest, bytes: &[u8]) {
        fs::create_dir_all(self.layout.blob(digest)).unwrap();
        fs::write(self.layout.blob_data(digest), bytes).unwrap();
    }
}

struct Model(MemoryBlobs);

impl Subject for Model {
    fn store(&self) -> Arc<dyn BlobStore> {
        Arc::new(self.0.clone())
    }

    fn restart(&mut self) {
        self.0 = self.0.restart();
    }

    fn plant(&self, digest: &Digest, bytes: &[u8]) {
        self.0.plant(digest, Bytes::copy_from_slice(bytes));
    }
}

fn id(n: u8) -> UploadId {
    UploadId::from_random([n; 16])
}

fn sha256(bytes: &[u8]) -> Digest {
    Hasher::digest_of(Algorithm::Sha256, bytes)
}

fn names(directory: PathBuf) -> Vec<String> {
    OsVfs.list(&directory).unwrap()
}

#[tokio::test]
async fn files_keep_the_contract() {
    conformance::run_all(Bench::inline).await.unwrap();
    conformance::run_all(|| Bench::new(Blocking::Pool)).await.unwrap();
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    conformance::run_all(|| Model(MemoryBlobs::default())).await.unwrap();
}

#[test]
fn opening_makes_the_fixed_directories_durably() {
    let bench = Bench::inline();
    let layout = &bench.layout;
    for directory in [layout.blobs(), layout.staging(), layout.quarantine()] {
        assert!(bench.probe.is_durable(&directory), "V1: {}", directory.display());
    }
    let mode = fs::metadata(layout.private()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

fn reopen(bench: &Bench) -> Result<FsBlobs> {
    let (vfs, random) = (Arc::new(bench.probe.clone()), bench.random.clone());
    FsBlobs::open(vfs, bench.root.path(), Blocking::Inline, random)
}

#[test]
fn a_root_on_several_file_systems_is_refused() {
    let bench = Bench::inline();
    let quarantine = bench.layout.quarantine();
    fs::remove_dir(&quarantine).unwrap();
    std::os::unix::fs::symlink("/proc", &quarantine).unwrap();
    let error = reopen(&bench).unwrap_err().to_string();
    assert!(error.contains("same file system") && error.contains("quarantine"), "{error}");
}

#[test]
fn a_store_whose_directories_cannot_be_synced_is_not_opened() {
    let bench = Bench::inline();
    bench.probe.fail(Class::SyncDir, 1, EIO, false);
    assert!(reopen(&bench).is_err());
}

#[tokio::test]
async fn blobs_have_the_modes_of_distribution() {
    let bench = Bench::inline();
    let digest = sha256(b"content");
    push(&*bench.store, id(1), &digest, b"content", false).await.unwrap();
    let plain = bench.root.path().join("plain");
    fs::create_dir(&plain).unwrap();
    fs::write(plain.join("file"), b"").unwrap();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(bench.layout.blob_data(&digest)), mode(plain.join("file")));
    for directory in [bench.layout.blob(&digest), bench.layout.shard(&digest)] {
        assert_eq!(mode(directory), mode(plain.clone()));
    }
}

#[tokio::test]
async fn a_publish_is_durable_whatever_stood_there() {
    for existing in [None, Some(""), Some("CONTENT"), Some("content"), Some("longer content")] {
        let bench = Bench::inline();
        let digest = sha256(b"content");
        if let Some(bytes) = existing {
            bench.plant(&digest, bytes.as_bytes());
        }
        push(&*bench.store, id(1), &digest, b"content", false).await.unwrap();
        bench.assert_durable(&digest, b"content");
        assert_eq!(names(bench.layout.staging()), Vec::<String>::new(), "{existing:?}");
        assert_eq!(names(bench.layout.blob(&digest)), ["data"], "{existing:?}");
    }
}

#[tokio::test]
async fn a_publish_replaces_an_empty_directory() {
    let bench = Bench::inline();
    let digest = sha256(b"content");
    fs::create_dir_all(bench.layout.blob(&digest)).unwrap();
    push(&*bench.store, id(1), &digest, b"content", true).await.unwrap();
    bench.assert_durable(&digest, b"content");
}

#[tokio::test]
async fn foreign_entries_beside_a_blob_stay() {
    let bench = Bench::inline();
    let digest = sha256(b"content");
    fs::create_dir_all(bench.layout.blob(&digest)).unwrap();
    let foreign = bench.layout.blob(&digest).join("notes");
    fs::write(&foreign, b"of the operator").unwrap();
    push(&*bench.store, id(1), &digest, b"content", false).await.unwrap();
    assert_eq!(blob(&*bench.store, &digest).await.unwrap(), Some("content".into()));
    assert!(bench.probe.is_durable(&bench.layout.blob_data(&digest)), "V1");
    assert!(bench.store.remove(&digest).await.unwrap());
    assert!(!bench.store.remove(&digest).await.unwrap());
    assert_eq!(fs::read(&foreign).unwrap(), b"of the operator");
}

#[tokio::test]
async fn a_directory_in_the_files_place_is_an_error_that_loses_nothing() {
    let bench = Bench::inline();
    let (digest, other) = (sha256(b"content"), sha256(b"other"));
    let inside = bench.layout.blob_data(&digest).join("inside");
    fs::create_dir_all(&inside).unwrap();
    let error = push(&*bench.store, id(1), &digest, b"content", false).await.unwrap_err();
    assert!(error.to_string().contains("data: is a directory"), "{error}");
    assert!(bench.store.open(&digest).await.is_err());
    let resumed = bench.store.resume(id(1), 7, Algorithm::Sha256).await.unwrap();
    assert_eq!(resumed.unwrap().contents().await.unwrap(), "content");
    bench.store.discard(id(1)).await.unwrap();

    let batch = vec![(digest, "content".into()), (other, "other".into())];
    let spilled = bench.store.spill(batch).await.unwrap();
    assert_eq!(spilled.durable, [other], "one that fails does not hold up the others");
    assert_eq!(spilled.failed.len(), 1);
    assert_eq!(spilled.failed[0].0, digest);
    assert_eq!(names(bench.layout.staging()), Vec::<String>::new());
    assert!(inside.is_dir());
}

#[tokio::test]
async fn a_file_in_the_directorys_place_is_an_error_that_loses_nothing() {
    let bench = Bench::inline();
    let digest = sha256(b"content");
    fs::create_dir_all(bench.layout.shard(&digest)).unwrap();
    fs::write(bench.layout.blob(&digest), b"foreign").unwrap();
    assert!(push(&*bench.store, id(1), &digest, b"content", false).await.is_err());
    assert_eq!(fs::read(bench.layout.blob(&digest)).unwrap(), b"foreign");
    assert_eq!(bench.store.staged().await.unwrap(), [id(1)]);
}

#[tokio::test]
async fn a_shard_left_unsynced_by_a_kill_is_synced_by_the_next_publish() {
    let mut bench = Bench::inline();
    let digest = sha256(b"content");
    let mut staging = bench.store.stage(id(1), Algorithm::Sha256).await.unwrap();
    staging.append(vec!["content".into()]).await.unwrap();
    drop(bench.store.publish(staging, &digest, 7, false).await.unwrap());
    bench.restart();
    push(&*bench.store, id(2), &digest, b"content", false).await.unwrap();
    bench.assert_durable(&digest, b"content");
}

#[tokio::test]
async fn a_shard_that_somebody_removed_is_made_and_synced_again() {
    let bench = Bench::inline();
    let digest = sha256(b"content");
    for n in 1..3 {
        push(&*bench.store, id(n), &digest, b"content", false).await.unwrap();
        bench.assert_durable(&digest, b"content");
        bench.store.remove(&digest).await.unwrap();
        bench.probe.remove_dir(&bench.layout.shard(&digest)).unwrap();
        bench.probe.sync_dir(&bench.layout.algorithm(Algorithm::Sha256)).unwrap();
    }
}

#[tokio::test]
async fn a_shard_whose_parent_was_not_synced_is_not_taken_for_durable() {
    let bench = Bench::inline();
    let digest = sha256(b"content");
    let mut staging = bench.store.stage(id(1), Algorithm::Sha256).await.unwrap();
    staging.append(vec!["content".into()]).await.unwrap();
    let published = bench.store.publish(staging, &digest, 7, false).await.unwrap();
    let (parent, aside) = (bench.layout.algorithm(Algorithm::Sha256), bench.root.path().join("x"));
    fs::rename(&parent, &aside).unwrap();
    assert!(matches!(bench.store.sync_directories(published).await, Err(Error::Io(_))));
    fs::rename(&aside, &parent).unwrap();
    assert!(!bench.store.is_poisoned(), "no sync was tried");
    push(&*bench.store, id(2), &digest, b"content", false).await.unwrap();
    bench.assert_durable(&digest, b"content");
}

#[tokio::test]
async fn a_known_shard_costs_no_sync_of_its_parent() {
    let bench = Bench::inline();
    let digest = sha256(b"content");
    push(&*bench.store, id(1), &digest, b"content", false).await.unwrap();
    bench.store.remove(&digest).await.unwrap();
    let before = bench.probe.paths(Class::SyncDir).len();
    push(&*bench.store, id(2), &digest, b"content", false).await.unwrap();
    let synced = &bench.probe.paths(Class::SyncDir)[before..];
    let upload = bench.layout.upload(id(2));
    let expected = [bench.layout.staging(), upload, bench.layout.shard(&digest)];
    assert_eq!(synced, [&expected[..2], &[expected[2].clone(), expected[0].clone()]].concat());
    bench.assert_durable(&digest, b"content");
}

#[tokio::test]
async fn publishes_of_one_digest_at_a_time_all_succeed() {
    let bench = Bench::new(Blocking::Pool);
    let digest = sha256(b"content");
    let stripe = Arc::new(tokio::sync::Mutex::new(()));
    let pushes: Vec<_> = (0..16)
        .map(|n| {
            let (store, stripe) = (bench.store.clone(), stripe.clone());
            tokio::spawn(async move {
                let mut staging = store.stage(id(n), Algorithm::Sha256).await?;
                staging.append(vec!["con".into(), "tent".into()]).await?;
                staging.sync().await?;
                let held = stripe.lock().await;
                let published = store.publish(staging, &digest, 7, n > 8).await?;
                drop(held);
                store.sync_directories(published).await
            })
        })
        .collect();
    for push in pushes {
        push.await.unwrap().unwrap();
    }
    bench.assert_durable(&digest, b"content");
    assert_eq!(bench.store.staged().await.unwrap(), []);
}

#[tokio::test]
async fn publishes_into_one_shard_at_once_are_each_durable_when_acknowledged() {
    let bench = Bench::new(Blocking::Pool);
    let contents: Vec<String> = (0..20_000).map(|n| format!("{n}")).collect();
    let shared = |content: &&String| sha256(content.as_bytes()).as_bytes()[0] == 7;
    let contents: Vec<_> = contents.iter().filter(shared).take(32).cloned().collect();
    assert_eq!(contents.len(), 32);
    let pushes: Vec<_> = (0..)
        .zip(contents)
        .map(|(n, content)| {
            let (store, probe, layout) =
                (bench.store.clone(), bench.probe.clone(), bench.layout.clone());
            tokio::spawn(async move {
                let digest = sha256(content.as_bytes());
                push(&*store, id(n), &digest, content.as_bytes(), false).await.unwrap();
                assert!(probe.is_durable(&layout.blob_data(&digest)), "V1");
            })
        })
        .collect();
    for push in pushes {
        push.await.unwrap();
    }
    assert_eq!(bench.probe.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_spill_is_durable_with_one_round_of_directory_syncs() {
    let bench = Bench::inline();
    let contents: Vec<Bytes> = (0..50).map(|n| format!("content {n}").into()).collect();
    bench.plant(&sha256(&contents[7]), b"wrong");
    bench.plant(&sha256(&contents[8]), &contents[8]);
    let batch = contents.iter().map(|bytes| (sha256(bytes), bytes.clone())).collect();
    let before = bench.probe.paths(Class::SyncDir).len();
    let spilled = bench.store.spill(batch).await.unwrap();
    assert_eq!((spilled.durable.len(), spilled.failed.len()), (50, 0));
    for bytes in &contents {
        bench.assert_durable(&sha256(bytes), bytes);
    }
    let mut synced = bench.probe.paths(Class::SyncDir).split_off(before);
    let all = synced.len();
    synced.sort();
    synced.dedup();
    assert_eq!(synced.len(), all, "each directory once");
}

#[tokio::test]
async fn a_failed_directory_sync_poisons_writes_and_leaves_reads() {
    let bench = Bench::inline();
    let (digest, other) = (sha256(b"content"), sha256(b"other"));
    push(&*bench.store, id(1), &digest, b"content", false).await.unwrap();
    let mut waiting = bench.store.stage(id(2), Algorithm::Sha256).await.unwrap();
    bench.probe.fail(Class::SyncDir, 1, EIO, false);
    let failed = push(&*bench.store, id(3), &other, b"other", false).await;
    assert!(bench.probe.heal());
    assert!(matches!(failed, Err(Error::Poisoned)), "V3");
    assert!(bench.store.is_poisoned());
    let refused = [
        waiting.append(vec!["x".into()]).await,
        waiting.sync().await,
        bench.store.stage(id(4), Algorithm::Sha256).await.map(drop),
        bench.store.resume(id(3), 0, Algorithm::Sha256).await.map(drop),
        bench.store.publish(waiting, &digest, 0, true).await.map(drop),
        bench.store.sync_directories(Published::default()).await,
        bench.store.spill(vec![(other, "other".into())]).await.map(drop),
        bench.store.remove(&digest).await.map(drop),
    ];
    for (n, result) in refused.into_iter().enumerate() {
        assert!(matches!(result, Err(Error::Poisoned)), "{n}: {result:?}");
    }
    assert_eq!(blob(&*bench.store, &digest).await.unwrap(), Some("content".into()));
}

/// One of each writing operation; the digests that were acknowledged before the error.
async fn workload(store: &dyn BlobStore, done: &mut Vec<(Digest, Bytes)>) -> Result<()> {
    let file: Bytes = "one two".into();
    let mut staging = store.stage(id(1), Algorithm::Sha256).await?;
    staging.append(vec!["one ".into()]).await?;
    staging.sync().await?;
    staging.append(vec!["two".into()]).await?;
    let digest = staging.digest(Algorithm::Sha256).await?;
    assert_eq!(digest, sha256(&file));
    let published = store.publish(staging, &digest, 7, false).await?;
    store.sync_directories(published).await?;
    done.push((digest, file.clone()));
    push(store, id(2), &digest, &file, true).await?;
    let batch: Vec<(Digest, Bytes)> =
        ["three", "wrong"].map(|text| (sha256(text.as_bytes()), text.into())).into();
    let spilled = store.spill(batch.clone()).await?;
    done.extend(batch.into_iter().filter(|(digest, _)| spilled.durable.contains(digest)));
    spilled.failed.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))?;
    store.remove(&sha256(b"unwanted")).await.map(drop)
}

/// Fails the n-th operation of each class, n = 1.. until a run passes untouched.
async fn fail_each(errno: i32, persistent: bool) {
    for class in Class::CHANGES {
        for nth in 1.. {
            let mut bench = Bench::inline();
            bench.plant(&sha256(b"wrong"), b"WRONG");
            push(&*bench.store, id(9), &sha256(b"unwanted"), b"unwanted", false).await.unwrap();
            push(&*bench.store, id(8), &sha256(b"earlier"), b"earlier", false).await.unwrap();
            bench.probe.fail(class, nth, errno, persistent);
            let mut done = vec![(sha256(b"earlier"), Bytes::from("earlier"))];
            let outcome = workload(&*bench.store, &mut done).await;
            let fired = bench.probe.heal();
            let context = format!("{class:?} {nth} {errno} {outcome:?}");
            check_outcome(class, errno, fired, &outcome, &context);
            for (digest, bytes) in &done {
                let found = blob(&*bench.store, digest).await.unwrap();
                assert_eq!(found.as_ref(), Some(bytes), "{context}");
                assert!(bench.probe.is_durable(&bench.layout.blob_data(digest)), "{context}");
            }
            assert_eq!(bench.probe.violations(), Vec::<String>::new(), "{context}");
            recover(&mut bench, &context).await;
            if !fired {
                break;
            }
        }
    }
}

fn check_outcome(class: Class, errno: i32, fired: bool, outcome: &Result<()>, context: &str) {
    match outcome {
        Ok(()) => assert!(!fired || class != Class::SyncDir, "{context}"),
        Err(Error::Poisoned) => assert_eq!(class, Class::SyncDir, "{context}"),
        Err(Error::Full(_)) => assert_eq!(errno, ENOSPC, "{context}"),
        Err(Error::Io(_)) => assert!(fired, "{context}"),
    }
}

/// After a restart without the fault, what was left over goes and the same work succeeds.
async fn recover(bench: &mut Bench, context: &str) {
    bench.restart();
    for left in bench.store.staged().await.unwrap() {
        bench.store.discard(left).await.expect(context);
    }
    assert_eq!(names(bench.layout.staging()), Vec::<String>::new(), "{context}");
    let mut done = Vec::new();
    workload(&*bench.store, &mut done).await.expect(context);
    assert_eq!(done.len(), 3, "{context}");
    for (digest, bytes) in done {
        bench.assert_durable(&digest, &bytes);
    }
}

#[tokio::test]
async fn a_full_disk_at_any_point_loses_nothing_acknowledged() {
    fail_each(ENOSPC, false).await;
    fail_each(ENOSPC, true).await;
}

#[tokio::test]
async fn an_io_error_at_any_point_loses_nothing_acknowledged() {
    fail_each(EIO, false).await;
    fail_each(EIO, true).await;
}

#[test]
fn a_full_disk_is_told_from_other_errors() {
    let error = |errno| {
        let source = std::io::Error::from_raw_os_error(errno);
        Error::from(disk::Error::new("write", Path::new("data"), source))
    };
    assert!(matches!(error(ENOSPC), Error::Full(_)));
    assert!(matches!(error(EIO), Error::Io(_)));
}

#[tokio::test]
async fn what_has_no_place_in_the_tree_is_listed_by_its_path() {
    use std::os::unix::ffi::OsStrExt;
    let bench = Bench::inline();
    let blobs = bench.root.path().join("docker/registry/v2/blobs");
    let digest = sha256(b"content");
    let own = Layout::new(bench.root.path()).blob(&digest);
    for directory in [&own, &blobs.join("md5"), &blobs.join("sha256/zz"), &own.join("more")] {
        fs::create_dir_all(directory).unwrap();
    }
    let shard_directory = own.parent().unwrap();
    for file in [own.join("data"), own.join("data.bak"), shard_directory.join("README")] {
        fs::write(file, b"content").unwrap();
    }
    fs::write(bench.root.path().join("kelson/staging/note"), b"").unwrap();
    let mut foreign = bench.store.foreign().await.unwrap();
    foreign.sort();
    let expected = ["blobs/md5", "blobs/sha256/zz"].map(|it| format!("docker/registry/v2/{it}"));
    assert_eq!(foreign, [&expected[..], &["kelson/staging/note".to_owned()]].concat());
    let shard = Shard { algorithm: Algorithm::Sha256, first_byte: digest.as_bytes()[0] };
    let listed = bench.store.shard_files(shard).await.unwrap();
    assert_eq!(listed.files, [(digest, 7)]);
    let names: Vec<_> = listed.foreign.iter().map(|path| path.rsplit('/').next()).collect();
    assert_eq!(names, [Some("README"), Some("data.bak"), Some("more")]);
    // A directory with a name that is no text is foreign as a whole, and stops nothing.
    let name = std::ffi::OsStr::from_bytes(b"\xff");
    fs::write(shard_directory.join(name), b"").unwrap();
    let listed = bench.store.shard_files(shard).await.unwrap();
    assert_eq!((listed.files.len(), listed.foreign.len()), (0, 1));
    assert!(listed.foreign[0].contains("not UTF-8"), "{:?}", listed.foreign);
}
