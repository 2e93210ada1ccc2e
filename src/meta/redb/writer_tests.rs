//! Group commit, its bounds, and one bad row among good ones.

use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::task::Poll;

use super::super::codec::Key;
use super::super::testing::{Fault, MemoryVfs, Operation as DiskOperation};
use super::super::writes::{Link, Operation, Save, Unlink};
use super::super::{Options, RedbMeta};
use super::*;
use crate::disk::OsVfs;
use crate::meta::conformance::{digest, link, moment, name};
use crate::meta::{LinkBlob, MetaStore, Timestamp, UnlinkBlob, UploadRecord};
use crate::oci::{Algorithm, UploadId};
use crate::ops::Blocking;

fn upload(n: u8) -> UploadRecord {
    UploadRecord {
        id: UploadId::from_random([n; 16]),
        repository: name("a"),
        offset: 0,
        algorithm: Algorithm::Sha256,
        started_at: Timestamp(0),
        started_uptime_seconds: 0,
    }
}

struct Bench {
    vfs: MemoryVfs,
    handle: Arc<Handle>,
    writer: Writer,
    sender: Sender,
    queue: Queue,
}

impl Bench {
    fn new() -> Self {
        let vfs = MemoryVfs::default();
        let disk = Arc::new(vfs.clone());
        let handle = Handle::open(disk, Path::new("/m.redb"), Options::default()).unwrap();
        let handle = Arc::new(handle);
        let (sender, queue) = queue();
        Self { vfs, writer: Writer::new(Arc::clone(&handle)), handle, sender, queue }
    }

    fn transactions(&self) -> u64 {
        self.handle.read(|snapshot| snapshot.counters()).unwrap().transactions
    }
}

#[tokio::test]
async fn what_is_queued_goes_into_one_commit() {
    let mut bench = Bench::new();
    let before = bench.transactions();
    let mut answers = Vec::new();
    for n in 0..100 {
        answers.push(bench.sender.write(Save(upload(n))).await.unwrap());
    }
    assert!(answers[0].0.try_recv().is_err(), "answered before the commit");
    assert!(bench.writer.step(&mut bench.queue));
    for answer in answers {
        answer.get().await.unwrap();
    }
    assert_eq!(bench.transactions(), before + 1);
}

#[tokio::test]
async fn a_batch_that_changes_nothing_commits_nothing() {
    let mut bench = Bench::new();
    let before = bench.transactions();
    let answer = bench.sender.write(super::super::writes::Forget(upload(1).id)).await.unwrap();
    assert!(bench.writer.step(&mut bench.queue));
    answer.get().await.unwrap();
    assert_eq!(bench.transactions(), before);
}

#[tokio::test]
async fn a_batch_is_bounded_in_bytes() {
    let mut bench = Bench::new();
    let before = bench.transactions();
    for n in 0..10 {
        let content = Some(vec![n; 1 << 20].into());
        let link = LinkBlob { content, size_bytes: 1 << 20, ..link("a", n, 1) };
        assert_eq!(Link(link.clone()).content_size_bytes(), 1 << 20);
        bench.sender.write(Link(link)).await.unwrap();
    }
    while !bench.queue.is_empty() {
        assert!(bench.writer.step(&mut bench.queue));
    }
    assert_eq!(bench.transactions(), before + 3);
}

#[tokio::test]
async fn a_full_queue_makes_callers_wait() {
    let mut bench = Bench::new();
    for n in 0..QUEUE_LENGTH_MAX {
        bench.sender.write(Save(upload((n % 250) as u8))).await.unwrap();
    }
    let sender = bench.sender.clone();
    let mut waiting = Box::pin(async move { sender.write(Save(upload(251))).await });
    assert!(poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_pending())).await);
    assert!(bench.writer.step(&mut bench.queue));
    let answer = waiting.await.unwrap();
    assert!(bench.writer.step(&mut bench.queue));
    answer.get().await.unwrap();
}

