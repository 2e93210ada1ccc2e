//! The cases, and how one is run and measured.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::future::{join, try_join_all};
use hyper::{Method, StatusCode};

use crate::common::random_bytes;
use crate::fixture::{
    self, Fixture, PULLED, PULLED_TAGS, REFERRED, REFERRERS, REPOSITORIES, TAGGED, TAGS,
    repository, small_image, tag,
};
use crate::usage;
use crate::wire::image::sha256;
use crate::wire::{Connection, Image, Keep, Request, Server};

/// Items of a page, as many as clients ask for.
const PAGE_ITEMS: usize = 100;
/// One answer in so many is hashed or read.
const SAMPLED_EVERY: usize = 16;
/// Length of a layer that is pushed.
const LAYER_SIZE_BYTES: usize = 128 << 20;
/// Length of a layer that is pulled.
const PULLED_SIZE_BYTES: usize = fixture::LARGE_SIZE_BYTES;
/// Pushers of large layers, and of small images, beside [`Work::Beside`].
const BESIDE: [usize; 2] = [4, 8];

/// One line of the table.
#[derive(Debug)]
pub struct Case {
    pub name: &'static str,
    /// Connections that work at the same time.
    pub clients: usize,
    /// Operations at most.
    pub operations_max: usize,
    pub goal: Goal,
    work: Work,
}

/// What Kelson is to reach against distribution 3.1.1.
#[derive(Debug, Clone, Copy, Default)]
pub struct Goal {
    /// So many times as fast, at least.
    pub rate: Option<f64>,
    /// So much of the processor time for one operation, at most.
    pub cpu: Option<f64>,
    /// Milliseconds within which 99 of 100 operations end, at most.
    pub p99_ms: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    PushLarge,
    StreamLarge,
    PullLarge,
    PushImage,
    NewRepository,
    PutTag,
    Base,
    Tags,
    TagPage,
    CatalogPage,
    Manifest(Ask),
    HeadBlob,
    Referrers,
    /// GETs of manifests while others push.
    Beside,
}

/// How a manifest is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Get,
    Head,
}

const fn faster(rate: f64) -> Goal {
    Goal { rate: Some(rate), cpu: None, p99_ms: None }
}

const fn cheaper(rate: f64, cpu: f64) -> Goal {
    Goal { rate: Some(rate), cpu: Some(cpu), p99_ms: None }
}

const fn within(p99_ms: f64) -> Goal {
    Goal { rate: None, cpu: None, p99_ms: Some(p99_ms) }
}

const fn case(
    name: &'static str,
    clients: usize,
    operations_max: usize,
    goal: Goal,
    work: Work,
) -> Case {
    Case { name, clients, operations_max, goal, work }
}

/// All of them, in the order in which they run.
pub const CASES: &[Case] = &[
    case("push 128 MiB, POST and PUT", 2, 4, cheaper(1.5, 0.5), Work::PushLarge),
    case("push 128 MiB, streamed PATCH", 2, 4, cheaper(1.6, 0.55), Work::StreamLarge),
    case("pull 256 MiB", 4, 12, cheaper(1.15, 0.35), Work::PullLarge),
    case("push small image", 8, 4000, cheaper(8.0, 0.1), Work::PushImage),
    case("image into a new repository", 8, 1500, faster(8.0), Work::NewRepository),
    case("tag into one repository", 1, 2000, faster(4.0), Work::PutTag),
    case("GET /v2/", 16, 100_000, faster(4.0), Work::Base),
    case("list of 2,000 tags", 8, 20_000, faster(20.0), Work::Tags),
    case("100 of 2,000 tags", 8, 60_000, faster(30.0), Work::TagPage),
    case("100 of 1,500 repositories", 8, 60_000, faster(80.0), Work::CatalogPage),
    case("GET manifest by tag", 8, 60_000, faster(5.0), Work::Manifest(Ask::Get)),
    case("HEAD manifest by tag", 8, 60_000, faster(5.0), Work::Manifest(Ask::Head)),
    case("HEAD blob", 8, 60_000, Goal { rate: None, cpu: None, p99_ms: None }, Work::HeadBlob),
    case("1,000 referrers", 1, 2000, within(10.0), Work::Referrers),
    case("GET manifest beside pushes", 1, 5000, within(5.0), Work::Beside),
];

