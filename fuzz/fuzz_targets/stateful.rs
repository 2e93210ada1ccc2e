//! F-15: requests, faults of the disk, kills and power cuts, on the real stores over a simulated
//! disk and on their models side by side. Both answer the same; after a request that the disk
//! made fail, the store is as before it or as after it; and a new process finds everything that
//! was answered. The input is a list of steps.
//!
//! `KELSON_FUZZ_MUTANT=<n>` leaves the sync of step n out (`kelson::disk::durable::Step`): then
//! this target has something to find.
#![no_main]

use std::sync::{Arc, LazyLock};

use arbitrary::{Arbitrary, Result, Unstructured};
use kelson::blob::MemoryBlobs;
use kelson::disk::durable::{Step as Sync, mutant};
use kelson::disk::sim::{Class, EDQUOT, EIO, ENOSPC, Fault, Kind, SimVfs, Variant};
use kelson::meta::memory::MemoryMeta;
use kelson::registry::Registry;
use kelson_fuzz::model::{Client, Failed, Op};
use kelson_fuzz::store::{Store, open_registry};
use kelson_fuzz::{Numbered, virtual_time};
use libfuzzer_sys::fuzz_target;

const STEPS_MAX: usize = 40;

static MUTANT: LazyLock<Option<Sync>> = LazyLock::new(|| {
    let number: usize = std::env::var("KELSON_FUZZ_MUTANT").ok()?.parse().expect("a number");
    Some(Sync::ALL[number - 1])
});

fuzz_target!(|data: &[u8]| {
    let mut input = Unstructured::new(data);
    let run = async {
        let mut world = World::new().await;
        for _ in 0..STEPS_MAX {
            let Ok(step) = Step::arbitrary(&mut input) else { break };
            world.take(step).await;
        }
        world.compare().await;
        world.restart(End::Kill).await;
        world.compare().await;
    };
    mutant::without(*MUTANT, || virtual_time(run));
});

/// How a process ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Kill,
    PowerCut(Variant, u64),
}

#[derive(Debug)]
enum Step {
    Do(Op),
    /// The request meets a fault; if it fails, the process ends so.
    DoFailing(Op, Fault, End),
    End(End),
}

impl<'a> Arbitrary<'a> for End {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match input.ratio(1, 3)? {
            true => Self::Kill,
            false => {
                Self::PowerCut(*input.choose(&Variant::ALL)?, input.arbitrary::<u16>()?.into())
            }
        })
    }
}

impl<'a> Arbitrary<'a> for Step {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        if input.is_empty() {
            return Err(arbitrary::Error::NotEnoughData);
        }
        Ok(match input.int_in_range(0..=7_u8)? {
            0 => Self::End(input.arbitrary()?),
            1 => Self::DoFailing(input.arbitrary()?, fault(input)?, input.arbitrary()?),
            _ => Self::Do(input.arbitrary()?),
        })
    }
}

fn fault(input: &mut Unstructured<'_>) -> Result<Fault> {
    let class = *input.choose(&Class::CHANGES)?;
    let errno = *input.choose(&[EIO, ENOSPC, EDQUOT])?;
    let kind = match class {
        Class::SyncFile | Class::SyncDir => Kind::FailedSync { visible: input.arbitrary()? },
        Class::Write if input.arbitrary()? => Kind::Short(errno),
        _ => Kind::Error(errno),
    };
    let nth = input.int_in_range(1..=12)?;
    Ok(Fault { classes: vec![class], nth, kind, persistent: input.arbitrary()? })
}

/// The models of both stores, as one process after the other sees them.
struct Model {
    client: Client,
    meta: Arc<MemoryMeta>,
    blobs: MemoryBlobs,
    random: Arc<Numbered>,
}

impl Model {
    async fn new() -> Self {
        let (meta, blobs) = (Arc::new(MemoryMeta::default()), MemoryBlobs::default());
        let random = Arc::new(Numbered::default());
        let client = Client::new(registry_of(&meta, &blobs, &random).await);
        Self { client, meta, blobs, random }
    }

    async fn restart(&mut self) {
        self.blobs = self.blobs.restart();
        self.client.registry = registry_of(&self.meta, &self.blobs, &self.random).await;
    }

