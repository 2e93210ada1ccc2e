use std::os::unix::fs::MetadataExt;

use super::*;
use crate::disk::OsVfs;
use crate::disk::probe::{Class, ENOSPC, ProbeVfs};

const SIZE_BYTES: u64 = 1 << 20;

/// Bytes that the file takes on its disk.
fn taken_bytes(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().blocks() * 512
}

/// A file with a hole of so many bytes.
fn hole(root: &Path, size_bytes: u64) -> Arc<dyn VfsFile> {
    let file = OsVfs.open(&root.join("needy"), Open::Create { mode: MODE }).unwrap();
    file.set_size(size_bytes).unwrap();
    file
}

/// A ballast on a disk under observation, and where it lies.
fn probed(root: &Path) -> (ProbeVfs, PathBuf, Ballast) {
    let probe = ProbeVfs::new(Arc::new(OsVfs), root);
    let path = root.join("ballast");
    let ballast = Ballast::open(Arc::new(probe.clone()), &path, SIZE_BYTES).unwrap();
    (probe, path, ballast)
}

#[test]
fn room_is_given_back_as_it_is_needed_and_taken_again() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("ballast");
    let needy = hole(root.path(), 4 * SIZE_BYTES);
    let ballast = Ballast::open(Arc::new(OsVfs), &path, SIZE_BYTES).unwrap();
    assert_eq!(taken_bytes(&path), SIZE_BYTES);

    assert!(ballast.release_for(&*needy, 4095, 2));
    assert_eq!(taken_bytes(&path), SIZE_BYTES - 8192, "two blocks are touched");
    assert_eq!(taken_bytes(&root.path().join("needy")), 8192, "and taken before anybody else can");
    let again = Ballast::open(Arc::new(OsVfs), &path, SIZE_BYTES).unwrap();
    assert_eq!(taken_bytes(&path), SIZE_BYTES, "with plenty left a start makes it whole");
    drop(again);

    ballast.restore();
    assert!(ballast.release_for(&*needy, SIZE_BYTES, 2 * SIZE_BYTES));
    assert_eq!(taken_bytes(&path), 0);
    assert!(!ballast.release_for(&*needy, 0, 1), "there is nothing left to give back");
    ballast.restore();
    assert_eq!(taken_bytes(&path), SIZE_BYTES);
}

#[test]
fn nothing_is_taken_beyond_the_end_of_the_file() {
    let root = tempfile::tempdir().unwrap();
    let needy = hole(root.path(), SIZE_BYTES);
    let path = root.path().join("ballast");
    let ballast = Ballast::open(Arc::new(OsVfs), &path, SIZE_BYTES).unwrap();
    assert!(ballast.release_for(&*needy, SIZE_BYTES - 4096, 8192));
    assert!(ballast.release_for(&*needy, SIZE_BYTES, 0), "to grow");
    assert_eq!(taken_bytes(&root.path().join("needy")), 4096);
}

#[test]
fn what_is_left_of_it_survives_a_start_on_a_full_disk() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("ballast");
    let needy = hole(root.path(), SIZE_BYTES);
    let ballast = Ballast::open(Arc::new(OsVfs), &path, SIZE_BYTES).unwrap();
    assert!(ballast.release_for(&*needy, 0, 4096));
    let probe = ProbeVfs::new(Arc::new(OsVfs), root.path());
    probe.fail(Class::Preallocate, 2, ENOSPC, true);
    let again = Ballast::open(Arc::new(probe), &path, SIZE_BYTES).unwrap();
    assert_eq!(taken_bytes(&path), SIZE_BYTES - 4096);
    assert!(again.release_for(&*needy, 4096, 4096));
    assert_eq!(taken_bytes(&path), SIZE_BYTES - 8192);
}

#[test]
fn what_a_file_grows_by_is_allocated_while_plenty_is_free() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("ballast");
    let ballast = Ballast::open(Arc::new(OsVfs), &path, SIZE_BYTES).unwrap();
    let file = OsVfs.open(&root.path().join("grown"), Open::Create { mode: MODE }).unwrap();
    file.set_size(3 * SIZE_BYTES).unwrap();
    ballast.back(&*file, SIZE_BYTES, 2 * SIZE_BYTES);
    assert_eq!(taken_bytes(&root.path().join("grown")), 2 * SIZE_BYTES);
}

