//! The server as a process.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Client, Raw, eventually, sound};

/// What stands in the log right before the address.
const ANNOUNCEMENT: &str = "listening on ";

/// How a server is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    config: Option<String>,
    env: Vec<(String, Option<String>)>,
}

/// A running registry; when it is dropped it is stopped and its store is checked.
#[derive(Debug)]
pub struct Server {
    options: Options,
    /// `None` after it was handed on.
    folder: Option<TempDir>,
    /// Answers 200 when the server is ready.
    probe: &'static str,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    address: SocketAddr,
    log: Log,
    readers: Vec<JoinHandle<()>>,
}

/// Standard output and standard error, as they come.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<String>>);

impl Options {
    /// The text of a configuration file; the root directory and the address are set beside it.
    pub fn config(mut self, text: &str) -> Self {
        self.config = Some(text.to_owned());
        self
    }

    /// One variable of the environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), Some(value.to_owned())));
        self
    }

    /// Takes a variable away that would be set.
    pub fn without_env(mut self, name: &str) -> Self {
        self.env.push((name.to_owned(), None));
        self
    }
}

impl Server {
    /// With the embedded defaults.
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        Self::with_probe(options, "/v2/")
    }

    /// Where the base of the API is another path.
    pub fn with_probe(options: Options, probe: &'static str) -> Self {
        let folder = Some(tempfile::tempdir().unwrap());
        let mut server = Self { options, folder, probe, running: None };
        server.start_again();
        server
    }

    /// In a folder that is there already; the store is its `registry`.
    pub fn in_folder(options: Options, folder: TempDir) -> Self {
        let mut server = Self { options, folder: Some(folder), probe: "/v2/", running: None };
        server.start_again();
        server
    }

    /// What the admin socket answers, head and body.
    pub fn ask_admin(&self, method: &str, path: &str, body: &str) -> String {
        let mut socket = UnixStream::connect(self.root().join("kelson/admin.sock")).unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: kelson\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Hands on the folder of a stopped server, after a check of its store.
    pub fn take_folder(mut self) -> TempDir {
        assert!(self.running.is_none(), "it runs");
        sound::assert_sound(&self.root());
        self.folder.take().expect("a folder")
    }

    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub fn client(&self) -> Client {
        Client::new(format!("http://{}", self.address()))
    }

    pub fn raw(&self) -> Raw {
        Raw::connect(self.address())
    }

    pub fn address(&self) -> SocketAddr {
        self.running.as_ref().expect("a running server").address
    }

    /// The store's root directory.
    pub fn root(&self) -> PathBuf {
        root(self.folder())
    }

    /// Where the store's root and the configuration lie.
    pub fn folder(&self) -> &Path {
        self.folder.as_ref().expect("a folder").path()
    }

    /// What the server has written so far, both streams together.
    pub fn log(&self) -> String {
        self.running.as_ref().expect("a running server").log.text()
    }

    /// A command with the environment that the server has.
    pub fn command(&self) -> Command {
        command(self.folder(), &self.options)
    }

    /// Starts it where it was stopped, on a new port.
    pub fn start_again(&mut self) {
        assert!(self.running.is_none(), "it runs");
        let running = match Running::spawn(self.folder(), &self.options) {
            Ok(running) => running,
            Err(refusal) => panic!("the server did not start: {refusal}"),
        };
        self.running = Some(running);
        let client = self.client();
        eventually("the server is ready", || {
            let answer = client.request("GET", self.probe).try_send().ok()?;
            (answer.status == 200).then_some(())
        });
    }

    /// Asks it to stop (SIGTERM) without waiting.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Kills it (SIGKILL) without waiting.
    pub fn begin_kill(&self) {
        self.signal(Signal::KILL);
    }

    pub fn signal(&self, signal: Signal) {
        self.running.as_ref().expect("a running server").signal(signal);
    }

    /// Stops it (SIGTERM) and waits; the exit status and all it wrote.
    pub fn stop(&mut self) -> (ExitStatus, String) {
        self.terminate();
        self.wait()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> (ExitStatus, String) {
        self.running.take().expect("a running server").wait()
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) {
        self.begin_kill();
        let (status, _) = self.wait();
        assert!(!status.success());
    }

    /// Stops it cleanly and starts it again.
    pub fn restart(&mut self) {
        let (status, log) = self.stop();
        assert!(status.success(), "{status}: {log}");
        self.start_again();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            if let Some(running) = self.running.take() {
                running.signal(Signal::KILL);
                let (_, log) = running.wait();
                // Shown with the panic's own output.
                println!("--- log of the server\n{log}");
            }
            return;
        }
        if self.running.is_some() {
            let (status, log) = self.stop();
            assert!(is_peer() || status.success(), "{status}: {log}");
        }
        if !is_peer() && self.folder.is_some() {
            sound::assert_sound(&self.root());
        }
    }
}

