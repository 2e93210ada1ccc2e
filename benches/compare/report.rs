//! Figures of all rounds: a table for a terminal, a page, and JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bounds::Bounds;
use crate::place::Place;
use crate::usage::Memory;
use crate::workload::{Case, Measured};

/// A registry and what it did.
#[derive(Debug)]
pub struct Subject {
    pub name: String,
    pub place: Place,
    pub rounds: Vec<Round>,
}

/// One turn of one registry. What the operating system says is missing where the process is not
/// known.
#[derive(Debug)]
pub struct Round {
    /// Right after the start.
    pub fresh: Option<Memory>,
    /// After all the work.
    pub idle: Option<Memory>,
    pub idle_cpu: Option<Duration>,
    pub cases: Vec<Measured>,
}

/// All that was measured; Kelson comes first, and what it is compared with second.
#[derive(Debug)]
pub struct Comparison {
    pub subjects: Vec<Subject>,
    pub bounds: Bounds,
}

/// Median, smallest and largest of a figure over the rounds; NaN where there is none.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    pub median: f64,
    min: f64,
    max: f64,
}

impl Subject {
    /// Before its first round.
    pub fn new(name: String, place: Place) -> Self {
        Self { name, place, rounds: vec![] }
    }

    fn spread(&self, figure: impl Fn(&Round) -> f64) -> Spread {
        Spread::of(self.rounds.iter().map(figure).collect())
    }

    /// A figure of the case at that place.
    pub fn case(&self, at: usize, figure: impl Fn(&Measured) -> f64) -> Spread {
        self.spread(|round| figure(&round.cases[at]))
    }
}

impl Spread {
    fn of(mut figures: Vec<f64>) -> Self {
        figures.retain(|figure| figure.is_finite());
        figures.sort_by(f64::total_cmp);
        match figures[..] {
            [] => Self { median: f64::NAN, min: f64::NAN, max: f64::NAN },
            [min, ..] => {
                let (median, max) = (figures[figures.len() / 2], figures[figures.len() - 1]);
                Self { median, min, max }
            }
        }
    }

    fn json(self) -> Value {
        json!({ "median": self.median, "min": self.min, "max": self.max })
    }

    fn text(self) -> String {
        let Self { median, min, max } = self;
        if median.is_nan() {
            return "-".to_owned();
        }
        let digits = if median < 100.0 { 1 } else { 0 };
        format!("{median:.digits$} ({min:.digits$} to {max:.digits$})")
    }
}

impl Measured {
    /// Operations per second, or MB (10^6 bytes) where the case is about bytes.
    pub fn rate(&self) -> f64 {
        if self.latencies.is_empty() {
            return f64::NAN;
        }
        let per_second = self.latencies.len() as f64 / self.elapsed.as_secs_f64();
        per_second * self.case.size_bytes().map_or(1.0, |size| size as f64 / 1e6)
    }

    /// The latency in milliseconds that this share of the operations stayed within.
    fn percentile_ms(&self, share: f64) -> f64 {
        let at = (self.latencies.len() as f64 * share).ceil() as usize;
        let latency = self.latencies.get(at.saturating_sub(1));
        latency.map_or(f64::NAN, |it| it.as_secs_f64() * 1000.0)
    }

    /// 99 of 100 operations ended within so many milliseconds.
    pub fn p99_ms(&self) -> f64 {
        self.percentile_ms(0.99)
    }

    /// Processor time of the server: ms for one operation, or s for one GB (10^9 bytes).
    pub fn server_cpu(&self) -> f64 {
        self.server_cpu.map_or(f64::NAN, |cpu| self.per_operation(cpu))
    }

    /// The same of the generator.
    fn generator_cpu(&self) -> f64 {
        self.per_operation(self.generator_cpu)
    }

    fn per_operation(&self, cpu: Duration) -> f64 {
        let each = cpu.as_secs_f64() / self.latencies.len() as f64;
        self.case.size_bytes().map_or(each * 1e3, |size| each / (size as f64 / 1e9))
    }
}

impl Case {
    fn unit(&self) -> &'static str {
        if self.size_bytes().is_some() { "MB/s" } else { "1/s" }
    }

    fn cpu_unit(&self) -> &'static str {
        if self.size_bytes().is_some() { "s/GB" } else { "ms" }
    }

    /// What it is called, with how many do it.
    pub fn label(&self) -> String {
        format!("{}, {} at once", self.name, self.clients)
    }
}