#[tokio::test]
async fn a_damaged_row_refuses_only_those_who_meet_it() {
    let mut bench = Bench::new();
    bench.sender.write(Link(link("a", 1, 1))).await.unwrap();
    assert!(bench.writer.step(&mut bench.queue));
    let turn = bench.handle.turn();
    let transaction = bench.handle.begin_write(&turn).unwrap();
    {
        let mut tables = Tables::open(&transaction).unwrap();
        tables.repositories.insert(Key::number(1).as_slice(), b"\x01nonsense".as_slice()).unwrap();
    }
    transaction.commit().unwrap();
    drop(turn);
    let good = bench.sender.write(Link(link("b", 2, 1))).await.unwrap();
    let bad = bench.sender.write(Link(link("a", 3, 1))).await.unwrap();
    let better = bench.sender.write(Link(link("c", 4, 1))).await.unwrap();
    assert!(bench.writer.step(&mut bench.queue));
    good.get().await.unwrap();
    better.get().await.unwrap();
    assert!(matches!(bad.get().await, Err(Error::Corrupt(_))));
    let stored = |n| bench.handle.read(move |snapshot| snapshot.stored(&digest(n))).unwrap();
    assert!(stored(2).is_some() && stored(3).is_none() && stored(4).is_some());
}

#[tokio::test]
async fn where_content_finds_no_room_a_delete_of_the_same_batch_does() {
    for first in 0.. {
        let mut bench = Bench::new();
        bench.sender.write(Link(link("a", 1, 1))).await.unwrap();
        assert!(bench.writer.step(&mut bench.queue));
        let delete = Unlink { repository: name("a"), digest: digest(1), moment: moment(2) };
        let content = LinkBlob { content: Some(vec![2; 1].into()), ..link("a", 2, 2) };
        let kind = io::ErrorKind::StorageFull;
        bench.vfs.arm(Fault { operation: DiskOperation::Write, first, count: 1, kind });
        let linked = bench.sender.write(Link(content)).await.unwrap();
        let deleted = bench.sender.write(delete).await.unwrap();
        assert!(bench.writer.step(&mut bench.queue));
        let is_fired = bench.vfs.disarm() > 0;
        assert_eq!(deleted.get().await.unwrap(), UnlinkBlob::Removed, "write {first}");
        match linked.get().await {
            Ok(_) => {}
            Err(Error::Full) => assert!(is_fired, "write {first}"),
            Err(other) => panic!("write {first}: {other}"),
        }
        if !is_fired {
            assert!(first > 10, "the fault was never met");
            return;
        }
    }
}

#[tokio::test]
async fn the_end_comes_after_what_was_queued() {
    let mut bench = Bench::new();
    let saved = bench.sender.write(Save(upload(1))).await.unwrap();
    let ended = bench.sender.close().await.unwrap();
    let late = bench.sender.write(Save(upload(2))).await.unwrap();
    assert!(!bench.writer.step(&mut bench.queue));
    saved.get().await.unwrap();
    ended.get().await.unwrap();
    drop(bench.queue);
    assert!(late.get().await.is_err());
    assert!(bench.sender.write(Save(upload(3))).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_callers_share_commits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metadata.redb");
    for blocking in [Blocking::Pool, Blocking::Inline] {
        let store = RedbMeta::open(Arc::new(OsVfs), &path, Options::default(), blocking).unwrap();
        let before = store.counters().await.unwrap().transactions;
        let callers = (0..100).map(|n| {
            let store = store.clone();
            async move { store.link_blob(link("a", n, 1)).await }
        });
        for result in futures_util::future::join_all(callers).await {
            result.unwrap();
        }
        let commits = store.counters().await.unwrap().transactions - before;
        assert!(commits < 50, "{blocking:?}: {commits} commits for 100 writes");
        assert_eq!(store.check().unwrap(), []);
        store.close().await.unwrap();
    }
}
