//! `kelson health`: for the health check of a container.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

use super::admin::{self, Admin};
use crate::registry::identity::Paths;

/// A server that is well answers at once.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks the running server of the store whether it is ready.
pub fn run(config: Option<PathBuf>, out: &mut dyn Write) -> anyhow::Result<()> {
    let options = admin::options(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = Admin::server(&options).await?.with_context(|| {
            format!(
                "no server runs on the store in {}, or its log says why it has no {}; start one \
                 with: kelson serve",
                options.root.display(),
                Paths::new(&options.root).socket.display()
            )
        })?;
        let answer = tokio::time::timeout(PATIENCE, server.get("/ready", &[])).await;
        let answer: String = answer.map_err(|_| {
            anyhow::anyhow!("the server does not answer within {} s", PATIENCE.as_secs())
        })??;
        writeln!(out, "{answer}")?;
        Ok(())
    })
}
