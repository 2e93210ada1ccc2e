//! Facts: durable commits by 1, 10 and 100 writers, pages of lists, manifests by tag, starts.

#![expect(clippy::expect_used, reason = "a bench that cannot go on must stop")]

mod common;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use futures_util::future::try_join_all;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use kelson::disk::OsVfs;
use kelson::meta::redb::{Options, RedbMeta};
use kelson::meta::{
    self, Expect, LinkBlob, MetaStore, Moment, PushManifest, PutManifest, Timestamp,
};
use kelson::oci::{Algorithm, Digest, MediaType, Reference, RepositoryName, Tag};
use kelson::ops::Blocking;

/// As many as a page of a client has.
const PAGE_ITEMS: usize = 100;
const MANIFEST_SIZE_BYTES: usize = 500;

struct Store {
    meta: Arc<RedbMeta>,
    /// What makes the next digest another one.
    next: AtomicU64,
    /// The bytes of every content: nothing below looks at them.
    content: Bytes,
    folder: TempDir,
}

impl Store {
    fn new() -> Result<Self> {
        let folder = common::scratch()?;
        let meta = open(&folder.path().join("metadata.redb"))?;
        let content = Bytes::from(common::random_bytes(MANIFEST_SIZE_BYTES)?);
        Ok(Self { meta: Arc::new(meta), next: AtomicU64::new(0), content, folder })
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A small blob arrives: one row, one link, its bytes.
    async fn link(&self, repository: &RepositoryName) -> meta::Result<()> {
        let digest = digest_of(self.number());
        let link = LinkBlob {
            repository: repository.clone(),
            digest,
            size_bytes: MANIFEST_SIZE_BYTES as u64,
            content: Some(self.content.clone()),
            upload: None,
            moment: MOMENT,
        };
        self.meta.link_blob(link).await
    }

    /// A manifest without references arrives under these tags.
    async fn put(&self, repository: RepositoryName, tags: Vec<Tag>) -> Result<()> {
        let media_type = MediaType::parse("application/vnd.oci.image.index.v1+json")?;
        let push = PushManifest {
            repository,
            digest: digest_of(self.number()),
            media_type,
            size_bytes: MANIFEST_SIZE_BYTES as u64,
            content: Some(self.content.clone()),
            edges: vec![],
            subject: None,
            config_type: None,
            artifact_type: None,
            annotations: BTreeMap::new(),
            tags,
            expect: Expect::Anything,
            moment: MOMENT,
        };
        let put = self.meta.put_manifest(push).await?;
        ensure!(put == PutManifest::Stored, "{put:?}");
        Ok(())
    }
}

fn open(path: &Path) -> meta::Result<RedbMeta> {
    RedbMeta::open(Arc::new(OsVfs), path, Options::default(), Blocking::Pool)
}

const MOMENT: Moment = Moment { time: Timestamp(0), eligible_uptime_seconds: 0 };

fn digest_of(number: u64) -> Digest {
    let value = blake3::hash(&number.to_be_bytes());
    Digest::from_bytes(Algorithm::Sha256, value.as_bytes()).expect("32 bytes")
}

fn commits(criterion: &mut Criterion, runtime: &Runtime) -> Result<()> {
    let mut group = criterion.benchmark_group("commit, durable");
    group.sample_size(30);
    let repository = RepositoryName::parse("team/app")?;
    for writers in [1, 10, 100] {
        let store = Store::new()?;
        group.throughput(Throughput::Elements(writers));
        group.bench_function(BenchmarkId::new("writers", writers), |bencher| {
            bencher.to_async(runtime).iter(async || {
                let links = (0..writers).map(|_| store.link(&repository));
                try_join_all(links).await.expect("they are linked")
            });
        });
    }
    group.finish();
    Ok(())
}

/// A repository `app` with that many tags.
async fn with_tags(count: usize) -> Result<Store> {
    let store = Store::new()?;
    let repository = RepositoryName::parse("app")?;
    let tags: Vec<_> =
        (0..count).map(|n| Tag::parse(&format!("v{n:06}"))).collect::<Result<_, _>>()?;
    for batch in tags.chunks(1000) {
        store.put(repository.clone(), batch.to_vec()).await?;
    }
    Ok(store)
}

/// That many repositories with a manifest each.
async fn with_repositories(count: usize) -> Result<Store> {
    let store = Store::new()?;
    let numbers: Vec<_> = (0..count).collect();
    for batch in numbers.chunks(1000) {
        let puts = batch.iter().map(async |n| {
            store.put(RepositoryName::parse(&format!("team{}/app{n:06}", n % 100))?, vec![]).await
        });
        try_join_all(puts).await?;
    }
    Ok(store)
}

/// What the dry run of the collector counts.
fn waiting(criterion: &mut Criterion, runtime: &Runtime) -> Result<()> {
    let repository = RepositoryName::parse("app")?;
    let mut group = criterion.benchmark_group("what waits for the collector, of");
    for count in [1000, 100_000] {
        let store = Store::new()?;
        runtime.block_on(async {
            for _ in 0..count / 100 {
                try_join_all((0..100).map(|_| store.link(&repository))).await?;
            }
            meta::Result::Ok(())
        })?;
        let waiting = async || store.meta.waiting(u64::MAX, u64::MAX).await;
        ensure!(runtime.block_on(waiting())?.eligible.links.count == count);
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.to_async(runtime).iter(async || black_box(waiting().await.expect("counted")));
        });
    }
    group.finish();
    Ok(())
}

