use std::os::unix::fs::MetadataExt;

use super::*;
use crate::disk::OsVfs;
use crate::disk::probe::{Class, ENOSPC, ProbeVfs};

const SIZE_BYTES: u64 = 1 << 20;

/// Bytes that the file takes on its disk.
fn taken_bytes(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn room_is_taken_given_back_once_and_taken_again() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("ballast");
    let ballast = Ballast::open(Arc::new(OsVfs), &path, SIZE_BYTES).unwrap();
    assert!(taken_bytes(&path) >= SIZE_BYTES);
    assert!(ballast.release());
    assert_eq!(taken_bytes(&path), 0);
    assert!(!ballast.release(), "there is nothing left to give back");
    ballast.restore();
    assert!(taken_bytes(&path) >= SIZE_BYTES);
    drop(ballast);
    let again = Ballast::open(Arc::new(OsVfs), &path, SIZE_BYTES).unwrap();
    assert!(again.release(), "what an earlier process took counts");
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
    assert!(!ballast.release());
    assert_eq!(taken_bytes(&path), 0);
    assert!(probe.heal());
    ballast.restore();
    assert!(ballast.release());
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
    assert!(!ballast.release());
}
