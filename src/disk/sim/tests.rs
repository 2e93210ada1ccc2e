//! The simulated disk is as cruel as V1 says, and no crueler.

use super::*;

fn path(text: &str) -> PathBuf {
    PathBuf::from(text)
}

fn create(vfs: &SimVfs, text: &str, bytes: &[u8]) -> Arc<dyn VfsFile> {
    let file = vfs.open(&path(text), Open::Create { mode: 0 }).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn read(vfs: &SimVfs, text: &str) -> Option<Vec<u8>> {
    let file = vfs.open(&path(text), Open::Read).ok()?;
    let mut bytes = vec![0; file.size_bytes().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

/// What a path may hold after a power cut now, over many images of every class.
fn outcomes(vfs: &SimVfs, text: &str) -> BTreeSet<Option<Vec<u8>>> {
    let disk = vfs.disk();
    let images = Variant::ALL.iter().flat_map(|v| (0..60).map(move |seed| (*v, seed)));
    images.map(|(v, seed)| read(&SimVfs::new(disk.crash(v, seed).disk), text)).collect()
}

fn some(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(bytes.to_vec())
}

#[test]
fn data_is_durable_after_its_sync_and_its_name_after_its_directorys() {
    let vfs = SimVfs::default();
    let file = create(&vfs, "/a", b"x");
    assert_eq!(outcomes(&vfs, "/a"), [None, some(b""), some(b"\0"), some(b"x")].into());
    file.sync_data().unwrap();
    assert_eq!(outcomes(&vfs, "/a"), [None, some(b"x")].into(), "V1: the name may be lost");
    vfs.sync_dir(&path("/")).unwrap();
    assert_eq!(outcomes(&vfs, "/a"), [some(b"x")].into());
}

#[test]
fn a_synced_name_without_its_data_is_an_empty_file_or_zeros() {
    let vfs = SimVfs::default();
    create(&vfs, "/a", &[7; 5000]);
    vfs.sync_dir(&path("/")).unwrap();
    let found = outcomes(&vfs, "/a");
    assert!(found.contains(&some(b"")) && found.contains(&some(&[0; 5000])), "V1");
    let torn = found.iter().flatten().any(|b| b.contains(&0) && b.contains(&7));
    assert!(torn && !found.contains(&None));
}

#[test]
fn a_rename_is_whole_and_durable_only_by_the_sync_of_both_directories() {
    let vfs = SimVfs::default();
    vfs.create_dir(&path("/from"), 0).unwrap();
    vfs.create_dir(&path("/to"), 0).unwrap();
    create(&vfs, "/from/a", b"x").sync_data().unwrap();
    for directory in ["/", "/from"] {
        vfs.sync_dir(&path(directory)).unwrap();
    }
    vfs.rename(&path("/from/a"), &path("/to/a")).unwrap();
    for synced in [None, Some("/to"), Some("/from")] {
        if let Some(directory) = synced {
            vfs.sync_dir(&path(directory)).unwrap();
        }
        let disk = vfs.disk();
        for variant in Variant::ALL {
            for seed in 0..20 {
                let image = SimVfs::new(disk.crash(variant, seed).disk);
                let names = (read(&image, "/from/a"), read(&image, "/to/a"));
                let moved = (None, some(b"x"));
                assert!(names == moved || names == (some(b"x"), None), "{names:?}");
                assert!(names == moved || synced != Some("/from"));
            }
        }
    }
}

#[test]
fn a_directory_is_gone_only_with_what_was_moved_out_of_it() {
    let vfs = SimVfs::default();
    vfs.create_dir(&path("/from"), 0).unwrap();
    create(&vfs, "/from/a", b"x").sync_data().unwrap();
    vfs.sync_dir(&path("/from")).unwrap();
    vfs.sync_dir(&path("/")).unwrap();
    vfs.rename(&path("/from/a"), &path("/a")).unwrap();
    vfs.remove_dir(&path("/from")).unwrap();
    let disk = vfs.disk();
    for (variant, seed) in Variant::ALL.iter().flat_map(|v| (0..40).map(move |seed| (*v, seed))) {
        let image = SimVfs::new(disk.crash(variant, seed).disk);
        assert!(read(&image, "/a").or(read(&image, "/from/a")).is_some(), "{variant:?}");
    }
    vfs.sync_dir(&path("/")).unwrap();
    assert_eq!(outcomes(&vfs, "/a"), [some(b"x")].into());
}

#[test]
fn an_unlinked_name_may_be_back_until_its_directory_is_synced() {
    let vfs = SimVfs::default();
    create(&vfs, "/a", b"x").sync_data().unwrap();
    vfs.sync_dir(&path("/")).unwrap();
    vfs.remove_file(&path("/a")).unwrap();
    assert_eq!(outcomes(&vfs, "/a"), [None, some(b"x")].into());
    vfs.sync_dir(&path("/")).unwrap();
    assert_eq!(outcomes(&vfs, "/a"), [None].into());
}

#[test]
fn what_is_in_a_lost_directory_is_lost() {
    let vfs = SimVfs::default();
    vfs.create_dir(&path("/d"), 0).unwrap();
    create(&vfs, "/d/a", b"x").sync_data().unwrap();
    vfs.sync_dir(&path("/d")).unwrap();
    assert_eq!(outcomes(&vfs, "/d/a"), [None, some(b"x")].into());
    vfs.sync_dir(&path("/")).unwrap();
    assert_eq!(outcomes(&vfs, "/d/a"), [some(b"x")].into());
}

#[test]
fn a_failed_sync_shows_new_or_old_bytes_and_a_second_one_saves_nothing() {
    for visible in [true, false] {
        let mut after = BTreeSet::new();
        for round in 0..20 {
            let vfs = SimVfs::default();
            let file = create(&vfs, "/a", b"old");
            file.sync_data().unwrap();
            (0..round).for_each(|_| vfs.sync_dir(&path("/")).unwrap());
            vfs.sync_dir(&path("/")).unwrap();
            file.write_all_at(b"new", 0).unwrap();
            let kind = Kind::FailedSync { visible };
            vfs.fail(Fault { classes: vec![Class::SyncFile], nth: 1, kind, persistent: false });
            assert!(file.sync_data().unwrap_err().is_failed_sync());
            assert_eq!(vfs.heal(), 1);
            file.sync_data().unwrap();
            if visible {
                assert_eq!(read(&vfs, "/a"), some(b"new"));
            }
            after.extend(outcomes(&vfs, "/a"));
            file.drop_cache().unwrap();
            assert_eq!(outcomes(&vfs, "/a"), [read(&vfs, "/a")].into());
        }
        assert_eq!(after, [some(b"old"), some(b"new")].into(), "V3: nobody knows");
    }
}

#[test]
fn a_killed_process_leaves_what_it_wrote_and_no_lock() {
    let vfs = SimVfs::default();
    let file = create(&vfs, "/a", b"x");
    assert!(file.try_lock().unwrap());
    let next = vfs.kill();
    assert!(file.write_all_at(b"y", 0).is_err());
    assert_eq!(read(&next, "/a"), some(b"x"));
    let again = next.open(&path("/a"), Open::ReadWrite).unwrap();
    assert!(again.try_lock().unwrap());
    drop(file);
    assert!(!next.open(&path("/a"), Open::ReadWrite).unwrap().try_lock().unwrap());
    assert!(outcomes(&next, "/a").contains(&None), "a kill makes nothing durable");
}

#[test]
fn faults_meet_the_operations_that_they_name() {
    let vfs = SimVfs::default();
    let file = create(&vfs, "/a", b"1234");
    let fail = |kind, class, nth, persistent| {
        vfs.fail(Fault { classes: vec![class], nth, kind, persistent });
    };
    fail(Kind::Short(ENOSPC), Class::Write, 2, false);
    file.write_all_at(b"5", 4).unwrap();
    assert!(file.write_all_at(b"67", 5).unwrap_err().is_full());
    assert_eq!(read(&vfs, "/a"), some(b"123456"));
    fail(Kind::Error(EMFILE), Class::Open, 1, true);
    assert!(read(&vfs, "/a").is_none() && read(&vfs, "/a").is_none());
    fail(Kind::Error(ENOSPC), Class::Preallocate, 1, false);
    assert!(file.preallocate(0, 8).unwrap_err().is_full(), "whoever asked is told");
    assert_eq!(vfs.heal(), 4);
    let database = create(&vfs, "/a.redb", b"1234");
    database.sync_data().unwrap();
    fail(Kind::Flip, Class::Read, 1, false);
    assert_eq!(read(&vfs, "/a.redb"), some(b"1234"), "spared");
    assert_ne!(read(&vfs, "/a"), some(b"123456"));
    assert_eq!(read(&vfs, "/a"), some(b"123456"));
}

#[test]
fn a_recording_played_again_gives_the_same_images() {
    let vfs = SimVfs::default();
    create(&vfs, "/a", &[1; 9000]);
    vfs.rename(&path("/a"), &path("/b")).unwrap();
    let Recording { begin, log } = vfs.recording();
    let mut again = begin;
    log.iter().for_each(|op| again.apply(op));
    for variant in Variant::ALL {
        let (one, two) = (vfs.disk().crash(variant, 3), again.crash(variant, 3));
        assert_eq!(one.key, two.key);
        assert_eq!(read(&SimVfs::new(one.disk), "/b"), read(&SimVfs::new(two.disk), "/b"));
    }
}
