//! The composition root: opens the stores, runs the servers and the background work, stops them.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::blob::{BlobStore, FsBlobs};
use crate::config::Config;
use crate::disk::{OsVfs, Vfs};
use crate::http::listen::{ListenError, Listener};
use crate::http::{self, Api, access_log};
use crate::meta::MetaStore;
use crate::meta::redb::{Options as DatabaseOptions, RedbMeta};
use crate::ops::clock::SystemClock;
use crate::ops::random::OsRandom;
use crate::ops::{Blocking, Clock, Random};
use crate::registry::backup::{Exports, Tools};
use crate::registry::identity::{self, Identity, Paths};
use crate::registry::{self, Registry};

/// Enough for thousands of deletions on a full disk.
const BALLAST_SIZE_BYTES: u64 = 16 << 20;

/// How long a stop waits for the last lines of the access log.
const LOG_PATIENCE: Duration = Duration::from_secs(2);

/// How often a server without an admin socket tries to make one.
const SOCKET_RETRY: Duration = Duration::from_secs(10);

/// What an application is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// `storage.filesystem.rootdirectory`
    pub root: std::path::PathBuf,
    /// The database.
    pub database: DatabaseOptions,
    /// The domain.
    pub registry: registry::Options,
    /// The servers.
    pub http: http::Options,
}

impl From<Config> for Options {
    fn from(config: Config) -> Self {
        Self {
            root: config.root,
            database: DatabaseOptions {
                cache_size_bytes: usize::try_from(config.database_cache_size_bytes)
                    .unwrap_or(usize::MAX),
                ballast_size_bytes: BALLAST_SIZE_BYTES,
                ..DatabaseOptions::default()
            },
            registry: config.registry,
            http: config.http,
        }
    }
}

/// An open store with everything that serves it.
#[derive(Debug)]
pub struct App {
    registry: Registry,
    meta: Arc<RedbMeta>,
    identity: Arc<Identity>,
    tools: Tools,
    http: http::Options,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

/// An open store: what commands without a server work on.
#[derive(Debug)]
pub struct Store {
    /// The facts.
    pub meta: Arc<RedbMeta>,
    /// The bytes.
    pub blobs: Arc<dyn BlobStore>,
    /// Who it is; holds its lock.
    pub identity: Arc<Identity>,
}

/// Where an application listens.
#[derive(Debug)]
pub struct Listeners {
    /// The API.
    pub api: Listener,
    /// `http.debug`
    pub debug: Option<Listener>,
}

impl Listeners {
    /// Binds every address of the options.
    ///
    /// # Errors
    /// One that is taken, or cannot be had.
    pub async fn bind(options: &http::Options) -> Result<Self, ListenError> {
        let debug = match &options.debug {
            Some(debug) => Some(Listener::bind(&debug.listen).await?),
            None => None,
        };
        Ok(Self { api: Listener::bind(&options.listen).await?, debug })
    }
}

/// What a store stands on.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The disk.
    pub vfs: Arc<dyn Vfs>,
    /// How blocking work is run.
    pub blocking: Blocking,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

impl Machine {
    /// The one that this process runs on.
    pub fn real(root: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            vfs: file_system(root)?,
            blocking: Blocking::Pool,
            clock: Arc::new(SystemClock::start()),
            random: Arc::new(OsRandom),
        })
    }
}

impl Store {
    /// Locks and opens the store below `root`, making it when there is nothing there.
    pub async fn open(root: &Path, database: DatabaseOptions) -> anyhow::Result<Self> {
        Self::open_on(Machine::real(root)?, root, database).await
    }

