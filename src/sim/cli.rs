//! The command `kelson-sim`.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Parser;

use super::explain::{command, explain};
use super::explore::{Budget, Cut, Failure, Tally, explore, first_cut, try_case};
use super::plan::{Mode, case_of, cases, fault_of};
use super::run::{Base, Case, run};
use super::shrink::shrink;
use crate::disk::durable::Step;
use crate::disk::durable::mutant::without;
use crate::disk::sim::Variant;

/// Cuts the power of a simulated disk under the real registry, and looks at what is left.
#[derive(Debug, Parser)]
#[command(name = "kelson-sim")]
pub struct Arguments {
    /// What to explore; several are explored one after the other.
    #[arg(long, value_enum, value_delimiter = ',')]
    mode: Vec<Mode>,
    /// Decides about everything.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// At most so many images in each mode.
    #[arg(long, default_value_t = u64::MAX)]
    images: u64,
    /// At most so many seconds in each mode.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// So many at once; the machine's processors unless set.
    #[arg(long)]
    threads: Option<usize>,
    /// Replay: the calls, clients separated by `/`, calls by `,`; the mode's own unless set.
    #[arg(long)]
    case: Option<String>,
    /// Replay: the operation before which the power goes; several cut the recoveries, too.
    #[arg(long, value_delimiter = ',')]
    cut: Vec<usize>,
    /// Replay: what is left of what was pending, for each cut.
    #[arg(long, value_delimiter = ',')]
    variant: Vec<String>,
    /// Replay: which of the images of that variant, for each cut.
    #[arg(long, value_delimiter = ',')]
    sample: Vec<u64>,
    /// Replay: the kind and the number of the mode's fault.
    #[arg(long, num_args = 2, value_names = ["KIND", "N"])]
    fault: Vec<usize>,
    /// Leaves the sync of this number out (see `disk/durable/step.rs`).
    #[arg(long)]
    mutant: Option<u8>,
    /// Shows of every sync that leaving it out breaks a promise; --seconds is for each.
    #[arg(long)]
    mutants: bool,
}

type Result<T> = std::result::Result<T, String>;

/// Runs the command; 0: nothing is wrong, 1: a promise is broken, 2: the arguments are.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.run(&mut std::io::stdout()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody may be reading.
            let _ = writeln!(std::io::stderr(), "kelson-sim: {error}");
            ExitCode::from(2)
        }
    }
}

/// How much of a mode's plan that is; nothing of a plan without an end.
fn reached(mode: Mode, done: u64) -> String {
    match cases(mode) {
        Some(all) if done == all => ", complete".to_owned(),
        Some(all) => format!(", {done} of {all} cases"),
        None => String::new(),
    }
}

fn text(error: std::io::Error) -> String {
    error.to_string()
}

impl Arguments {
    /// Does what they ask for; whether nothing was wrong.
    pub fn run(&self, out: &mut impl Write) -> Result<bool> {
        if self.mutants {
            return self.run_mutants(out);
        }
        // An upgrade has one case, which is over in a moment: it is explored again.
        let replayed = self.case.is_some() || !self.cut.is_empty();
        if replayed && self.mode != [Mode::Upgrade] {
            return self.replay(out);
        }
        let modes = if self.mode.is_empty() { Mode::ALL.to_vec() } else { self.mode.clone() };
        let (began, tally, left_out) = (Instant::now(), Tally::default(), self.left_out()?);
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let mut violations = 0;
        for mode in modes {
            let at = Instant::now();
            let before = (load(&tally.images), load(&tally.cases));
            let failure = self.explore(mode, left_out, self.seconds, &tally);
            let images = load(&tally.images) - before.0;
            let seconds = at.elapsed().as_secs_f64();
            let rate = images as f64 / seconds;
            let plan = reached(mode, load(&tally.cases) - before.1);
            writeln!(out, "{mode:?}: {images} images in {seconds:.1} s, {rate:.0} a second{plan}")
                .map_err(text)?;
            if let Some(failure) = failure {
                violations += 1;
                self.report(out, failure, left_out)?;
            }
        }
        let (images, cuts, runs) = (load(&tally.images), load(&tally.cuts), load(&tally.runs));
        let seconds = began.elapsed().as_secs();
        writeln!(
            out,
            "RESULT sim images={images} cuts={cuts} runs={runs} violations={violations} \
             seconds={seconds} seed={}",
            self.seed
        )
        .map_err(text)?;
        Ok(violations == 0)
    }

    fn left_out(&self) -> Result<Option<Step>> {
        let Some(number) = self.mutant else { return Ok(None) };
        let found = Step::ALL.into_iter().find(|step| *step as u8 == number);
        found.map(Some).ok_or_else(|| format!("there are mutants 1 to {}", Step::ALL.len()))
    }

    fn base(mode: Mode) -> Base {
        if mode == Mode::FirstStart { Base::empty() } else { Base::new() }
    }

