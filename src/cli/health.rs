//! `kelson health`: for the health check of a container.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;

use super::admin::{self, Admin};

/// Asks the running server of the store whether it is ready.
pub fn run(config: Option<PathBuf>, out: &mut dyn Write) -> anyhow::Result<()> {
    let options = admin::options(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = Admin::server(&options).await?.with_context(|| {
            format!(
                "no server runs on the store in {}; start one with: kelson serve",
                options.root.display()
            )
        })?;
        let answer: String = server.get("/ready", &[]).await?;
        writeln!(out, "{answer}")?;
        Ok(())
    })
}
