//! R-2: garbage is collected without pause while clients push what others delete.
//!
//! Sixteen pushers share layers. Each asks before it uploads, as clients do, deletes what it
//! pushed a while ago, and pulls what it holds. Nothing that a client was told within its lease may
//! fail it, and everything held is there byte for byte.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::result;
use super::shuffled::Random;
use super::watch::Deletions;
use crate::support::image::descriptor;
use crate::support::{
    Client, OCI_MANIFEST, OCTETS, Options, Server, at_once, random_bytes, sha256,
};

const PUSHERS: usize = 16;
const REPOSITORIES: usize = 4;
/// Layers that there are for images to be made of, at most.
const LAYERS: usize = 4000;
/// How long a layer is left alone on average: about as long as it takes until it is collected.
const REUSE_SECONDS: f64 = 3.0;
/// Images that a pusher holds before it deletes its oldest.
const HELD: usize = 2;
const LEASE: Duration = Duration::from_secs(1);
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// An image that was acknowledged.
struct Held {
    repo: String,
    digest: String,
    manifest: Vec<u8>,
    config: Vec<u8>,
    layers: Vec<usize>,
}

/// What makes a race of it.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    events: usize,
    deleted: usize,
    pushed_again: usize,
}

impl Wanted {
    /// `KELSON_RACES_EVENTS` requests: a tenth as many contents must go, and a hundredth must come
    /// back within a second. Without it so few that there is no time for that.
    fn from_environment() -> Self {
        match std::env::var("KELSON_RACES_EVENTS") {
            Ok(text) => {
                let events: usize = text.parse().unwrap();
                Self { events, deleted: events / 10, pushed_again: events / 100 }
            }
            Err(_) => Self { events: 3000, deleted: 1, pushed_again: 0 },
        }
    }
}

/// What all pushers share.
struct Shared {
    layers: Vec<(String, Vec<u8>)>,
    deletions: Deletions,
    began: Instant,
    picked: AtomicUsize,
    events: AtomicUsize,
    wanted: Wanted,
    pushed: AtomicUsize,
    /// Uploads within a second of their content's deletion.
    pushed_again: AtomicUsize,
    /// Refusals after the lease had passed, which clients must expect.
    late: AtomicUsize,
    lost: Mutex<Vec<String>>,
    /// Passes that the collector was asked for, one after the other.
    passes: AtomicUsize,
    stopped: AtomicBool,
}

struct Pusher<'a> {
    shared: &'a Shared,
    client: Client,
    random: Random,
    number: usize,
    held: Vec<Held>,
}

