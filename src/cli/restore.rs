//! `kelson restore`: a store out of a backup, or its database out of an export.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use super::ConfigOption;
use super::admin;
use super::backup::{damage, date, here};
use super::display::Display;
use super::human;
use super::signals::unless_interrupted;
use crate::app;
use crate::ops::clock::SystemClock;
use crate::registry::backup::{self, MetadataSource, Restore, Restored, RestoredMetadata};
use crate::registry::identity::Paths;

/// `kelson restore`
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Arguments {
    /// Directory of the backups.
    #[arg(required_unless_present = "metadata", conflicts_with = "metadata")]
    source: Option<PathBuf>,
    /// The backup to restore; without it the newest. See `kelson backup list`.
    #[arg(long, value_name = "N", conflicts_with = "metadata")]
    generation: Option<u64>,
    /// Restore what is there when contents of the backup are damaged; they are quarantined: not
    /// served until they are pushed again.
    #[arg(long, conflicts_with = "metadata")]
    allow_missing: bool,
    /// Only make a lost or damaged metadata.redb anew, beside contents that are there: from this
    /// export, or `latest` for the newest sound one in kelson/exports of the store.
    #[arg(long, value_name = "FILE|latest")]
    metadata: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigOption,
    /// Print JSON: one object a line for each finding, and the report as the last.
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
The store is that of the configuration; no server may run on it.

  kelson restore /backups/registry --config config.yml      into an empty root directory
  kelson restore --metadata latest --config config.yml      metadata.redb is lost or damaged

Exit codes: 0 done, also when contents are missing or unknown (they are listed); 1 it failed and
nothing was changed; 2 the command line is wrong.";

/// Restores a store.
pub fn run(arguments: Arguments, out: &mut dyn Write) -> anyhow::Result<()> {
    let options = admin::options(arguments.config.config.clone())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let paths = Paths::new(&options.root);
    // An empty root directory was made for the server.
    admin::check_owner(if paths.own.exists() { &paths.own } else { &paths.root })?;
    runtime.block_on(unless_interrupted(async {
        match &arguments.metadata {
            Some(metadata) => database(metadata.clone(), options, arguments.json, out).await,
            None => store(arguments, options, out).await,
        }
    }))
}

async fn store(
    arguments: Arguments,
    options: app::Options,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let ask = Restore {
        source: std::path::absolute(arguments.source.unwrap_or_default())?,
        generation: arguments.generation,
        allow_missing: arguments.allow_missing,
        database: options.database,
    };
    let root = std::path::absolute(&options.root)?;
    let tools = app::tools(Arc::new(SystemClock::start()));
    let mut display = Display::new(out, arguments.json, false, damage);
    let target = root.clone();
    let work = |progress| async move { backup::restore(&tools, &target, &ask, &progress).await };
    let report: Restored = here(&mut display, work).await?;
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
        return Ok(());
    }
    writeln!(
        out,
        "{} is the store {} as of {} (generation {}): {} contents ({}), {} missing",
        root.display(),
        report.store,
        date(report.created_at_ms),
        report.generation,
        report.contents,
        human::size(report.size_bytes),
        report.missing
    )?;
    if report.uploads > 0 {
        writeln!(out, "{} uploads that were under way have ended", report.uploads)?;
    }
    Ok(())
}

async fn database(
    metadata: PathBuf,
    options: app::Options,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let which = if metadata.as_os_str() == "latest" {
        MetadataSource::Latest
    } else {
        MetadataSource::File(std::path::absolute(metadata)?)
    };
    let tools = app::tools(Arc::new(SystemClock::start()));
    let mut display = Display::new(out, json, false, damage);
    let app::Options { root, database, .. } = options;
    let work = |progress| async move {
        backup::restore_metadata(&tools, &root, &which, database, &progress).await
    };
    let report: RestoredMetadata = here(&mut display, work).await?;
    if json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
        return Ok(());
    }
    writeln!(
        out,
        "the database is as of {} ({})",
        date(report.created_at_ms),
        report.export.display()
    )?;
    writeln!(
        out,
        "lost: every tag, manifest and deletion since then; at least {} transactions",
        report.lost_transactions_min
    )?;
    writeln!(
        out,
        "{} of {} contents have no file and are not served until they are pushed again",
        report.missing, report.contents
    )?;
    writeln!(
        out,
        "{} files ({}) are of no known content and stay: pushed since then, or garbage",
        report.unknown,
        human::size(report.unknown_size_bytes)
    )?;
    if let Some(old) = report.old_database {
        writeln!(out, "the old database is kept as {}", old.display())?;
    }
    Ok(())
}
