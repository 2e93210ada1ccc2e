//! The same work on Kelson and on another registry, in turns, on the same disk, over loopback.
//!
//! `benches/compare/run` builds both and starts this; see there.

#[path = "../common/mod.rs"]
mod common;
#[path = "../wire/mod.rs"]
mod wire;

mod fixture;
mod report;
mod usage;
mod workload;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;

use fixture::Fixture;
use report::{Round, Subject};
use wire::{Program, Server};
use workload::{CASES, Limits};

/// How long an idle server is watched.
const IDLE: Duration = Duration::from_secs(5);

/// Runs the same work on two registries, in turns, and prints what they did per second.
#[derive(Debug, Parser)]
struct Arguments {
    /// The other registry: a program called as `registry serve CONFIG`.
    #[arg(long)]
    peer: PathBuf,
    /// What the other one is called in the table.
    #[arg(long, default_value = "distribution")]
    peer_name: String,
    /// Kelson's program, unless it is the one that was built with the benches.
    #[arg(long)]
    kelson: Option<PathBuf>,
    /// How often both have their turn.
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
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // One thread: the generator must leave the other cores to the servers.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let subjects = runtime.block_on(compare(&arguments))?;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &report::json(&subjects))?;
        writeln!(out)?;
    } else {
        out.write_all(report::table(&subjects).as_bytes())?;
    }
    Ok(())
}

/// Kelson and the other one.
async fn compare(arguments: &Arguments) -> Result<[Subject; 2]> {
    let kelson = arguments.kelson.clone().map_or_else(Program::kelson, |path| Program { path });
    let peer = Program { path: arguments.peer.clone() };
    let mut subjects = [
        Subject::new("kelson".to_owned(), kelson),
        Subject::new(arguments.peer_name.clone(), peer),
    ];
    let fixture = Fixture::new()?;
    for round in 0..arguments.rounds {
        // Who begins changes, so that neither always finds the warmer machine.
        for turn in 0..2 {
            let subject = &mut subjects[(round + turn) % 2];
            let name = subject.name.clone();
            progress(&format!("round {} of {}: {name}", round + 1, arguments.rounds))?;
            let measured = one_round(&subject.program, &fixture, arguments).await;
            subject.rounds.push(measured.with_context(|| name)?);
        }
    }
    Ok(subjects)
}

async fn one_round(program: &Program, fixture: &Fixture, arguments: &Arguments) -> Result<Round> {
    let server = program.start().await?;
    let fresh_memory_bytes = usage::memory_bytes(server.pid())?;
    fixture.push(&server).await.context("preparing")?;
    let mut cases = Vec::new();
    for case in CASES.iter().filter(|case| case.name.contains(&arguments.only)) {
        progress(&format!("  {} c={}", case.name, case.clients))?;
        let limits = Limits { time: Duration::from_secs(arguments.seconds) };
        let measured = workload::run(case, &server, fixture, limits).await;
        cases.push(measured.with_context(|| case.name)?);
    }
    let (idle_memory_bytes, idle_cpu) = idle(&server).await?;
    server.stop().await?;
    Ok(Round { fresh_memory_bytes, idle_memory_bytes, idle_cpu, cases })
}

/// Memory, and processor time over [`IDLE`], of a server that nobody talks to.
async fn idle(server: &Server) -> Result<(u64, Duration)> {
    tokio::time::sleep(IDLE / 2).await;
    let before = usage::cpu(server.pid())?;
    tokio::time::sleep(IDLE).await;
    Ok((usage::memory_bytes(server.pid())?, usage::cpu(server.pid())?.saturating_sub(before)))
}

fn progress(line: &str) -> Result<()> {
    Ok(writeln!(std::io::stderr(), "{line}")?)
}
