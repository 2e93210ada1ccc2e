//! F-14: a store whose staging directories, blob files and session rows do not fit each other any
//! more. It opens, or is refused with a text; uploads without a session are gone; whatever a
//! client can still read or finish has the digest that it was asked for by.
#![no_main]

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use kelson::blob::BlobStore as _;
use kelson::disk::Vfs as _;
use kelson::disk::sim::{Disk, SimVfs};
use kelson::meta::{MetaStore as _, UploadRecord};
use kelson::oci::{Algorithm, UploadId};
use kelson_fuzz::damage::damage;
use kelson_fuzz::store::{ROOT, Store, chunk, content, digest, name, outsider, paths, read, walk};
use kelson_fuzz::{Numbered, virtual_time};
use libfuzzer_sys::fuzz_target;

const CHANGES_MAX: usize = 12;
/// Contents of the store, and of its uploads.
const BLOBS: u8 = 4;
const UPLOADS: u8 = 3;

static SOUND: OnceLock<(Disk, Vec<UploadId>)> = OnceLock::new();

fuzz_target!(|data: &[u8]| {
    let (disk, ids) = SOUND.get_or_init(|| virtual_time(sound()));
    let vfs = SimVfs::new(disk.clone());
    let mut input = Unstructured::new(data);
    virtual_time(async {
        change_rows(&vfs, ids, &mut input).await;
        let vfs = vfs.kill();
        for _ in 0..CHANGES_MAX {
            if input.is_empty() || change_files(&vfs, &mut input).is_err() {
                break;
            }
        }
        match Store::open(&vfs, Arc::new(Numbered::default())).await {
            Ok(store) => use_it(store, ids).await,
            Err(refusal) => assert!(!refusal.is_empty()),
        }
    });
});

/// What upload `n` is to become; no blob has it.
fn upload_content(n: u8) -> Bytes {
    content(n + 100)
}

/// A store with blobs, one of them in the database alone, and uploads under way.
async fn sound() -> (Disk, Vec<UploadId>) {
    let vfs = SimVfs::default();
    let store = Store::open(&vfs, Arc::new(Numbered::default())).await.expect("a new store");
    let (registry, repository) = (&store.registry, name("a"));
    let mut ids = Vec::new();
    for n in 0..BLOBS {
        if n + 1 == BLOBS {
            registry.spill_once().await.expect("a spill");
        }
        let bytes = content(n);
        registry.push_blob(&repository, &digest(&bytes), chunk(bytes)).await.expect("a blob");
    }
    for n in 0..UPLOADS {
        let upload =
            registry.begin_upload(&repository, Algorithm::Sha256).await.expect("a session");
        let part = upload_content(n).slice(..3);
        registry.append_upload(&repository, upload.id, chunk(part)).await.expect("bytes");
        ids.push(upload.id);
    }
    store.meta.close().await.expect("a clean stop");
    drop(store);
    (vfs.kill().disk(), ids)
}

/// Sessions that say something else than what is staged.
async fn change_rows(vfs: &SimVfs, ids: &[UploadId], input: &mut Unstructured<'_>) {
    let store = Store::open(vfs, Arc::new(Numbered::default())).await.expect("a sound store");
    let mut changes = || -> Result<Vec<(UploadId, Option<u64>)>> {
        let mut changes = Vec::new();
        for _ in 0..input.int_in_range(0..=3_u8)? {
            let id = match input.ratio(1, 4)? {
                true => UploadId::from_bytes(input.arbitrary()?),
                false => *input.choose(ids)?,
            };
            let offset = match input.int_in_range(0..=3_u8)? {
                0 => None,
                1 => Some(input.arbitrary()?),
                _ => Some(input.int_in_range(0..=9)?),
            };
            changes.push((id, offset));
        }
        Ok(changes)
    };
    for (id, offset) in changes().unwrap_or_default() {
        let changed = match offset {
            None => store.meta.forget_upload(id).await,
            Some(offset) => {
                let upload = UploadRecord {
                    id,
                    repository: name("a"),
                    offset,
                    algorithm: Algorithm::Sha256,
                    started_at: Default::default(),
                    started_uptime_seconds: 0,
                };
                store.meta.save_upload(upload).await
            }
        };
        changed.expect("no faults are planned");
    }
    store.meta.close().await.expect("a clean stop");
}

/// One change of a file or directory, but for the database.
fn change_files(vfs: &SimVfs, input: &mut Unstructured<'_>) -> Result<()> {
    let mut found: Vec<PathBuf> = Vec::new();
    walk(vfs, Path::new(ROOT), &mut found);
    found.retain(|path| !path.starts_with(&paths().database));
    let path = input.choose(&found)?.clone();
    let other = match input.ratio(1, 2)? {
        true => input.choose(&found)?.clone(),
        false => path.with_file_name(input.choose(&["x", "data", ".", "0", "\u{e4}"])?),
    };
    // Whatever cannot be done is not done: the disk says so, as it would to an outsider.
    match input.int_in_range(0..=5_u8)? {
        0 => drop(vfs.remove_file(&path)),
        1 => drop(vfs.remove_dir(&path)),
        2 => drop(vfs.rename(&path, &other)),
        3 => drop(vfs.create_dir(&other, 0o755)),
        4 => drop(vfs.open(&other, kelson::disk::Open::Create { mode: 0o644 })),
        _ => {
            if let Some((file, size_bytes)) = outsider(vfs, &path) {
                damage(file.as_ref(), size_bytes, input)?;
            }
        }
    }
    Ok(())
}

async fn use_it(store: Store, ids: &[UploadId]) {
    let (registry, repository) = (&store.registry, name("a"));
    for id in store.blobs.staged().await.unwrap_or_default() {
        let known = store.meta.upload(id).await.expect("the database is sound");
        // What cannot be removed, because of what an outsider put into it, stays.
        assert!(known.is_some() || store.blobs.discard(id).await.is_err());
    }
    for (n, id) in (0..UPLOADS).zip(ids) {
        let status = registry.upload_status(&repository, *id).await;
        let Ok(status) = status else { continue };
        let bytes = upload_content(n);
        let from = usize::try_from(status.offset).unwrap_or(usize::MAX).min(bytes.len());
        let (wanted, rest) = (digest(&bytes), chunk(bytes.slice(from..)));
        if registry.finish_upload(&repository, *id, &wanted, rest).await.is_ok() {
            assert_eq!(read(registry, &repository, &wanted).await, Ok(bytes));
        }
    }
    for n in 0..BLOBS {
        let bytes = content(n);
        let wanted = digest(&bytes);
        let _ = read(registry, &repository, &wanted).await;
        // Pushing it again heals a file that is missing or has another length.
        if registry.push_blob(&repository, &wanted, chunk(bytes)).await.is_ok() {
            let _ = read(registry, &repository, &wanted).await;
        }
    }
    let _ = registry.spill_once().await;
    assert_eq!(store.meta.check().expect("the database is sound"), []);
}
