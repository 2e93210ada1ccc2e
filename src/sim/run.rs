//! One run of a case on a disk that keeps its power: what it recorded is cut afterwards.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::call::{Call, World};
use super::engine::{BASE_SEED, Engine, RECOVERY_SEED, empty_disk};
use super::executor::{Task, block_on, interleave};
use super::model::{History, Key, Outcome, Record, Value};
use super::universe::{UPLOADED, UPLOADED_SIZE_BYTES, Universe};
use super::verify;
use crate::disk::sim::{Disk, Fault, Kind, Recording, SimVfs, Variant};
use crate::oci::{Algorithm, UploadId};
use crate::ops::random::Seeded;

/// What several clients do, and in which order they get their turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Decides about everything that is left open.
    pub seed: u64,
    /// The calls of each client.
    pub clients: Vec<Vec<Call>>,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, client) in self.clients.iter().enumerate() {
            f.write_str(if number > 0 { "/" } else { "" })?;
            for (number, call) in client.iter().enumerate() {
                write!(f, "{}{call}", if number > 0 { "," } else { "" })?;
            }
        }
        Ok(())
    }
}

impl Case {
    /// The case of that seed that is written so.
    pub fn parse(seed: u64, text: &str) -> Option<Self> {
        let calls = |client: &str| client.split(',').map(Call::parse).collect::<Option<Vec<_>>>();
        let clients = text.split('/').map(calls).collect::<Option<_>>()?;
        Some(Self { seed, clients })
    }

    /// A random case: so many clients with so many calls each.
    pub fn random(seed: u64, clients: usize, calls: usize) -> Self {
        let random = Seeded::new(seed);
        let client = |_| (0..calls).map(|_| Call::random(&random)).collect();
        Self { seed, clients: (0..clients).map(client).collect() }
    }
}

/// The store that every case begins with: an image, a loose blob, an upload that has begun.
#[derive(Debug)]
pub struct Base {
    /// The contents.
    pub universe: Universe,
    /// All of it durable.
    pub disk: Disk,
    /// The upload.
    pub upload: UploadId,
    /// What clients see.
    pub values: BTreeMap<Key, Value>,
}

impl Base {
    /// Made by the registry itself.
    pub fn new() -> Self {
        let universe = Universe::new();
        let engine = Engine::open(&empty_disk(), BASE_SEED).unwrap();
        let repository = &universe.repositories[0];
        let world = |upload| World { universe: &universe, upload };
        let upload = block_on(async {
            let registry = &engine.registry;
            let upload = registry.begin_upload(repository, Algorithm::Sha256).await.unwrap();
            let calls = [
                Call::Push(0, 0),
                Call::Push(0, 1),
                Call::Put(0, 0, 0),
                Call::Spill,
                Call::Push(0, 4),
            ];
            for call in calls {
                let (outcome, answer) = call.make(&engine, &world(upload.id)).await;
                assert_eq!(outcome, Outcome::Done, "{call}: {answer}");
            }
            let first = universe.blobs[UPLOADED].bytes.slice(..UPLOADED_SIZE_BYTES);
            let first = super::call::chunk(first);
            registry.append_upload(repository, upload.id, first).await.unwrap();
            engine.store.meta.close().await.unwrap();
            upload.id
        });
        let disk = engine.vfs.disk().crash(Variant::Everything, 0).disk;
        let again = Engine::open(&SimVfs::new(disk.clone()), RECOVERY_SEED).unwrap();
        let values = verify::values(&again, &world(upload)).unwrap();
        Self { universe, disk, upload, values }
    }

    /// No store yet.
    pub fn empty() -> Self {
        let disk = empty_disk().disk();
        let Self { universe, upload, mut values, .. } = Self::new();
        values.values_mut().for_each(|value| *value = Value::Absent);
        Self { universe, disk, upload, values }
    }

    /// What its calls share.
    pub fn world(&self) -> World<'_> {
        World { universe: &self.universe, upload: self.upload }
    }
}

/// A transaction of the run.
#[derive(Debug, Clone, Copy)]
pub struct Commit {
    /// Its number.
    pub number: u64,
    /// The position up to which it cannot be there.
    pub begin: usize,
    /// The position from which on it must be there.
    pub end: usize,
    /// A hash of all facts after it; `None` when nobody could look.
    pub dump: Option<u64>,
}

/// What a case did.
#[derive(Debug)]
pub struct Run {
    /// The case.
    pub case: Case,
    /// What happened to the disk.
    pub recording: Recording,
    /// The position at which the store was open and the first client began.
    pub first_cut: usize,
    /// What the clients did and were told.
    pub history: History,
    /// Its transactions in order; the first is the state it began with.
    pub commits: Vec<Commit>,
    /// Which fault the disk had.
    pub fault: Option<Fault>,
    /// How many operations of the disk failed.
    pub fired: usize,
    /// The registry as the clients left it.
    pub engine: Option<Engine>,
}

