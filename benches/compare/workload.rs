//! The cases, and how one is run and measured.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use hyper::Method;

use crate::common::random_bytes;
use crate::fixture::{
    Fixture, LARGE_SIZE_BYTES, LIST_ITEMS, PULLED, PULLED_TAGS, SMALL_SIZE_BYTES, TAGGED,
    repository, tag,
};
use crate::usage;
use crate::wire::image::sha256;
use crate::wire::{Connection, Image, Keep, Request, Server};

/// Items of a page, as many as clients ask for.
const PAGE_ITEMS: usize = 100;
/// One answer in so many is hashed or read.
const SAMPLED_EVERY: usize = 16;
/// One operation in so many of the mixed work is a push.
const PUSH_EVERY: usize = 4;

/// One line of the table.
#[derive(Debug)]
pub struct Case {
    pub name: &'static str,
    /// Connections that work at the same time.
    pub clients: usize,
    /// Operations at most.
    pub operations_max: usize,
    /// Bytes of one operation, where bytes per second say more than operations.
    pub size_bytes: Option<u64>,
    work: Work,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    PushImage,
    PushLarge,
    PullLarge,
    Manifest,
    HeadBlob,
    TagPage,
    CatalogPage,
    Mixed,
}

const fn case(name: &'static str, clients: usize, operations_max: usize, work: Work) -> Case {
    let large = matches!(work, Work::PushLarge | Work::PullLarge);
    let size_bytes = if large { Some(LARGE_SIZE_BYTES as u64) } else { None };
    Case { name, clients, operations_max, size_bytes, work }
}

/// All of them, in the order in which they run.
pub const CASES: &[Case] = &[
    case("push image of 10 KiB", 1, 1000, Work::PushImage),
    case("push image of 10 KiB", 8, 4000, Work::PushImage),
    case("push layer of 100 MiB", 1, 2, Work::PushLarge),
    case("pull layer of 100 MiB", 1, 10, Work::PullLarge),
    case("manifest by tag", 1, 20_000, Work::Manifest),
    case("manifest by tag", 8, 40_000, Work::Manifest),
    case("head of a blob", 1, 20_000, Work::HeadBlob),
    case("head of a blob", 8, 40_000, Work::HeadBlob),
    case("100 of 1000 tags", 1, 5000, Work::TagPage),
    case("100 of 1000 repositories", 1, 5000, Work::CatalogPage),
    case("3 pulls, 1 push", 8, 4000, Work::Mixed),
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
    /// One per operation, sorted.
    pub latencies: Vec<Duration>,
    pub elapsed: Duration,
    /// Of the server.
    pub server_cpu: Duration,
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
    let (server_before, own) = (usage::cpu(server.pid())?, std::process::id());
    let (own_before, start) = (usage::cpu(own)?, Instant::now());
    let run = Run { case, fixture, prepared, next: AtomicUsize::new(0), end: start + limits.time };
    let latencies = try_join_all(connections.iter_mut().map(|it| run.work(it))).await?;
    let elapsed = start.elapsed();
    let server_cpu = usage::cpu(server.pid())?.saturating_sub(server_before);
    let generator_cpu = usage::cpu(own)?.saturating_sub(own_before);
    let mut latencies = latencies.concat();
    latencies.sort_unstable();
    Ok(Measured { case, latencies, elapsed, server_cpu, generator_cpu })
}

impl Prepared {
    fn new(case: &Case) -> Result<Self> {
        let (images, layers) = match case.work {
            Work::PushImage => (case.operations_max, 0),
            Work::Mixed => (case.operations_max.div_ceil(PUSH_EVERY), 0),
            Work::PushLarge => (0, case.operations_max),
            _ => (0, 0),
        };
        let layer = |_| -> Result<_> {
            let bytes = Bytes::from(random_bytes(LARGE_SIZE_BYTES)?);
            Ok((sha256(&bytes), bytes))
        };
        Ok(Self {
            images: (0..images)
                .map(|_| Image::random(SMALL_SIZE_BYTES))
                .collect::<Result<_, _>>()?,
            layers: (0..layers).map(layer).collect::<Result<_>>()?,
        })
    }
}