    /// The model that all this leads to.
    async fn replay(history: &[Past]) -> Self {
        let mut model = Self::new().await;
        for past in history {
            match past {
                Past::Done(op) => drop(model.client.apply(*op).await),
                Past::Restarted => model.restart().await,
                Past::Forgotten(op) => model.client.forget(*op),
            }
        }
        model
    }
}

async fn registry_of(
    meta: &Arc<MemoryMeta>,
    blobs: &MemoryBlobs,
    random: &Arc<Numbered>,
) -> Registry {
    let (meta, blobs) = (Arc::clone(meta), Arc::new(blobs.clone()));
    open_registry(meta, blobs, random.clone()).await.expect("models do not fail")
}

/// What led the model to where it is.
#[derive(Debug, Clone, Copy)]
enum Past {
    Done(Op),
    Restarted,
    Forgotten(Op),
}

struct World {
    vfs: SimVfs,
    /// Ids go on from process to process.
    random: Arc<Numbered>,
    store: Option<Store>,
    real: Client,
    model: Model,
    history: Vec<Past>,
}

impl World {
    async fn new() -> Self {
        let (vfs, random) = (SimVfs::default(), Arc::new(Numbered::default()));
        let store = Store::open(&vfs, random.clone()).await.expect("a new store");
        let real = Client::new(store.registry.clone());
        let (model, history) = (Model::new().await, Vec::new());
        Self { vfs, random, store: Some(store), real, model, history }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::End(end) => self.restart(end).await,
            Step::Do(op) => {
                let answer = self.real.apply(op).await;
                let answer = answer.unwrap_or_else(|Failed(error)| panic!("{op:?}: {error}"));
                self.expect(op, answer).await;
            }
            Step::DoFailing(op, fault, end) => {
                self.vfs.fail(fault);
                let answer = self.real.apply(op).await;
                let has_failed = self.vfs.heal() > 0;
                match answer {
                    Ok(answer) => self.expect(op, answer).await,
                    Err(Failed(error)) => {
                        assert!(has_failed, "{op:?} on a sound disk: {error}");
                        self.settle(op, end).await;
                        return;
                    }
                }
                // What failed without harm to the request may have poisoned the store.
                if has_failed {
                    self.restart(end).await;
                }
            }
        }
    }

    /// The model answers the same.
    async fn expect(&mut self, op: Op, answer: String) {
        let expected = self.model.client.apply(op).await;
        let expected = expected.unwrap_or_else(|Failed(error)| panic!("the model: {error}"));
        assert_eq!(answer, expected, "{op:?} after {:?}", self.history);
        self.history.push(Past::Done(op));
    }

    /// After a request that failed: either nothing of it was done, or all.
    async fn settle(&mut self, op: Op, end: End) {
        self.real.forget(op);
        self.reopen(end).await;
        let before = [self.history.as_slice(), &[Past::Forgotten(op), Past::Restarted]].concat();
        let after =
            [self.history.as_slice(), &[Past::Done(op)], &before[before.len() - 2..]].concat();
        let found = self.real.view().await;
        for history in [before, after] {
            let model = Model::replay(&history).await;
            if model.client.view().await == found {
                (self.model, self.history) = (model, history);
                return;
            }
        }
        panic!("{op:?} was done by half: {found:#?} after {:?}", self.history);
    }

    async fn restart(&mut self, end: End) {
        self.reopen(end).await;
        self.model.restart().await;
        self.history.push(Past::Restarted);
        self.compare().await;
    }

    /// Another process opens what the last one left.
    async fn reopen(&mut self, end: End) {
        let next = match end {
            End::Kill => self.vfs.kill(),
            End::PowerCut(variant, seed) => SimVfs::new(self.vfs.disk().crash(variant, seed).disk),
        };
        self.store = None;
        self.vfs = next;
        let store = Store::open(&self.vfs, self.random.clone()).await;
        let store = store.unwrap_or_else(|error| panic!("{error} after {:?}", self.history));
        self.real.registry = store.registry.clone();
        self.store = Some(store);
    }

    async fn compare(&self) {
        let (real, model) = (self.real.view().await, self.model.client.view().await);
        assert_eq!(real, model, "after {:?}", self.history);
        let store = self.store.as_ref().expect("a store is open");
        assert_eq!(store.meta.check().expect("the database can be read"), []);
    }
}
