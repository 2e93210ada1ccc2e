//! Asking a store: the running server over its admin socket, or, without one, the store itself.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Limited};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tower::ServiceExt;

use super::display::Display;
use super::signals::unless_interrupted;
use crate::app::{self, Store};
use crate::config::{self, Config};
use crate::disk::OsVfs;
use crate::http::admin::job::{End, Line};
use crate::http::admin::{Context as AdminContext, Refusal, router};
use crate::meta::MetaStore;
use crate::meta::redb::{Options as DatabaseOptions, RedbMeta};
use crate::ops::clock::SystemClock;
use crate::ops::random::OsRandom;
use crate::registry::Registry;
use crate::registry::identity::{Identity, Paths};

/// The image's configuration file, used by commands inside a container.
const IMAGE_CONFIG: &str = "/etc/docker/registry/config.yml";

/// The largest answer: a page of manifests with many tags.
const ANSWER_SIZE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The longest line of an answer that arrives while the work runs.
const LINE_SIZE_BYTES_MAX: usize = 1024 * 1024;

const NOT_UNDERSTOOD: &str =
    "the server's answer is not understood; is it of the same release as this command?";

const WENT_AWAY: &str =
    "the server went away before the work was done; what it finished stays done";

/// Somebody who knows what is in the store.
#[derive(Debug)]
pub enum Admin {
    /// The running server.
    Server(PathBuf),
    /// The store itself, opened by this process.
    Store {
        /// What answers in place of a server.
        router: Router,
        /// Its facts.
        meta: Arc<RedbMeta>,
        /// Holds the store's lock: no server may start meanwhile.
        _identity: Arc<Identity>,
    },
}

/// The settings of the registry that a command is about.
pub fn options(config: Option<PathBuf>) -> anyhow::Result<app::Options> {
    let named = config.is_some() || std::env::var_os("REGISTRY_CONFIGURATION_PATH").is_some();
    let image = Path::new(IMAGE_CONFIG);
    let path = config.or_else(|| (!named && image.exists()).then(|| image.to_owned()));
    let loaded = Config::load(path.as_deref(), config::environment())?;
    Ok(app::Options::from(loaded.config))
}

/// What this process makes in a store belongs to its own user, and a server that runs as another
/// could not open it any more.
pub fn check_owner(directory: &Path) -> anyhow::Result<()> {
    let Ok(metadata) = std::fs::metadata(directory) else { return Ok(()) };
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != user {
        bail!(
            "{} belongs to the user {owner}, and this runs as {user}; run it as that user, or the \
             server could not open its store any more",
            directory.display()
        );
    }
    Ok(())
}

/// A command must not be what brings a store to another schema: there is no way back.
fn check_schema(paths: &Paths, database: DatabaseOptions) -> anyhow::Result<()> {
    let found = RedbMeta::inspect(Arc::new(OsVfs), &paths.database, database);
    // What is wrong with it is told better by the opening that follows.
    let pending = found.is_ok_and(|found| !found.steps.is_empty());
    if pending {
        bail!(
            "the database has the schema of an earlier release; bring it to this one's with: \
             kelson migrate (kelson migrate --dry-run tells what that does)"
        );
    }
    Ok(())
}

