//! Cases in great number: each is run once and then cut everywhere.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::call::Call;
use super::model::Outcome;
use super::plan::{Mode, case_of, fault_of};
use super::run::{Base, Case, Run, run};
use super::upgrade;
use super::verify::{Known, Recovered, exercise, heal, judge, recover, values};
use crate::disk::durable::Step;
use crate::disk::durable::mutant::without;
use crate::disk::sim::{Disk, SimVfs, Variant};
use crate::ops::random::Seeded;

/// Where the power went: operations that were done, what was left, which of several such images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Operations of the run, or of the recovery after the cut before, that took place.
    pub at: usize,
    /// What is left of the rest.
    pub variant: Variant,
    /// Which of the images of that class.
    pub sample: u64,
}

/// An image that breaks a promise.
#[derive(Debug, Clone)]
pub struct Failure {
    /// How it was found.
    pub mode: Mode,
    /// What was run.
    pub case: Case,
    /// With which fault: kind and number, see [`fault_of`].
    pub fault: Option<(usize, usize)>,
    /// One power cut, or several; none: the run itself went wrong.
    pub cuts: Vec<Cut>,
    /// What is broken.
    pub violations: Vec<String>,
}

/// How much was looked at, by all threads.
#[derive(Debug, Default)]
pub struct Tally {
    /// Different images that the registry opened.
    pub images: AtomicU64,
    /// Power cuts: an image counts once for each state of knowledge that it was judged by.
    pub cuts: AtomicU64,
    /// Cases that were run.
    pub runs: AtomicU64,
    /// Cases of which nothing was left out and nothing was wrong.
    pub cases: AtomicU64,
    /// Whether to stop.
    pub stop: AtomicBool,
    /// When to stop.
    pub end: Option<Instant>,
}

impl Tally {
    /// Whether it is time to stop.
    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.end.is_some_and(|end| Instant::now() >= end)
    }
}

/// Counts one more.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The seed of an image.
fn seed_of(case: &Case, cut: Cut) -> u64 {
    let variant = Variant::ALL.iter().position(|v| *v == cut.variant).unwrap_or_default() as u64;
    let mixed = [case.seed, cut.at as u64, variant, cut.sample];
    mixed.iter().fold(0, |seed, part| Seeded::new(seed ^ part).next())
}

/// The image that a cut leaves of a disk that has come so far.
pub fn image_of(disk: &Disk, case: &Case, cut: Cut) -> crate::disk::sim::Image {
    disk.crash(cut.variant, seed_of(case, cut))
}

/// Looks at the images of one run.
struct Examiner<'a> {
    base: &'a Base,
    mode: Mode,
    run: &'a Run,
    fault: Option<(usize, usize)>,
    tally: &'a Tally,
    known: Known,
    /// What became of each image; and the states of knowledge it was judged by.
    seen: HashMap<u64, (Recovered, Vec<usize>)>,
}

impl<'a> Examiner<'a> {
    fn new(
        base: &'a Base,
        mode: Mode,
        run: &'a Run,
        fault: Option<(usize, usize)>,
        tally: &'a Tally,
    ) -> Self {
        Self { base, mode, run, fault, tally, known: Known::default(), seen: HashMap::new() }
    }

    fn failure(&self, cuts: Vec<Cut>, violations: Vec<String>) -> Failure {
        let case = self.run.case.clone();
        Failure { mode: self.mode, case, fault: self.fault, cuts, violations }
    }

    /// How much the clients and the writer had done by then.
    fn epoch(&self, cut: usize) -> usize {
        let records = &self.run.history.records;
        let began = records.iter().filter(|record| record.began.0 <= cut).count();
        let ended = records.iter().filter(|r| r.ended.is_some_and(|e| e.0 <= cut)).count();
        let commits = &self.run.commits;
        let begin = commits.iter().filter(|commit| commit.begin < cut).count();
        let end = commits.iter().filter(|commit| commit.end <= cut).count();
        began + ended + begin + end + usize::from(cut >= self.run.first_cut)
    }

