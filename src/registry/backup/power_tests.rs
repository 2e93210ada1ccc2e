//! The power goes at every operation of a backup, a restore, an export, and the way back from a
//! lost database; and each of their syncs is needed: without it, one of these images is wrong.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::tests::{Fixture, restore_latest, tools, whole_store};
use super::*;
use crate::disk::durable::{Step, mutant};
use crate::disk::sim::{SimVfs, Variant};
use crate::meta::redb::Options as DatabaseOptions;
use crate::ops::Progress;
use crate::registry::identity::Paths;

/// What is wrong with a disk after a power cut; `ended`: the work had returned before.
type Wrong = std::result::Result<(), String>;

/// Something done to a simulated disk, and what must hold of it whenever the power goes.
trait Work {
    /// The disk before it, all durable.
    async fn prepare(&self, vfs: &SimVfs);
    /// Does it.
    async fn run(&self, vfs: &SimVfs);
    /// Looks at what a power cut has left; may change it.
    async fn look(&self, vfs: &SimVfs, ended: bool) -> Wrong;
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// The first image that is wrong, without the sync of `left_out`. Images are looked at from the
/// end, where a missing sync shows soonest; every `stride`th cut, each with the image of what is
/// durable alone and some of other classes.
fn explore(work: &impl Work, left_out: Option<Step>, stride: usize) -> Option<String> {
    let first = SimVfs::default();
    block_on(work.prepare(&first));
    // What was there before has long been durable.
    let begin = first.disk().crash(Variant::Everything, 0).disk;
    let vfs = SimVfs::new(begin);
    mutant::without(left_out, || block_on(work.run(&vfs)));
    let recording = vfs.recording();
    let mut disks = vec![recording.begin];
    for op in &recording.log {
        let mut next = disks.last().unwrap().clone();
        next.apply(op);
        disks.push(next);
    }
    let last = disks.len() - 1;
    for (cut, disk) in disks.iter().enumerate().rev().step_by(stride) {
        let other = Variant::ALL[cut % Variant::ALL.len()];
        let subsets = (0..if left_out.is_some() { 12 } else { 1 }).map(|it| cut as u64 * 12 + it);
        let subsets = subsets.map(|seed| (Variant::Subset, seed));
        for (variant, seed) in [(Variant::Nothing, 0), (other, 0)].into_iter().chain(subsets) {
            let image = SimVfs::new(disk.crash(variant, seed).disk);
            if let Err(wrong) = block_on(work.look(&image, cut == last)) {
                return Some(format!("cut {cut} of {last}, {}: {wrong}", variant.name()));
            }
        }
    }
    None
}

#[track_caller]
fn assert_durable(work: &impl Work, stride: usize, steps: &[Step]) {
    assert_eq!(explore(work, None, stride), None);
    for step in steps {
        assert!(explore(work, Some(*step), 1).is_some(), "nobody misses the sync of {step:?}");
    }
}

fn of(vfs: &SimVfs) -> Tools {
    tools(Arc::new(vfs.clone()))
}

fn base() -> &'static Path {
    Path::new("/srv/base")
}

/// Opens the store that `prepare` has made.
async fn fixture(vfs: &SimVfs) -> Fixture {
    Fixture::on(Arc::new(vfs.clone()), base()).await
}

struct BackingUp;

impl Work for BackingUp {
    async fn prepare(&self, vfs: &SimVfs) {
        fixture(vfs).await.push("one").await;
    }

    async fn run(&self, vfs: &SimVfs) {
        fixture(vfs).await.back_up(&of(vfs), "deep/er/backups").await.unwrap();
    }

    async fn look(&self, vfs: &SimVfs, ended: bool) -> Wrong {
        let path = base().join("deep/er/backups");
        let verified = verify(&of(vfs), &path, true, &Progress::silent()).await;
        match verified {
            Ok(verified) if verified.damaged > 0 => Err(format!("{verified:?}")),
            Ok(verified) if ended && verified.generations == 0 => Err("it is gone".to_owned()),
            Err(error) if ended => Err(error.to_string()),
            _ => {
                let again = destination::Destination::create(&of(vfs), &path).await;
                again.map(|_| ()).map_err(|error| error.to_string())
            }
        }
    }
}

struct Restoring;

impl Restoring {
    async fn restore(vfs: &SimVfs) -> Result<Restored> {
        let ask = Restore {
            source: base().join("backups"),
            generation: None,
            allow_missing: false,
            database: DatabaseOptions::default(),
        };
        restore(&of(vfs), &base().join("new/root"), &ask, &Progress::silent()).await
    }
}

impl Work for Restoring {
    async fn prepare(&self, vfs: &SimVfs) {
        let fixture = fixture(vfs).await;
        fixture.push("one").await;
        fixture.back_up(&of(vfs), "backups").await.unwrap();
    }