fn tag_pages(criterion: &mut Criterion, runtime: &Runtime) -> Result<()> {
    let repository = RepositoryName::parse("app")?;
    let mut group = criterion.benchmark_group("a page of 100 tags, of");
    for count in [1000, 100_000] {
        let store = runtime.block_on(with_tags(count))?;
        let middle = format!("v{:06}", count / 2);
        let page = async || store.meta.tags(&repository, Some(&middle), PAGE_ITEMS).await;
        let found = runtime.block_on(page())?.context("the repository")?;
        ensure!(found.items.len() == PAGE_ITEMS && found.more);
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.to_async(runtime).iter(async || black_box(page().await));
        });
    }
    group.finish();
    Ok(())
}

fn catalog_pages(criterion: &mut Criterion, runtime: &Runtime) -> Result<()> {
    let mut group = criterion.benchmark_group("a page of 100 repositories, of");
    for count in [1000, 100_000] {
        let store = runtime.block_on(with_repositories(count))?;
        let page = async || store.meta.repositories(Some("team50"), PAGE_ITEMS).await;
        let found = runtime.block_on(page())?;
        ensure!(found.items.len() == PAGE_ITEMS && found.more);
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.to_async(runtime).iter(async || black_box(page().await));
        });
    }
    group.finish();
    Ok(())
}

fn manifest_by_tag(criterion: &mut Criterion, runtime: &Runtime) -> Result<()> {
    let repository = RepositoryName::parse("app")?;
    let mut group = criterion.benchmark_group("manifest by tag, of");
    for count in [1000, 100_000] {
        let store = runtime.block_on(with_tags(count))?;
        let reference = Reference::parse(&format!("v{:06}", count / 2))?;
        let manifest = async || store.meta.manifest(&repository, &reference).await;
        let (_, bytes) = runtime.block_on(manifest())?.context("the manifest")?;
        ensure!(bytes.is_some_and(|it| it.len() == MANIFEST_SIZE_BYTES));
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.to_async(runtime).iter(async || black_box(manifest().await));
        });
    }
    group.finish();
    Ok(())
}

/// From a file that no cache holds to the first answer, after a stop and after a kill.
fn starts(criterion: &mut Criterion, runtime: &Runtime) -> Result<()> {
    let mut group = criterion.benchmark_group("open a database");
    group.sample_size(10);
    for count in [1000, 100_000] {
        let store = runtime.block_on(with_repositories(count))?;
        let path = store.folder.path().join("metadata.redb");
        let [killed, stopped] = ["killed", "stopped"].map(|name| store.folder.path().join(name));
        // Nothing is committed now, so a copy is what a kill would leave.
        std::fs::copy(&path, &killed)?;
        runtime.block_on(store.meta.close())?;
        std::fs::copy(&path, &stopped)?;
        let size_bytes = std::fs::metadata(&killed)?.len();
        group.throughput(Throughput::Bytes(size_bytes));
        for (after, file) in [("a kill", killed), ("a stop", stopped)] {
            let name = format!("after {after}, {count} repositories");
            group.bench_function(name, |bencher| {
                let copy = || synced_copy(&file, &path).expect("a copy");
                let open = |()| open(&path).expect("it opens");
                bencher.iter_batched(copy, open, BatchSize::PerIteration);
            });
        }
    }
    group.finish();
    Ok(())
}

/// A cache holds on to what was not written to the device yet.
fn synced_copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::copy(from, to)?;
    std::fs::File::open(to)?.sync_all()
}

fn main() -> Result<()> {
    let runtime = Runtime::new()?;
    let mut criterion = Criterion::default().configure_from_args();
    commits(&mut criterion, &runtime)?;
    waiting(&mut criterion, &runtime)?;
    tag_pages(&mut criterion, &runtime)?;
    catalog_pages(&mut criterion, &runtime)?;
    manifest_by_tag(&mut criterion, &runtime)?;
    starts(&mut criterion, &runtime)?;
    criterion.final_summary();
    Ok(())
}