    /// Recovers the image of one cut and judges what is found.
    fn cut(&mut self, disk: &Disk, cut: Cut) -> Result<(), Failure> {
        let image = image_of(disk, &self.run.case, cut);
        let epoch = self.epoch(cut.at);
        if !self.seen.contains_key(&image.key) {
            count(&self.tally.images);
            let (engine, found) = recover(self.base, image.disk, &mut self.known)
                .map_err(|why| self.failure(vec![cut], vec![why]))?;
            if image.key.is_multiple_of(16) {
                let begun = self.run.history.finishes(cut.at);
                exercise(self.base, &engine, begun, &mut self.known)
                    .map_err(|why| self.failure(vec![cut], vec![why]))?;
            } else if found.rotten {
                heal(self.base, &engine, &mut self.known)
                    .map_err(|why| self.failure(vec![cut], vec![why]))?;
            }
            close(&engine);
            self.seen.insert(image.key, (found, Vec::new()));
        }
        let Some((found, epochs)) = self.seen.get_mut(&image.key) else { return Ok(()) };
        if epochs.contains(&epoch) {
            return Ok(());
        }
        epochs.push(epoch);
        count(&self.tally.cuts);
        let violations = judge(self.base, self.run, cut.at, found);
        if violations.is_empty() { Ok(()) } else { Err(self.failure(vec![cut], violations)) }
    }

    /// Cuts a second and a third time while the image of `cut` recovers.
    fn recut(&mut self, disk: &Disk, cuts: &[Cut], random: &Seeded) -> Result<(), Failure> {
        let found = recover(self.base, disk.clone(), &mut self.known);
        let (engine, first) = found.map_err(|why| self.failure(cuts.to_vec(), vec![why]))?;
        close(&engine);
        let mut disk = first.recording.begin.clone();
        for at in 0..=first.recording.log.len() {
            for _ in 0..3 {
                let variant = Variant::ALL[random.below(Variant::ALL.len())];
                let cut = Cut { at, variant, sample: random.below(4) as u64 };
                let all: Vec<Cut> = cuts.iter().copied().chain([cut]).collect();
                let image = image_of(&disk, &self.run.case, cut);
                count(&self.tally.images);
                count(&self.tally.cuts);
                let again = recover(self.base, image.disk.clone(), &mut self.known);
                let (engine, again) = again.map_err(|why| self.failure(all.clone(), vec![why]))?;
                close(&engine);
                let mut violations = judge(self.base, self.run, cuts[0].at, &again);
                violations.extend(again.older_than(&first));
                if !violations.is_empty() {
                    return Err(self.failure(all, violations));
                }
                if cuts.len() < 2 && random.one_in(40) {
                    self.recut(&image.disk, &all, random)?;
                }
            }
            if let Some(op) = first.recording.log.get(at) {
                disk.apply(op);
            }
        }
        Ok(())
    }
}

/// Cuts the power, so that nothing is written while the registry is dropped.
fn close(engine: &super::engine::Engine) {
    drop(engine.vfs.kill());
}

/// The first operation before which a case is cut: nobody was told anything of a store that had
/// not opened, but for a first start.
pub fn first_cut(mode: Mode, run: &Run) -> usize {
    if mode.first_start() { 0 } else { run.first_cut }
}

/// What of a case is looked at.
fn examine(examiner: &mut Examiner<'_>, random: &Seeded) -> Result<(), Failure> {
    let (mode, run) = (examiner.mode, examiner.run);
    let first = first_cut(mode, run);
    let mut disk = run.recording.begin.clone();
    for at in 0..=run.recording.log.len() {
        if at >= first && !examiner.tally.is_over() {
            look(examiner, &disk, at, random)?;
        }
        if let Some(op) = run.recording.log.get(at) {
            disk.apply(op);
        }
    }
    Ok(())
}

