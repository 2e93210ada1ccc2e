//! The same work on Kelson and on other registries, in turns, on the same disk, over loopback.
//!
//! `benches/compare/run` builds what it can and starts this; see there.

#[path = "../common/mod.rs"]
mod common;
#[path = "../wire/mod.rs"]
mod wire;

mod bounds;
mod chart;
mod fixture;
mod place;
mod report;
mod usage;
mod workload;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;

use bounds::Bounds;
use fixture::Fixture;
use place::Place;
use report::{Comparison, Round, Subject};
use wire::{Program, Server};
use workload::{CASES, Limits};

/// How long an idle server is watched.
const IDLE: Duration = Duration::from_secs(5);

/// Runs the same work on registries, in turns, and prints what they did per second.
#[derive(Debug, Parser)]
struct Arguments {
    /// Another registry: a program called as `registry serve CONFIG`, or the address of one that
    /// runs, such as http://127.0.0.1:5001. Ratios are to the first.
    #[arg(long, value_name = "NAME=PROGRAM|URL", value_parser = peer)]
    peer: Vec<(String, Place)>,
    /// Kelson's program, unless it is the one that was built with the benches.
    #[arg(long)]
    kelson: Option<PathBuf>,
    /// How often each has its turn.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long each case runs at most, in seconds.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Only cases whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Every figure as JSON instead of the table.
    #[arg(long)]
    json: bool,
    /// Writes the table as Markdown to this file, too.
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// Writes the ratios as a picture to this file, too.
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn peer(text: &str) -> Result<(String, Place), String> {
    let (name, place) = text.split_once('=').ok_or("not NAME=PROGRAM or NAME=URL")?;
    let place = match place.strip_prefix("http://") {
        None => Place::Program(Program { path: place.into() }),
        Some(address) => {
            let address = address.trim_end_matches('/').parse();
            Place::Elsewhere(address.map_err(|_| "the URL must be http://IP:PORT")?)
        }
    };
    Ok((name.to_owned(), place))
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // One thread: the generator must leave the other cores to the servers.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let comparison = runtime.block_on(compare(&arguments))?;
    if let Some(path) = &arguments.page {
        fs::write(path, report::page(&comparison))?;
    }
    if let Some(path) = &arguments.chart {
        fs::write(path, chart::svg(&comparison))?;
    }
    let mut out = std::io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &report::json(&comparison))?;
        writeln!(out)?;
    } else {
        out.write_all(report::table(&comparison).as_bytes())?;
    }
    Ok(())
}

/// Kelson and the others.
async fn compare(arguments: &Arguments) -> Result<Comparison> {
    let kelson = arguments.kelson.clone().map_or_else(Program::kelson, |path| Program { path });
    let mut subjects = vec![Subject::new("kelson".to_owned(), Place::Program(kelson))];
    for (name, place) in &arguments.peer {
        subjects.push(Subject::new(name.clone(), place.clone()));
    }
    progress("what the machine can do")?;
    let bounds = Bounds::measure()?;
    let (fixture, count) = (Fixture::new()?, subjects.len());
    for round in 0..arguments.rounds {
        // Who begins changes, so that nobody always finds the warmer machine.
        for turn in 0..count {
            let subject = &mut subjects[(round + turn) % count];
            let name = subject.name.clone();
            progress(&format!("round {} of {}: {name}", round + 1, arguments.rounds))?;
            let measured = one_round(&subject.place, &fixture, arguments).await;
            subject.rounds.push(measured.with_context(|| name)?);
        }
    }
    Ok(Comparison { subjects, bounds })
}

async fn one_round(place: &Place, fixture: &Fixture, arguments: &Arguments) -> Result<Round> {
    let server = place.start().await?;
    let fresh = server.pid().map(usage::memory).transpose()?;
    fixture.push(&server).await.context("preparing")?;
    let mut cases = Vec::new();
    for case in CASES.iter().filter(|case| case.name.contains(&arguments.only)) {
        progress(&format!("  {}", case.label()))?;
        let limits = Limits { time: Duration::from_secs(arguments.seconds) };
        let measured = workload::run(case, &server, fixture, limits).await;
        cases.push(measured.with_context(|| case.name)?);
    }
    let (idle, idle_cpu) = idle(&server).await?;
    server.stop().await?;
    Ok(Round { fresh, idle, idle_cpu, cases })
}

/// Memory, and processor time over [`IDLE`], of a server that nobody talks to.
async fn idle(server: &Server) -> Result<(Option<usage::Memory>, Option<Duration>)> {
    let Some(pid) = server.pid() else { return Ok((None, None)) };
    tokio::time::sleep(IDLE / 2).await;
    let before = usage::cpu(pid)?;
    tokio::time::sleep(IDLE).await;
    Ok((Some(usage::memory(pid)?), Some(usage::cpu(pid)?.saturating_sub(before))))
}

fn progress(line: &str) -> Result<()> {
    Ok(writeln!(std::io::stderr(), "{line}")?)
}
