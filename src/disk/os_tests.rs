use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::disk::durable::Step;

fn read(path: &Path) -> Arc<dyn VfsFile> {
    OsVfs.open(path, Open::Read).unwrap()
}

#[test]
fn bytes_are_read_where_they_were_written() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    let file = OsVfs.open(&path, Open::Create { mode: 0o600 }).unwrap();
    file.write_all_at(b"world", 6).unwrap();
    file.write_all_at(b"hello ", 0).unwrap();
    let mut bytes = [0; 11];
    read(&path).read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"hello world");
    let end = read(&path).read_exact_at(&mut bytes, 1).unwrap_err();
    assert_eq!(end.source.kind(), io::ErrorKind::UnexpectedEof);
    assert!(end.to_string().contains(path.to_str().unwrap()), "V2: {end}");
    file.set_size(4).unwrap();
    assert_eq!(read(&path).size_bytes().unwrap(), 4);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

/// Whether all of it can be read without the device.
fn is_cached(path: &Path, size_bytes: usize) -> bool {
    let file = fs::File::open(path).unwrap();
    let mut buffer = vec![0; size_bytes];
    let buffers = &mut [io::IoSliceMut::new(&mut buffer)];
    rustix::io::preadv2(&file, buffers, 0, ReadWriteFlags::NOWAIT) == Ok(size_bytes)
}

#[test]
fn reading_once_leaves_the_cache_as_it_was() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    let file = OsVfs.open(&path, Open::Create { mode: 0o600 }).unwrap();
    file.write_all_at(&bytes, 0).unwrap();
    durable::sync_file(&*file, durable::Step::UploadData).unwrap();
    for keep in [true, false] {
        if !keep {
            file.drop_cache().unwrap();
        }
        let was_cached = is_cached(&path, bytes.len());
        let mut found = vec![0; bytes.len()];
        let reader = read(&path);
        for (number, part) in found.chunks_mut(1 << 20).enumerate() {
            reader.read_once_at(part, (number as u64) << 20).unwrap();
        }
        assert!(found == bytes);
        assert_eq!(is_cached(&path, bytes.len()), was_cached, "keep {keep}");
    }
    let end = read(&path).read_once_at(&mut [0; 2], bytes.len() as u64 - 1).unwrap_err();
    assert_eq!(end.source.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn create_refuses_an_existing_name_and_read_a_directory() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    OsVfs.open(&path, Open::Create { mode: 0o600 }).unwrap();
    assert!(OsVfs.open(&path, Open::Create { mode: 0o600 }).unwrap_err().is_taken());
    assert!(OsVfs.create_dir(&path, 0o700).unwrap_err().is_taken());
    let error = OsVfs.open(root.path(), Open::Read).unwrap_err();
    assert_eq!(error.source.kind(), io::ErrorKind::IsADirectory);
    assert!(OsVfs.open(&root.path().join("none"), Open::Read).unwrap_err().is_not_found());
}

#[test]
fn preallocation_keeps_the_length() {
    let root = tempfile::tempdir().unwrap();
    let file = OsVfs.open(&root.path().join("file"), Open::Create { mode: 0o600 }).unwrap();
    file.preallocate(0, 1 << 20).unwrap();
    file.preallocate(0, 0).unwrap();
    assert_eq!(file.size_bytes().unwrap(), 0);
    file.write_all_at(b"x", 0).unwrap();
    file.drop_cache().unwrap();
    assert_eq!(file.size_bytes().unwrap(), 1);
}

#[test]
fn a_directory_replaces_an_empty_directory_only() {
    let root = tempfile::tempdir().unwrap();
    let [from, empty, full] = ["from", "empty", "full"].map(|name| root.path().join(name));
    for directory in [&from, &empty, &full] {
        OsVfs.create_dir(directory, 0o700).unwrap();
    }
    fs::write(full.join("entry"), b"").unwrap();
    assert!(OsVfs.rename(&from, &full).unwrap_err().is_taken());
    OsVfs.rename(&from, &empty).unwrap();
    assert_eq!(OsVfs.list(root.path()).unwrap(), ["empty", "full"]);
    assert!(OsVfs.remove_dir(&full).unwrap_err().is_taken());
    OsVfs.remove_file(&full.join("entry")).unwrap();
    OsVfs.remove_dir(&full).unwrap();
    assert_eq!(OsVfs.metadata(&full).unwrap(), None);
    assert!(OsVfs.metadata(&empty).unwrap().unwrap().is_dir);
}

#[test]
fn a_name_that_is_not_utf8_is_an_error_that_names_the_directory() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join(std::ffi::OsStr::from_bytes(b"\xff")), b"").unwrap();
    let error = OsVfs.list(root.path()).unwrap_err();
    assert_eq!(error.path, root.path());
    assert!(error.to_string().contains("UTF-8"), "{error}");
}

#[test]
fn a_lock_is_held_by_one_handle() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("LOCK");
    let first = OsVfs.open(&path, Open::Create { mode: 0o600 }).unwrap();
    let second = OsVfs.open(&path, Open::ReadWrite).unwrap();
    assert!(first.try_lock().unwrap());
    assert!(!second.try_lock().unwrap());
    drop(first);
    assert!(second.try_lock().unwrap());
}

#[test]
fn space_is_that_of_the_file_system() {
    let root = tempfile::tempdir().unwrap();
    let space = OsVfs.space(root.path()).unwrap();
    assert!(0 < space.free_bytes && space.free_bytes <= space.total_bytes, "{space:?}");
    assert!(space.free_inodes > 0);
}

#[test]
fn files_and_directories_can_be_synced_and_replaced_atomically() {
    let root = tempfile::tempdir().unwrap();
    let deep = root.path().join("a/b");
    durable::create_dir_durable(&OsVfs, &deep, 0o700, Step::Root).unwrap();
    let file = OsVfs.open(&deep.join("file"), Open::Create { mode: 0o600 }).unwrap();
    file.write_all_at(b"content", 0).unwrap();
    durable::sync_file(&*file, Step::UploadData).unwrap();
    durable::sync_dirs(&OsVfs, [deep.as_path(), root.path(), deep.as_path()], Step::Root).unwrap();
    durable::write_atomic(
        &OsVfs,
        &deep.join("file"),
        b"new",
        0o600,
        [Step::IdentityData, Step::IdentityName],
    )
    .unwrap();
    assert_eq!(fs::read(deep.join("file")).unwrap(), b"new");
    assert_eq!(file.size_bytes().unwrap(), 7, "the open file is still the old one");

    let gone =
        durable::sync_dirs(&OsVfs, [root.path().join("gone").as_path()], Step::Root).unwrap_err();
    assert!(gone.is_not_found() && !gone.is_failed_sync(), "{gone}");
}