    fn explore(
        &self,
        mode: Mode,
        left_out: Option<Step>,
        seconds: u64,
        tally: &Tally,
    ) -> Option<Failure> {
        let threads = self.threads.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        });
        let time = Duration::from_secs(seconds);
        let budget = Budget { images: self.images, time, threads };
        let progress = Progress::new(mode, tally);
        let base = Self::base(mode);
        let failure = explore(&base, mode, self.seed, budget, left_out, tally, &|| progress.show());
        progress.clear();
        failure
    }

    fn report(&self, out: &mut impl Write, failure: Failure, left_out: Option<Step>) -> Result<()> {
        writeln!(out, "found: {}", command(&failure, left_out)).map_err(text)?;
        let failure = shrink(&Self::base(failure.mode), failure, left_out);
        for violation in &failure.violations {
            writeln!(out, "VIOLATION {violation}").map_err(text)?;
        }
        if let Some((kind, nth)) = failure.fault {
            let fault = fault_of(failure.mode, &failure.case, kind, nth);
            writeln!(out, "with {fault:?}").map_err(text)?;
        }
        writeln!(out, "replay: {}", command(&failure, left_out)).map_err(text)
    }

    fn replay(&self, out: &mut impl Write) -> Result<bool> {
        let mode = self.mode.first().copied().unwrap_or(Mode::Random);
        let case = match &self.case {
            Some(case) => Case::parse(self.seed, case).ok_or("--case: no such call")?,
            None => case_of(mode, self.seed, 0).ok_or("this mode needs --case")?,
        };
        let base = Self::base(mode);
        let (cuts, left_out) = (self.cuts()?, self.left_out()?);
        let fault = match self.fault.as_slice() {
            [kind, nth] => Some((*kind, *nth)),
            _ => None,
        };
        if cuts.is_empty() {
            let tried =
                without(left_out, || try_case(&base, mode, &case, fault, &Tally::default()));
            return match tried {
                Ok(_) => writeln!(out, "nothing is wrong").map(|()| true).map_err(text),
                Err(failure) => self.report(out, failure, left_out).map(|()| false),
            };
        }
        let (explained, violations) = without(left_out, || {
            let fault = fault.and_then(|(kind, nth)| fault_of(mode, &case, kind, nth));
            let run = run(&base, &case, fault.as_ref())?;
            let (first, last) = (first_cut(mode, &run), run.recording.log.len());
            if cuts.first().is_some_and(|cut| !(first..=last).contains(&cut.at)) {
                return Err(format!("this case is cut at {first} to {last}"));
            }
            Ok(explain(&base, mode, &run, &cuts))
        })?;
        writeln!(out, "case {case}\n{explained}").map_err(text)?;
        for violation in &violations {
            writeln!(out, "VIOLATION {violation}").map_err(text)?;
        }
        writeln!(out, "RESULT sim images=1 violations={}", violations.len()).map_err(text)?;
        Ok(violations.is_empty())
    }

    fn cuts(&self) -> Result<Vec<Cut>> {
        let variant = |number: usize| {
            let name = self.variant.get(number).map_or("nothing", String::as_str);
            Variant::parse(name).ok_or_else(|| {
                let names = Variant::ALL.map(Variant::name).join(", ");
                format!("there is no variant {name}; there are: {names}")
            })
        };
        let cut = |(number, at): (usize, &usize)| {
            let sample = self.sample.get(number).copied().unwrap_or_default();
            Ok(Cut { at: *at, variant: variant(number)?, sample })
        };
        self.cut.iter().enumerate().map(cut).collect()
    }

    fn run_mutants(&self, out: &mut impl Write) -> Result<bool> {
        let began = Instant::now();
        let mut caught = 0;
        for step in Step::ALL {
            let (tally, at) = (Tally::default(), Instant::now());
            let mut modes = MUTANT_MODES.into_iter();
            let failure =
                modes.find_map(|mode| self.explore(mode, Some(step), self.seconds, &tally));
            let (number, seconds) = (step as u8, at.elapsed().as_secs_f64());
            let images = tally.images.load(Ordering::Relaxed);
            let Some(failure) = failure else {
                writeln!(
                    out,
                    "NOT CAUGHT mutant {number} {step:?}: {images} images, {seconds:.1} s"
                )
                .map_err(text)?;
                continue;
            };
            caught += 1;
            let first = failure.violations.first().map_or("", String::as_str);
            writeln!(
                out,
                "caught mutant {number} {step:?} in {seconds:.1} s after {images} images: \
                 {first}\n  {}",
                command(&failure, Some(step))
            )
            .map_err(text)?;
        }
        let (total, seconds) = (Step::ALL.len(), began.elapsed().as_secs());
        writeln!(out, "RESULT mutants total={total} caught={caught} seconds={seconds}")
            .map_err(text)?;
        Ok(caught == total)
    }
}

/// Where mutants are looked for; the quick ones first.
const MUTANT_MODES: [Mode; 4] = [Mode::FirstStart, Mode::Upgrade, Mode::Short, Mode::Random];

/// One line on a terminal, while something long runs.
struct Progress<'a> {
    mode: Mode,
    tally: &'a Tally,
    began: Instant,
    shown: std::sync::Mutex<Option<Instant>>,
}

impl<'a> Progress<'a> {
    fn new(mode: Mode, tally: &'a Tally) -> Self {
        Self { mode, tally, began: Instant::now(), shown: std::sync::Mutex::default() }
    }

    fn show(&self) {
        let mut shown = self.shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let due = shown.is_none_or(|at| at.elapsed() > Duration::from_secs(1));
        if !due || !std::io::stderr().is_terminal() {
            return;
        }
        *shown = Some(Instant::now());
        let (mode, seconds) = (self.mode, self.began.elapsed().as_secs());
        let images = self.tally.images.load(Ordering::Relaxed);
        // A line that cannot be shown is not missed.
        let _ = write!(std::io::stderr(), "\r\x1b[K{mode:?}: {images} images, {seconds} s");
    }

    fn clear(&self) {
        if std::io::stderr().is_terminal() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
