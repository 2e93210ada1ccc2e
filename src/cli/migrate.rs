//! `kelson migrate`: which schema the store has, and the way to this release's.

use std::io::Write;
use std::sync::Arc;

use serde_json::json;

use super::ConfigOption;
use super::admin::{self, Admin};
use super::human;
use super::signals::unless_interrupted;
use crate::app::{self, Store};
use crate::disk::{OsVfs, Vfs};
use crate::meta::redb::{Inspection, RedbMeta};
use crate::registry::identity::Paths;

/// `kelson migrate`
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Arguments {
    /// Only tell which schema the store has, and which this release works with.
    #[arg(long, conflicts_with = "dry_run")]
    status: bool,
    /// Also tell what would be done.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    config: ConfigOption,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
`kelson serve` does the same at its start; this command is for those who want to know before, or to
take the time for it apart. Without an option it migrates the store, on which no server may run. The
database before the first step is kept as metadata.redb.v<schema>.

Exit codes: 0 done; 1 it failed, or the store was written by a newer release; 2 the command line is
wrong.";

/// Tells the schema, or migrates.
pub fn run(arguments: Arguments, out: &mut dyn Write) -> anyhow::Result<()> {
    let options = admin::options(arguments.config.config.clone())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(unless_interrupted(async {
        if let Some(server) = Admin::server(&options).await? {
            return served(&server, &arguments, out).await;
        }
        let path = Paths::new(&options.root).database;
        let vfs: Arc<dyn Vfs> = Arc::new(OsVfs);
        let found = RedbMeta::inspect(Arc::clone(&vfs), &path, options.database);
        let found = found.map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        if arguments.status || arguments.dry_run {
            let free_bytes = vfs.space(&options.root)?.free_bytes;
            return tell(&found, free_bytes, &arguments, out);
        }
        admin::check_owner(&Paths::new(&options.root).own)?;
        migrate(&found, options, &arguments, out).await
    }))
}

async fn served(server: &Admin, arguments: &Arguments, out: &mut dyn Write) -> anyhow::Result<()> {
    let schema: u32 = server.get("/schema", &[]).await?;
    if !arguments.status && !arguments.dry_run {
        anyhow::bail!(
            "a server runs on the store, and has brought it to schema {schema}; stop it to migrate \
             with this program"
        );
    }
    if arguments.json {
        writeln!(out, "{}", json!({ "schema": schema, "served": true }))?;
    } else {
        writeln!(out, "a server runs on the store: schema {schema}")?;
    }
    Ok(())
}

fn tell(
    found: &Inspection,
    free_bytes: u64,
    arguments: &Arguments,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    if arguments.json {
        let steps = found
            .steps
            .iter()
            .map(|step| json!({ "to": step.to, "name": step.name, "what": step.what }));
        let report = json!({
            "schema": found.schema,
            "supported": found.supported,
            "steps": steps.collect::<Vec<_>>(),
            "copy_size_bytes": found.copy_size_bytes(),
            "free_bytes": free_bytes,
            "served": false,
        });
        writeln!(out, "{report}")?;
        return Ok(());
    }
    writeln!(out, "the store has schema {}, this release {}", found.schema, found.supported)?;
    if arguments.status {
        return Ok(());
    }
    if found.steps.is_empty() {
        writeln!(out, "nothing is to be done")?;
        return Ok(());
    }
    for step in &found.steps {
        writeln!(out, "step {}: {} ({})", step.to, step.what, step.name)?;
    }
    let copy = human::size(found.copy_size_bytes());
    let free = human::size(free_bytes);
    writeln!(
        out,
        "a copy of {copy} is made before, and the steps may need as much again; {free} are free"
    )?;
    Ok(())
}

async fn migrate(
    found: &Inspection,
    options: app::Options,
    arguments: &Arguments,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let Store { meta, identity, .. } = Store::open(&options.root, options.database).await?;
    meta.close().await?;
    drop(identity);
    let (from, to) = (found.schema, found.supported);
    if arguments.json {
        writeln!(out, "{}", json!({ "from": from, "schema": to }))?;
    } else if from == to {
        writeln!(out, "the store has schema {to} already")?;
    } else {
        writeln!(out, "the store was brought from schema {from} to {to}")?;
    }
    Ok(())
}