impl Run<'_> {
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
        match self.case.work {
            Work::PushImage => self.push_image(connection, number).await,
            Work::PushLarge => {
                let (digest, bytes) = &self.prepared.layers[number];
                connection.push_blob("push/large", digest, bytes.clone()).await
            }
            Work::PullLarge => self.pull_large(connection, number).await,
            Work::Manifest => self.manifest(connection, number).await,
            Work::HeadBlob => self.head_blob(connection, number).await,
            Work::TagPage => {
                let last = tag(number * 37 % (LIST_ITEMS - PAGE_ITEMS));
                let path = format!("/v2/{TAGGED}/tags/list?n={PAGE_ITEMS}&last={last}");
                list(connection, number, &path, "tags").await
            }
            Work::CatalogPage => {
                let last = repository(number * 37 % (LIST_ITEMS - PAGE_ITEMS));
                let path = format!("/v2/_catalog?n={PAGE_ITEMS}&last={last}");
                list(connection, number, &path, "repositories").await
            }
            Work::Mixed if number.is_multiple_of(PUSH_EVERY) => {
                self.push_image(connection, number / PUSH_EVERY).await
            }
            Work::Mixed => self.pull_image(connection, number).await,
        }
    }

    async fn push_image(&self, connection: &mut Connection, number: usize) -> Result<()> {
        let repo = format!("push/app{}-{}", self.case.clients, number % 8);
        connection.push(&repo, &tag(number), &self.prepared.images[number]).await
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

    async fn manifest(&self, connection: &mut Connection, number: usize) -> Result<()> {
        let image = &self.fixture.pulled[number % PULLED_TAGS];
        let path = format!("/v2/{PULLED}/manifests/{}", tag(number % PULLED_TAGS));
        let answer = connection.send(Request { keep: sampled(number), ..Request::get(&path) });
        let answer = answer.await?;
        ensure!(answer.length == image.manifest.len() as u64, "{} bytes", answer.length);
        let right = answer.digest.is_none_or(|it| it == sha256(&image.manifest));
        ensure!(right, "another manifest");
        Ok(())
    }

    async fn head_blob(&self, connection: &mut Connection, number: usize) -> Result<()> {
        let [_, (digest, bytes)] = self.fixture.pulled[number % PULLED_TAGS].blobs();
        let path = format!("/v2/{PULLED}/blobs/{digest}");
        let answer = connection.send(Request { method: Method::HEAD, ..Request::get(&path) });
        let stated = answer.await?.content_length;
        ensure!(stated == Some(bytes.len() as u64), "a length of {stated:?}");
        Ok(())
    }

    /// Manifest, config and layer.
    async fn pull_image(&self, connection: &mut Connection, number: usize) -> Result<()> {
        self.manifest(connection, number).await?;
        for (digest, bytes) in self.fixture.pulled[number % PULLED_TAGS].blobs() {
            let path = format!("/v2/{PULLED}/blobs/{digest}");
            let answer = connection.send(Request { keep: sampled(number), ..Request::get(&path) });
            let answer = answer.await?;
            ensure!(answer.length == bytes.len() as u64, "{} bytes", answer.length);
            ensure!(answer.digest.is_none_or(|it| it == *digest), "other content");
        }
        Ok(())
    }
}

fn sampled(number: usize) -> Keep {
    if number.is_multiple_of(SAMPLED_EVERY) { Keep::Digest } else { Keep::Nothing }
}

/// A page of a list.
async fn list(connection: &mut Connection, number: usize, path: &str, key: &str) -> Result<()> {
    let keep = if number.is_multiple_of(SAMPLED_EVERY) { Keep::Body } else { Keep::Nothing };
    let answer = connection.send(Request { keep, ..Request::get(path) }).await?;
    if keep == Keep::Nothing {
        return Ok(());
    }
    let page: serde_json::Value = serde_json::from_slice(&answer.body)?;
    let items = page[key].as_array().context("no list")?.len();
    ensure!(items == PAGE_ITEMS, "{items} items");
    Ok(())
}
