//! Backups and restores on real files; every disk operation fails once, the power goes once.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::disk::OsVfs;
use crate::disk::durable::{Step, create_dir_durable};
use crate::disk::probe::{Class, EIO, ProbeVfs};
use crate::meta::redb::{Options as DatabaseOptions, RedbMeta};
use crate::meta::{Expect, MetaStore};
use crate::oci::media_type::OCI_MANIFEST;
use crate::oci::{Algorithm, Digest, MediaType, Reference, Tag};
use crate::ops::Progress;
use crate::ops::clock::ManualClock;
use crate::ops::random::OsRandom;
use crate::registry::identity::{self, Paths};
use crate::registry::tests::{image, repo, whole};
use crate::registry::{Options, PutManifest, Registry};

/// A store, and a place for what is made of it.
pub(super) struct Fixture {
    /// Everything lies in it.
    base: PathBuf,
    pub(super) registry: Registry,
    pub(super) meta: RedbMeta,
    folder: Option<tempfile::TempDir>,
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fixture = Self::on(Arc::new(OsVfs), folder.path()).await;
        Self { folder: Some(folder), ..fixture }
    }

    pub(super) async fn on(vfs: Arc<dyn Vfs>, base: &Path) -> Self {
        let (root, random) = (base.join("store"), Arc::new(OsRandom));
        create_dir_durable(&*vfs, &root.join("kelson"), 0o700, Step::Root).unwrap();
        let path = Paths::new(&root).database;
        let options = DatabaseOptions::default();
        let meta = RedbMeta::open(Arc::clone(&vfs), &path, options, Blocking::Inline).unwrap();
        meta.set_store_id([9; 16]).await.unwrap();
        identity::write_restored(&*vfs, &Paths::new(&root), [9; 16], 1).unwrap();
        let blobs = FsBlobs::open(vfs, &root, Blocking::Inline, random.clone()).unwrap();
        let registry = Registry::open(
            Arc::new(meta.clone()),
            Arc::new(blobs),
            Arc::new(ManualClock::default()),
            random,
            Options::default(),
        );
        let registry = registry.await.unwrap();
        Self { base: base.to_owned(), registry, meta, folder: None }
    }

    fn root(&self) -> PathBuf {
        self.path("store")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }

    /// Where a probe has to look.
    fn folder(&self) -> &Path {
        self.folder.as_ref().unwrap().path()
    }

    /// An image with a layer that has a file, and a config that has none yet.
    pub(super) async fn push(&self, tag: &str) -> Digest {
        let layer = tag.as_bytes().repeat(40_000);
        let config = format!("{{\"{tag}\":1}}");
        let [layer, config] = [&layer[..], config.as_bytes()]
            .map(|content| (Digest::of(Algorithm::Sha256, content), content.len(), whole(content)));
        let (config_digest, config_size, layer_digest) = (config.0, config.1, layer.0);
        let layers =
            format!(r#"[{{"mediaType":"l/l","digest":"{layer_digest}","size":{}}}]"#, layer.1);
        for (digest, _, content) in [layer, config] {
            self.registry.push_blob(&repo("a"), &digest, content).await.unwrap();
        }
        let document = image(&config_digest, "").replace("[]", &layers);
        let size = format!("\"size\":{config_size}");
        let document = document.replacen("\"size\":2", &size, 1);
        let put = PutManifest {
            repository: repo("a"),
            reference: Reference::Tag(Tag::parse(tag).unwrap()),
            tags: Vec::new(),
            media_type: Some(MediaType::parse(OCI_MANIFEST).unwrap()),
            bytes: document.into(),
            expect: Expect::Anything,
        };
        self.registry.put_manifest(put).await.unwrap();
        layer_digest
    }

    pub(super) async fn back_up(&self, tools: &Tools, to: &str) -> Result<Backup> {
        let ask = BackUp { destination: self.path(to) };
        self.registry.back_up(tools, &self.root(), &ask, &Progress::silent()).await
    }

    pub(super) async fn restore(&self, tools: &Tools, from: &str, to: &str) -> Result<Restored> {
        let ask = Restore {
            source: self.path(from),
            generation: None,
            allow_missing: false,
            database: DatabaseOptions::default(),
        };
        restore(tools, &self.path(to), &ask, &Progress::silent()).await
    }
}