/// What a case may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// No operation begins after that.
    pub time: Duration,
}

/// What one run of a case was like.
#[derive(Debug)]
pub struct Measured {
    pub case: &'static Case,
    /// One per operation, sorted; none where the registry does not offer it.
    pub latencies: Vec<Duration>,
    pub elapsed: Duration,
    /// Of the server, where that is known.
    pub server_cpu: Option<Duration>,
    /// Of this process.
    pub generator_cpu: Duration,
}

/// Contents of the operations that push, made before the clock runs.
struct Prepared {
    images: Vec<Image>,
    layers: Vec<(String, Bytes)>,
}

/// A run in progress.
struct Run<'a> {
    case: &'static Case,
    fixture: &'a Fixture,
    prepared: Prepared,
    next: AtomicUsize,
    end: Instant,
}

/// Runs a case.
///
/// # Errors
/// Any answer that is not right: a comparison with a wrong one would be worth nothing.
pub async fn run(
    case: &'static Case,
    server: &Server,
    fixture: &Fixture,
    limits: Limits,
) -> Result<Measured> {
    let prepared = Prepared::new(case)?;
    let mut connections = Vec::new();
    for _ in 0..case.clients {
        connections.push(Connection::open(server.address).await?);
    }
    let cpu = || server.pid().map(usage::cpu).transpose();
    let own = std::process::id();
    let offered = case.work != Work::Referrers || fixture.offers_referrers(server).await?;
    let (server_before, own_before, start) = (cpu()?, usage::cpu(own)?, Instant::now());
    let run = Run { case, fixture, prepared, next: AtomicUsize::new(0), end: start + limits.time };
    let latencies = if !offered {
        Vec::new()
    } else if case.work == Work::Beside {
        run.beside(server, &mut connections).await?
    } else {
        run.together(&mut connections).await?
    };
    let elapsed = start.elapsed();
    let server_cpu = cpu()?.zip(server_before).map(|(now, before)| now.saturating_sub(before));
    let generator_cpu = usage::cpu(own)?.saturating_sub(own_before);
    Ok(Measured { case, latencies, elapsed, server_cpu, generator_cpu })
}

impl Case {
    /// Bytes of one operation, where bytes per second say more than operations.
    pub fn size_bytes(&self) -> Option<u64> {
        match self.work {
            Work::PushLarge | Work::StreamLarge => Some(LAYER_SIZE_BYTES as u64),
            Work::PullLarge => Some(PULLED_SIZE_BYTES as u64),
            _ => None,
        }
    }
}

impl Prepared {
    fn new(case: &Case) -> Result<Self> {
        let (images, layers) = match case.work {
            Work::PushImage => (case.operations_max, 0),
            Work::NewRepository | Work::PutTag => (1, 0),
            Work::PushLarge | Work::StreamLarge => (0, case.operations_max),
            Work::Beside => (200, 1),
            _ => (0, 0),
        };
        let layer = |_| -> Result<_> {
            let bytes = Bytes::from(random_bytes(LAYER_SIZE_BYTES)?);
            Ok((sha256(&bytes), bytes))
        };
        Ok(Self {
            images: (0..images).map(|_| small_image()).collect::<Result<_, _>>()?,
            layers: (0..layers).map(layer).collect::<Result<_>>()?,
        })
    }
}

