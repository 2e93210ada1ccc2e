//! D-18: every database that a release has left, brought up to this release's schema and one
//! step further, with the power cut at every operation on the way: old or new, never between.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use redb::{ReadTransaction, TableDefinition, WriteTransaction};

use super::handle::Handle;
use super::migrations::{ALL, Step};
use super::{Options, dump, migrate};
use crate::disk::sim::{SimVfs, Variant};
use crate::disk::{Open, Vfs};
use crate::meta::{Error, Result};

const PATH: &str = "/metadata.redb";
const EXTRA: TableDefinition<u64, u64> = TableDefinition::new("extra-1");

/// The steps of this release and one more, so that the newest schema is upgraded, too.
fn steps() -> Vec<Step> {
    let apply = |transaction: &WriteTransaction| {
        transaction.open_table(EXTRA)?.insert(1, 2)?;
        Ok(1)
    };
    let check = |transaction: &ReadTransaction| match transaction.open_table(EXTRA)?.get(1)? {
        Some(_) => Ok(()),
        None => Err(redb::Error::Corrupted("extra-1 is empty".to_owned())),
    };
    let to = migrate::newest(ALL) + 1;
    [ALL, &[Step { to, name: "extra", what: "add a table", apply, check }]].concat()
}

fn open(vfs: &SimVfs, steps: &[Step]) -> Result<Handle> {
    let options = Options { create: false, ..Options::default() };
    Handle::open_with(Arc::new(vfs.clone()), Path::new(PATH), options, steps)
}

fn text(handle: &Handle) -> String {
    let mut text = Vec::new();
    handle.read_once(|snapshot| dump::dump(snapshot, &mut text)).unwrap();
    String::from_utf8(text).unwrap()
}

/// A disk with this file, durable.
fn disk_with(path: &str, bytes: &[u8]) -> SimVfs {
    let vfs = SimVfs::default();
    let file = vfs.open(Path::new(path), Open::Create { mode: 0o600 }).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    SimVfs::new(vfs.disk().crash(Variant::Everything, 0).disk)
}

fn bytes(vfs: &SimVfs, path: &str) -> Option<Vec<u8>> {
    let file = vfs.open(Path::new(path), Open::Read).ok()?;
    let mut bytes = vec![0; file.size_bytes().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

#[test]
fn an_upgrade_cut_anywhere_is_old_or_new() {
    let steps = steps();
    let mut images = 0;
    for version in 1..=migrate::newest(ALL) {
        for kind in ["", "-empty"] {
            let name = format!("tests/fixtures/meta/v{version:04}{kind}.redb");
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
            let old = fs::read(&file).unwrap();
            let vfs = disk_with(PATH, &old);
            let upgraded = text(&open(&vfs, &steps).unwrap());
            let recording = vfs.recording();
            let mut disk = recording.begin.clone();
            for (cut, op) in recording.log.iter().enumerate() {
                let other = Variant::ALL[cut % Variant::ALL.len()];
                for variant in [Variant::Nothing, other] {
                    let image = SimVfs::new(disk.crash(variant, cut as u64).disk);
                    look(&image, version, &upgraded, &steps);
                    images += 1;
                }
                disk.apply(op);
            }
        }
    }
    assert!(images > 100, "{images} images");
}

/// What a power cut in the middle of an upgrade from `version` has left.
fn look(image: &SimVfs, version: u32, upgraded: &str, steps: &[Step]) {
    let newest = migrate::newest(steps);
    let options = Options::default();
    let vfs: Arc<dyn Vfs> = Arc::new(image.clone());
    let found = Handle::inspect(vfs, Path::new(PATH), options, steps).unwrap().schema;
    assert!((version..=newest).contains(&found), "schema {found}");
    // The database before, for whoever has to go back: whole, or without a name.
    let copy = bytes(image, &format!("{PATH}.v{version}"));
    assert!(copy.is_some() || found == version, "schema {found} without a copy of {version}");
    if let Some(copy) = copy {
        let handle = open(&disk_with(PATH, &copy), &steps[..version as usize]).unwrap();
        drop(handle);
    }
    assert_eq!(text(&open(image, steps).unwrap()), upgraded);
}

#[test]
fn a_downgrade_is_refused_with_the_release_that_is_needed() {
    let steps = steps();
    let newest = migrate::newest(ALL);
    let file = format!("tests/fixtures/meta/v{newest:04}.redb");
    let old = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let vfs = disk_with(PATH, &old);
    drop(open(&vfs, &steps).unwrap());
    let refused = open(&vfs.kill(), ALL).unwrap_err();
    let release = env!("CARGO_PKG_VERSION");
    assert!(refused.to_string().contains(&format!("use release {release} or a newer one")));
    assert!(matches!(refused, Error::SchemaTooNew { found, .. } if found == newest + 1));
    // It still opens where it belongs.
    drop(open(&vfs.kill(), &steps).unwrap());
}