/// Writes are many and alike: some of them fail.
fn stride(class: Class) -> usize {
    if class == Class::Write { 7 } else { 1 }
}

pub(super) fn tools(vfs: Arc<dyn Vfs>) -> Tools {
    let (blocking, random) = (Blocking::Inline, Arc::new(OsRandom));
    Tools { vfs, blocking, random, clock: Arc::new(ManualClock::default()) }
}

fn plain() -> Tools {
    tools(Arc::new(OsVfs))
}

/// Panics unless a store is whole: its facts agree, and each content that should have a file
/// has one. Its dump, without what a restore changes on purpose.
async fn assert_whole(root: &Path) -> String {
    whole_store(&plain(), root).await.unwrap()
}

/// As [`assert_whole`]; the error is what is wrong.
pub(super) async fn whole_store(tools: &Tools, root: &Path) -> std::result::Result<String, String> {
    let vfs = Arc::clone(&tools.vfs);
    let claim = identity::claim(Arc::clone(&vfs), Paths::new(root));
    let claim = claim.map_err(|error| error.to_string())?;
    let options = DatabaseOptions { create: false, ..DatabaseOptions::default() };
    let path = Paths::new(root).database;
    let meta = RedbMeta::open(Arc::clone(&vfs), &path, options, Blocking::Inline);
    let meta = meta.map_err(|error| error.to_string())?;
    let findings = meta.check().map_err(|error| error.to_string())?;
    if !claim.fits(&meta).await || !findings.is_empty() {
        return Err(format!("the database is not of this store, or {findings:?}"));
    }
    let mut export = Vec::new();
    meta.exporter().unwrap().export(Default::default(), &mut export).unwrap();
    let blobs = FsBlobs::existing(vfs, root, Blocking::Inline, Arc::new(OsRandom));
    let mut reader = Reader::new(export.as_slice()).unwrap();
    while let Some(Record::Content(content)) = reader.next_record().unwrap() {
        if content.has_file {
            let actual = verify::actual(&blobs, &content.digest).await.unwrap();
            if actual != Some(content.digest) {
                return Err(format!("the file of {} is {actual:?}", content.digest));
            }
        }
    }
    Ok(dump(&meta))
}