impl Run<'_> {
    /// All clients at once; how long each operation took, sorted.
    async fn together(&self, connections: &mut [Connection]) -> Result<Vec<Duration>> {
        let latencies = try_join_all(connections.iter_mut().map(|it| self.work(it))).await?;
        let mut latencies = latencies.concat();
        latencies.sort_unstable();
        Ok(latencies)
    }

    /// One client: operations, one after the other, until there are none left.
    async fn work(&self, connection: &mut Connection) -> Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let begin = Instant::now();
            // At least one, however slow.
            let late = number > 0 && begin >= self.end;
            if late || number >= self.case.operations_max {
                return Ok(latencies);
            }
            self.operation(connection, number).await?;
            latencies.push(begin.elapsed());
        }
    }

    async fn operation(&self, connection: &mut Connection, number: usize) -> Result<()> {
        let page = |items: usize| number * 37 % (items - PAGE_ITEMS);
        match self.case.work {
            Work::PushLarge => {
                let (digest, bytes) = &self.prepared.layers[number];
                connection.push_blob("push/large", digest, bytes.clone()).await
            }
            Work::StreamLarge => {
                let (digest, bytes) = &self.prepared.layers[number];
                connection.stream_blob("push/streamed", digest, bytes.clone()).await
            }
            Work::PullLarge => self.pull_large(connection, number).await,
            Work::PushImage => {
                let repo = format!("push/app{}", number % 8);
                connection.push(&repo, &tag(number), &self.prepared.images[number]).await
            }
            Work::NewRepository => {
                let repo = format!("push/new/r{number:04}");
                connection.push(&repo, "latest", &self.prepared.images[0]).await
            }
            Work::PutTag => {
                let image = &self.prepared.images[0];
                if number == 0 {
                    connection.push("push/tags", "first", image).await?;
                }
                let manifest = image.manifest.clone();
                fixture::put(connection, "push/tags", &tag(number), manifest).await
            }
            Work::Base => connection.send(Request::get("/v2/")).await.map(|_| ()),
            Work::Tags => {
                let path = format!("/v2/{TAGGED}/tags/list?n={}", 2 * TAGS);
                // And that of the image itself.
                list(connection, number, &path, "tags", TAGS + 1).await
            }
            Work::TagPage => {
                let last = tag(page(TAGS));
                let path = format!("/v2/{TAGGED}/tags/list?n={PAGE_ITEMS}&last={last}");
                list(connection, number, &path, "tags", PAGE_ITEMS).await
            }
            Work::CatalogPage => {
                let last = repository(page(REPOSITORIES));
                let path = format!("/v2/_catalog?n={PAGE_ITEMS}&last={last}");
                list(connection, number, &path, "repositories", PAGE_ITEMS).await
            }
            Work::Manifest(method) => self.manifest(connection, number, method).await,
            Work::Beside => self.manifest(connection, number, Ask::Get).await,
            Work::HeadBlob => self.head_blob(connection, number).await,
            Work::Referrers => {
                let path = self.fixture.referrers_path();
                list(connection, number, &path, "manifests", REFERRERS).await
            }
        }
    }

    /// The operations of this case, while others push layers and images until they are over.
    async fn beside(
        &self,
        server: &Server,
        connections: &mut [Connection],
    ) -> Result<Vec<Duration>> {
        let stop = tokio_util::sync::CancellationToken::new();
        let [large, small] = BESIDE;
        let pushers = (0..large + small).map(|pusher| {
            let stop = stop.clone();
            async move {
                let mut connection = Connection::open(server.address).await?;
                let mut number = 0;
                while !stop.is_cancelled() {
                    self.push_beside(&mut connection, pusher, number).await?;
                    number += 1;
                }
                anyhow::Ok(())
            }
        });
        let measured = async {
            let latencies = self.together(connections).await;
            stop.cancel();
            latencies
        };
        let (latencies, pushed) = join(measured, try_join_all(pushers)).await;
        pushed?;
        latencies
    }

    async fn push_beside(
        &self,
        connection: &mut Connection,
        pusher: usize,
        number: usize,
    ) -> Result<()> {
        if pusher < BESIDE[0] {
            let (digest, bytes) = &self.prepared.layers[0];
            return connection.push_blob(&format!("beside/{pusher}"), digest, bytes.clone()).await;
        }
        let image = (number * BESIDE[1] + pusher) % self.prepared.images.len();
        let repository = format!("beside/{pusher}");
        connection.push(&repository, &tag(number % 50), &self.prepared.images[image]).await
    }

    async fn pull_large(&self, connection: &mut Connection, number: usize) -> Result<()> {
        let (digest, bytes) = &self.fixture.large;
        let path = format!("/v2/{PULLED}/blobs/{digest}");
        let answer = connection.send(Request { keep: sampled(number), ..Request::get(&path) });
        let answer = answer.await?;
        ensure!(answer.length == bytes.len() as u64, "{} bytes", answer.length);
        ensure!(answer.digest.is_none_or(|it| it == *digest), "other content");
        Ok(())
    }

    async fn manifest(
        &self,
        connection: &mut Connection,
        number: usize,
        method: Ask,
    ) -> Result<()> {
        let image = &self.fixture.pulled[number % PULLED_TAGS];
        let path = format!("/v2/{PULLED}/manifests/{}", tag(number % PULLED_TAGS));
        let length = image.manifest.len() as u64;
        if method == Ask::Head {
            let head = Request { method: Method::HEAD, ..Request::get(&path) };
            let stated = connection.send(head).await?.content_length;
            ensure!(stated == Some(length), "a length of {stated:?}");
            return Ok(());
        }
        let answer = connection.send(Request { keep: sampled(number), ..Request::get(&path) });
        let answer = answer.await?;
        ensure!(answer.length == length, "{} bytes", answer.length);
        let right = answer.digest.is_none_or(|it| it == sha256(&image.manifest));
        ensure!(right, "another manifest");
        Ok(())
    }

    async fn head_blob(&self, connection: &mut Connection, number: usize) -> Result<()> {
        let (digest, bytes) = &self.fixture.pulled[number % PULLED_TAGS].blobs[1];
        let path = format!("/v2/{PULLED}/blobs/{digest}");
        let answer = connection.send(Request { method: Method::HEAD, ..Request::get(&path) });
        let stated = answer.await?.content_length;
        ensure!(stated == Some(bytes.len() as u64), "a length of {stated:?}");
        Ok(())
    }
}

