//! `kelson garbage-collect`: what nothing needs goes, beside a running server or without one.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::ArgAction;
use serde_json::{Value, json};

use super::admin::{self, Admin};
use super::display::Display;
use super::human;
use crate::config;
use crate::registry::gc::{Pass, Queued, Report};

const AFTER_HELP: &str = "\
Flags may be given twice and with a value (-m --delete-untagged=true), as distribution takes them.

Exit codes: 0 done, also when a server that was started less than kelson.gc.lease ago collects
nothing yet (standard error says so); 1 it failed, or a file could not be removed and is tried again
at the next pass; 2 the command line is wrong.";

/// What to collect, and how to tell it.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP, args_override_self = true)]
pub struct Arguments {
    #[command(flatten)]
    config: super::ConfigArg,
    /// Change nothing; show what would go.
    #[arg(short, long, action = ArgAction::Set, value_name = "true|false")]
    #[arg(num_args = 0..=1, require_equals = true, hide_possible_values = true)]
    #[arg(default_value = "false", default_missing_value = "true", hide_default_value = true)]
    dry_run: bool,
    /// Delete manifests without a tag, an index or a living subject, too.
    #[arg(short = 'm', long, action = ArgAction::Set, value_name = "true|false")]
    #[arg(num_args = 0..=1, require_equals = true, hide_possible_values = true)]
    #[arg(default_value = "false", default_missing_value = "true", hide_default_value = true)]
    delete_untagged: bool,
    /// Print nothing but errors; with --json, only the report.
    #[arg(short, long, action = ArgAction::Set, value_name = "true|false")]
    #[arg(num_args = 0..=1, require_equals = true, hide_possible_values = true)]
    #[arg(default_value = "false", default_missing_value = "true", hide_default_value = true)]
    quiet: bool,
    /// Instead of kelson.gc.grace, such as 2h; 0 takes all. Only while no server runs.
    #[arg(long, value_name = "DURATION", value_parser = grace)]
    grace: Option<Duration>,
    /// Print JSON, one object a line; the last one is the report.
    #[arg(long)]
    json: bool,
}

/// Whole seconds with a unit: a bare number would be nanoseconds, and take everything.
fn grace(text: &str) -> Result<Duration, String> {
    let wrong = || "not 0 or a duration of whole seconds such as 30m or 24h".to_owned();
    let has_unit = text == "0" || text.ends_with(|last: char| last.is_ascii_alphabetic());
    let duration = config::parse_duration(text).filter(|_| has_unit).ok_or_else(wrong)?;
    if duration.subsec_nanos() == 0 { Ok(duration) } else { Err(wrong()) }
}

/// Collects, or shows what would be collected.
pub fn run(arguments: Arguments, out: &mut dyn Write) -> anyhow::Result<()> {
    let Arguments { config, dry_run, delete_untagged, quiet, grace, json } = arguments;
    let config: Option<PathBuf> = config.config;
    let options = admin::options(config)?;
    let keeps = options.registry.gc_grace.max(options.registry.gc_lease);
    if let Some(grace) = grace.filter(|grace| !dry_run && *grace < keeps) {
        writeln!(
            std::io::stderr(),
            "warning: with a grace of {}, what was uploaded less than {} ago and is not in an \
             image yet goes too; pushes that are under way have to be repeated",
            human::duration(grace.as_secs()),
            human::duration(keeps.as_secs()),
        )?;
    }
    let pass = Pass {
        dry_run,
        untagged: delete_untagged,
        verbose: !quiet,
        grace_seconds: grace.map(|grace| grace.as_secs()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report: Report = runtime.block_on(Admin::with(options, async |admin| {
        let mut display = Display::new(out, json, quiet, line);
        admin.run("/garbage-collect", &pass, &mut display).await
    }))?;
    if let Some(seconds) = report.resting_seconds.filter(|_| !dry_run) {
        writeln!(
            std::io::stderr(),
            "nothing was collected: the server has just started, and for {} its clients may rely \
             on what they were told before; it collects by itself after that",
            human::duration(seconds),
        )?;
    }
    if json {
        let mut object = serde_json::to_value(&report)?;
        object["kind"] = json!("report");
        writeln!(out, "{object}")?;
    } else if !quiet {
        summarize(&report, out)?;
    }
    match report.failed {
        0 => Ok(()),
        failed => bail!(
            "{failed} files could not be removed, see the log for why; they are tried again at the \
             next pass"
        ),
    }
}

/// A thing that goes, in the words of distribution.
fn line(item: &Value) -> Option<String> {
    let digest = item["digest"].as_str()?;
    match (item["kind"].as_str()?, item["repository"].as_str()) {
        ("link", Some(repo)) => Some(format!("{repo}: layer link eligible for deletion: {digest}")),
        ("manifest", _) => Some(format!("manifest eligible for deletion: {digest}")),
        ("content", _) => Some(format!("blob eligible for deletion: {digest}")),
        _ => None,
    }
}

fn summarize(report: &Report, out: &mut dyn Write) -> anyhow::Result<()> {
    if report.dry_run {
        let Queued { links, manifests, contents } = report.eligible;
        let blobs = links.count + contents.count;
        writeln!(out)?;
        writeln!(
            out,
            "{blobs} blobs and {} manifests eligible for deletion, at most {}",
            manifests.count,
            human::size(links.size_bytes + manifests.size_bytes + contents.size_bytes),
        )?;
    } else {
        writeln!(out)?;
        writeln!(
            out,
            "{} blobs and {} manifests deleted, {} freed",
            report.contents.count,
            report.manifests,
            human::size(report.contents.size_bytes),
        )?;
    }
    describe_rest(report, out)
}

fn describe_rest(report: &Report, out: &mut dyn Write) -> anyhow::Result<()> {
    if let Some(seconds) = report.resting_seconds.filter(|_| report.dry_run) {
        writeln!(
            out,
            "the server has just started: for {} nothing is collected, since clients may rely on \
             what they were told before",
            human::duration(seconds),
        )?;
    }
    if report.leased > 0 {
        writeln!(out, "{} stay because clients were told that they are there", report.leased)?;
    }
    let Queued { links, manifests, contents } = report.waiting;
    if report.waiting.count() > 0 {
        let size_bytes = links.size_bytes + manifests.size_bytes + contents.size_bytes;
        writeln!(
            out,
            "waiting: {} blobs and {} manifests, at most {}{}",
            links.count + contents.count,
            manifests.count,
            human::size(size_bytes),
            report.waiting_seconds.map_or_else(String::new, |seconds| {
                format!(", the last for {}", human::duration(seconds))
            }),
        )?;
    }
    if report.untagged_kept > 0 {
        let kept = report.untagged_kept;
        writeln!(out, "{kept} untagged manifests are kept; --delete-untagged deletes them")?;
    }
    if report.uploads > 0 {
        let verb = if report.dry_run { "would be" } else { "were" };
        writeln!(out, "{} abandoned uploads {verb} removed", report.uploads)?;
    }
    Ok(())
}
