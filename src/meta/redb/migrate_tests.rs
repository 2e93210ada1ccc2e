//! Opening databases of every age and kind; the fixtures of released versions.
//!
//! `UPDATE_FIXTURES=1 cargo test fixture_write` writes the fixture of the current version, once.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Builder, TableDefinition};
use sha2::{Digest as _, Sha256};

use super::super::backend::Backend;
use super::super::codec::{Key, TagRow};
use super::super::handle::Handle;
use super::super::migrations::ALL;
use super::super::testing::{Fault, MemoryVfs, Operation};
use super::super::{Options, RedbMeta};
use super::*;
use crate::disk::{Open, Vfs};
use crate::meta::conformance::{digest, edge, link, moment, name, push, tag};
use crate::meta::{
    EdgeKind, Garbage, GcQueue, LinkBlob, MetaStore, PushManifest, Standing, UploadRecord,
};
use crate::oci::Reference;
use crate::oci::{Algorithm, UploadId};
use crate::ops::Blocking;

const PATH: &str = "/store/metadata.redb";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/meta")
}

fn open(vfs: &MemoryVfs) -> Result<RedbMeta> {
    let vfs = Arc::new(vfs.clone());
    RedbMeta::open(vfs, Path::new(PATH), Options::default(), Blocking::Inline)
}

fn open_with(vfs: &MemoryVfs, steps: &[Step]) -> Result<Handle> {
    Handle::open_with(Arc::new(vfs.clone()), Path::new(PATH), Options::default(), steps)
}