/// How Kelson stands in one case.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// Its rate over that of what it is compared with.
    pub rate: f64,
    /// Its processor time for an operation over that of the other.
    pub cpu: f64,
    /// Its own p99.
    p99_ms: f64,
}

impl Comparison {
    /// The cases, with their place in each round.
    pub fn cases(&self) -> Vec<(usize, &'static Case)> {
        let first = self.subjects[0].rounds.first();
        let cases = first.iter().flat_map(|round| round.cases.iter().map(|it| it.case));
        cases.enumerate().collect()
    }

    /// See [`Standing`].
    pub fn standing(&self, at: usize) -> Standing {
        let ratio = |figure: fn(&Measured) -> f64| {
            let of = |subject: &Subject| subject.case(at, figure).median;
            of(&self.subjects[0]) / self.subjects.get(1).map_or(f64::NAN, of)
        };
        Standing {
            rate: ratio(Measured::rate),
            cpu: ratio(Measured::server_cpu),
            p99_ms: self.subjects[0].case(at, Measured::p99_ms).median,
        }
    }

    fn verdict(&self, at: usize, case: &Case) -> String {
        let (goal, is) = (case.goal, self.standing(at));
        let mut parts = Vec::new();
        let mut judge = |text: String, reached: bool| {
            parts.push(format!("{text} {}", if reached { "reached" } else { "**missed**" }));
        };
        if let Some(rate) = goal.rate {
            judge(format!("{rate}x"), is.rate >= rate);
        }
        if let Some(cpu) = goal.cpu {
            judge(format!("cpu {cpu}x"), is.cpu <= cpu);
        }
        if let Some(p99_ms) = goal.p99_ms {
            judge(format!("p99 {p99_ms} ms"), is.p99_ms <= p99_ms);
        }
        parts.join(", ")
    }
}

const NOTES: &str = "\
Median (smallest to largest) over the rounds. Ratios compare medians of Kelson and of the first \
peer. p50 and p99 in ms; cpu is processor time of the server for one operation, generator that of \
the client beside it. All have the same configuration, without an access log, and the same disk. \
Kelson answers after its commit is durable, content and names synced. Answers are checked: status \
and length of each, digest or content of one in 16.";

/// For people at a terminal.
pub fn table(comparison: &Comparison) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    for (at, case) in comparison.cases() {
        let _ = writeln!(text, "{} ({})", case.label(), case.unit());
        for subject in &comparison.subjects {
            let median = |figure: fn(&Measured) -> f64| subject.case(at, figure).median;
            let _ = writeln!(
                text,
                "  {:24} {:>30}  p50 {:.2} p99 {:.2} cpu {:.3} {} generator {:.3}",
                subject.name,
                subject.case(at, Measured::rate).text(),
                median(|it| it.percentile_ms(0.5)),
                median(Measured::p99_ms),
                median(Measured::server_cpu),
                case.cpu_unit(),
                median(Measured::generator_cpu),
            );
        }
        let Standing { rate, cpu, .. } = comparison.standing(at);
        let verdict = comparison.verdict(at, case);
        let _ = writeln!(text, "  ratio {rate:.2}, cpu {cpu:.2}; {verdict}");
    }
    for (name, figure) in RESIDENT {
        let _ = writeln!(text, "{name}");
        for subject in &comparison.subjects {
            let _ = writeln!(text, "  {:24} {:>30}", subject.name, subject.spread(figure).text());
        }
    }
    let _ = writeln!(text, "{}\n{NOTES}", bounds_text(comparison.bounds));
    text
}

