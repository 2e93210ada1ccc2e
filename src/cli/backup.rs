//! `kelson backup`: copies of a store that is being pushed to.

use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::bail;
use serde_json::Value;

use super::ConfigOption;
use super::admin::{self, Admin};
use super::display::Display;
use super::human;
use super::signals::unless_interrupted;
use crate::app;
use crate::ops::Progress;
use crate::ops::clock::SystemClock;
use crate::registry::backup::{self, BackUp, Backup, Verified};

/// `kelson backup`
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Directory of the backups: an empty or missing one, or one of earlier backups. The running
    /// server writes it: it is a path of the server's machine, outside of its store.
    #[arg(required = true)]
    destination: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigOption,
    /// Print JSON: one object a line for each damaged content, and the report as the last.
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Each backup is a generation; contents are kept once for all of them, so the next one copies only
what is new. It is made while clients push, and nothing of it counts before it is whole and durable.

  kelson backup /backups/registry
  kelson backup verify /backups/registry --read-data
  kelson restore /backups/registry --config new-registry.yml

Exit codes: 0 done; 1 it failed, or contents of the store are damaged (the rest is backed up); 2 the
command line is wrong; 3 `verify` found damage in the backup.";

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the generations in a directory of backups.
    List(Place),
    /// Check every generation: its export against its sum, and that each content is there.
    Verify {
        #[command(flatten)]
        place: Place,
        /// Also read every content and compare it with its digest.
        #[arg(long)]
        read_data: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Place {
    /// Directory of the backups.
    destination: PathBuf,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

/// Makes, lists or verifies backups; `false` when a verified one is damaged.
pub fn run(arguments: Arguments, out: &mut dyn Write) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match (arguments.command, arguments.destination) {
            (Some(Command::List(place)), _) => list(&place, out).await.map(|()| true),
            (Some(Command::Verify { place, read_data }), _) => {
                unless_interrupted(verify(&place, read_data, out)).await
            }
            (None, Some(destination)) => {
                let Arguments { config, json, .. } = arguments;
                back_up(&destination, config.config, json, out).await.map(|()| true)
            }
            (None, None) => bail!("where to? kelson backup DESTINATION"),
        }
    })
}

/// Runs long work in this process and shows its news.
pub async fn here<T, F>(
    display: &mut Display<'_>,
    work: impl FnOnce(Progress) -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = crate::registry::error::Result<T>>,
{
    let (progress, mut news) = Progress::channel();
    let show = async {
        while let Some(event) = news.recv().await {
            display.show(event)?;
        }
        Ok::<_, std::io::Error>(())
    };
    // The news ends when the work is over and has dropped its end.
    let (done, shown) = tokio::join!(work(progress), show);
    display.finish();
    shown?;
    Ok(done?)
}

async fn back_up(
    destination: &Path,
    config: Option<PathBuf>,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let ask = BackUp { destination: std::path::absolute(destination)? };
    let mut display = Display::new(out, json, false, damage);
    let report: Backup = Admin::with(admin::options(config)?, async |admin| {
        admin.run("/backup", &ask, &mut display).await
    })
    .await?;
    if json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        writeln!(
            out,
            "generation {} in {}: {} contents ({}), of these {} copied now ({}), \
             and {} of metadata, in {:.1} s",
            report.generation,
            ask.destination.display(),
            report.contents,
            human::size(report.size_bytes),
            report.copied,
            human::size(report.copied_size_bytes),
            human::size(report.export_size_bytes),
            report.duration_ms as f64 / 1000.0
        )?;
    }
    match report.damaged {
        0 => Ok(()),
        damaged => bail!(
            "the backup is finished, but {damaged} contents have no sound file in the store and \
             are not in it; push them again"
        ),
    }
}

async fn list(place: &Place, out: &mut dyn Write) -> anyhow::Result<()> {
    let tools = app::tools(Arc::new(SystemClock::start()));
    let mut display = Display::new(out, place.json, true, generation);
    let path = std::path::absolute(&place.destination)?;
    let count =
        here(&mut display, |progress| async move { backup::list(&tools, &path, &progress).await });
    if count.await? == 0 && !place.json {
        writeln!(out, "there is no finished backup yet")?;
    }
    Ok(())
}

async fn verify(place: &Place, read_data: bool, out: &mut dyn Write) -> anyhow::Result<bool> {
    let tools = app::tools(Arc::new(SystemClock::start()));
    let mut display = Display::new(out, place.json, false, damage);
    let path = std::path::absolute(&place.destination)?;
    let work = |progress| async move { backup::verify(&tools, &path, read_data, &progress).await };
    let report: Verified = here(&mut display, work).await?;
    if place.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        writeln!(
            out,
            "{} generations with {} contents; {} files read ({}); {} damaged",
            report.generations,
            report.contents,
            report.read,
            human::size(report.read_size_bytes),
            report.damaged
        )?;
        if report.damaged > 0 {
            writeln!(out, "the backup is damaged; make a new one elsewhere")?;
        }
    }
    if report.damaged == 0 && report.generations == 0 {
        bail!("there is no finished backup in {}", place.destination.display());
    }
    Ok(report.damaged == 0)
}

/// A damaged, missing or unknown thing, for people.
pub fn damage(item: &Value) -> Option<String> {
    let text = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
    let mut line = match item["generation"].as_u64() {
        Some(number) => format!("{} generation {number}: {}", text("kind"), text("digest")),
        None => format!("{} {}", text("kind"), text("digest")),
    };
    if let Some(size_bytes) = item["size_bytes"].as_u64() {
        line += &format!("  {}", human::size(size_bytes));
    }
    for key in ["media_type", "reason"] {
        if item[key].is_string() {
            line += &format!("  {}", text(key));
        }
    }
    Some(line)
}

fn generation(item: &Value) -> Option<String> {
    let number = item["generation"].as_u64()?;
    if let Some(error) = item["error"].as_str() {
        return Some(format!("{number:>6}  damaged: {error}"));
    }
    let made = item["created_at_ms"].as_u64().unwrap_or_default();
    let size_bytes = item["export_size_bytes"].as_u64().unwrap_or_default();
    let store = item["store"].as_str().unwrap_or_default();
    Some(format!(
        "{number:>6}  {}  metadata {}  store {store}",
        date(made),
        human::size(size_bytes)
    ))
}

/// A moment as people write it, UTC.
pub fn date(at_ms: u64) -> String {
    let at = i64::try_from(at_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| "an impossible time".to_owned(), |at| format!("{at:.0}"))
}