fn look(
    examiner: &mut Examiner<'_>,
    disk: &Disk,
    at: usize,
    random: &Seeded,
) -> Result<(), Failure> {
    let cut = |variant, sample| Cut { at, variant, sample };
    let any = || cut(Variant::ALL[random.below(Variant::ALL.len())], random.below(8) as u64);
    match examiner.mode {
        Mode::Short => {
            for variant in Variant::ALL {
                examiner.cut(disk, cut(variant, 0))?;
            }
        }
        Mode::FirstStart => {
            for variant in Variant::ALL {
                for sample in 0..4 {
                    examiner.cut(disk, cut(variant, sample))?;
                }
            }
        }
        Mode::Recovery => {
            if random.one_in(3) {
                let cut = any();
                let image = image_of(disk, &examiner.run.case, cut);
                examiner.recut(&image.disk, &[cut], random)?;
            }
        }
        Mode::Random => {
            examiner.cut(disk, cut(Variant::Nothing, 0))?;
            for _ in 0..4 {
                examiner.cut(disk, any())?;
            }
        }
        // Not a run of clients; see `upgrade`.
        Mode::Upgrade => {}
        Mode::Enospc | Mode::FailedSync | Mode::Faults | Mode::Flips => {
            let last = at == examiner.run.recording.log.len();
            for variant in Variant::ALL.iter().filter(|_| last) {
                examiner.cut(disk, cut(*variant, 0))?;
            }
            if random.one_in(4) {
                examiner.cut(disk, any())?;
            }
        }
    }
    Ok(())
}

/// Runs and examines one case; `Ok(false)` when its faults never came to pass.
pub fn try_case(
    base: &Base,
    mode: Mode,
    case: &Case,
    fault: Option<(usize, usize)>,
    tally: &Tally,
) -> Result<bool, Failure> {
    count(&tally.runs);
    let failed =
        |violations| Failure { mode, case: case.clone(), fault, cuts: Vec::new(), violations };
    if mode == Mode::Upgrade {
        let upgraded = upgrade::examine(case, tally);
        let broken = |(cut, why)| Failure { cuts: vec![cut], ..failed(vec![why]) };
        return upgraded.map(|()| false).map_err(broken);
    }
    let planned = fault.and_then(|(kind, nth)| fault_of(mode, case, kind, nth));
    let run = run(base, case, planned.as_ref()).map_err(|why| failed(vec![why]))?;
    if fault.is_some() {
        after_faults(base, mode, &run).map_err(|why| failed(vec![why]))?;
    }
    let random = Seeded::new(case.seed ^ 0x5eed);
    examine(&mut Examiner::new(base, mode, &run, fault, tally), &random)?;
    Ok(run.fired > 0)
}

/// Service returns so long after space did.
const RETURN_MAX: Duration = Duration::from_secs(5);

/// What must hold in the process that met the faults.
fn after_faults(base: &Base, mode: Mode, run: &Run) -> Result<(), String> {
    let Some(engine) = &run.engine else { return Ok(()) };
    let background = |call| matches!(call, Call::Spill | Call::Beat | Call::Collect | Call::Scrub);
    for record in run.history.records.iter().filter(|record| !background(record.call)) {
        let allowed = match record.ended.map(|ended| ended.2) {
            None | Some(Outcome::Done | Outcome::Kept(_)) => true,
            Some(Outcome::Refused | Outcome::Mismatched) => true,
            Some(Outcome::Full) => mode == Mode::Enospc || mode == Mode::Faults,
            Some(Outcome::Failed | Outcome::Poisoned) => mode != Mode::Enospc,
        };
        if !allowed {
            return Err(format!("{mode:?}: {} is answered: {}", record.call, record.answer));
        }
    }
    if mode == Mode::Faults || mode == Mode::Flips {
        // What follows is to see the disk as it is.
        engine.vfs.heal();
    }
    values(engine, &base.world()).map_err(|why| format!("reads do not go on: {why}"))?;
    let works = mode == Mode::Faults && engine.registry.is_ready();
    if mode == Mode::Enospc || works {
        engine.vfs.heal();
        engine.clock.advance(RETURN_MAX);
        let begun = run.history.finishes(usize::MAX);
        exercise(base, engine, begun, &mut Known::default())?;
    }
    Ok(())
}

