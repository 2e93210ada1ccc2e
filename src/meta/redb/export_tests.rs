//! Exports and imports; every disk operation of an import fails once.
//!
//! `UPDATE_FIXTURES=1 cargo test fixture_write` writes the export of the current schema, once.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::super::RedbMeta;
use super::super::testing::{Fault, MemoryVfs, Operation};
use super::*;
use crate::meta::conformance::{digest, edge, link, name, push, tag};
use crate::meta::export::Error as ExportError;
use crate::meta::{EdgeKind, Exporter, LinkBlob, MetaStore};
use crate::oci::Reference;
use crate::ops::Blocking;

const PATH: &str = "/store/metadata.redb";

fn open(vfs: &MemoryVfs) -> RedbMeta {
    let (vfs, path) = (Arc::new(vfs.clone()), Path::new(PATH));
    RedbMeta::open(vfs, path, Options::default(), Blocking::Inline).unwrap()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// What a store holds; where it comes from and how often it was written is left out.
fn dump(store: &RedbMeta) -> String {
    let mut text = Vec::new();
    store.dump(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with(TRANSACTIONS));
    lines.map(|line| format!("{line}\n")).collect()
}

fn export(store: &RedbMeta) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.export(Timestamp(7), &mut bytes).unwrap();
    bytes
}

fn import_into(vfs: &MemoryVfs, bytes: &[u8], transactions: u64) -> Result<Header> {
    let (vfs, path) = (Arc::new(vfs.clone()), Path::new(PATH));
    RedbMeta::import(vfs, path, Options::default(), bytes, transactions)
}

async fn filled() -> RedbMeta {
    let store = open(&MemoryVfs::default());
    store.set_store_id([9; 16]).await.unwrap();
    for n in [1, 2, 3] {
        store.link_blob(link("library/app", n, 10)).await.unwrap();
    }
    store.mark_spilled(vec![digest(1)]).await.unwrap();
    store.link_blob(LinkBlob { content: None, ..link("b", 4, 10) }).await.unwrap();
    let edges = vec![edge(1, EdgeKind::Config), edge(2, EdgeKind::Layer)];
    store.put_manifest(push("library/app", 20, edges, &["v1", "latest"])).await.unwrap();
    store.advance_uptime(60).await.unwrap();
    store
}

#[tokio::test]
async fn an_import_holds_what_was_exported() {
    let store = filled().await;
    let bytes = export(&store);
    let vfs = MemoryVfs::default();
    let header = import_into(&vfs, &bytes, 0).unwrap();
    assert_eq!((header.store_id, header.created_at), ([9; 16], Timestamp(7)));
    assert_eq!(vfs.names(), [PATH], "only the database is left");
    let again = open(&vfs);
    assert_eq!(again.check().unwrap(), []);
    assert_eq!(dump(&again), dump(&store));
    let before = store.counters().await.unwrap();
    let after = again.counters().await.unwrap();
    assert_eq!(after.transactions, before.transactions + LEAP);
    assert_eq!(after.uptime_seconds, before.uptime_seconds);
    // It goes on as any other store.
    again.put_manifest(push("library/app", 21, vec![], &["new"])).await.unwrap();
    let new = Reference::Tag(tag("new"));
    assert!(again.stat_manifest(&name("library/app"), &new).await.unwrap().is_some());
    assert_eq!(again.check().unwrap(), []);
}

#[tokio::test]
async fn an_import_is_ahead_of_what_the_store_is_known_to_have_seen() {
    let bytes = export(&filled().await);
    let vfs = MemoryVfs::default();
    import_into(&vfs, &bytes, 1_000_000).unwrap();
    assert_eq!(open(&vfs).counters().await.unwrap().transactions, 1_000_000 + LEAP);
}

#[tokio::test]
async fn contents_say_where_their_bytes_are() {
    let bytes = export(&filled().await);
    let mut reader = Reader::new(bytes.as_slice()).unwrap();
    let mut found = Vec::new();
    while let Some(Record::Content(content)) = reader.next_record().unwrap() {
        found.push((content.digest, content.has_file, content.has_bytes));
    }
    let mut expected = vec![
        (digest(1), true, false),
        (digest(2), false, true),
        (digest(3), false, true),
        (digest(4), true, false),
        (digest(20), false, true),
    ];
    expected.sort_unstable();
    assert_eq!(found, expected);
}

/// More rows than one transaction of an import takes, and tables that begin in a later one.
#[tokio::test]
async fn an_import_of_many_batches_is_whole() {
    let store = open(&MemoryVfs::default());
    store.set_store_id([9; 16]).await.unwrap();
    let content = bytes::Bytes::from(vec![7; BATCH_SIZE_BYTES / 4]);
    for n in 0..9 {
        let size_bytes = content.len() as u64;
        let large = LinkBlob { size_bytes, content: Some(content.clone()), ..link("a", n, 10) };
        store.link_blob(large).await.unwrap();
    }
    let vfs = MemoryVfs::default();
    import_into(&vfs, &export(&store), 0).unwrap();
    assert_eq!(dump(&open(&vfs)), dump(&store));
}

