//! F-13: a store whose `metadata.redb` or `store.json` was damaged while nobody had it open. It is
//! refused with a text, or served exactly as it was: never a panic, a hang, an older or an empty
//! registry. The input is a list of changes.
#![no_main]

use std::sync::{Arc, OnceLock};

use arbitrary::Unstructured;
use kelson::disk::sim::{Disk, SimVfs};
use kelson_fuzz::damage::{damage, tolerate_panics_of_redb};
use kelson_fuzz::store::{Store, chunk, content, digest, image, name, outsider, paths, push, tag};
use kelson_fuzz::{Numbered, virtual_time};
use libfuzzer_sys::fuzz_target;

const CHANGES_MAX: usize = 8;

static SOUND: OnceLock<(Disk, String)> = OnceLock::new();

fuzz_target!(init: tolerate_panics_of_redb(), |data: &[u8]| {
    let (disk, facts) = SOUND.get_or_init(|| virtual_time(sound()));
    let vfs = SimVfs::new(disk.clone());
    let mut input = Unstructured::new(data);
    let path = match input.ratio(1, 8) {
        Ok(true) => paths().own.join("store.json"),
        _ => paths().database,
    };
    for _ in 0..CHANGES_MAX {
        let Some((file, size_bytes)) = outsider(&vfs, &path) else { break };
        if input.is_empty() || damage(file.as_ref(), size_bytes, &mut input).is_err() {
            break;
        }
    }
    match virtual_time(facts_of(&vfs)) {
        Ok(found) => assert_eq!(&found, facts),
        Err(refusal) => assert!(!refusal.is_empty()),
    }
});

/// A store with something in every table, closed, and the text of its facts.
async fn sound() -> (Disk, String) {
    let vfs = SimVfs::default();
    let store = Store::open(&vfs, Arc::new(Numbered::default())).await.expect("a new store");
    let registry = &store.registry;
    for (repository, n) in [("a", 0), ("a", 1), ("a", 2), ("b/c", 0), ("b/c", 3)] {
        let bytes = content(n);
        let pushed = registry.push_blob(&name(repository), &digest(&bytes), chunk(bytes)).await;
        pushed.expect("a blob");
    }
    let document = image(0, 1, None);
    let subject = digest(&document);
    registry.put_manifest(push("a", tag("latest"), document)).await.expect("an image");
    let attached = image(0, 2, Some(&subject));
    registry.put_manifest(push("a", tag("signed"), attached)).await.expect("a referrer");
    registry.put_manifest(push("b/c", tag("v1"), image(0, 3, None))).await.expect("an image");
    registry.delete_manifest(&name("b/c"), &tag("v1")).await.expect("a deletion");
    let repository = name("a");
    let upload = registry.begin_upload(&repository, kelson::oci::Algorithm::Sha256).await;
    let upload = upload.expect("a session");
    registry.append_upload(&repository, upload.id, chunk(content(5))).await.expect("bytes");
    store.close().await.expect("a clean stop");
    let facts = facts_of(&vfs.kill()).await.expect("a sound store");
    (vfs.disk(), facts)
}

/// Everything that the database holds.
async fn facts_of(vfs: &SimVfs) -> Result<String, String> {
    let store = Store::open(vfs, Arc::new(Numbered::default())).await?;
    let findings = store.meta.check().map_err(|e| e.to_string())?;
    assert_eq!(findings, []);
    let mut text = Vec::new();
    store.meta.dump(&mut text).map_err(|e| e.to_string())?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
