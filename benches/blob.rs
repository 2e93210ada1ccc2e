//! Bytes: hashing, staging, publishing.

#![expect(clippy::expect_used, reason = "a bench that cannot go on must stop")]

mod common;

use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use kelson::blob::{BlobStore, FsBlobs, Hasher, Staging};
use kelson::disk::OsVfs;
use kelson::oci::{Algorithm, Digest, UploadId};
use kelson::ops::random::OsRandom;
use kelson::ops::{Blocking, Random};

/// As large as the pieces in which bodies arrive.
const PIECE_SIZE_BYTES: usize = 256 << 10;

struct Store {
    blobs: FsBlobs,
    _folder: TempDir,
}

impl Store {
    fn new() -> Result<Self> {
        let folder = common::scratch()?;
        let random = Arc::new(OsRandom);
        let blobs = FsBlobs::open(Arc::new(OsVfs), folder.path(), Blocking::Pool, random)?;
        Ok(Self { blobs, _folder: folder })
    }

    /// Stages these bytes, without a sync.
    async fn stage(&self, bytes: &Bytes) -> Result<Box<dyn Staging>> {
        let id = UploadId::from_random(OsRandom.bytes());
        let mut staging = self.blobs.stage(id, Algorithm::Sha256).await?;
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            let piece = rest.split_to(PIECE_SIZE_BYTES.min(rest.len()));
            staging.append(vec![piece]).await?;
        }
        Ok(staging)
    }

    /// Gives staged bytes their name, durably.
    async fn publish(&self, mut staging: Box<dyn Staging>) -> Result<Digest> {
        staging.sync().await?;
        let (digest, size_bytes) = (staging.digest(Algorithm::Sha256).await?, staging.offset());
        let published = self.blobs.publish(staging, &digest, size_bytes, false).await?;
        self.blobs.sync_directories(published).await?;
        Ok(digest)
    }
}

fn hashing(criterion: &mut Criterion) -> Result<()> {
    let bytes = common::random_bytes(1 << 20)?;
    let mut group = criterion.benchmark_group("hash 1 MiB");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    for algorithm in Algorithm::ALL {
        group.bench_function(algorithm.name(), |bencher| {
            bencher.iter(|| {
                let mut hasher = Hasher::new(algorithm);
                hasher.update(black_box(&bytes));
                hasher.finish()
            });
        });
    }
    group.finish();
    Ok(())
}

fn staging(criterion: &mut Criterion, runtime: &Runtime) -> Result<()> {
    let store = Store::new()?;
    let mut group = criterion.benchmark_group("stage and discard");
    group.sample_size(20);
    for size_bytes in [1 << 20, 16 << 20] {
        let bytes = Bytes::from(common::random_bytes(size_bytes)?);
        group.throughput(Throughput::Bytes(size_bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(size_bytes), |bencher| {
            bencher.to_async(runtime).iter(async || {
                let staging = store.stage(&bytes).await.expect("it is staged");
                store.blobs.discard(staging.id()).await.expect("it is discarded");
            });
        });
    }
    group.finish();
    Ok(())
}

fn publishing(criterion: &mut Criterion, runtime: &Runtime) -> Result<()> {
    let store = Store::new()?;
    let mut group = criterion.benchmark_group("publish, durable, and remove");
    group.sample_size(20);
    for size_bytes in [100 << 10, 10 << 20] {
        let fresh = || {
            let bytes = common::random_bytes(size_bytes).expect("random bytes");
            runtime.block_on(store.stage(&Bytes::from(bytes))).expect("it is staged")
        };
        group.throughput(Throughput::Bytes(size_bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(size_bytes), |bencher| {
            let publish = async |staging| {
                let digest = store.publish(staging).await.expect("it is published");
                store.blobs.remove(&digest).await.expect("it is removed");
            };
            bencher.iter_batched(
                fresh,
                |staging| runtime.block_on(publish(staging)),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
    Ok(())
}

fn reading(criterion: &mut Criterion, runtime: &Runtime) -> Result<()> {
    let store = Store::new()?;
    let bytes = Bytes::from(common::random_bytes(16 << 20)?);
    let file = runtime.block_on(async {
        let digest = store.publish(store.stage(&bytes).await?).await?;
        store.blobs.open(&digest).await?.context("the blob")
    })?;
    let mut group = criterion.benchmark_group("read, cached");
    group.throughput(Throughput::Bytes(file.size_bytes));
    group.bench_function("16 MiB", |bencher| {
        bencher.to_async(runtime).iter(async || {
            for offset in (0..file.size_bytes).step_by(PIECE_SIZE_BYTES) {
                black_box(file.reader.read(offset, PIECE_SIZE_BYTES).await.expect("bytes"));
            }
        });
    });
    group.finish();
    Ok(())
}

fn main() -> Result<()> {
    let runtime = Runtime::new()?;
    let mut criterion = Criterion::default().configure_from_args();
    hashing(&mut criterion)?;
    staging(&mut criterion, &runtime)?;
    publishing(&mut criterion, &runtime)?;
    reading(&mut criterion, &runtime)?;
    criterion.final_summary();
    Ok(())
}