impl Running {
    /// The error is what it wrote before it ended.
    fn spawn(folder: &Path, options: &Options) -> Result<Self, String> {
        let mut command = command(folder, options);
        command.arg("serve");
        let config = folder.join("config.yml");
        let text = options.config.as_deref().or(is_peer().then_some(PEER_CONFIG));
        if let Some(text) = text {
            fs::write(&config, text).unwrap();
            command.arg(&config);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Log::default();
        let readers = vec![
            log.collect(child.stdout.take().unwrap()),
            log.collect(child.stderr.take().unwrap()),
        ];
        let address = eventually("the server says where it listens", || {
            let ended = child.try_wait().unwrap().is_some();
            log.address().map(Some).or(ended.then_some(None))
        });
        match address {
            Some(address) => Ok(Self { child, address, log, readers }),
            None => {
                readers.into_iter().for_each(|reader| reader.join().unwrap());
                Err(log.text())
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn wait(mut self) -> (ExitStatus, String) {
        let status = eventually("the server ends", || self.child.try_wait().unwrap());
        for reader in self.readers {
            reader.join().unwrap();
        }
        (status, self.log.text())
    }
}

/// Runs a server that must refuse to start; what it wrote.
pub fn refusal(options: &Options, folder: &Path) -> String {
    match Running::spawn(folder, options) {
        Err(text) => text,
        Ok(running) => {
            running.signal(Signal::KILL);
            panic!("it started: {}", running.wait().1);
        }
    }
}

impl Log {
    fn collect(&self, stream: impl Read + Send + 'static) -> JoinHandle<()> {
        let log = self.clone();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stream);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                log.0.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        })
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }

    /// The address behind the announcement.
    fn address(&self) -> Option<SocketAddr> {
        let text = self.text();
        let (_, after) = text.split_once(ANNOUNCEMENT)?;
        let is_part = |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | ':' | '[' | ']');
        let (address, _) = after.split_once(|c| !is_part(c))?;
        address.parse().ok()
    }
}

/// The store's root directory in a server's folder.
pub fn root(folder: &Path) -> PathBuf {
    folder.join("registry")
}

/// The program with the environment that a server in this folder has.
pub fn command(folder: &Path, options: &Options) -> Command {
    let mut command = Command::new(program());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("REGISTRY_") {
            command.env_remove(name);
        }
    }
    command
        .current_dir(folder)
        .stdin(Stdio::null())
        .env("OTEL_TRACES_EXPORTER", "none")
        .env("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", root(folder))
        .env("REGISTRY_HTTP_ADDR", "127.0.0.1:0");
    for (name, value) in &options.env {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

fn program() -> String {
    std::env::var("KELSON_IT_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_kelson").to_owned())
}

/// Whether the tests run against another registry.
pub fn is_peer() -> bool {
    std::env::var_os("KELSON_IT_PROGRAM").is_some()
}

/// Other registries have no embedded defaults.
const PEER_CONFIG: &str = "\
version: 0.1
storage:
  filesystem: {}
  delete:
    enabled: true
http:
  relativeurls: true
  headers:
    X-Content-Type-Options: [nosniff]
";
