//! `kelson serve`: the registry itself.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::signals::Signals;
use crate::app::{self, App, Listeners};
use crate::config::{self, Config, Loaded, Severity};
use crate::ops::clock::SystemClock;
use crate::ops::heap;
use crate::ops::limits::{self, OpenFiles};
use crate::ops::telemetry;

/// Threads for blocking work: enough to keep a disk busy, few enough for a small machine.
const BLOCKING_THREADS_MAX: usize = 64;

/// For good: while one is there, work waits for it where no other thread can be had; the first
/// one that cannot be had would panic.
const BLOCKING_THREAD_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long to wait, at the very end, for blocking work that does not return.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// Runs the registry until SIGTERM or SIGINT.
pub fn run(config: Option<&Path>) -> anyhow::Result<()> {
    heap::limit();
    let loaded = Config::load(config, config::environment())?;
    telemetry::init(&loaded.config.log, Arc::new(SystemClock::start()))?;
    for notice in &loaded.notices {
        match notice.severity {
            Severity::Info => tracing::info!("{}", notice.text),
            Severity::Warning => tracing::warn!("{}", notice.text),
        }
    }
    if let Err(error) = limits::raise_open_files() {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_keep_alive(BLOCKING_THREAD_LIFE)
        .enable_all()
        .build()?;
    let served = runtime.block_on(serve(loaded));
    // Whoever reads standard output, or a disk, may stand still for ever.
    runtime.shutdown_timeout(STOP_PATIENCE);
    served
}

async fn serve(loaded: Loaded) -> anyhow::Result<()> {
    let embedded = loaded.path.is_none();
    let mut options = app::Options::from(loaded.config);
    stay_within(OpenFiles::within(limits::open_files()), &mut options);
    let root = options.root.clone();
    let stop = stop_at_a_signal()?;
    let listeners = Listeners::bind(&options.http).await?;
    let address = listeners.api.local_address()?;
    let app = tokio::select! {
        app = App::open(options) => app.context("the store cannot be opened")?,
        // Opening goes on at the next start, as after any other end.
        () = stop.cancelled() => return Ok(()),
    };
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, root = %root.display(), "listening on {address}");
    if let Some(listener) = &listeners.debug {
        tracing::info!("metrics and health on {}", listener.local_address()?);
    }
    if embedded {
        greet(&address, &root);
    }
    app.serve(listeners, stop).await?;
    tracing::info!("stopped");
    Ok(())
}

/// Cancelled by SIGTERM or SIGINT. The first process of a container gets neither unless it asks.
fn stop_at_a_signal() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut signals, stopping) = (Signals::new()?, stop.clone());
    tokio::spawn(async move {
        signals.next().await;
        tracing::info!("stopping: requests that run are finished first");
        stopping.cancel();
    });
    Ok(stop)
}

/// Lowers what clients may keep open to what the limit of open files has room for: connections
/// beyond it wait to be accepted, rather than fail at their first file.
fn stay_within(files: OpenFiles, options: &mut app::Options) {
    let connections = &mut options.http.limits.connections_max;
    if *connections > files.connections {
        let (wanted, allowed) = (*connections, files.connections);
        tracing::info!(wanted, allowed, "connections are limited by the limit of open files");
        *connections = allowed;
    }
    let uploads = &mut options.registry.uploads_open_max;
    *uploads = files.uploads.min(*uploads);
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