pub(super) fn dump(meta: &RedbMeta) -> String {
    let mut text = Vec::new();
    meta.dump(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    text.lines().filter(|line| !line.starts_with("transactions")).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_restored_store_is_the_one_that_was_backed_up() {
    let fixture = Fixture::new().await;
    fixture.push("one").await;
    fixture.registry.spill_once().await.unwrap();
    fixture.push("two").await;
    let backup = fixture.back_up(&plain(), "backups").await.unwrap();
    assert_eq!((backup.generation, backup.copied, backup.damaged), (1, 4, 0));
    let restored = fixture.restore(&plain(), "backups", "new").await.unwrap();
    assert_eq!((restored.contents, restored.missing), (4, 0));
    assert_eq!(assert_whole(&fixture.path("new")).await, dump(&fixture.meta));
    let names: Vec<_> = OsVfs.list(&fixture.path("new")).unwrap();
    assert_eq!(names, ["docker", "kelson"], "nothing else is left");
}

#[tokio::test]
async fn the_next_generation_copies_what_is_new() {
    let fixture = Fixture::new().await;
    fixture.push("one").await;
    fixture.back_up(&plain(), "backups").await.unwrap();
    fixture.push("two").await;
    let second = fixture.back_up(&plain(), "backups").await.unwrap();
    assert_eq!((second.generation, second.contents, second.copied), (2, 2, 1));
    let third = fixture.back_up(&plain(), "backups").await.unwrap();
    assert_eq!((third.generation, third.contents, third.copied), (3, 2, 0));
    let verified = verify(&plain(), &fixture.path("backups"), true, &Progress::silent()).await;
    let verified = verified.unwrap();
    assert_eq!((verified.generations, verified.contents, verified.read), (3, 5, 2));
    assert_eq!(verified.damaged, 0);
}

#[tokio::test]
async fn a_damaged_content_is_told_and_the_rest_is_backed_up() {
    let fixture = Fixture::new().await;
    let (one, _) = (fixture.push("one").await, fixture.push("two").await);
    let file = crate::blob::Layout::new(&fixture.root()).blob_data(&one);
    let mut bytes = fs::read(&file).unwrap();
    bytes[77] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let backup = fixture.back_up(&plain(), "backups").await.unwrap();
    assert_eq!((backup.contents, backup.copied, backup.damaged), (2, 1, 1));
    let path = fixture.path("backups");
    let verified = verify(&plain(), &path, false, &Progress::silent()).await.unwrap();
    assert_eq!(verified.damaged, 1);
    let refused = fixture.restore(&plain(), "backups", "new").await.unwrap_err().to_string();
    assert!(refused.contains("--allow-missing"), "{refused}");
    assert!(OsVfs.metadata(&fixture.path("new/kelson")).unwrap().is_none(), "nothing is there");
    let ask = Restore {
        source: path,
        generation: Some(1),
        allow_missing: true,
        database: DatabaseOptions::default(),
    };
    let root = fixture.path("new");
    let restored = restore(&plain(), &root, &ask, &Progress::silent()).await.unwrap();
    assert_eq!((restored.contents, restored.missing), (1, 1));
    assert!(assert_whole(&root).await.contains("Quarantined"));
}

#[tokio::test]
async fn what_is_no_place_for_a_backup_or_a_store_is_left_alone() {
    let fixture = Fixture::new().await;
    fixture.push("one").await;
    let refusal = |result: Result<Backup>| result.unwrap_err().to_string();
    let inside = refusal(fixture.back_up(&plain(), "store/backups").await);
    assert!(inside.contains("lie in one another"), "{inside}");
    fs::create_dir(fixture.path("home")).unwrap();
    fs::write(fixture.path("home/letter"), "dear").unwrap();
    let full = refusal(fixture.back_up(&plain(), "home").await);
    assert!(full.contains("neither empty nor a backup"), "{full}");
    fixture.back_up(&plain(), "backups").await.unwrap();
    let over = fixture.restore(&plain(), "backups", "store").await.unwrap_err().to_string();
    assert!(over.contains("is not empty"), "{over}");
    let none = fixture.restore(&plain(), "home", "new").await.unwrap_err().to_string();
    assert!(none.contains("is no backup"), "{none}");
    assert_eq!(OsVfs.list(&fixture.path("home")).unwrap(), ["letter"]);
}

/// V1, and no half generation: whatever fails, what has a name is whole and durable, and the next
/// run goes on.
#[tokio::test]
async fn a_backup_that_fails_anywhere_leaves_no_half_generation() {
    let fixture = Fixture::new().await;
    fixture.push("one").await;
    fixture.back_up(&plain(), "first").await.unwrap();
    for class in Class::CHANGES {
        for nth in (1..).step_by(stride(class)) {
            let to = format!("{class:?}-{nth}");
            let probe = ProbeVfs::new(Arc::new(OsVfs), fixture.folder());
            probe.fail(class, nth, EIO, false);
            let made = fixture.back_up(&tools(Arc::new(probe.clone())), &to).await;
            let fired = probe.heal();
            let path = fixture.path(&to);
            if made.is_ok() {
                for durable in ["generations/000001.export", "docker", "backup.json"] {
                    assert!(probe.is_durable(&path.join(durable)), "V1: {to} {durable}");
                }
                assert_eq!(probe.violations(), Vec::<String>::new(), "B1: {to}");
            }
            if path.join("generations/000001.export").exists() {
                fixture.restore(&plain(), &to, &format!("{to}.new")).await.unwrap();
                assert_whole(&fixture.path(&format!("{to}.new"))).await;
            }
            fixture.back_up(&plain(), &to).await.unwrap();
            let verified = verify(&plain(), &path, true, &Progress::silent()).await.unwrap();
            assert_eq!(verified.damaged, 0, "{to}");
            fs::remove_dir_all(&path).unwrap();
            if !fired {
                assert!(made.is_ok(), "{to}");
                break;
            }
        }
    }
}

/// Whatever fails: no store, which a server does not take for one, or all of it.
#[tokio::test]
async fn a_restore_that_fails_anywhere_leaves_no_half_store() {
    let fixture = Fixture::new().await;
    fixture.push("one").await;
    fixture.registry.spill_once().await.unwrap();
    fixture.back_up(&plain(), "backups").await.unwrap();
    let whole = dump(&fixture.meta);
    for class in Class::CHANGES {
        for nth in (1..).step_by(stride(class)) {
            let to = format!("{class:?}-{nth}");
            let root = fixture.path(&to);
            let probe = ProbeVfs::new(Arc::new(OsVfs), fixture.folder());
            probe.fail(class, nth, EIO, false);
            let made = fixture.restore(&tools(Arc::new(probe.clone())), "backups", &to).await;
            let fired = probe.heal();
            if made.is_ok() {
                assert!(probe.is_durable(&root.join("docker")), "V1: {to}");
                assert!(probe.is_durable(&root.join("kelson")), "V1: {to}");
            } else if root.join(".kelson-restore").exists() {
                let refused = identity::claim(Arc::new(OsVfs), Paths::new(&root));
                let served = root.join("kelson/store.json").exists();
                assert!(refused.is_err() || served, "{to}: a server would start");
            }
            if !root.join("kelson/store.json").exists()
                || root.join(".kelson-restore/done").exists()
            {
                fixture.restore(&plain(), "backups", &to).await.unwrap();
            }
            assert_eq!(assert_whole(&root).await, whole, "{to}");
            fs::remove_dir_all(&root).unwrap();
            if !fired {
                assert!(made.is_ok(), "{to}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn exports_are_made_when_something_changed_and_three_are_kept() {
    let fixture = Fixture::new().await;
    let own = fixture.root().join("kelson");
    let mut exports = Exports::new(plain(), &own, &own.join("metadata.redb"));
    let mut made = Vec::new();
    for tag in ["one", "two", "three", "four", "five"] {
        fixture.push(tag).await;
        match fixture.registry.export_once(&mut exports).await.unwrap() {
            automatic::Report::Exported(path) => made.push(path),
            other => panic!("{other:?}"),
        }
        fixture.meta.advance_uptime(60).await.unwrap();
        let again = fixture.registry.export_once(&mut exports).await.unwrap();
        assert_eq!(again, automatic::Report::Unchanged);
    }
    let kept: Vec<_> = OsVfs.list(&own.join("exports")).unwrap();
    let newest = made[2..].iter().map(|path| path.file_name().unwrap().to_str().unwrap());
    assert_eq!(kept, newest.collect::<Vec<_>>());
}

#[tokio::test]
async fn an_export_that_fails_leaves_the_ones_before() {
    let fixture = Fixture::new().await;
    fixture.push("one").await;
    let own = fixture.root().join("kelson");
    let database = own.join("metadata.redb");
    fixture.registry.export_once(&mut Exports::new(plain(), &own, &database)).await.unwrap();
    let before = OsVfs.list(&own.join("exports")).unwrap();
    fixture.push("two").await;
    for class in [Class::Create, Class::Write, Class::SyncData, Class::Rename] {
        let probe = ProbeVfs::new(Arc::new(OsVfs), fixture.folder());
        probe.fail(class, 1, EIO, false);
        let mut exports = Exports::new(tools(Arc::new(probe.clone())), &own, &database);
        let failed = fixture.registry.export_once(&mut exports).await;
        assert!(probe.heal() && failed.is_err(), "{class:?}");
        let mut found = OsVfs.list(&own.join("exports")).unwrap();
        found.retain(|name| name != "next.tmp");
        assert_eq!(found, before, "{class:?}");
    }
}

/// A store whose database is damaged, with an export that is older than its last push, and with a
/// file gone; the layer that is gone, and the one that is newer.
async fn wrecked() -> (Fixture, Digest, Digest) {
    let fixture = Fixture::new().await;
    let gone = fixture.push("gone").await;
    fixture.push("kept").await;
    fixture.registry.spill_once().await.unwrap();
    let own = fixture.root().join("kelson");
    let database = own.join("metadata.redb");
    let mut exports = Exports::new(plain(), &own, &database);
    fixture.registry.export_once(&mut exports).await.unwrap();
    let newer = fixture.push("newer").await;
    let layout = crate::blob::Layout::new(&fixture.root());
    fs::remove_file(layout.blob_data(&gone)).unwrap();
    fixture.meta.close().await.unwrap();
    fs::write(&database, b"damaged").unwrap();
    (fixture, gone, newer)
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// D-20: from the newest export, whatever fails in between; what is newer is told.
#[tokio::test]
async fn a_lost_database_is_made_anew_and_what_is_newer_is_told() {
    let (fixture, _, newer) = wrecked().await;
    for class in Class::CHANGES {
        for nth in (1..).step_by(stride(class)) {
            let root = fixture.path(&format!("{class:?}-{nth}"));
            copy_tree(&fixture.root(), &root);
            let probe = ProbeVfs::new(Arc::new(OsVfs), fixture.folder());
            probe.fail(class, nth, EIO, false);
            let mut restored = restore_latest(&tools(Arc::new(probe.clone())), &root).await;
            let fired = probe.heal();
            if restored.is_err() && !is_sound(&root).await {
                restored = restore_latest(&plain(), &root).await;
                restored.as_ref().unwrap();
            }
            if let Ok(restored) = &restored {
                // Of its three contents only the layer has no copy in the database.
                assert_eq!((restored.missing, restored.unknown), (1, 1), "{class:?} {nth}");
            }
            let layout = crate::blob::Layout::new(&root);
            assert!(layout.blob_data(&newer).exists(), "what is not known stays");
            let own = root.join("kelson");
            let old = OsVfs.list(&own).unwrap();
            let old = old.iter().find(|name| name.starts_with("metadata.redb.damaged-")).unwrap();
            assert_eq!(fs::read(own.join(old)).unwrap(), b"damaged", "it is kept");
            let text = assert_whole(&root).await;
            assert!(text.contains("kept") && !text.contains("newer"), "nothing is invented");
            fs::remove_dir_all(&root).unwrap();
            if !fired {
                break;
            }
        }
    }
}

pub(super) async fn restore_latest(tools: &Tools, root: &Path) -> Result<RestoredMetadata> {
    let (source, options) = (MetadataSource::Latest, DatabaseOptions::default());
    restore_metadata(tools, root, &source, options, &Progress::silent()).await
}

/// Whether the last step had been taken when something failed.
async fn is_sound(root: &Path) -> bool {
    let path = Paths::new(root).database;
    let options = DatabaseOptions { create: false, ..DatabaseOptions::default() };
    RedbMeta::open(Arc::new(OsVfs), &path, options, Blocking::Inline).is_ok()
}

#[tokio::test]
async fn a_sound_database_is_not_replaced() {
    let fixture = Fixture::new().await;
    fixture.push("one").await;
    let own = fixture.root().join("kelson");
    let mut exports = Exports::new(plain(), &own, &own.join("metadata.redb"));
    fixture.registry.export_once(&mut exports).await.unwrap();
    fixture.meta.close().await.unwrap();
    let refused = restore_latest(&plain(), &fixture.root()).await.unwrap_err().to_string();
    assert!(refused.contains("there is nothing to restore"), "{refused}");
    let other = fixture.path("elsewhere");
    let source = MetadataSource::Latest;
    let options = DatabaseOptions::default();
    let none = restore_metadata(&plain(), &other, &source, options, &Progress::silent()).await;
    assert!(none.unwrap_err().to_string().contains("there is no store here"));
}
