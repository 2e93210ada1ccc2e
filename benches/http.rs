//! Push and pull over HTTP: the real program, one connection.

#![expect(clippy::expect_used, reason = "a bench that cannot go on must stop")]

mod common;
mod wire;

use anyhow::{Result, ensure};
use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use hyper::Method;
use tokio::runtime::Runtime;

use wire::{Connection, Image, Keep, Program, Request, Server};

const REPO: &str = "bench/app";
const REFERRERS: usize = 1000;

fn pushes(criterion: &mut Criterion, runtime: &Runtime, server: &Server) -> Result<()> {
    let mut connection = runtime.block_on(Connection::open(server.address))?;
    let mut group = criterion.benchmark_group("push");
    group.sample_size(20);
    group.bench_function("image with a layer of 10 KiB", |bencher| {
        bencher.iter_batched(
            || Image::random(1, 10 << 10).expect("random bytes"),
            |image| runtime.block_on(connection.push(REPO, "latest", &image)).expect("a push"),
            BatchSize::PerIteration,
        );
    });
    for size_bytes in [1 << 20, 10 << 20] {
        let fresh = || {
            let bytes = common::random_bytes(size_bytes).expect("random bytes");
            (wire::image::sha256(&bytes), Bytes::from(bytes))
        };
        group.throughput(Throughput::Bytes(size_bytes as u64));
        group.bench_function(BenchmarkId::new("blob", size_bytes), |bencher| {
            bencher.iter_batched(
                fresh,
                |(digest, bytes)| {
                    let push = connection.push_blob(REPO, &digest, bytes);
                    runtime.block_on(push).expect("a push");
                },
                BatchSize::PerIteration,
            );
        });
        group.bench_function(BenchmarkId::new("streamed blob", size_bytes), |bencher| {
            bencher.iter_batched(
                fresh,
                |(digest, bytes)| {
                    let push = connection.stream_blob(REPO, &digest, bytes);
                    runtime.block_on(push).expect("a push");
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
    Ok(())
}

fn pulls(criterion: &mut Criterion, runtime: &Runtime, server: &Server) -> Result<()> {
    let mut connection = runtime.block_on(Connection::open(server.address))?;
    let image = Image::random(1, 10 << 10)?;
    runtime.block_on(connection.push(REPO, "pulled", &image))?;
    let large = common::random_bytes(16 << 20)?;
    let digest = wire::image::sha256(&large);
    let length = large.len() as u64;
    runtime.block_on(connection.push_blob(REPO, &digest, Bytes::from(large)))?;
    let blob = format!("/v2/{REPO}/blobs/{digest}");
    let first = Request { keep: Keep::Digest, ..Request::get(&blob) };
    let answer = runtime.block_on(connection.send(first))?;
    ensure!(answer.length == length && answer.digest == Some(digest));

    let mut group = criterion.benchmark_group("pull");
    let manifest = format!("/v2/{REPO}/manifests/pulled");
    let first = Request { keep: Keep::Body, ..Request::get(&manifest) };
    ensure!(runtime.block_on(connection.send(first))?.body == image.manifest);
    let head = Request { method: Method::HEAD, ..Request::get(&blob) };
    ensure!(runtime.block_on(connection.send(head.clone()))?.content_length == Some(length));
    let asked = [("manifest by tag", Request::get(&manifest)), ("head of a blob", head)];
    for (name, request) in asked {
        group.bench_function(name, |bencher| {
            bencher.iter(|| runtime.block_on(connection.send(request.clone())).expect("a pull"));
        });
    }
    for number in 0..REFERRERS {
        let referrer = image.referrer(&image.manifest, number);
        let path = format!("/v2/{REPO}/manifests/{}", wire::image::sha256(&referrer));
        let put = Request::create(Method::PUT, &path, wire::image::MANIFEST, referrer);
        runtime.block_on(connection.send(put))?;
    }
    let path = format!("/v2/{REPO}/referrers/{}", wire::image::sha256(&image.manifest));
    group.bench_function("1,000 referrers", |bencher| {
        let get = || Request::get(&path);
        bencher.iter(|| runtime.block_on(connection.send(get())).expect("a list"));
    });
    group.throughput(Throughput::Bytes(length));
    group.bench_function("blob of 16 MiB", |bencher| {
        bencher.iter(|| runtime.block_on(connection.send(Request::get(&blob))).expect("a pull"));
    });
    group.finish();
    Ok(())
}

fn main() -> Result<()> {
    let runtime = Runtime::new()?;
    let mut criterion = Criterion::default().configure_from_args();
    let server = runtime.block_on(Program::kelson().start())?;
    pushes(&mut criterion, &runtime, &server)?;
    pulls(&mut criterion, &runtime, &server)?;
    runtime.block_on(server.stop())?;
    criterion.final_summary();
    Ok(())
}