/// A case with all the faults that its mode plans, or without any.
pub fn try_all(base: &Base, mode: Mode, case: &Case, tally: &Tally) -> Result<(), Failure> {
    if fault_of(mode, case, 0, 1).is_none() {
        return try_case(base, mode, case, None, tally).map(|_| ());
    }
    let mut kind = 0;
    while fault_of(mode, case, kind, 1).is_some() && !tally.is_over() {
        try_kind(base, mode, case, kind, tally)?;
        kind += 1;
    }
    Ok(())
}

/// Faults of one kind that are tried with each case in any event, where their class changes.
const FAULTS_MIN: usize = 40;

/// A case with the first, second, ... fault of a kind, until there is none to meet.
pub fn try_kind(
    base: &Base,
    mode: Mode,
    case: &Case,
    kind: usize,
    tally: &Tally,
) -> Result<(), Failure> {
    let least = if mode == Mode::Faults { FAULTS_MIN } else { 0 };
    let mut nth = 1;
    while !tally.is_over() {
        let fired = try_case(base, mode, case, Some((kind, nth)), tally)?;
        if nth >= least && (!fired || mode == Mode::Faults) {
            break;
        }
        nth += 1;
    }
    Ok(())
}

/// How long to go on.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// At most so many images.
    pub images: u64,
    /// At most so long.
    pub time: Duration,
    /// At once.
    pub threads: usize,
}

/// Explores until something is wrong, the budget is spent, or there is nothing more.
pub fn explore(
    base: &Base,
    mode: Mode,
    seed: u64,
    budget: Budget,
    left_out: Option<Step>,
    tally: &Tally,
    tell: &(dyn Fn() + Sync),
) -> Option<Failure> {
    let next = AtomicU64::new(0);
    let found: Mutex<Option<Failure>> = Mutex::new(None);
    let end = Instant::now() + budget.time;
    let images = tally.images.load(Ordering::Relaxed).saturating_add(budget.images);
    let work = || {
        while !tally.stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = case_of(mode, seed, number) else { return };
            match without(left_out, || try_all(base, mode, &case, tally)) {
                Ok(()) if !tally.is_over() => count(&tally.cases),
                // Some of its images may have been left out.
                Ok(()) => {}
                Err(failure) => {
                    tally.stop.store(true, Ordering::Relaxed);
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    found.get_or_insert(failure);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..budget.threads).map(|_| scope.spawn(work)).collect();
        while workers.iter().any(|worker| !worker.is_finished()) {
            std::thread::sleep(Duration::from_millis(20));
            let spent = Instant::now() >= end || tally.images.load(Ordering::Relaxed) >= images;
            if spent {
                tally.stop.store(true, Ordering::Relaxed);
            }
            tell();
        }
    });
    tally.stop.store(false, Ordering::Relaxed);
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// What the disk holds after the cuts of a failure, one after the other.
pub fn disk_after(base: &Base, run: &Run, cuts: &[Cut]) -> Result<SimVfs, String> {
    let mut recording = run.recording.clone();
    let mut disk = recording.begin.clone();
    for (number, cut) in cuts.iter().enumerate() {
        if number > 0 {
            let (engine, found) = recover(base, disk, &mut Known::default())?;
            close(&engine);
            recording = found.recording;
            disk = recording.begin.clone();
        }
        recording.log.iter().take(cut.at).for_each(|op| disk.apply(op));
        disk = image_of(&disk, &run.case, *cut).disk;
    }
    Ok(SimVfs::new(disk))
}
