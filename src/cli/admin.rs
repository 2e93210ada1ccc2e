//! Asking a store: the running server over its admin socket, or, without one, the store itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use http_body_util::{BodyExt, Limited};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tower::ServiceExt;

use crate::app::{self, Store};
use crate::config::{self, Config};
use crate::http::admin::{Refusal, router};
use crate::ops::clock::SystemClock;
use crate::ops::random::OsRandom;
use crate::registry::Registry;
use crate::registry::identity::Paths;

/// The image's configuration file, used by commands inside a container.
const IMAGE_CONFIG: &str = "/etc/docker/registry/config.yml";

/// The largest answer: a page of manifests with many tags.
const ANSWER_SIZE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Somebody who knows what is in the store.
#[derive(Debug)]
pub enum Admin {
    /// The running server.
    Server(PathBuf),
    /// The store itself, opened by this process.
    Store(Router),
}

/// The settings of the registry that a command is about.
pub fn options(config: Option<PathBuf>) -> anyhow::Result<app::Options> {
    let named = config.is_some() || std::env::var_os("REGISTRY_CONFIGURATION_PATH").is_some();
    let image = Path::new(IMAGE_CONFIG);
    let path = config.or_else(|| (!named && image.exists()).then(|| image.to_owned()));
    let loaded = Config::load(path.as_deref(), config::environment())?;
    Ok(app::Options::from(loaded.config))
}

impl Admin {
    /// Connects to the server of the store, if one runs.
    pub async fn server(options: &app::Options) -> Option<Self> {
        let socket = Paths::new(&options.root).socket;
        UnixStream::connect(&socket).await.ok().map(|_| Self::Server(socket))
    }

    /// The server of the store, or else the store.
    pub async fn find(options: app::Options) -> anyhow::Result<Self> {
        if let Some(server) = Self::server(&options).await {
            return Ok(server);
        }
        let root = options.root;
        if !Paths::new(&root).database.exists() {
            bail!(
                "there is no store in {}; give the configuration of the registry with --config, \
                 or start one with: kelson serve",
                root.display()
            );
        }
        let store = Store::open(&root, options.database).await?;
        let (clock, random) = (Arc::new(SystemClock::start()), Arc::new(OsRandom));
        let registry =
            Registry::open(store.meta, store.blobs, clock, random, options.registry).await?;
        Ok(Self::Store(router(registry)))
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
        let (parts, body) = match self {
            Self::Store(router) => router.clone().oneshot(request).await?.into_parts(),
            Self::Server(socket) => ask(socket, request).await?.into_parts(),
        };
        let bytes = Limited::new(body, ANSWER_SIZE_BYTES_MAX).collect().await;
        let bytes = bytes.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
        if parts.status.is_success() {
            return serde_json::from_slice(&bytes).context("the server's answer is not understood");
        }
        match serde_json::from_slice::<Refusal>(&bytes) {
            Ok(refusal) => bail!("{}", refusal.error),
            Err(_) => bail!("the server answered {}", parts.status),
        }
    }
}

async fn ask(socket: &Path, request: Request<Body>) -> anyhow::Result<axum::http::Response<Body>> {
    let stream = UnixStream::connect(socket)
        .await
        .with_context(|| format!("cannot connect to {}", socket.display()))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?.map(Body::new))
}
