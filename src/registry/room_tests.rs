//! The account against a store whose room is set by hand.

use super::*;
use crate::blob::MemoryBlobs;
use crate::meta::memory::MemoryMeta;
use crate::ops::clock::ManualClock;

const MIB: u64 = 1 << 20;

struct Fixture {
    blobs: MemoryBlobs,
    meta: Arc<MemoryMeta>,
    clock: Arc<ManualClock>,
    room: Arc<Room>,
}

/// A file system of 1000 MiB with a mark of 50 MiB, and so much free.
fn fixture(free_mib: u64) -> Fixture {
    let (blobs, clock) = (MemoryBlobs::default(), Arc::new(ManualClock::default()));
    blobs.set_space(free_mib * MIB, 1000 * MIB);
    let store = Arc::new(blobs.clone());
    let meta = Arc::new(MemoryMeta::default());
    let time = Arc::clone(&clock) as Arc<dyn Clock>;
    let room = Room::new(store, Arc::clone(&meta) as _, time, Watermark::default());
    Fixture { blobs, meta, clock, room: Arc::new(room) }
}

impl Fixture {
    fn set_free(&self, mib: u64) {
        self.blobs.set_space(mib * MIB, 1000 * MIB);
    }

    async fn is_taken(&self, mib: u64) -> bool {
        self.room.check(mib * MIB).await.is_ok()
    }
}

#[test]
fn of_two_bounds_the_smaller_counts() {
    let mark = |watermark: Watermark, total_mib: u64| watermark.mark_bytes(total_mib * MIB) / MIB;
    assert_eq!(mark(Watermark::default(), 1000), 50);
    assert_eq!(mark(Watermark::default(), 1_000_000), 1024);
    assert_eq!(mark(Watermark { size_bytes: 7 * MIB, percent: 100 }, 1000), 7);
    assert_eq!(mark(Watermark { size_bytes: u64::MAX, percent: 10 }, 1000), 100);
}

#[tokio::test]
async fn content_is_added_down_to_the_mark_and_not_below() {
    let it = fixture(60);
    assert!(it.is_taken(10).await);
    assert!(!it.is_taken(11).await, "R6");
    it.set_free(49);
    assert!(it.is_taken(10).await, "the answer of a moment ago still counts");
    it.clock.advance(FRESH);
    assert!(!it.is_taken(0).await, "R6");
    it.set_free(50);
    it.clock.advance(FRESH);
    assert!(it.is_taken(0).await);
}

#[tokio::test]
async fn promises_and_what_was_written_since_count() {
    let it = fixture(100);
    let mut first = it.room.promise();
    first.cover(30 * MIB).await.unwrap();
    assert!(it.is_taken(20).await);
    assert!(!it.is_taken(21).await, "R6: promised");
    first.written(10 * MIB);
    assert!(!it.is_taken(21).await, "R6: written, and the file system was not asked again");
    it.set_free(90);
    it.clock.advance(FRESH);
    assert!(it.is_taken(20).await, "written and seen: it counts once");
    assert!(!it.is_taken(21).await);
    first.cover(30 * MIB).await.unwrap();
    assert!(it.is_taken(10).await, "a promise is topped up, not made anew");
    drop(first);
    assert!(it.is_taken(40).await, "it ends with its request");
}

#[tokio::test]
async fn a_burst_of_requests_does_not_pass_the_mark() {
    let it = fixture(100);
    let mut kept = Vec::new();
    for _ in 0..200 {
        let mut promise = it.room.promise();
        if promise.cover(MIB).await.is_ok() {
            kept.push(promise);
        }
    }
    assert_eq!(kept.len(), 50, "R6");
}

#[tokio::test]
async fn files_that_are_still_to_be_written_count() {
    let it = fixture(100);
    it.room.await_file(30 * MIB);
    let awaited = it.room.awaited();
    it.room.await_file(5 * MIB);
    assert!(it.is_taken(15).await);
    assert!(!it.is_taken(16).await, "R6");
    it.room.end_waiting(awaited);
    assert!(!it.is_taken(16).await, "R6: written, and the file system was not asked again");
    it.clock.advance(FRESH);
    assert!(it.is_taken(45).await, "the model of the file system does not see them");
    assert!(!it.is_taken(46).await, "R6: one came while the others were written");
}