/// For the documentation: the same in Markdown.
pub fn page(comparison: &Comparison) -> String {
    let names: Vec<_> = comparison.subjects.iter().map(|it| it.name.as_str()).collect();
    let mut text = format!("| work | {} | ratio | cpu | goal |\n", names.join(" | "));
    let _ = writeln!(text, "|---|{}---|---|---|", "---|".repeat(names.len()));
    for (at, case) in comparison.cases() {
        let _ = write!(text, "| {} |", case.label());
        for subject in &comparison.subjects {
            let rate = subject.case(at, Measured::rate);
            if rate.median.is_nan() {
                let _ = write!(text, " not offered |");
                continue;
            }
            let cpu = subject.case(at, Measured::server_cpu).median;
            let p99 = subject.case(at, Measured::p99_ms).median;
            let (unit, cpu_unit) = (case.unit(), case.cpu_unit());
            let _ = write!(text, " {} {unit}, p99 {p99:.1} ms, {cpu:.3} {cpu_unit} |", rate.text());
        }
        let Standing { rate, cpu, .. } = comparison.standing(at);
        let verdict = comparison.verdict(at, case);
        let shown = |ratio: f64| {
            if ratio.is_nan() { "-".to_owned() } else { format!("{ratio:.2}") }
        };
        let _ = writeln!(text, " {} | {} | {verdict} |", shown(rate), shown(cpu));
    }
    for (name, figure) in RESIDENT {
        let figures = comparison.subjects.iter().map(|it| it.spread(figure).text());
        let _ = writeln!(text, "| {name} | {} | | | |", figures.collect::<Vec<_>>().join(" | "));
    }
    let _ = writeln!(text, "\n{}\n\n{NOTES}", bounds_text(comparison.bounds));
    text
}

fn bounds_text(bounds: Bounds) -> String {
    format!(
        "Bounds of the machine in the same run: SHA-256 {:.0} MB/s a core, sendfile over loopback \
         {:.0} MB/s, {:.0} fdatasync of 4 KiB and {:.0} redb commits of one row a second.",
        bounds.sha256_bytes / 1e6,
        bounds.sendfile_bytes / 1e6,
        bounds.fdatasync,
        bounds.commits,
    )
}

/// A figure of a round.
type Figure = fn(&Round) -> f64;

const RESIDENT: [(&str, Figure); 4] = [
    ("memory after the start, MiB", |round| mib(round.fresh.map(|it| it.resident_bytes))),
    ("memory idle after the work, MiB", |round| mib(round.idle.map(|it| it.resident_bytes))),
    ("memory at most, MiB", |round| mib(round.idle.map(|it| it.peak_bytes))),
    ("processor time idle for 5 s, ms", |round| {
        round.idle_cpu.map_or(f64::NAN, |cpu| cpu.as_secs_f64() * 1000.0)
    }),
];

fn mib(size_bytes: Option<u64>) -> f64 {
    size_bytes.map_or(f64::NAN, |bytes| bytes as f64 / f64::from(1 << 20))
}

/// For programs.
pub fn json(comparison: &Comparison) -> Value {
    let cases = comparison.cases().into_iter();
    let listed: Vec<_> = cases
        .map(|(at, case)| {
            let Standing { rate, cpu, .. } = comparison.standing(at);
            let figures: Vec<_> = comparison.subjects.iter().map(|it| case_json(it, at)).collect();
            json!({
                "name": case.name, "clients": case.clients, "unit": case.unit(),
                "cpu_unit": case.cpu_unit(), "ratio": rate, "cpu_ratio": cpu,
                "subjects": figures,
            })
        })
        .collect();
    let resident: Vec<_> = comparison.subjects.iter().map(resident_json).collect();
    let Bounds { sha256_bytes, sendfile_bytes, fdatasync, commits } = comparison.bounds;
    json!({
        "cases": listed, "resident": resident, "notes": NOTES,
        "bounds": {
            "sha256_bytes_per_second": sha256_bytes, "sendfile_bytes_per_second": sendfile_bytes,
            "fdatasync_per_second": fdatasync, "commits_per_second": commits,
        },
    })
}

fn resident_json(subject: &Subject) -> Value {
    let figures: serde_json::Map<_, _> = RESIDENT
        .into_iter()
        .map(|(name, figure)| (name.to_owned(), subject.spread(figure).json()))
        .collect();
    json!({ "name": subject.name, "figures": figures })
}

fn case_json(subject: &Subject, at: usize) -> Value {
    let spread = |figure: fn(&Measured) -> f64| subject.case(at, figure).json();
    json!({
        "name": subject.name,
        "operations": spread(|it| it.latencies.len() as f64),
        "rate": spread(Measured::rate),
        "p50_ms": spread(|it| it.percentile_ms(0.5)),
        "p90_ms": spread(|it| it.percentile_ms(0.9)),
        "p99_ms": spread(Measured::p99_ms),
        "max_ms": spread(|it| it.percentile_ms(1.0)),
        "server_cpu": spread(Measured::server_cpu),
        "generator_cpu": spread(Measured::generator_cpu),
    })
}