    /// As [`Store::open`], on any machine.
    pub async fn open_on(
        machine: Machine,
        root: &Path,
        database: DatabaseOptions,
    ) -> anyhow::Result<Self> {
        let Machine { vfs, blocking, clock, random } = machine;
        let claim = {
            let (vfs, paths) = (Arc::clone(&vfs), Paths::new(root));
            blocking.run(move || identity::claim(vfs, paths)).await?
        };
        let paths = Paths::new(root);
        let now = clock.now();
        let database = DatabaseOptions { create: claim.is_new(), now, ..database };
        let meta = {
            let (vfs, path) = (Arc::clone(&vfs), paths.database.clone());
            blocking.run(move || RedbMeta::open(vfs, &path, database, blocking)).await
        };
        let meta = Arc::new(meta.map_err(|error| identity::Error::database(&paths, error))?);
        let identity = match claim.confirm(meta.as_ref(), random.as_ref(), blocking).await {
            Ok(identity) => identity,
            Err(refused) => {
                // So that whoever puts the right file there finds it unlocked.
                let _ = meta.close().await;
                return Err(refused.into());
            }
        };
        let blobs = {
            let (vfs, root) = (Arc::clone(&vfs), root.to_owned());
            blocking.run(move || FsBlobs::open(vfs, &root, blocking, random)).await?
        };
        Ok(Self { meta, blobs: Arc::new(blobs), identity: Arc::new(identity) })
    }
}

/// What long work needs of this machine.
pub fn tools(clock: Arc<dyn Clock>) -> Tools {
    Tools { vfs: Arc::new(OsVfs), blocking: Blocking::Pool, random: Arc::new(OsRandom), clock }
}