impl Admin {
    /// Connects to the server of the store, if one runs. An error: that cannot be told.
    pub async fn server(options: &app::Options) -> anyhow::Result<Option<Self>> {
        let socket = Paths::new(&options.root).socket;
        match UnixStream::connect(&socket).await {
            Ok(_) => Ok(Some(Self::Server(socket))),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                Err(error).with_context(|| {
                    format!("{}: run this as the user that serves the store", socket.display())
                })
            }
            // No socket, nobody behind it, or a path that no socket can have.
            Err(_) => Ok(None),
        }
    }

    /// Does `work` with the server of the store, or else with the store, which is closed
    /// afterwards, also when a signal ends the work, so that the next start need not repair it.
    pub async fn with<T>(
        options: app::Options,
        work: impl AsyncFnOnce(&Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let admin = unless_interrupted(Self::find(options)).await?;
        let answer = unless_interrupted(work(&admin)).await;
        let closed = admin.close().await;
        let answer = answer?;
        closed?;
        Ok(answer)
    }

    /// The server of the store, or else the store.
    async fn find(options: app::Options) -> anyhow::Result<Self> {
        if let Some(server) = Self::server(&options).await? {
            return Ok(server);
        }
        let root = options.root;
        let paths = Paths::new(&root);
        // A store without its database is refused when it is opened, with the way out.
        if !paths.database.exists() && !paths.own.join("store.json").exists() {
            bail!(
                "there is no store in {}; give the configuration of the registry with --config, \
                 or start one with: kelson serve",
                root.display()
            );
        }
        check_owner(&paths.own)?;
        check_schema(&paths, options.database)?;
        let Store { meta, blobs, identity } = Store::open(&root, options.database).await?;
        let (clock, random) = (Arc::new(SystemClock::start()), Arc::new(OsRandom));
        let tools = app::tools(clock.clone());
        let facts = Arc::clone(&meta) as Arc<dyn MetaStore>;
        let registry = Registry::open(facts, blobs, clock, random, options.registry).await?;
        let context = AdminContext { registry, served: false, root, tools };
        Ok(Self::Store { router: router(context), meta, _identity: identity })
    }

    async fn close(self) -> anyhow::Result<()> {
        match self {
            Self::Server(_) => Ok(()),
            Self::Store { meta, .. } => Ok(meta.close().await?),
        }
    }

    /// The answer to `path` with `query`.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, Option<&str>)],
    ) -> anyhow::Result<T> {
        let pairs = query.iter().filter_map(|(key, value)| {
            value.map(|value| format!("{key}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
        });
        let uri = format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"));
        let request = Request::get(uri).header("host", "admin").body(Body::empty())?;
        let response = self.send(request).await?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        serde_json::from_slice(&collect(response).await?).context(NOT_UNDERSTOOD)
    }

    /// Runs the long work behind `path` with these `arguments`: its news goes to `display`, its
    /// report is returned.
    pub async fn run<T: DeserializeOwned>(
        &self,
        path: &str,
        arguments: &impl Serialize,
        display: &mut Display<'_>,
    ) -> anyhow::Result<T> {
        let request = Request::post(path)
            .header("host", "admin")
            .header("content-type", "application/json")
            .body(Body::from(serde_json::to_vec(arguments)?))?;
        let response = self.send(request).await?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        let mut lines = Lines { body: response.into_body(), rest: BytesMut::new() };
        while let Some(line) = lines.next().await? {
            match serde_json::from_slice(&line).context(NOT_UNDERSTOOD)? {
                Line::Event(event) => display.show(event)?,
                Line::End(End::Done { report }) => {
                    display.finish();
                    return serde_json::from_value(report).context(NOT_UNDERSTOOD);
                }
                Line::End(End::Failed { error }) => {
                    display.finish();
                    bail!("{error}");
                }
            }
        }
        bail!(WENT_AWAY)
    }

    async fn send(&self, request: Request<Body>) -> anyhow::Result<Response<Body>> {
        match self {
            Self::Store { router, .. } => Ok(router.clone().oneshot(request).await?),
            Self::Server(socket) => ask(socket, request).await,
        }
    }
}

async fn collect(response: Response<Body>) -> anyhow::Result<Bytes> {
    let bytes = Limited::new(response.into_body(), ANSWER_SIZE_BYTES_MAX).collect().await;
    Ok(bytes.map_err(|error| anyhow::anyhow!(error))?.to_bytes())
}

async fn refusal(response: Response<Body>) -> anyhow::Error {
    let status = response.status();
    let bytes = collect(response).await.unwrap_or_default();
    match serde_json::from_slice::<Refusal>(&bytes) {
        Ok(refusal) => anyhow::anyhow!("{}", refusal.error),
        Err(_) => anyhow::anyhow!("the server answered {status}"),
    }
}

/// The lines of an answer that arrives while the work runs.
struct Lines {
    body: Body,
    rest: BytesMut,
}

impl Lines {
    async fn next(&mut self) -> anyhow::Result<Option<BytesMut>> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                return Ok(Some(self.rest.split_to(end + 1)));
            }
            if self.rest.len() > LINE_SIZE_BYTES_MAX {
                bail!(NOT_UNDERSTOOD);
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            if let Some(data) = frame.context(WENT_AWAY)?.data_ref() {
                self.rest.extend_from_slice(data);
            }
        }
    }
}

