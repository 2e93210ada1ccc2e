//! A broken promise for people: what was asked and answered, what the disk did, what is wrong.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::explore::{Cut, Failure, disk_after};
use super::plan::Mode;
use super::run::{Base, Run};
use super::verify::{Known, Recovered, exercise, heal, judge, recover};
use crate::disk::durable::Step;
use crate::disk::sim::{Id, Op, Recording};

/// How many operations before a cut are shown.
const OPERATIONS_SHOWN: usize = 25;

/// The command line that shows this failure again.
pub fn command(failure: &Failure, left_out: Option<Step>) -> String {
    let mode = format!("{:?}", failure.mode);
    let mode: String = mode.chars().enumerate().fold(String::new(), |mut text, (at, letter)| {
        if at > 0 && letter.is_uppercase() {
            text.push('-');
        }
        text.push(letter.to_ascii_lowercase());
        text
    });
    let mut text = format!("kelson-sim --mode {mode} --seed {}", failure.case.seed);
    let _ = write!(text, " --case '{}'", failure.case);
    if let Some((kind, nth)) = failure.fault {
        let _ = write!(text, " --fault {kind} {nth}");
    }
    if !failure.cuts.is_empty() {
        let list = |each: &dyn Fn(&Cut) -> String| {
            failure.cuts.iter().map(each).collect::<Vec<_>>().join(",")
        };
        let _ = write!(text, " --cut {}", list(&|cut| cut.at.to_string()));
        let _ = write!(text, " --variant {}", list(&|cut| cut.variant.name().to_owned()));
        let _ = write!(text, " --sample {}", list(&|cut| cut.sample.to_string()));
    }
    if let Some(step) = left_out {
        let _ = write!(text, " --mutant {}", step as u8);
    }
    text
}

/// What is wrong with the image of these cuts, and all that led there.
pub fn explain(base: &Base, mode: Mode, run: &Run, cuts: &[Cut]) -> (String, Vec<String>) {
    let mut text = String::new();
    let last = cuts.first().map_or(usize::MAX, |cut| cut.at);
    let _ = writeln!(text, "calls (positions in the log of the disk):");
    for record in run.history.records.iter().filter(|record| record.began.0 <= last) {
        let ended = record.ended.filter(|ended| ended.0 <= last);
        let answer = ended.map_or("not answered yet".to_owned(), |(at, ..)| {
            format!("at {at}: {}", record.answer)
        });
        let began = record.began.0;
        let _ = writeln!(text, "  client {}: {} at {began}, {answer}", record.client, record.call);
    }
    for commit in run.commits.iter().filter(|commit| commit.begin <= last) {
        let _ = writeln!(text, "  transaction {}: {}..{}", commit.number, commit.begin, commit.end);
    }
    if let Some(cut) = cuts.first() {
        let _ = writeln!(text, "operations before the cut at {}:", cut.at);
        text.push_str(&operations(&run.recording, cut.at));
    }
    let violations = match disk_after(base, run, cuts) {
        Err(why) => vec![why],
        Ok(vfs) => match recover(base, vfs.disk(), &mut Known::default()) {
            Err(why) => vec![why],
            Ok((engine, found)) => {
                let mut violations = judge(base, run, last, &found);
                violations.extend(older(base, run, cuts, &found));
                if violations.is_empty() && mode != Mode::Recovery {
                    let begun = run.history.finishes(last);
                    let works = exercise(base, &engine, begun, &mut Known::default());
                    let heals = || heal(base, &engine, &mut Known::default());
                    let works = if found.rotten { works.and_then(|()| heals()) } else { works };
                    violations.extend(works.err());
                }
                violations
            }
        },
    };
    (text, violations)
}

/// Whether the recovery after the last of several cuts found less than the one that it cut.
pub fn older(base: &Base, run: &Run, cuts: &[Cut], found: &Recovered) -> Option<String> {
    let before = cuts.split_last().map_or(&[][..], |(_, before)| before);
    if before.is_empty() {
        return None;
    }
    let disk = disk_after(base, run, before).ok()?.disk();
    let first = recover(base, disk, &mut Known::default()).ok()?.1;
    found.older_than(&first)
}

/// The last operations before a position, with the names that files had then.
fn operations(recording: &Recording, until: usize) -> String {
    let mut names: BTreeMap<Id, String> = BTreeMap::new();
    let mut disk = recording.begin.clone();
    let mut text = String::new();
    for (number, op) in recording.log.iter().take(until).enumerate() {
        for (id, path) in disk.paths() {
            names.insert(id, path);
        }
        if number + OPERATIONS_SHOWN >= until {
            let _ = writeln!(text, "  {number} {}", describe(op, &names));
        }
        disk.apply(op);
    }
    text
}

fn describe(op: &Op, names: &BTreeMap<Id, String>) -> String {
    let name = |id: &Id| names.get(id).map_or("?", String::as_str);
    match op {
        Op::Write { file, offset, bytes } => {
            format!("write {} +{} at {offset}", name(file), bytes.len())
        }
        Op::SetSize { file, size_bytes } => format!("set size {} {size_bytes}", name(file)),
        Op::Create { name: (directory, new), is_dir } => {
            format!("{} {}/{new}", if *is_dir { "mkdir" } else { "create" }, name(directory))
        }
        Op::Rename { from, to } => {
            format!("rename {}/{} to {}/{}", name(&from.0), from.1, name(&to.0), to.1)
        }
        Op::Remove { name: (directory, gone) } => format!("remove {}/{gone}", name(directory)),
        Op::SyncFile { file, synced } => format!("sync {} {synced:?}", name(file)),
        Op::SyncDir { directory, synced } => {
            format!("sync directory {} {synced:?}", name(directory))
        }
        Op::DropCache { file } => format!("drop cache {}", name(file)),
    }
}
