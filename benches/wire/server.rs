//! A registry as a process on a free loopback port, with a store of its own.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Connection, Request};

/// How long a start or a stop may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The same for every registry: that of the published images of `registry:2`, without a log of
/// each request and with deletion. What the environment sets comes on top.
const CONFIG: &str = "\
version: 0.1
log:
  level: warn
  accesslog:
    disabled: true
storage:
  cache:
    blobdescriptor: inmemory
  filesystem: {}
  delete:
    enabled: true
http:
  relativeurls: true
catalog:
  maxentries: 1000
tags:
  maxtags: 10000
";

/// A registry program that understands distribution's configuration.
#[derive(Debug, Clone)]
pub struct Program {
    pub path: PathBuf,
}

/// A running registry; one that was started here is killed and its store removed when this is
/// dropped.
#[derive(Debug)]
pub struct Server {
    /// The process and its store; `None`: somebody else has started it and will stop it.
    pub process: Option<(Child, TempDir)>,
    pub address: SocketAddr,
}

impl Program {
    /// The program of this package, as the benches were built.
    pub fn kelson() -> Self {
        Self { path: env!("CARGO_BIN_EXE_kelson").into() }
    }

    /// Starts it with an empty store and waits until it answers.
    ///
    /// # Errors
    /// It does not start; the error holds what it wrote.
    pub async fn start(&self) -> Result<Server> {
        let folder = crate::common::scratch()?;
        let config = folder.path().join("config.yml");
        fs::write(&config, CONFIG)?;
        let address = free_address()?;
        let mut child = self
            .command(&folder.path().join("registry"), address)
            .args(["serve".as_ref(), config.as_os_str()])
            .spawn()
            .with_context(|| self.path.display().to_string())?;
        let written = Written::default();
        written.collect(child.stdout.take());
        written.collect(child.stderr.take());
        let mut server = Server { process: Some((child, folder)), address };
        server.until_ready().await.with_context(|| written.text())?;
        Ok(server)
    }

    fn command(&self, root: &Path, address: SocketAddr) -> Command {
        let mut command = Command::new(&self.path);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env("OTEL_TRACES_EXPORTER", "none")
            .env("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", root)
            .env("REGISTRY_HTTP_ADDR", address.to_string());
        command
    }
}

impl Server {
    /// The process, where it is known.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|(child, _)| child.id())
    }

    async fn until_ready(&mut self) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let process = self.process.as_mut();
            let status = process.map(|(child, _)| child.try_wait()).transpose()?.flatten();
            if let Some(status) = status {
                bail!("the registry (process {:?}) ended: {status}", self.pid());
            }
            if let Ok(mut connection) = Connection::open(self.address).await {
                connection.send(Request::get("/v2/")).await?;
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("the registry does not answer within {PATIENCE:?}")
    }

    /// Asks it to stop and waits.
    ///
    /// # Errors
    /// It does not stop.
    pub async fn stop(mut self) -> Result<()> {
        let Some((child, _)) = &mut self.process else { return Ok(()) };
        kill_process(Pid::from_child(child), Signal::TERM)?;
        let start = Instant::now();
        while child.try_wait()?.is_none() {
            ensure!(start.elapsed() < PATIENCE, "the registry does not stop");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some((child, _)) = &mut self.process else { return };
        // It may have ended already, and then there is nothing to do.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// What a process wrote, for the case that it does not start.
#[derive(Debug, Clone, Default)]
struct Written(Arc<Mutex<String>>);

impl Written {
    /// Reads on until the process ends, so that it never waits for a full pipe.
    fn collect(&self, stream: Option<impl Read + Send + 'static>) {
        let Some(stream) = stream else { return };
        let written = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let mut text = written.0.lock().unwrap_or_else(PoisonError::into_inner);
                if text.len() < 64 << 10 {
                    text.push_str(&line);
                    text.push('\n');
                }
            }
        });
    }

    fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A port that was free a moment ago.
fn free_address() -> Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