async fn ask(socket: &Path, request: Request<Body>) -> anyhow::Result<Response<Body>> {
    let stream = UnixStream::connect(socket)
        .await
        .with_context(|| format!("cannot connect to {}", socket.display()))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await.context(WENT_AWAY)?.map(Body::new))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::routing::post;
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;
    use crate::http::admin::job;
    use crate::ops::Progress;
    use crate::ops::progress::Unit;
    use crate::registry;

    async fn count(progress: Progress, last: u64) -> registry::error::Result<u64> {
        progress.phase("counting", Some(last), Unit::Items).await;
        for number in 0..last {
            progress.advance(number)?;
            progress.item(json!({ "kind": "number", "number": number })).await;
        }
        if last == 13 { Err(registry::Error::Poisoned) } else { Ok(last) }
    }

    /// Tells when it is dropped.
    struct Dropped(Arc<AtomicBool>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }

    fn serve(ended: Arc<AtomicBool>) -> (tempfile::TempDir, Admin) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("admin.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let counting = |axum::Json(last): axum::Json<u64>| async move {
            job::run(move |progress| count(progress, last))
        };
        let endless = move || async move {
            let held = Dropped(Arc::clone(&ended));
            job::run(move |progress| async move {
                progress.item(json!({ "kind": "begun" })).await;
                let abandoned = progress.abandoned().await;
                drop(held);
                Err::<u64, _>(abandoned.into())
            })
        };
        let router = Router::new().route("/count", post(counting)).route("/endless", post(endless));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (folder, Admin::Server(socket))
    }

    fn number(item: &serde_json::Value) -> Option<String> {
        Some(format!("{}", item["number"]))
    }

    #[tokio::test]
    async fn long_work_shows_every_item_and_returns_its_report() {
        let (_folder, admin) = serve(Arc::default());
        let mut out = Vec::new();
        let mut display = Display::new(&mut out, false, true, number);
        let report: u64 = admin.run("/count", &1000, &mut display).await.unwrap();
        assert_eq!(report, 1000);
        let expected: String = (0..1000).map(|number| format!("{number}\n")).collect();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[tokio::test]
    async fn failed_work_says_why() {
        let (_folder, admin) = serve(Arc::default());
        let mut out = Vec::new();
        let mut display = Display::new(&mut out, false, true, number);
        let error = admin.run::<u64>("/count", &13, &mut display).await.unwrap_err();
        assert_eq!(error.to_string(), registry::Error::Poisoned.to_string());
    }

    #[tokio::test]
    async fn a_server_that_dies_in_the_middle_is_no_success() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("admin.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            // The first goes before it has answered.
            drop(listener.accept().await.unwrap());
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await.unwrap();
            let begun = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n{";
            stream.write_all(begun).await.unwrap();
        });
        let mut out = Vec::new();
        let mut display = Display::new(&mut out, false, true, number);
        let admin = Admin::Server(socket);
        for when in ["before it answers", "in the middle"] {
            let error = admin.run::<u64>("/count", &1, &mut display).await.unwrap_err();
            assert_eq!(error.to_string(), WENT_AWAY, "{when}");
        }
    }

    #[tokio::test]
    async fn work_ends_when_its_caller_goes_away() {
        let ended = Arc::new(AtomicBool::new(false));
        let (_folder, admin) = serve(Arc::clone(&ended));
        let request = Request::post("/endless").header("host", "admin").body(Body::empty());
        let mut response = admin.send(request.unwrap()).await.unwrap();
        assert!(response.body_mut().frame().await.unwrap().is_ok());
        drop(response);
        while !ended.load(Ordering::Acquire) {
            tokio::task::yield_now().await;
        }
    }
}