impl Fixture {
    fn referrers_path(&self) -> String {
        format!("/v2/{REFERRED}/referrers/{}", sha256(&self.pulled[0].manifest))
    }

    /// Whether the registry has this API.
    async fn offers_referrers(&self, server: &Server) -> Result<bool> {
        let path = self.referrers_path();
        let mut connection = Connection::open(server.address).await?;
        let missing = Request { expected: StatusCode::NOT_FOUND, ..Request::get(&path) };
        // Any other answer than 404 is looked at by the operations themselves.
        Ok(connection.send(missing).await.is_err())
    }
}

fn sampled(number: usize) -> Keep {
    // The digest of a large body costs the generator more than the answer costs the server.
    if number % SAMPLED_EVERY == SAMPLED_EVERY - 1 { Keep::Digest } else { Keep::Nothing }
}

/// A list of so many items.
async fn list(
    connection: &mut Connection,
    number: usize,
    path: &str,
    key: &str,
    expected: usize,
) -> Result<()> {
    let keep = if number.is_multiple_of(SAMPLED_EVERY) { Keep::Body } else { Keep::Nothing };
    let answer = connection.send(Request { keep, ..Request::get(path) }).await?;
    if keep == Keep::Nothing {
        return Ok(());
    }
    let page: serde_json::Value = serde_json::from_slice(&answer.body)?;
    let items = page[key].as_array().context("no list")?.len();
    ensure!(items == expected, "{items} items");
    Ok(())
}