#[tokio::test]
async fn files_are_made_down_to_the_inodes_that_are_left_and_bytes_are_taken_beyond() {
    let it = fixture(500);
    // One in a hundred is left, and a content needs three.
    for (free_inodes, fits) in [(7, true), (6, false), (0, false), (400, true)] {
        it.blobs.set_inodes(free_inodes, 400);
        it.clock.advance(FRESH);
        assert_eq!(it.room.check_file().await.is_ok(), fits, "R6: {free_inodes}");
        assert_eq!(it.room.promise().cover_file().await.is_ok(), fits, "R6: {free_inodes}");
        assert!(it.is_taken(1).await, "a small content needs none");
        it.room.promise().cover(100).await.unwrap();
        assert_eq!(it.room.is_short(), !fits);
    }
}

#[tokio::test]
async fn files_that_are_awaited_come_before_new_ones() {
    let it = fixture(500);
    it.blobs.set_inodes(400, 400);
    (0..131).for_each(|_| it.room.await_file(1));
    it.room.check_file().await.unwrap();
    it.room.await_file(1);
    assert!(it.room.check_file().await.is_err(), "R6");
}

#[tokio::test]
async fn a_burst_of_files_takes_no_more_inodes_than_there_are() {
    let it = fixture(500);
    it.blobs.set_inodes(34, 400);
    let mut kept = Vec::new();
    for _ in 0..50 {
        let mut promise = it.room.promise();
        if promise.cover_file().await.is_ok() {
            kept.push(promise);
        }
    }
    assert_eq!(kept.len(), 10, "R6: each needs three");
    drop(kept);
    let mut next = it.room.promise();
    assert!(next.cover_file().await.is_err(), "R6: the file system was not asked again");
    it.clock.advance(FRESH);
    next.cover_file().await.unwrap();
}

#[tokio::test]
async fn a_refused_write_that_inodes_explain_stops_only_files() {
    let it = fixture(500);
    it.blobs.set_inodes(2, 400);
    it.room.note(&Error::Full);
    assert!(it.is_taken(1).await);
    assert!(it.room.check_file().await.is_err(), "R6");
    assert!(it.room.is_short());
    it.blobs.set_inodes(400, 400);
    it.clock.advance(FRESH);
    it.room.check_file().await.unwrap();
    assert!(!it.room.is_short());
}

#[tokio::test]
async fn after_a_refused_write_nothing_is_added_for_a_moment() {
    let it = fixture(500);
    assert!(it.is_taken(1).await);
    it.room.note(&Error::SizeInvalid);
    it.room.note(&Error::LowSpace);
    assert!(it.is_taken(1).await, "neither is the disk's refusal");
    it.room.note(&Error::Full);
    assert!(!it.is_taken(0).await);
    assert!(it.room.is_short());
    it.clock.advance(PAUSE);
    assert!(it.is_taken(1).await);
    assert!(!it.room.is_short());
}

#[tokio::test]
async fn without_a_watermark_everything_is_taken() {
    let blobs = MemoryBlobs::default();
    blobs.set_space(0, MIB);
    let off = Watermark { size_bytes: 0, ..Watermark::default() };
    let meta = Arc::new(MemoryMeta::default());
    let clock = Arc::new(ManualClock::default());
    let room = Room::new(Arc::new(blobs), Arc::clone(&meta) as _, clock, off);
    room.check(u64::MAX).await.unwrap();
    room.note(&Error::Full);
    room.promise().cover(u64::MAX).await.unwrap();
    assert!(!room.is_short());
    meta.use_reserve(true);
    assert!(matches!(room.check(1).await, Err(Error::Full)), "R6: but for what makes room");
}

#[tokio::test]
async fn what_is_set_aside_for_a_full_disk_is_not_for_content() {
    let it = fixture(500);
    it.is_taken(1).await;
    it.meta.use_reserve(true);
    assert!(!it.is_taken(0).await, "R6: at once, whatever the file system said a moment ago");
    assert!(it.room.is_short());
    it.clock.advance(FRESH);
    assert!(!it.is_taken(0).await, "R6");
    assert!(it.room.is_short(), "there is no room while it is used");
    it.meta.use_reserve(false);
    it.clock.advance(FRESH);
    assert!(it.is_taken(1).await);
    assert!(!it.room.is_short());
}

#[test]
fn a_client_cannot_claim_room_by_announcing() {
    assert_eq!(ahead_bytes(0, 3), 3);
    assert_eq!(ahead_bytes(0, u64::MAX), 4 * MIB);
    assert_eq!(ahead_bytes(10 * MIB, u64::MAX), 10 * MIB);
    assert_eq!(ahead_bytes(1 << 40, u64::MAX), 64 * MIB);
}
