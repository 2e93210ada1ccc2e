//! `kelson serve`: the registry itself.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::app::{self, App};
use crate::config::{self, Config, Loaded, Severity};
use crate::http::listen::Listener;
use crate::ops::clock::SystemClock;
use crate::ops::{limits, telemetry};

/// Threads for blocking work: enough to keep a disk busy, few enough for a small machine.
const BLOCKING_THREADS_MAX: usize = 64;

/// Runs the registry until SIGTERM or SIGINT.
pub fn run(config: Option<&Path>) -> anyhow::Result<()> {
    let loaded = Config::load(config, config::environment())?;
    telemetry::init(&loaded.config.log, Arc::new(SystemClock::start()))?;
    for notice in &loaded.notices {
        match notice.severity {
            Severity::Info => tracing::info!("{}", notice.text),
            Severity::Warning => tracing::warn!("{}", notice.text),
        }
    }
    match limits::raise_open_files() {
        Ok(open_files_max) => tracing::debug!(open_files_max, "open files"),
        Err(error) => tracing::warn!(%error, "the limit of open files could not be raised"),
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .enable_all()
        .build()?;
    runtime.block_on(serve(loaded))
}

async fn serve(loaded: Loaded) -> anyhow::Result<()> {
    let embedded = loaded.path.is_none();
    let options = app::Options::from(loaded.config);
    let root = options.root.clone();
    let listener = Listener::bind(&options.http.listen).await?;
    let address = listener.local_address()?;
    let app = App::open(options).await.context("the store cannot be opened")?;
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, root = %root.display(), "listening on {address}");
    if embedded {
        greet(&address, &root);
    }
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stopping = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: requests that run are finished first");
        stopping.cancel();
    });
    app.serve(listener, stop).await?;
    tracing::info!("stopped");
    Ok(())
}

/// What somebody who just tries it needs to know.
fn greet(address: &str, root: &Path) {
    let text = format!(
        "\nKelson serves a registry on {address}; its store is in {}.\nTry it:\n\n    \
         docker pull busybox\n    docker tag busybox {address}/busybox\n    \
         docker push {address}/busybox\n\n",
        root.display()
    );
    // Without a standard error there is nobody to greet.
    let _ = std::io::stderr().write_all(text.as_bytes());
}
