//! Figures of all rounds, as a table and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::wire::Program;
use crate::workload::{Case, Measured};

/// A registry and what it did.
#[derive(Debug)]
pub struct Subject {
    pub name: String,
    pub program: Program,
    pub rounds: Vec<Round>,
}

/// One turn of one registry.
#[derive(Debug)]
pub struct Round {
    /// Right after the start.
    pub fresh_memory_bytes: u64,
    /// After all the work.
    pub idle_memory_bytes: u64,
    pub idle_cpu: Duration,
    pub cases: Vec<Measured>,
}

/// Median, smallest and largest of a figure over the rounds.
#[derive(Debug, Clone, Copy)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Subject {
    /// Before its first round.
    pub fn new(name: String, program: Program) -> Self {
        Self { name, program, rounds: vec![] }
    }

    fn spread(&self, figure: impl Fn(&Round) -> f64) -> Spread {
        Spread::of(self.rounds.iter().map(figure).collect())
    }

    fn case(&self, at: usize, figure: impl Fn(&Measured) -> f64) -> Spread {
        self.spread(|round| figure(&round.cases[at]))
    }
}

impl Spread {
    fn of(mut figures: Vec<f64>) -> Self {
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
}

impl Measured {
    /// Operations per second, or MB (10^6 bytes) where the case is about bytes.
    fn rate(&self) -> f64 {
        let per_second = self.latencies.len() as f64 / self.elapsed.as_secs_f64();
        per_second * self.case.size_bytes.map_or(1.0, |size| size as f64 / 1e6)
    }

    /// The latency in milliseconds that this share of the operations stayed within.
    fn percentile_ms(&self, share: f64) -> f64 {
        let at = (self.latencies.len() as f64 * share).ceil() as usize;
        let latency = self.latencies.get(at.saturating_sub(1));
        latency.map_or(f64::NAN, |it| it.as_secs_f64() * 1000.0)
    }

    /// Processor time of the server per operation, in milliseconds.
    fn server_cpu_ms(&self) -> f64 {
        self.server_cpu.as_secs_f64() * 1000.0 / self.latencies.len() as f64
    }

    /// Processor time of the generator per operation, in milliseconds.
    fn generator_cpu_ms(&self) -> f64 {
        self.generator_cpu.as_secs_f64() * 1000.0 / self.latencies.len() as f64
    }
}

impl Case {
    fn unit(&self) -> &'static str {
        if self.size_bytes.is_some() { "MB/s" } else { "1/s" }
    }

    fn label(&self) -> String {
        format!("{}, {} at once", self.name, self.clients)
    }
}

/// The cases of a comparison, with their place in each round.
fn cases(subjects: &[Subject; 2]) -> impl Iterator<Item = (usize, &'static Case)> {
    let first = subjects[0].rounds.first();
    let cases = first.map(|round| round.cases.iter().map(|it| it.case).collect::<Vec<_>>());
    cases.unwrap_or_default().into_iter().enumerate()
}

const NOTES: &str = "
median (smallest to largest) over the rounds; the ratio compares medians, above 1 the first is
faster. p50 and p99 in ms; cpu: processor time per operation in ms of the server, and of the
generator while it talked to it. Both have the same configuration, without an access log, and
the same disk: Kelson answers after its commit is durable (content and names synced);
distribution syncs the content of files, not their names. Answers are checked: status and
length of each, digest or content of one in 16.
";

/// For people.
pub fn table(subjects: &[Subject; 2]) -> String {
    let mut text = String::new();
    let [a, b] = subjects;
    let heading = ["rate", "p50", "p99", "cpu", "generator"];
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{:36} {:5} {:>28} {:>28} {:>7}  {} ({} / {})",
        "",
        "",
        a.name,
        b.name,
        "ratio",
        heading[1..].join(", "),
        a.name,
        b.name
    );
    for (at, case) in cases(subjects) {
        let [first, second] = subjects.each_ref().map(|it| it.case(at, Measured::rate));
        let _ = write!(
            text,
            "{:36} {:5} {:>28} {:>28} {:7.2}  ",
            case.label(),
            case.unit(),
            spread_text(first),
            spread_text(second),
            first.median / second.median,
        );
        let details = subjects.each_ref().map(|it| {
            let median = |figure: fn(&Measured) -> f64| it.case(at, figure).median;
            let p50 = median(|it| it.percentile_ms(0.5));
            let p99 = median(|it| it.percentile_ms(0.99));
            let (server, own) =
                (median(Measured::server_cpu_ms), median(Measured::generator_cpu_ms));
            format!("{p50:.2} {p99:.2} {server:.3} {own:.3}")
        });
        let _ = writeln!(text, "{}", details.join(" / "));
    }
    for (name, figure) in RESIDENT {
        let [first, second] = subjects.each_ref().map(|it| it.spread(figure));
        let (one, other) = (spread_text(first), spread_text(second));
        let ratio = first.median / second.median;
        let _ = writeln!(text, "{name:42} {one:>28} {other:>28} {ratio:7.2}");
    }
    text + NOTES
}

/// A figure of a round.
type Figure = fn(&Round) -> f64;

const RESIDENT: [(&str, Figure); 3] = [
    ("memory after the start, MiB", |round| mib(round.fresh_memory_bytes)),
    ("memory after the work, MiB", |round| mib(round.idle_memory_bytes)),
    ("processor time idle for 5 s, ms", |round| round.idle_cpu.as_secs_f64() * 1000.0),
];

fn mib(size_bytes: u64) -> f64 {
    size_bytes as f64 / f64::from(1 << 20)
}

fn spread_text(spread: Spread) -> String {
    let digits = if spread.median < 100.0 { 1 } else { 0 };
    let Spread { median, min, max } = spread;
    format!("{median:.digits$} ({min:.digits$} to {max:.digits$})")
}

/// For programs.
pub fn json(subjects: &[Subject; 2]) -> Value {
    let listed: Vec<_> = cases(subjects)
        .map(|(at, case)| {
            let figures = subjects.each_ref().map(|it| case_json(it, at));
            let ratio = figures[0]["rate"]["median"].as_f64().unwrap_or(f64::NAN)
                / figures[1]["rate"]["median"].as_f64().unwrap_or(f64::NAN);
            json!({
                "name": case.name, "clients": case.clients, "unit": case.unit(), "ratio": ratio,
                "subjects": figures,
            })
        })
        .collect();
    let resident = subjects.each_ref().map(|subject| {
        let figures: serde_json::Map<_, _> = RESIDENT
            .into_iter()
            .map(|(name, figure)| (name.to_owned(), subject.spread(figure).json()))
            .collect();
        json!({ "name": subject.name, "figures": figures })
    });
    json!({ "cases": listed, "resident": resident, "notes": NOTES.trim() })
}

fn case_json(subject: &Subject, at: usize) -> Value {
    let spread = |figure: fn(&Measured) -> f64| subject.case(at, figure).json();
    json!({
        "name": subject.name,
        "operations": spread(|it| it.latencies.len() as f64),
        "rate": spread(Measured::rate),
        "p50_ms": spread(|it| it.percentile_ms(0.5)),
        "p90_ms": spread(|it| it.percentile_ms(0.9)),
        "p99_ms": spread(|it| it.percentile_ms(0.99)),
        "max_ms": spread(|it| it.percentile_ms(1.0)),
        "server_cpu_ms": spread(Measured::server_cpu_ms),
        "generator_cpu_ms": spread(Measured::generator_cpu_ms),
    })
}