#[tokio::test]
async fn facts_that_break_an_invariant_are_refused() {
    let store = filled().await;
    assert!(store.remove_nth(1, 0).unwrap().is_some());
    let vfs = MemoryVfs::default();
    let error = import_into(&vfs, &export(&store), 0).unwrap_err();
    assert!(matches!(&error, Error::Corrupt(text) if text.contains("the export")), "{error}");
    assert_eq!(vfs.names(), Vec::<String>::new(), "nothing is left");
}

#[tokio::test]
async fn an_export_of_a_newer_schema_is_refused_with_the_version() {
    let mut bytes = Vec::new();
    let schema = migrate::newest(migrations::ALL) + 1;
    let header = Header {
        schema,
        store_id: [9; 16],
        transactions: 1,
        uptime_seconds: 1,
        created_at: Timestamp(1),
        release: "9.0.0".to_owned(),
    };
    Writer::new(&mut bytes, &header).unwrap().finish().unwrap();
    let error = import_into(&MemoryVfs::default(), &bytes, 0).unwrap_err();
    assert!(matches!(error, Error::SchemaTooNew { found, .. } if found == schema), "{error}");
}

#[tokio::test]
async fn damage_anywhere_leaves_nothing() {
    let bytes = export(&filled().await);
    for index in (0..bytes.len()).step_by(701) {
        let mut wrong = bytes.clone();
        wrong[index] ^= 0x20;
        for (bytes, how) in [(&wrong[..], "flipped"), (&bytes[..index], "cut")] {
            let vfs = MemoryVfs::default();
            assert!(import_into(&vfs, bytes, 0).is_err(), "{how} at {index}");
            assert_eq!(vfs.names(), Vec::<String>::new(), "{how} at {index}");
        }
    }
}

/// V1: after a power cut at any point there is no database, or all of it.
#[tokio::test]
async fn an_import_cut_short_leaves_no_database() {
    let store = filled().await;
    let (bytes, text) = (export(&store), dump(&store));
    for operation in [Operation::Write, Operation::Sync] {
        for first in 0.. {
            let vfs = MemoryVfs::default();
            vfs.arm(Fault { operation, first, count: 1, kind: io::ErrorKind::Other });
            let imported = import_into(&vfs, &bytes, 0);
            let fired = vfs.disarm() > 0;
            assert_eq!(imported.is_err(), fired, "{operation:?} {first}");
            for disk in [vfs.after_power_cut(), vfs.after_kill()] {
                if disk.names().contains(&PATH.to_owned()) {
                    assert_eq!(dump(&open(&disk)), text, "{operation:?} {first}");
                }
                if imported.is_err() && !disk.names().contains(&PATH.to_owned()) {
                    import_into(&disk, &bytes, 0).unwrap();
                }
            }
            if !fired {
                assert!(first > 3);
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_slow_destination_ends_the_export() {
    struct Slow;
    impl Write for Slow {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::TimedOut.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let store = filled().await;
    let error = store.export(Timestamp(7), &mut Slow).unwrap_err();
    assert!(matches!(error, Error::Export(ExportError::Io(_))), "{error}");
    assert!(store.link_blob(link("after", 9, 9)).await.is_ok(), "the store goes on");
}

#[tokio::test]
async fn the_clock_is_no_change() {
    let store = open(&MemoryVfs::default());
    let before = store.changes();
    store.advance_uptime(60).await.unwrap();
    assert_eq!(store.changes(), before);
    store.link_blob(link("a", 1, 1)).await.unwrap();
    assert_ne!(store.changes(), before);
}

#[tokio::test]
async fn fixture_write_export() {
    if std::env::var_os("UPDATE_FIXTURES").is_none() {
        return;
    }
    let path = fixture(&format!("exports/v{:04}.export", migrate::newest(migrations::ALL)));
    assert!(!path.exists(), "a fixture is never written again");
    fs::create_dir_all(fixture("exports")).unwrap();
    fs::write(path, export(&filled().await)).unwrap();
}

/// What any release has written, this one restores.
#[tokio::test]
async fn exports_of_every_schema_are_imported() {
    for version in 1..=migrate::newest(migrations::ALL) {
        let bytes = fs::read(fixture(&format!("exports/v{version:04}.export"))).unwrap();
        let vfs = MemoryVfs::default();
        let header = import_into(&vfs, &bytes, 0).unwrap();
        assert_eq!(header.schema, version);
        let store = open(&vfs);
        assert_eq!(store.check().unwrap(), []);
        let latest = Reference::Tag(tag("latest"));
        let (manifest, _) = store.manifest(&name("library/app"), &latest).await.unwrap().unwrap();
        assert_eq!(manifest.digest, digest(20), "v{version:04}");
    }
}