#[test]
fn what_a_file_grows_by_is_left_to_others_where_little_is_free() {
    let root = tempfile::tempdir().unwrap();
    let (probe, _, ballast) = probed(root.path());
    let file = OsVfs.open(&root.path().join("grown"), Open::Create { mode: MODE }).unwrap();
    file.set_size(SIZE_BYTES).unwrap();
    probe.say_free(3 * SIZE_BYTES - 1);
    ballast.back(&*file, 0, SIZE_BYTES);
    assert_eq!(taken_bytes(&root.path().join("grown")), 0);
    probe.say_free(3 * SIZE_BYTES);
    ballast.back(&*file, 0, SIZE_BYTES);
    assert_eq!(taken_bytes(&root.path().join("grown")), SIZE_BYTES);
}

#[test]
fn it_is_not_set_aside_again_where_little_is_free() {
    let root = tempfile::tempdir().unwrap();
    let (probe, path, ballast) = probed(root.path());
    let needy = hole(root.path(), SIZE_BYTES);
    assert!(ballast.release_for(&*needy, 0, SIZE_BYTES));
    probe.say_free(3 * SIZE_BYTES - 1);
    ballast.restore();
    assert!(ballast.is_used());
    assert_eq!(taken_bytes(&path), 0);
    probe.say_free(3 * SIZE_BYTES);
    ballast.restore();
    assert!(!ballast.is_used());
    assert_eq!(taken_bytes(&path), SIZE_BYTES);
}

#[test]
fn what_is_needed_while_it_is_set_aside_waits_for_that() {
    let root = tempfile::tempdir().unwrap();
    let (probe, path, ballast) = probed(root.path());
    let needy = hole(root.path(), SIZE_BYTES);
    assert!(ballast.release_for(&*needy, 0, 8192));
    let go_on = probe.stall(Class::Preallocate);
    std::thread::scope(|scope| {
        scope.spawn(|| ballast.restore());
        while !probe.has_stalled() {
            std::thread::yield_now();
        }
        let released = scope.spawn(|| ballast.release_for(&*needy, 8192, 4096));
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!released.is_finished(), "in the middle of it");
        drop(go_on);
        assert!(released.join().unwrap());
    });
    assert_eq!(taken_bytes(&path), SIZE_BYTES - 4096);
    assert!(ballast.is_used());
}

#[test]
fn it_is_a_small_part_of_a_small_file_system() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("ballast");
    // So that the test does not take so much.
    let probe = ProbeVfs::new(Arc::new(OsVfs), root.path());
    probe.fail(Class::Preallocate, 1, ENOSPC, true);
    let ballast = Ballast::open(Arc::new(probe), &path, u64::MAX).unwrap();
    assert_eq!(ballast.size_bytes, OsVfs.space(root.path()).unwrap().total_bytes / SHARE);
}

#[test]
fn without_room_now_it_is_made_later() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("ballast");
    let probe = ProbeVfs::new(Arc::new(OsVfs), root.path());
    probe.fail(Class::Preallocate, 1, ENOSPC, true);
    let ballast = Ballast::open(Arc::new(probe.clone()), &path, SIZE_BYTES).unwrap();
    assert_eq!(*ballast.held_bytes(), 0);
    assert_eq!(taken_bytes(&path), 0);
    assert!(probe.heal());
    ballast.restore();
    assert_eq!(taken_bytes(&path), SIZE_BYTES);
}

#[test]
fn what_lies_there_in_another_size_is_given_back() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("ballast");
    std::fs::write(&path, vec![1; 2 * SIZE_BYTES as usize]).unwrap();
    let probe = ProbeVfs::new(Arc::new(OsVfs), root.path());
    probe.fail(Class::Preallocate, 1, ENOSPC, true);
    let ballast = Ballast::open(Arc::new(probe), &path, SIZE_BYTES).unwrap();
    assert_eq!(taken_bytes(&path), 0);
    assert_eq!(*ballast.held_bytes(), 0);
}
