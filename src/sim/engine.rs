//! The real registry on a simulated disk.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::executor::block_on;
use super::universe::SMALL_SIZE_BYTES_MAX;
use crate::app::{Machine, Store};
use crate::disk::sim::SimVfs;
use crate::disk::{Open, Vfs};
use crate::meta::MetaStore;
use crate::meta::redb::Options as DatabaseOptions;
use crate::ops::clock::ManualClock;
use crate::ops::random::Seeded;
use crate::ops::{Blocking, Clock, Random};
use crate::registry::{Options, Registry};

/// The root of the store.
pub const ROOT: &str = "/srv/store";

/// Seeds of processes whose ids must not meet those of a run, which has its case's seed.
pub const BASE_SEED: u64 = 0xba5e_ba5e_ba5e_ba5e;
/// That of a process after a power cut.
pub const RECOVERY_SEED: u64 = 0x5ec0_5ec0_5ec0_5ec0;

/// An open registry.
#[derive(Debug)]
pub struct Engine {
    /// Its disk, as its process sees it.
    pub vfs: SimVfs,
    /// The domain.
    pub registry: Registry,
    /// What it stands on.
    pub store: Store,
    /// Its time.
    pub clock: Arc<ManualClock>,
    /// Held by a scrub: a process has one.
    pub scrubbing: Mutex<()>,
}

/// A disk with the directory that the store's root is to lie in.
pub fn empty_disk() -> SimVfs {
    let vfs = SimVfs::default();
    vfs.create_dir(Path::new("/srv"), 0o755).unwrap();
    vfs.sync_dir(Path::new("/")).unwrap();
    vfs
}

impl Engine {
    /// Opens the store on this disk, making it when there is none; the error says what is refused.
    pub fn open(vfs: &SimVfs, seed: u64) -> Result<Self, String> {
        let random: Arc<dyn Random> = Arc::new(Seeded::new(seed));
        let manual = Arc::new(ManualClock::default());
        let clock: Arc<dyn Clock> = Arc::clone(&manual) as Arc<dyn Clock>;
        let machine = Machine {
            vfs: Arc::new(vfs.clone()),
            blocking: Blocking::Inline,
            clock: Arc::clone(&clock),
            random: Arc::clone(&random),
        };
        let database = DatabaseOptions { cache_size_bytes: 4 << 20, ..DatabaseOptions::default() };
        block_on(async {
            let store = Store::open_on(machine, Path::new(ROOT), database).await;
            let store = store.map_err(|error| format!("{error:#}"))?;
            let registry = Registry::open(
                Arc::clone(&store.meta) as Arc<dyn MetaStore>,
                Arc::clone(&store.blobs),
                clock,
                random,
                options(),
            );
            let registry = registry.await.map_err(|error| error.to_string())?;
            let scrubbing = Mutex::default();
            Ok(Self { vfs: vfs.clone(), registry, store, clock: manual, scrubbing })
        })
    }

    /// How many transactions are committed; `None` while that cannot be read.
    pub fn transactions(&self) -> Option<u64> {
        block_on(self.store.meta.counters()).ok().map(|counters| counters.transactions)
    }

    /// The facts as text.
    pub fn dump(&self) -> Result<Vec<u8>, String> {
        let mut text = Vec::with_capacity(16 << 10);
        self.store.meta.dump(&mut text).map_err(|error| error.to_string())?;
        Ok(text)
    }

    /// Puts a file at a path as an outsider would who syncs nothing, unless something is there.
    pub fn plant(&self, path: &Path, bytes: &[u8]) {
        let above: Vec<&Path> = path.ancestors().skip(1).collect();
        for directory in above.iter().rev() {
            // What is there already is what was wanted.
            let _ = self.vfs.create_dir(directory, 0o755);
        }
        if let Ok(file) = self.vfs.open(path, Open::Create { mode: 0o644 }) {
            file.write_all_at(bytes, 0).unwrap();
        }
    }

    /// Changes a byte of a file as a bad disk would, if it is there.
    pub fn spoil(&self, path: &Path, (at, byte): (u64, u8)) {
        if let Ok(file) = self.vfs.open(path, Open::ReadWrite)
            && file.size_bytes().is_ok_and(|size_bytes| size_bytes > at)
        {
            file.write_all_at(&[byte], at).unwrap();
        }
    }
}

fn options() -> Options {
    Options { small_content_size_bytes_max: SMALL_SIZE_BYTES_MAX, ..Options::default() }
}