impl Run {
    /// Whether a call that finishes uploads had begun by then, and taken the bytes of this one out
    /// of staging: for the name of their content, or because that was there. Until its commit such
    /// a session has a row and no bytes, and if that fails, for ever.
    pub fn has_published(&self, upload: UploadId, cut: usize) -> bool {
        if !self.history.finishes_any(cut) {
            return false;
        }
        let mut disk = self.recording.begin.clone();
        self.recording.log.iter().take(cut).for_each(|op| disk.apply(op));
        let staged = format!("/staging/{upload}/data");
        !disk.paths().iter().any(|(_, path)| path.ends_with(&staged))
    }
}

/// Hash of a dump.
pub fn hash_of(dump: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    dump.hash(&mut hasher);
    hasher.finish()
}

/// What the clients of a run share.
struct Progress {
    history: RefCell<History>,
    /// How many calls each client has begun.
    begun: RefCell<Vec<usize>>,
    moment: Cell<usize>,
    restart: Cell<bool>,
}

impl Progress {
    fn tick(&self) -> usize {
        self.moment.set(self.moment.get() + 1);
        self.moment.get()
    }
}

/// Runs a case. The fault begins with the first client; with it, a restart may be impossible,
/// and ends the run.
pub fn run(base: &Base, case: &Case, fault: Option<&Fault>) -> Result<Run, String> {
    let mut vfs = SimVfs::new(base.disk.clone());
    let mut engine = Engine::open(&vfs, case.seed)?;
    let mut commits = Commits::new(&engine);
    let first_cut = vfs.position();
    if let Some(fault) = fault {
        vfs.fail(fault.clone());
    }
    let random = Seeded::new(case.seed);
    let flips = fault.is_some_and(|fault| fault.kind == Kind::Flip);
    let progress = Progress {
        history: RefCell::new(History { flips, ..History::default() }),
        begun: RefCell::new(vec![0; case.clients.len()]),
        moment: Cell::new(0),
        restart: Cell::new(false),
    };
    loop {
        progress.restart.set(false);
        let tasks = tasks(base, case, &engine, &progress);
        interleave(tasks, &random, || {
            commits.look(&engine);
            !progress.restart.get()
        });
        if !progress.restart.get() {
            break;
        }
        vfs = vfs.kill();
        match Engine::open(&vfs, random.next()) {
            Ok(next) => engine = next,
            Err(_) if vfs.fired() > 0 => break,
            Err(error) => return Err(format!("a killed store does not open: {error}")),
        }
        commits.look(&engine);
    }
    Ok(Run {
        case: case.clone(),
        recording: vfs.recording(),
        first_cut,
        history: progress.history.into_inner(),
        commits: commits.found,
        fault: fault.cloned(),
        fired: vfs.fired(),
        engine: Some(engine),
    })
}

fn tasks<'a>(
    base: &'a Base,
    case: &'a Case,
    engine: &'a Engine,
    progress: &'a Progress,
) -> Vec<Task<'a>> {
    let client = |number: usize| async move {
        loop {
            let next = progress.begun.borrow()[number];
            let Some(call) = case.clients[number].get(next) else { return };
            progress.begun.borrow_mut()[number] += 1;
            if *call == Call::Restart {
                progress.restart.set(true);
                return;
            }
            make(base, engine, progress, number, *call).await;
            tokio::task::yield_now().await;
        }
    };
    (0..case.clients.len()).map(|number| Box::pin(client(number)) as Task<'a>).collect()
}

async fn make(base: &Base, engine: &Engine, progress: &Progress, client: usize, call: Call) {
    let began = (engine.vfs.position(), progress.tick());
    let record = Record { client, call, began, ended: None, answer: "never".to_owned() };
    let number = {
        let records = &mut progress.history.borrow_mut().records;
        records.push(record);
        records.len() - 1
    };
    let world = base.world();
    let (outcome, answer) = call.make(engine, &world).await;
    let ended = Some((engine.vfs.position(), progress.tick(), outcome));
    let record = &mut progress.history.borrow_mut().records[number];
    (record.ended, record.answer) = (ended, answer);
}

/// Watches the transactions of a run.
struct Commits {
    found: Vec<Commit>,
    /// The position at the last look.
    looked: usize,
}

impl Commits {
    fn new(engine: &Engine) -> Self {
        let mut commits = Self { found: Vec::new(), looked: 0 };
        commits.look(engine);
        commits
    }

    fn look(&mut self, engine: &Engine) {
        let now = engine.vfs.position();
        if now == self.looked {
            return;
        }
        self.looked = now;
        let Some(number) = engine.transactions() else { return };
        let begin = self.found.last().map_or(0, |commit| commit.end);
        let newest = self.found.last().map_or(number.saturating_sub(1), |commit| commit.number);
        for passed in newest + 1..number {
            self.found.push(Commit { number: passed, begin, end: now, dump: None });
        }
        if number > newest {
            let dump = engine.dump().ok().map(|dump| hash_of(&dump));
            self.found.push(Commit { number, begin, end: now, dump });
        }
    }
}