    async fn run(&self, vfs: &SimVfs) {
        Self::restore(vfs).await.unwrap();
    }

    async fn look(&self, vfs: &SimVfs, ended: bool) -> Wrong {
        let root = base().join("new/root");
        let there = |name: &str| vfs.metadata(&root.join(name)).unwrap().is_some();
        let unfinished = !there("kelson/store.json") || there(".kelson-restore/done");
        if !ended && unfinished {
            Self::restore(vfs).await.map_err(|error| format!("not again: {error}"))?;
        }
        whole_store(&of(vfs), &root).await.map(|_| ())
    }
}

struct Exporting;

impl Exporting {
    fn own() -> PathBuf {
        base().join("store/kelson")
    }
}

impl Work for Exporting {
    async fn prepare(&self, vfs: &SimVfs) {
        fixture(vfs).await.push("one").await;
    }

    async fn run(&self, vfs: &SimVfs) {
        let database = Paths::new(&base().join("store")).database;
        let mut exports = Exports::new(of(vfs), &Self::own(), &database);
        fixture(vfs).await.registry.export_once(&mut exports).await.unwrap();
    }

    async fn look(&self, vfs: &SimVfs, ended: bool) -> Wrong {
        let found = destination::numbered(vfs, &Self::own().join("exports")).unwrap();
        for one in &found {
            verify_export(&of(vfs), &one.path).await.map_err(|error| error.to_string())?;
        }
        if ended && found.is_empty() { Err("it is gone".to_owned()) } else { Ok(()) }
    }
}

struct MakingAnew;

const DAMAGED: &[u8] = b"damaged";

impl Work for MakingAnew {
    async fn prepare(&self, vfs: &SimVfs) {
        Exporting.prepare(vfs).await;
        Exporting.run(vfs).await;
        let database = Paths::new(&base().join("store")).database;
        vfs.remove_file(&database).unwrap();
        let file = vfs.open(&database, Open::Create { mode: 0o600 }).unwrap();
        file.write_all_at(DAMAGED, 0).unwrap();
    }

    async fn run(&self, vfs: &SimVfs) {
        restore_latest(&of(vfs), &base().join("store")).await.unwrap();
    }

    async fn look(&self, vfs: &SimVfs, ended: bool) -> Wrong {
        let root = base().join("store");
        let mut kept = false;
        for name in vfs.list(&Exporting::own()).unwrap() {
            let path = Exporting::own().join(&name);
            if name.starts_with("metadata.redb") && name != "metadata.redb.import.new" {
                let file = vfs.open(&path, Open::Read).unwrap();
                let mut bytes = vec![0; file.size_bytes().unwrap().min(7) as usize];
                file.read_exact_at(&mut bytes, 0).unwrap();
                kept |= bytes == DAMAGED;
            }
        }
        if !kept {
            return Err("the old database is gone".to_owned());
        }
        let fork = vfs.kill();
        match whole_store(&of(&fork), &root).await {
            Ok(_) => return Ok(()),
            Err(wrong) if ended => return Err(wrong),
            Err(_) => {}
        }
        let again = vfs.kill();
        restore_latest(&of(&again), &root).await.map_err(|error| format!("not again: {error}"))?;
        whole_store(&of(&again), &root).await.map(|_| ())
    }
}

const BACKING_UP: &[Step] = &[
    Step::DestinationRoot,
    Step::MarkerData,
    Step::MarkerName,
    Step::CopiedNames,
    Step::GenerationData,
    Step::GenerationName,
];
const RESTORING: &[Step] = &[
    Step::RestoreRoot,
    Step::CopiedNames,
    Step::RestoredIdentityData,
    Step::RestoredIdentityName,
    Step::RestoreMarkerData,
    Step::RestoreMarkerName,
    Step::RestorePlace,
    Step::RestoreEnd,
];
const EXPORTING: &[Step] = &[Step::ExportsFolder, Step::ExportData, Step::ExportName];
const MAKING_ANEW: &[Step] = &[Step::RestoredDatabaseName];

#[test]
fn a_backup_is_whole_whenever_the_power_goes() {
    assert_durable(&BackingUp, 3, BACKING_UP);
}

#[test]
fn a_restored_store_is_whole_whenever_the_power_goes() {
    assert_durable(&Restoring, 7, RESTORING);
}

#[test]
fn an_export_is_whole_whenever_the_power_goes() {
    assert_durable(&Exporting, 1, EXPORTING);
}

#[test]
fn a_database_made_anew_is_whole_whenever_the_power_goes() {
    assert_durable(&MakingAnew, 7, MAKING_ANEW);
}

#[test]
fn every_sync_of_backups_and_restores_is_left_out_once() {
    let shown: BTreeSet<Step> =
        [BACKING_UP, RESTORING, EXPORTING, MAKING_ANEW].concat().into_iter().collect();
    assert_eq!(shown, Step::BACKUPS.into_iter().collect());
}