impl Shared {
    fn new(root: &Path, wanted: Wanted) -> Self {
        // Half of them are small contents, half are files.
        let layer = |number: usize| {
            let bytes = random_bytes(300 + (number * 7) % 1400);
            (sha256(&bytes), bytes)
        };
        Self {
            layers: (0..LAYERS).map(layer).collect(),
            deletions: Deletions::watch(&root.join("docker/registry/v2/blobs/sha256")),
            began: Instant::now(),
            picked: AtomicUsize::new(0),
            events: AtomicUsize::new(0),
            wanted,
            pushed: AtomicUsize::new(0),
            pushed_again: AtomicUsize::new(0),
            late: AtomicUsize::new(0),
            lost: Mutex::default(),
            passes: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    /// A layer for an image, out of as many as keep each alone for [`REUSE_SECONDS`].
    fn pick(&self, random: &mut Random) -> usize {
        let picked = self.picked.fetch_add(1, Ordering::Relaxed) as f64;
        let per_second = picked / self.began.elapsed().as_secs_f64().max(1.0);
        random.index(((per_second * REUSE_SECONDS) as usize).clamp(20, LAYERS))
    }

    /// Counts a request; the race ends after enough of them, and of what they were to bring about.
    fn event(&self) {
        let events = self.events.fetch_add(1, Ordering::Relaxed) + 1;
        let enough = self.deletions.count() >= self.wanted.deleted
            && self.pushed_again.load(Ordering::Relaxed) >= self.wanted.pushed_again;
        if events >= self.wanted.events && (enough || events >= 3 * self.wanted.events) {
            self.stopped.store(true, Ordering::Relaxed);
        }
    }

    /// Asks the collector for a pass as soon as the last one is over: by itself it rests for a
    /// second in between.
    fn collect(&self, server: &Server) {
        while !self.stopped.load(Ordering::Relaxed) {
            let answer = server.ask_admin("POST", "/garbage-collect", "{}");
            assert!(answer.contains(r#""links":"#), "{answer}");
            self.passes.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn lose(&self, what: String) {
        self.lost.lock().unwrap().push(what);
        self.stopped.store(true, Ordering::Relaxed);
    }
}

impl Pusher<'_> {
    fn run(mut self) -> Vec<Held> {
        let mut round = 0_usize;
        while !self.shared.stopped.load(Ordering::Relaxed) {
            round += 1;
            self.push(round);
            if self.held.len() > HELD {
                let oldest = self.held.remove(0);
                self.delete(&oldest);
            }
            if round.is_multiple_of(8) && !self.held.is_empty() {
                let at = self.random.index(self.held.len());
                self.pull(&self.held[at]);
            }
        }
        self.held
    }

    fn push(&mut self, round: usize) {
        let repo = format!("gc/{}", self.random.index(REPOSITORIES));
        let mut layers: Vec<_> = (0..3).map(|_| self.shared.pick(&mut self.random)).collect();
        layers.sort_unstable();
        layers.dedup();
        let config = format!("{{\"by\":\"{} {round}\"}}", self.number).into_bytes();
        let mut relied_since = self.provide(&repo, &sha256(&config), &config);
        for layer in &layers {
            let (digest, bytes) = &self.shared.layers[*layer];
            relied_since = relied_since.min(self.provide(&repo, digest, bytes));
        }
        // Clients take their time: what they were told must hold meanwhile.
        if self.random.percent(20) {
            std::thread::sleep(LEASE / 100 * self.random.below(70).into());
        }
        let of = |layer: &usize| descriptor(LAYER, &self.shared.layers[*layer].1);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(CONFIG, &config),
            "layers": layers.iter().map(of).collect::<Vec<_>>(),
        });
        let manifest = manifest.to_string().into_bytes();
        let digest = sha256(&manifest);
        // Some by tag; deleting the manifest takes its tag along.
        let tag = format!("p{}", self.number);
        let reference = if round.is_multiple_of(2) { &tag } else { &digest };
        let put = self.client.put_manifest(&repo, reference, OCI_MANIFEST, &manifest);
        let in_time = relied_since.elapsed() < LEASE;
        self.shared.event();
        match put.status {
            201 => {
                self.shared.pushed.fetch_add(1, Ordering::Relaxed);
                self.held.push(Held { repo, digest, manifest, config, layers });
            }
            400 if !in_time => {
                self.shared.late.fetch_add(1, Ordering::Relaxed);
            }
            _ => self.shared.lose(format!("{put:?} {:?} after asking", relied_since.elapsed())),
        }
    }

    /// Asks, and uploads what is missing; since when the client may rely on it.
    fn provide(&mut self, repo: &str, digest: &str, bytes: &[u8]) -> Instant {
        let asked = Instant::now();
        let head = self.client.head(&format!("/v2/{repo}/blobs/{digest}"));
        self.shared.event();
        if head.status == 200 {
            return asked;
        }
        let _ = head.expect(404);
        let path = format!("/v2/{repo}/blobs/uploads/");
        let query = format!("digest={}", digest.replace(':', "%3A"));
        let (method, url) = if self.random.percent(50) {
            ("POST", format!("{path}?{query}"))
        } else {
            let begun = self.client.request("POST", &path).send().expect(202).location();
            self.shared.event();
            ("PUT", crate::support::client::with_query(&begun, &query))
        };
        let sent = Instant::now();
        let request = self.client.request(method, &url).header("Content-Type", OCTETS);
        let _ = request.body(bytes).send().expect(201);
        self.shared.event();
        if self.shared.deletions.was_within(digest, sent, Duration::from_secs(1)) {
            self.shared.pushed_again.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }

    fn delete(&self, image: &Held) {
        let path = format!("/v2/{}/manifests/{}", image.repo, image.digest);
        let _ = self.client.delete(&path).expect(202);
        self.shared.event();
    }

    /// Everything that it refers to is there byte for byte.
    fn pull(&self, image: &Held) {
        let manifest = self.client.manifest(&image.repo, &image.digest);
        self.shared.event();
        if manifest.status != 200 || manifest.body != image.manifest {
            return self.shared.lose(format!("{}@{}: {manifest:?}", image.repo, image.digest));
        }
        let layers = image.layers.iter().map(|layer| &self.shared.layers[*layer].1);
        for bytes in layers.chain([&image.config]) {
            let blob = self.client.blob(&image.repo, &sha256(bytes));
            self.shared.event();
            if blob.status != 200 || blob.body != *bytes {
                self.shared.lose(format!("{} of {}: {blob:?}", sha256(bytes), image.digest));
            }
        }
    }
}

/// What a run came to.
struct Figures {
    lost: Vec<String>,
    deleted: usize,
    pushed_again: usize,
    is_pausing: bool,
    text: String,
}

fn race(server: &Server, wanted: Wanted) -> Figures {
    let shared = Shared::new(&server.root(), wanted);
    let pusher = |number| {
        let seed = u64::from_ne_bytes(random_bytes(8).try_into().unwrap());
        let (client, random) = (server.client(), Random(seed));
        Pusher { shared: &shared, client, random, number, held: vec![] }
    };
    let held = std::thread::scope(|scope| {
        let collecting = scope.spawn(|| shared.collect(server));
        let held = at_once(PUSHERS, |number| pusher(number).run());
        collecting.join().unwrap();
        held
    });
    let held: Vec<_> = held.into_iter().flatten().collect();
    held.iter().for_each(|image| pusher(0).pull(image));
    let seconds = shared.began.elapsed().as_secs();
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    let (deleted, pushed_again) = (shared.deletions.count(), count(&shared.pushed_again));
    let passes = count(&shared.passes);
    let text = format!(
        "events={} pushed={} deleted={deleted} pushed_again={pushed_again} late={} held={} \
         passes={passes} seconds={seconds}",
        count(&shared.events),
        count(&shared.pushed),
        count(&shared.late),
        held.len(),
    );
    // Resting in between, there would be one in a second.
    let is_pausing = seconds > 0 && passes < 5 * seconds as usize;
    let lost = shared.lost.into_inner().unwrap();
    Figures { lost, deleted, pushed_again, is_pausing, text }
}

/// The shortest times that a test may ask for.
fn options() -> Options {
    Options::default()
        .env("REGISTRY_KELSON_GC_UNSAFE", "true")
        .env("REGISTRY_KELSON_GC_GRACE", "0s")
        .env("REGISTRY_KELSON_GC_LEASE", "1s")
        .env("REGISTRY_LOG_ACCESSLOG_DISABLED", "true")
        .env("REGISTRY_KELSON_STORAGE_SMALLCONTENTS", "1KiB")
}

#[test]
fn what_a_client_was_told_holds_while_garbage_is_collected() {
    let wanted = Wanted::from_environment();
    let server = Server::with(options());
    let figures = race(&server, wanted);
    result("R-2", &format!("{} lost={}", figures.text, figures.lost.len()));
    assert_eq!(figures.lost, Vec::<String>::new());
    // Otherwise there was no race.
    assert!(!figures.is_pausing, "{}", figures.text);
    assert!(figures.deleted >= wanted.deleted, "{}", figures.text);
    assert!(figures.pushed_again >= wanted.pushed_again, "{}", figures.text);
}