impl App {
    /// Opens the store and everything on it; nothing is served yet.
    pub async fn open(options: Options) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let random: Arc<dyn Random> = Arc::new(OsRandom);
        let vfs = file_system(&options.root)?;
        let store = Store::open(&options.root, options.database).await?;
        let registry = Registry::open(
            Arc::clone(&store.meta) as Arc<dyn MetaStore>,
            store.blobs,
            Arc::clone(&clock),
            Arc::clone(&random),
            options.registry,
        )
        .await?;
        let (meta, identity) = (store.meta, store.identity);
        let tools = Tools { vfs, ..tools(Arc::clone(&clock)) };
        Ok(Self { registry, meta, identity, tools, http: options.http, clock, random })
    }

    /// The domain.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Serves on `listeners`, and commands on the admin socket, until `stop`; then finishes what
    /// runs, up to the drain timeout, writes out what is pending, and returns.
    pub async fn serve(self, listeners: Listeners, stop: CancellationToken) -> anyhow::Result<()> {
        let background = CancellationToken::new();
        let (spill, purge) = (self.registry.clone(), self.registry.clone());
        let spill_stop = background.clone();
        let spill = tokio::spawn(async move { spill.run_spill(spill_stop).await });
        let purge_stop = background.clone();
        let purge = tokio::spawn(async move { purge.run_purge(purge_stop).await });
        let (collector, collector_stop) = (self.registry.clone(), background.clone());
        let collector = tokio::spawn(async move { collector.run_collector(collector_stop).await });
        let (room, room_stop) = (self.registry.clone(), background.clone());
        let room = tokio::spawn(async move { room.run_room(room_stop).await });
        let (scrub, scrub_stop) = (self.registry.clone(), background.clone());
        let scrub = tokio::spawn(async move { scrub.run_scrub(scrub_stop).await });
        let exports = {
            let (registry, stop) = (self.registry.clone(), background.clone());
            let paths = self.identity.paths();
            let exports = Exports::new(self.tools.clone(), &paths.own, &paths.database);
            tokio::spawn(async move { registry.run_exports(exports, stop).await })
        };
        let beat_stop = CancellationToken::new();
        let beat = {
            let (registry, identity) = (self.registry.clone(), Arc::clone(&self.identity));
            let stop = beat_stop.clone();
            tokio::spawn(async move { registry.run_heartbeat(&identity, stop).await })
        };
        let debug = tokio::spawn(self.debug(listeners.debug, background.clone()));
        let admin = self.admin(stop.clone());
        let (log, log_writer) = access_log::channel();
        let logging = tokio::spawn(log_writer.run(std::io::stdout(), Blocking::Pool));
        let parts = http::Parts {
            registry: self.registry.clone(),
            clock: Arc::clone(&self.clock),
            random: Arc::clone(&self.random),
            access_log: self.http.access_log.then_some(log),
            draining: stop.clone(),
        };
        let api = Api::new(self.http.clone(), parts)?;
        let (stopped, ()) = tokio::join!(http::serve::run(listeners.api, api, stop), admin);
        if stopped.cut > 0 {
            tracing::warn!(connections = stopped.cut, "connections were cut at the drain timeout");
        }
        background.cancel();
        finish(spill).await;
        finish(purge).await;
        finish(room).await;
        finish(scrub).await;
        finish(collector).await;
        finish(exports).await;
        finish(debug).await;
        beat_stop.cancel();
        finish(beat).await;
        tokio::select! {
            () = finish(logging) => {}
            // Nobody may be reading standard output.
            () = self.clock.sleep(LOG_PATIENCE) => {}
        }
        self.meta.close().await?;
        // The lock ends with the process: changes of clients that were cut may still be at a file.
        std::mem::forget(self.identity);
        Ok(())
    }

    /// Answers monitoring, where it has a listener.
    fn debug(
        &self,
        listener: Option<Listener>,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (registry, clock) = (self.registry.clone(), Arc::clone(&self.clock));
        let metrics_path = self.http.debug.as_ref().and_then(|debug| debug.metrics_path.clone());
        async move {
            if let Some(listener) = listener {
                http::debug::serve(listener, registry, clock, metrics_path, stop).await;
            }
        }
    }

    /// Answers commands beside the server. Without its socket the registry serves all the same.
    fn admin(&self, stop: CancellationToken) -> impl Future<Output = ()> + use<> {
        let path = self.identity.paths().socket.clone();
        let clock = Arc::clone(&self.clock);
        let context = http::admin::Context {
            registry: self.registry.clone(),
            served: true,
            root: self.identity.paths().root.clone(),
            tools: self.tools.clone(),
        };
        let patience = self.http.drain_timeout;
        let listener = http::admin::bind(&path);
        async move {
            let listener = match listener {
                Ok(listener) => Some(listener),
                Err(error) => {
                    tell_missing_socket(&path, &error);
                    bind_later(&path, &*clock, &stop).await
                }
            };
            let Some(listener) = listener else { return };
            let deadline = async {
                stop.cancelled().await;
                clock.sleep(patience).await;
            };
            let served = tokio::select! {
                served = http::admin::serve(listener, context, stop.clone()) => served,
                () = deadline => Ok(()),
            };
            if let Err(error) = served {
                tell_missing_socket(&path, &error);
            }
            // What is left is removed by the next start.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn tell_missing_socket(path: &Path, error: &std::io::Error) {
    let path = path.display();
    tracing::warn!(%path, %error, "no admin socket: commands cannot ask this server");
}

/// The admin socket of a server that could not make it at first: a full disk has no room for one.
/// `None`: the server stopped before.
async fn bind_later(
    path: &Path,
    clock: &dyn Clock,
    stop: &CancellationToken,
) -> Option<UnixListener> {
    loop {
        tokio::select! {
            () = clock.sleep(SOCKET_RETRY) => {}
            () = stop.cancelled() => return None,
        }
        if let Ok(listener) = http::admin::bind(path) {
            tracing::info!(path = %path.display(), "the admin socket is there");
            return Some(listener);
        }
    }
}

/// The operating system's; in a build for the crash tests the process may die in it.
#[cfg_attr(not(feature = "failpoints"), expect(clippy::unnecessary_wraps, reason = "see above"))]
fn file_system(root: &Path) -> anyhow::Result<Arc<dyn Vfs>> {
    let vfs: Arc<dyn Vfs> = Arc::new(OsVfs);
    #[cfg(feature = "failpoints")]
    let vfs = {
        use crate::disk::failpoint::{VARIABLE, armed};
        Arc::new(armed(vfs, root, std::env::var(VARIABLE).ok().as_deref())?)
    };
    #[cfg(not(feature = "failpoints"))]
    let _ = root;
    Ok(vfs)
}

/// Waits for a background task; one that panicked has said so already.
async fn finish(task: tokio::task::JoinHandle<()>) {
    if let Err(error) = task.await {
        tracing::error!(%error, "a background task failed");
    }
}
