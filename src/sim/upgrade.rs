//! D-18: a database of an older release is opened by this one, and loses power on the way.
//!
//! Whatever is left opens, and holds what it held. The copy that was made before holds it, too.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::explore::{Cut, Tally, count, image_of};
use super::run::Case;
use crate::disk::sim::{Recording, SimVfs, Variant};
use crate::disk::{Open, Vfs};
use crate::meta::redb::{Options, RedbMeta};
use crate::ops::Blocking;

/// A database of the first version.
const OLD: &[u8] = include_bytes!("../../tests/fixtures/meta/v0001.redb");
const DATABASE: &str = "/metadata.redb";
const COPY: &str = "/metadata.redb.v1";
/// Images of each variant and cut.
const SAMPLES: u64 = 3;

/// Cuts the upgrade everywhere.
pub fn examine(case: &Case, tally: &Tally) -> Result<(), (Cut, String)> {
    let vfs = holding(OLD);
    let whole = Cut { at: 0, variant: Variant::Everything, sample: 0 };
    let expected = opened(&vfs).map_err(|why| (whole, why))?;
    let Recording { begin: mut disk, log } = vfs.recording();
    let mut seen = BTreeSet::new();
    for at in 0..=log.len() {
        for variant in Variant::ALL {
            for sample in 0..SAMPLES {
                let cut = Cut { at, variant, sample };
                let image = image_of(&disk, case, cut);
                if tally.is_over() || !seen.insert(image.key) {
                    continue;
                }
                count(&tally.images);
                count(&tally.cuts);
                check(&SimVfs::new(image.disk), &expected).map_err(|why| (cut, why))?;
            }
        }
        if let Some(op) = log.get(at) {
            disk.apply(op);
        }
    }
    Ok(())
}

/// A disk with this database.
fn holding(bytes: &[u8]) -> SimVfs {
    let vfs = SimVfs::default();
    let file = vfs.open(Path::new(DATABASE), Open::Create { mode: 0o600 }).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    SimVfs::new(vfs.disk().crash(Variant::Everything, 0).disk)
}

/// Opens the database, which upgrades it; its facts.
fn opened(vfs: &SimVfs) -> Result<Vec<u8>, String> {
    let options = Options { create: false, ..Options::default() };
    let meta =
        RedbMeta::open(Arc::new(vfs.clone()), Path::new(DATABASE), options, Blocking::Inline);
    let meta = meta.map_err(|error| format!("an upgrade cannot go on: {error}"))?;
    let mut dump = Vec::new();
    meta.dump(&mut dump).map_err(|error| error.to_string())?;
    Ok(dump)
}

fn check(image: &SimVfs, expected: &[u8]) -> Result<(), String> {
    if opened(image)? != expected {
        return Err("an upgrade that lost power ends with other facts".to_owned());
    }
    let copy = image.open(Path::new(COPY), Open::Read);
    let copy = copy.map_err(|error| format!("upgraded, and the copy is gone: {error}"))?;
    let mut bytes = vec![0; copy.size_bytes().unwrap() as usize];
    copy.read_exact_at(&mut bytes, 0).unwrap();
    let of_copy =
        opened(&holding(&bytes)).map_err(|why| format!("upgraded; of the copy: {why}"))?;
    if of_copy == expected { Ok(()) } else { Err("the copy has other facts".to_owned()) }
}