fn dump(store: &RedbMeta) -> String {
    let mut text = Vec::new();
    store.dump(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Something in every table.
async fn fill(store: &RedbMeta) {
    for n in [1, 2, 3] {
        store.link_blob(link("library/app", n, 10)).await.unwrap();
    }
    store.mark_spilled(vec![digest(1)]).await.unwrap();
    let file = LinkBlob { content: None, ..link("library/app", 4, 10) };
    store.link_blob(file).await.unwrap();
    store.link_blob(link("only/blobs", 2, 20)).await.unwrap();
    let edges = vec![edge(1, EdgeKind::Config), edge(2, EdgeKind::Layer)];
    store.put_manifest(push("library/app", 20, edges, &["v1", "latest"])).await.unwrap();
    let index = push("library/app", 21, vec![edge(20, EdgeKind::Child)], &["index"]);
    store.put_manifest(index).await.unwrap();
    let signature = PushManifest {
        subject: Some(digest(20)),
        artifact_type: Some("application/vnd.example".to_owned()),
        annotations: [("note".to_owned(), "signed".to_owned())].into(),
        ..push("library/app", 22, vec![], &[])
    };
    store.put_manifest(signature.clone()).await.unwrap();
    let orphan = PushManifest { subject: Some(digest(23)), ..signature };
    store.put_manifest(push("library/app", 23, vec![], &[])).await.unwrap();
    store.put_manifest(PushManifest { digest: digest(29), ..orphan }).await.unwrap();
    store.delete_manifest(&name("library/app"), &digest(23), moment(30)).await.unwrap();
    store.put_manifest(push("library/app", 30, vec![], &[])).await.unwrap();
    let garbage = store.garbage(GcQueue::Garbage, u64::MAX, None, 1).await.unwrap();
    store.condemn(garbage).await.unwrap();
    let upload = UploadRecord {
        id: UploadId::from_random([7; 16]),
        repository: name("library/app"),
        offset: 99,
        algorithm: Algorithm::Sha512,
        started_at: Timestamp(7),
        started_uptime_seconds: 8,
    };
    store.save_upload(upload).await.unwrap();
    store.set_store_id([9; 16]).await.unwrap();
    store.advance_uptime(60).await.unwrap();
}

#[tokio::test]
async fn fixture_write() {
    if std::env::var_os("UPDATE_FIXTURES").is_none() {
        return;
    }
    for (kind, contents) in [("-empty", "no rows"), ("", "something in every table but outbox")] {
        let name = format!("v{:04}{kind}", newest(ALL));
        let path = |extension| fixtures().join(format!("{name}.{extension}"));
        assert!(!path("redb").exists(), "{name} is there: a fixture is never written again");
        let vfs = MemoryVfs::default();
        let store = open(&vfs).unwrap();
        if kind.is_empty() {
            fill(&store).await;
        }
        let text = dump(&store);
        store.close().await.unwrap();
        let bytes = vfs.bytes(Path::new(PATH));
        fs::create_dir_all(fixtures()).unwrap();
        fs::write(path("redb"), &bytes).unwrap();
        fs::write(path("dump"), text).unwrap();
        let version = newest(ALL);
        let sha256 = sha256(&bytes);
        let sidecar = format!(
            "schema = {version}\nredb = \"4.6\"\ncontents = \"{contents}\"\nsha256 = \"{sha256}\"\n"
        );
        fs::write(path("toml"), sidecar).unwrap();
    }
}

#[test]
fn every_version_has_its_fixtures_and_every_fixture_its_version() {
    let expected: BTreeSet<String> = (1..=newest(ALL))
        .flat_map(|version| [format!("v{version:04}"), format!("v{version:04}-empty")])
        .flat_map(|name| ["redb", "toml", "dump"].map(|extension| format!("{name}.{extension}")))
        .collect();
    let found: BTreeSet<String> = fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn fixtures_open_with_what_they_held() {
    for version in 1..=newest(ALL) {
        for kind in ["", "-empty"] {
            let read = |extension| {
                fs::read(fixtures().join(format!("v{version:04}{kind}.{extension}"))).unwrap()
            };
            let bytes = read("redb");
            let sidecar = String::from_utf8(read("toml")).unwrap();
            assert!(sidecar.contains(&sha256(&bytes)), "v{version:04}{kind} was changed");
            let vfs = MemoryVfs::default();
            vfs.plant(Path::new(PATH), &bytes);
            let store = open(&vfs).unwrap();
            assert_eq!(store.check().unwrap(), []);
            let first = dump(&store);
            if std::env::var_os("UPDATE_FIXTURES").is_some() {
                let path = fixtures().join(format!("v{version:04}{kind}.dump"));
                fs::write(path, &first).unwrap();
            }
            let expected = String::from_utf8(read("dump")).unwrap();
            assert!(first == expected, "v{version:04}{kind} holds\n{first}");
            store.close().await.unwrap();
            let again = open(&vfs).unwrap();
            assert_eq!(dump(&again), first);
        }
    }
}

/// The database of the first release that is written by `change`.
fn first_release(change: impl FnOnce(&WriteTransaction)) -> MemoryVfs {
    let vfs = MemoryVfs::default();
    vfs.plant(Path::new(PATH), &fs::read(fixtures().join("v0001.redb")).unwrap());
    let file = vfs.open(Path::new(PATH), Open::ReadWrite).unwrap();
    let database = Builder::new()
        .create_with_backend(Backend::writable(file, Arc::default()).unwrap())
        .unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
    database.close().unwrap();
    vfs
}

#[tokio::test]
async fn what_nothing_holds_is_queued_by_the_second_step() {
    // The tag of the index 21 moves to 29, whose subject was deleted and which waits.
    let vfs = first_release(|transaction| {
        let rows = |name| {
            let table = TableDefinition::<&[u8], &[u8]>::new(name);
            transaction.open_table(table).unwrap()
        };
        let of = |n| Key::number(1).and_digest(&digest(n));
        let row = TagRow { digest: digest(29), updated_at: Timestamp(1) };
        let tag = Key::number(1).and_tag("index");
        rows("tags-1").insert(tag.as_slice(), row.encode().as_slice()).unwrap();
        let mut by_manifest = rows("tags_by_manifest-1");
        assert!(by_manifest.remove(of(21).and_tag("index").as_slice()).unwrap().is_some());
        by_manifest.insert(of(29).and_tag("index").as_slice(), b"\x01".as_slice()).unwrap();
    });
    let store = open(&vfs).unwrap();
    assert_eq!(store.check().unwrap(), []);
    let untagged = store.garbage(GcQueue::Untagged, u64::MAX, None, 9).await.unwrap();
    let untagged: Vec<_> = untagged.iter().map(|c| (c.digest, c.eligible_uptime_seconds)).collect();
    assert_eq!(untagged, [(digest(21), 60 + 24 * 3600 + 1)]);
    let garbage = store.garbage(GcQueue::Garbage, u64::MAX, None, 9).await.unwrap();
    assert!(garbage.len() > 3 && garbage.iter().all(|c| c.garbage != Garbage::Referrer));
    let standing = async |n| {
        let reference = Reference::Digest(digest(n));
        store.stat_manifest(&name("library/app"), &reference).await.unwrap().unwrap().standing
    };
    assert_eq!(standing(29).await, Standing::Held);
    // And it goes on as the rule says.
    store.delete_tag(&name("library/app"), &tag("index"), moment(90)).await.unwrap();
    assert_eq!(standing(29).await, Standing::Waiting { eligible_uptime_seconds: 90 });
    assert_eq!(standing(22).await, Standing::Held, "its subject is there");
    assert_eq!(standing(20).await, Standing::Held);
    assert_eq!(store.check().unwrap(), []);
}

#[test]
fn a_new_database_is_the_oldest_one_brought_up() {
    let oldest = MemoryVfs::default();
    oldest.plant(Path::new(PATH), &fs::read(fixtures().join("v0001-empty.redb")).unwrap());
    let new = MemoryVfs::default();
    assert_eq!(dump(&open(&oldest).unwrap()), dump(&open(&new).unwrap()));
}

#[test]
fn steps_are_frozen() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let readme = fs::read_to_string(folder.join("README.md")).unwrap();
    for step in ALL {
        let file = format!("m{:04}_{}.rs", step.to, step.name);
        let sum = sha256(&fs::read(folder.join("redb").join(&file)).unwrap());
        let row = readme.lines().find(|line| line.contains(&file));
        let row = row.unwrap_or_else(|| panic!("{file} is not in migrations/README.md"));
        assert!(row.contains(&sum), "{file} has the sum {sum}, another than in README.md");
    }
}

const EXTRA: TableDefinition<u64, u64> = TableDefinition::new("extra-3");

fn three_steps() -> [Step; 3] {
    let apply = |transaction: &WriteTransaction| {
        transaction.open_table(EXTRA)?.insert(1, 2)?;
        Ok(1)
    };
    let check = |transaction: &ReadTransaction| match transaction.open_table(EXTRA)?.get(1)? {
        Some(_) => Ok(()),
        None => Err(redb::Error::Corrupted("extra-3 is empty".to_owned())),
    };
    [ALL[0], ALL[1], Step { to: 3, name: "extra", what: "add a table", apply, check }]
}

#[tokio::test]
async fn an_older_database_is_copied_and_brought_up() {
    let vfs = MemoryVfs::default();
    let store = open(&vfs).unwrap();
    fill(&store).await;
    store.close().await.unwrap();
    let before = vfs.bytes(Path::new(PATH));
    drop(open_with(&vfs, &three_steps()).unwrap());
    assert_eq!(vfs.names(), [PATH.to_owned(), format!("{PATH}.v2")]);
    // The copy is the old database, byte for byte but for what opening it to look changed.
    let copy = MemoryVfs::default();
    copy.plant(Path::new(PATH), &vfs.bytes(Path::new(&format!("{PATH}.v2"))));
    let original = MemoryVfs::default();
    original.plant(Path::new(PATH), &before);
    assert_eq!(dump(&open(&copy).unwrap()), dump(&open(&original).unwrap()));
    let newer = open(&vfs).unwrap_err();
    assert!(matches!(newer, Error::SchemaTooNew { found: 3, supported: 2, .. }), "{newer}");
    let release = env!("CARGO_PKG_VERSION");
    let expected = format!(
        "the database has schema 3 of release {release}, this release knows up to 2; \
         use release {release} or a newer one"
    );
    assert_eq!(newer.to_string(), expected);
}

/// Fails at the first, second, ... write or sync of an upgrade, cuts the power, opens again.
#[tokio::test]
async fn an_upgrade_cut_short_is_gone_through_with_later() {
    let old = MemoryVfs::default();
    let store = open(&old).unwrap();
    fill(&store).await;
    let text = dump(&store);
    store.close().await.unwrap();
    for operation in [Operation::Write, Operation::Sync] {
        for first in 0.. {
            let vfs = old.after_power_cut();
            vfs.arm(Fault { operation, first, count: 1, kind: io::ErrorKind::Other });
            drop(open_with(&vfs, &three_steps()));
            let fired = vfs.disarm() > 0;
            for disk in [vfs.after_power_cut(), vfs.after_kill()] {
                // A copy that has its name is whole.
                let copy = format!("{PATH}.v2");
                if disk.names().contains(&copy) {
                    let copied = MemoryVfs::default();
                    copied.plant(Path::new(PATH), &disk.bytes(Path::new(&copy)));
                    assert_eq!(dump(&open(&copied).unwrap()), text, "{operation:?} {first}");
                }
                // Version 2 or 3, and nothing between.
                match open(&disk) {
                    Ok(store) => assert_eq!(dump(&store), text),
                    Err(Error::SchemaTooNew { found: 3, .. }) => {}
                    Err(other) => panic!("{operation:?} {first}: {other}"),
                }
                drop(open_with(&disk, &three_steps()).unwrap());
            }
            if !fired {
                assert!(first > 3);
                break;
            }
        }
    }
}

/// A database made by `make`, which is none of ours.
fn made_by(make: impl FnOnce(&WriteTransaction)) -> MemoryVfs {
    let vfs = MemoryVfs::default();
    vfs.plant(Path::new(PATH), b"");
    let file = vfs.open(Path::new(PATH), Open::ReadWrite).unwrap();
    let backend = Backend::writable(file, Arc::default()).unwrap();
    let database = Builder::new().create_with_backend(backend).unwrap();
    let transaction = database.begin_write().unwrap();
    make(&transaction);
    transaction.commit().unwrap();
    database.close().unwrap();
    vfs
}

#[track_caller]
fn refused(vfs: &MemoryVfs) -> String {
    open(vfs).unwrap_err().to_string()
}

#[test]
fn what_is_not_ours_is_refused_with_a_reason() {
    let other = TableDefinition::<u64, u64>::new("users");
    let foreign = made_by(|transaction| drop(transaction.open_table(other).unwrap()));
    assert_eq!(
        refused(&foreign),
        "the database is not Kelson's: it has the table `users` but no `schema`"
    );
    let schema = TableDefinition::<u64, u64>::new("schema");
    let foreign = made_by(|transaction| drop(transaction.open_table(schema).unwrap()));
    assert!(refused(&foreign).contains("its table `schema` is another"));
    let empty = made_by(|_| {});
    assert_eq!(refused(&empty), "the database is damaged: it has no tables");
    let unversioned = made_by(|transaction| drop(transaction.open_table(SCHEMA).unwrap()));
    assert_eq!(refused(&unversioned), "the database is damaged: `schema` has no version");
    let nonsense = made_by(|transaction| {
        let mut schema = transaction.open_table(SCHEMA).unwrap();
        schema.insert(VERSION, b"\x01\x02".as_slice()).unwrap();
    });
    let reason = "the database is damaged: the schema version is too short";
    assert_eq!(refused(&nonsense), reason);
    let tables_missing = made_by(|transaction| {
        let mut schema = transaction.open_table(SCHEMA).unwrap();
        schema.insert(VERSION, Version(newest(ALL)).encode().as_slice()).unwrap();
    });
    assert!(refused(&tables_missing).starts_with("the database is damaged: Table"));
    let unknown_table = made_by(|transaction| {
        for step in ALL {
            (step.apply)(transaction).unwrap();
            record(transaction, step, 0, Timestamp(0)).unwrap();
        }
        drop(transaction.open_table(other).unwrap());
    });
    let reason = "the database is not Kelson's: it has the unknown table `users`";
    assert_eq!(refused(&unknown_table), reason);
}

#[test]
fn what_is_no_database_is_refused_and_left_alone() {
    let good = fs::read(fixtures().join("v0001.redb")).unwrap();
    for bytes in [&b""[..], b"x", &[0; 8192], &good[..4096], &good[..good.len() / 2]] {
        let vfs = MemoryVfs::default();
        vfs.plant(Path::new(PATH), bytes);
        let text = refused(&vfs);
        assert!(text.starts_with("the database is damaged"), "{} bytes: {text}", bytes.len());
    }
    let missing = MemoryVfs::default();
    let options = Options { create: false, ..Options::default() };
    let vfs = Arc::new(missing.clone());
    let error = RedbMeta::open(vfs, Path::new(PATH), options, Blocking::Inline).unwrap_err();
    assert!(matches!(error, Error::Disk(error) if error.is_not_found()));
    assert_eq!(missing.names(), Vec::<String>::new());
}

/// Takes each row out of a database, one at a time: every one is missed.
#[tokio::test]
async fn a_missing_row_is_found() {
    let whole = MemoryVfs::default();
    let store = open(&whole).unwrap();
    fill(&store).await;
    store.close().await.unwrap();
    let mut tried = 0;
    for table in 0..16 {
        for row in 0.. {
            let vfs = whole.after_kill();
            let store = open(&vfs).unwrap();
            let Some(what) = store.remove_nth(table, row).unwrap() else { break };
            assert_ne!(store.check().unwrap(), [], "{what} was not missed");
            tried += 1;
        }
    }
    assert!(tried > 60, "{tried} rows");
}

/// Flips bytes all over a database. Whatever opens must read, dump and check without a panic.
#[test]
fn damage_is_found_or_harmless_but_never_a_panic() {
    let good = fs::read(fixtures().join("v0001.redb")).unwrap();
    for index in (0..good.len()).step_by(509) {
        let mut bytes = good.clone();
        bytes[index] ^= 0x41;
        let vfs = MemoryVfs::default();
        vfs.plant(Path::new(PATH), &bytes);
        if let Ok(store) = open(&vfs) {
            let _ = store.check();
            let _ = store.dump(&mut io::sink());
        }
    }
}
