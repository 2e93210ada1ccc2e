//! The domain on the models of both stores.

mod damage;

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::blob::MemoryBlobs;
use crate::meta::Expect;
use crate::meta::memory::MemoryMeta;
use crate::oci::media_type::{OCI_INDEX, OCI_MANIFEST};
use crate::oci::range::ContentRange;
use crate::oci::{Algorithm, Digest, MediaType, Reference, RepositoryName, Tag};
use crate::ops::clock::ManualClock;
use crate::ops::random::OsRandom;

pub(super) struct Fixture {
    pub registry: Registry,
    pub meta: Arc<MemoryMeta>,
    pub blobs: Arc<MemoryBlobs>,
    pub clock: Arc<ManualClock>,
}

impl Fixture {
    pub async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Self {
        let meta = Arc::new(MemoryMeta::default());
        let blobs = Arc::new(MemoryBlobs::default());
        let clock = Arc::new(ManualClock::default());
        let registry = Registry::open(
            Arc::clone(&meta) as Arc<dyn MetaStore>,
            Arc::clone(&blobs) as Arc<dyn BlobStore>,
            Arc::clone(&clock) as Arc<dyn Clock>,
            Arc::new(OsRandom),
            options,
        );
        Self { registry: registry.await.unwrap(), meta, blobs, clock }
    }

    pub async fn push(&self, repo: &RepositoryName, content: &[u8]) -> Digest {
        let digest = Digest::of(Algorithm::Sha256, content);
        self.registry.push_blob(repo, &digest, whole(content)).await.unwrap();
        digest
    }

    pub async fn put(
        &self,
        tag: &str,
        media_type: &str,
        document: String,
    ) -> error::Result<PushedManifest> {
        let put = PutManifest {
            repository: repo("a"),
            reference: Reference::Tag(Tag::parse(tag).unwrap()),
            tags: Vec::new(),
            media_type: Some(MediaType::parse(media_type).unwrap()),
            bytes: document.into(),
            expect: Expect::Anything,
        };
        self.registry.put_manifest(put).await
    }
}

pub(super) fn repo(name: &str) -> RepositoryName {
    RepositoryName::parse(name).unwrap()
}

fn body(pieces: Vec<Result<Bytes, BodyError>>) -> Body {
    Box::pin(stream::iter(pieces))
}

pub(super) fn whole(content: &[u8]) -> Chunk {
    let body = body(vec![Ok(Bytes::copy_from_slice(content))]);
    Chunk { range: None, length: Some(content.len() as u64), body }
}

fn none() -> Chunk {
    Chunk { range: None, length: Some(0), body: body(Vec::new()) }
}

/// An image without layers; `more` are further members of the document.
pub(super) fn image(config: &Digest, more: &str) -> String {
    let config = format!(r#"{{"mediaType":"c/d","digest":"{config}","size":2}}"#);
    format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]{more}}}"#)
}

/// An index of one child; `more` are further members of the child's descriptor.
pub(super) fn index(child: &Digest, size: usize, more: &str) -> String {
    let child = format!(r#""mediaType":"{OCI_MANIFEST}","digest":"{child}","size":{size}{more}"#);
    format!(r#"{{"schemaVersion":2,"manifests":[{{{child}}}]}}"#)
}

pub(super) async fn read(registry: &Registry, repo: &RepositoryName, digest: &Digest) -> Vec<u8> {
    let (size_bytes, content) = registry.blob(repo, digest).await.unwrap();
    let bytes = match content {
        Content::Inline(bytes) => bytes,
        Content::File(file) => file.reader.read(0, size_bytes as usize).await.unwrap(),
    };
    assert_eq!(bytes.len() as u64, size_bytes);
    bytes.to_vec()
}

#[tokio::test]
async fn contents_of_every_size_come_back_before_and_after_the_spill() {
    let fixture = Fixture::new().await;
    for size in [0, 1, 64 * 1024, 64 * 1024 + 1, 2_000_000] {
        let content = vec![7; size];
        let digest = fixture.push(&repo("a"), &content).await;
        assert_eq!(read(&fixture.registry, &repo("a"), &digest).await, content);
        fixture.registry.spill_once().await.unwrap();
        assert_eq!(read(&fixture.registry, &repo("a"), &digest).await, content);
        assert!(fixture.blobs.open(&digest).await.unwrap().is_some());
    }
    assert_eq!(fixture.blobs.staged().await.unwrap(), []);
}

#[tokio::test]
async fn a_wrong_digest_leaves_no_blob_and_no_session() {
    let fixture = Fixture::new().await;
    for size in [10, 100_000] {
        let wrong = Digest::of(Algorithm::Sha256, b"something else");
        let result = fixture.registry.push_blob(&repo("a"), &wrong, whole(&vec![1; size])).await;
        assert!(matches!(result, Err(Error::DigestMismatch { .. })));
        let upload = fixture.registry.begin_upload(&repo("a"), Algorithm::Sha256).await.unwrap();
        let chunk = whole(&vec![1; size]);
        let result = fixture.registry.finish_upload(&repo("a"), upload.id, &wrong, chunk).await;
        assert!(matches!(result, Err(Error::DigestMismatch { .. })));
        let status = fixture.registry.upload_status(&repo("a"), upload.id).await;
        assert!(matches!(status, Err(Error::UploadUnknown)));
        assert!(matches!(fixture.registry.blob(&repo("a"), &wrong).await, Err(Error::BlobUnknown)));
    }
    assert_eq!(fixture.blobs.staged().await.unwrap(), []);
}

#[tokio::test]
async fn a_session_of_another_repository_is_like_none() {
    let fixture = Fixture::new().await;
    let upload = fixture.registry.begin_upload(&repo("a"), Algorithm::Sha256).await.unwrap();
    let result = fixture.registry.append_upload(&repo("b"), upload.id, whole(b"x")).await;
    assert!(matches!(result, Err(Error::UploadUnknown)));
    let result = fixture.registry.cancel_upload(&repo("b"), upload.id).await;
    assert!(matches!(result, Err(Error::UploadUnknown)));
    assert_eq!(fixture.registry.upload_status(&repo("a"), upload.id).await.unwrap().offset, 0);
}

#[tokio::test]
async fn a_broken_body_keeps_its_prefix_across_a_restart() {
    let fixture = Fixture::new().await;
    let upload = fixture.registry.begin_upload(&repo("a"), Algorithm::Sha256).await.unwrap();
    let broken = body(vec![Ok(Bytes::from_static(b"hel")), Err(BodyError::Disconnected)]);
    let chunk = Chunk { range: None, length: Some(5), body: broken };
    let result = fixture.registry.append_upload(&repo("a"), upload.id, chunk).await;
    assert!(matches!(result, Err(Error::Body(BodyError::Disconnected))));
    let restarted = Registry::open(
        Arc::clone(&fixture.meta) as Arc<dyn MetaStore>,
        Arc::clone(&fixture.blobs) as Arc<dyn BlobStore>,
        Arc::clone(&fixture.clock) as Arc<dyn Clock>,
        Arc::new(OsRandom),
        Options::default(),
    );
    let restarted = restarted.await.unwrap();
    assert_eq!(restarted.upload_status(&repo("a"), upload.id).await.unwrap().offset, 3);
    let digest = Digest::of(Algorithm::Sha256, b"hello");
    restarted.finish_upload(&repo("a"), upload.id, &digest, whole(b"lo")).await.unwrap();
    assert_eq!(read(&restarted, &repo("a"), &digest).await, b"hello");
}

#[tokio::test]
async fn a_chunk_of_another_length_than_stated_leaves_nothing() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    let upload = registry.begin_upload(&repo("a"), Algorithm::Sha256).await.unwrap();
    registry.append_upload(&repo("a"), upload.id, whole(&[1; 100_000])).await.unwrap();
    for (range, sent) in
        [((100_000, 100_009), 5), ((100_000, 100_009), 11), ((100_000, 300_000), 9)]
    {
        let range = Some(ContentRange { start: range.0, end: range.1 });
        let sent = body(vec![Ok(Bytes::from(vec![2; sent]))]);
        let chunk = Chunk { range, length: None, body: sent };
        let result = registry.append_upload(&repo("a"), upload.id, chunk).await;
        assert!(matches!(result, Err(Error::SizeInvalid)));
        let offset = registry.upload_status(&repo("a"), upload.id).await.unwrap().offset;
        assert_eq!(offset, 100_000);
    }
    let digest = Digest::of(Algorithm::Sha256, &[1; 100_000]);
    registry.finish_upload(&repo("a"), upload.id, &digest, none()).await.unwrap();
}

#[tokio::test]
async fn a_chunk_out_of_order_is_refused_and_the_session_goes_on() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    let upload = registry.begin_upload(&repo("a"), Algorithm::Sha256).await.unwrap();
    registry.append_upload(&repo("a"), upload.id, whole(b"he")).await.unwrap();
    for start in [0, 1, 3] {
        let range = Some(ContentRange { start, end: start + 2 });
        let chunk = Chunk { range, length: Some(3), body: whole(b"llo").body };
        let result = registry.append_upload(&repo("a"), upload.id, chunk).await;
        let Err(Error::UploadOutOfOrder(status)) = result else { panic!("{result:?}") };
        assert_eq!(status.offset, 2);
    }
    let digest = Digest::of(Algorithm::Sha512, b"hello");
    registry.finish_upload(&repo("a"), upload.id, &digest, whole(b"llo")).await.unwrap();
    assert_eq!(read(registry, &repo("a"), &digest).await, b"hello");
}

#[tokio::test]
async fn a_newer_request_takes_a_stalled_upload_over_and_keeps_its_prefix() {
    let fixture = Fixture::new().await;
    let registry = fixture.registry.clone();
    let upload = registry.begin_upload(&repo("a"), Algorithm::Sha256).await.unwrap();
    let first = stream::iter([Ok(Bytes::from_static(b"hel"))]);
    let stalled: Body = Box::pin(futures_util::StreamExt::chain(first, stream::pending()));
    let chunk = Chunk { range: None, length: None, body: stalled };
    let a = repo("a");
    let (older, newer) = tokio::join!(
        registry.append_upload(&a, upload.id, chunk),
        registry.append_upload(&a, upload.id, whole(b"lo"))
    );
    assert!(matches!(older, Err(Error::UploadSuperseded)));
    assert_eq!(newer.unwrap().offset, 5);
}

#[tokio::test]
async fn a_request_that_is_dropped_leaves_a_session_that_goes_on_or_ends() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    let a = repo("a");
    for received in [0, 100_000] {
        let upload = registry.begin_upload(&a, Algorithm::Sha256).await.unwrap();
        let prefix = vec![1; received];
        registry.append_upload(&a, upload.id, whole(&prefix)).await.unwrap();
        {
            let first = stream::iter([Ok(Bytes::from(vec![2; 600_000]))]);
            let body: Body = Box::pin(futures_util::StreamExt::chain(first, stream::pending()));
            let chunk = Chunk { range: None, length: None, body };
            let mut dropped = std::pin::pin!(registry.append_upload(&a, upload.id, chunk));
            let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
            for _ in 0..10 {
                assert!(dropped.as_mut().poll(context).is_pending());
            }
        }
        registry.append_upload(&a, upload.id, whole(b"end")).await.unwrap();
        let status = registry.upload_status(&a, upload.id).await.unwrap();
        assert_eq!(status.offset, received as u64 + 3);
        registry.cancel_upload(&a, upload.id).await.unwrap();
        assert!(registry.upload_status(&a, upload.id).await.is_err());
    }
    assert_eq!(fixture.blobs.staged().await.unwrap(), []);
}

#[tokio::test]
async fn frames_of_one_byte_are_copied_together() {
    let fixture = Fixture::new().await;
    let content = vec![3; 200_000];
    let digest = Digest::of(Algorithm::Sha256, &content);
    let frames = content.iter().map(|byte| Ok(Bytes::copy_from_slice(&[*byte]))).collect();
    let chunk = Chunk { range: None, length: None, body: body(frames) };
    fixture.registry.push_blob(&repo("a"), &digest, chunk).await.unwrap();
    assert_eq!(read(&fixture.registry, &repo("a"), &digest).await, content);
}

#[tokio::test]
async fn a_refused_large_manifest_leaves_no_file() {
    let fixture = Fixture::new().await;
    let config = fixture.push(&repo("a"), b"{ }").await;
    let long = format!(r#","annotations":{{"x":"{}"}}"#, "y".repeat(100_000));
    // The config has three bytes, the document says two.
    let document = image(&config, &long);
    let digest = Digest::of(Algorithm::Sha256, document.as_bytes());
    let refused = fixture.put("large", OCI_MANIFEST, document).await;
    assert!(matches!(refused, Err(Error::ManifestInvalid(_))), "{refused:?}");
    assert!(fixture.blobs.open(&digest).await.unwrap().is_none());
    assert_eq!(fixture.blobs.staged().await.unwrap(), []);
}

#[tokio::test]
async fn old_uploads_are_purged_by_uptime_and_young_ones_stay() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    let options = UploadPurging { age: Duration::from_secs(60), ..UploadPurging::default() };
    let old = registry.begin_upload(&repo("a"), Algorithm::Sha256).await.unwrap();
    registry.append_upload(&repo("a"), old.id, whole(b"old")).await.unwrap();
    fixture.clock.advance(Duration::from_secs(61));
    let young = registry.begin_upload(&repo("a"), Algorithm::Sha256).await.unwrap();
    let dry = UploadPurging { dry_run: true, ..options };
    assert_eq!(registry.purge_uploads_once(dry).await.unwrap().uploads, 1);
    assert_eq!(registry.purge_uploads_once(options).await.unwrap().uploads, 1);
    assert!(registry.upload_status(&repo("a"), old.id).await.is_err());
    assert!(registry.upload_status(&repo("a"), young.id).await.is_ok());
    assert_eq!(fixture.blobs.staged().await.unwrap(), []);
}

#[tokio::test]
async fn a_mount_needs_a_source_that_the_caller_may_read() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    let digest = fixture.push(&repo("a"), b"x").await;
    let (to, all, no) = (repo("b"), |_: &RepositoryName| true, |_: &RepositoryName| false);
    assert!(!registry.mount_blob(&to, &digest, None, &no).await.unwrap());
    assert!(!registry.mount_blob(&to, &digest, Some(&repo("a")), &no).await.unwrap());
    assert!(!registry.mount_blob(&to, &digest, Some(&repo("c")), &all).await.unwrap());
    assert!(registry.stat_blob(&to, &digest).await.is_err(), "R4");
    assert!(registry.mount_blob(&to, &digest, None, &all).await.unwrap());
    assert_eq!(read(registry, &to, &digest).await, b"x");
}

#[tokio::test]
async fn a_fallback_tags_entries_are_among_the_referrers() {
    let fixture = Fixture::new().await;
    let config = fixture.push(&repo("a"), b"{}").await;
    let subject = Digest::of(Algorithm::Sha256, b"the subject");
    let attached = |text: &str| {
        format!(
            r#"{{"schemaVersion":2,"artifactType":"x/{text}","config":{{"mediaType":"c/d",
            "digest":"{config}","size":2}},"layers":[],
            "subject":{{"mediaType":"e/f","digest":"{subject}","size":1}}}}"#
        )
    };
    let direct = fixture.put("direct", OCI_MANIFEST, attached("direct")).await.unwrap();
    assert_eq!(direct.subject, Some(subject));
    let plain = image(&config, "");
    let size = plain.len();
    let old = fixture.put("old", OCI_MANIFEST, plain).await.unwrap().digest;
    let index = index(&old, size, r#","artifactType":"x/old""#);
    fixture.put(&format!("sha256-{}", subject.hex()), OCI_INDEX, index).await.unwrap();
    let registry = &fixture.registry;
    let all = registry.referrers(&repo("a"), &subject, &[], None).await.unwrap();
    let mut expected = [direct.digest, old];
    expected.sort();
    assert_eq!(all.descriptors.iter().map(|d| d.digest).collect::<Vec<_>>(), expected);
    let filter = ["x/old".to_owned()];
    let filtered = registry.referrers(&repo("a"), &subject, &filter, None).await.unwrap();
    assert_eq!(filtered.descriptors.iter().map(|d| d.digest).collect::<Vec<_>>(), [old]);
}

#[tokio::test]
async fn sparse_settings_allow_missing_layers_or_children_only_as_named() {
    let missing = Digest::of(Algorithm::Sha256, b"missing");
    for sparse in [Sparse::None, Sparse::Images, Sparse::Indexes, Sparse::All] {
        let fixture = Fixture::with(Options { sparse, ..Options::default() }).await;
        let image = fixture.put("image", OCI_MANIFEST, image(&missing, "")).await;
        let index = fixture.put("index", OCI_INDEX, index(&missing, 2, "")).await;
        assert_eq!(image.is_ok(), matches!(sparse, Sparse::Images | Sparse::All), "{image:?}");
        assert_eq!(index.is_ok(), matches!(sparse, Sparse::Indexes | Sparse::All), "{index:?}");
        for refused in [image, index].into_iter().filter_map(Result::err) {
            assert!(matches!(refused, Error::ManifestBlobUnknown(digests) if digests == [missing]));
        }
    }
}

#[tokio::test]
async fn manifests_too_large_for_the_database_are_served_from_their_file() {
    let fixture = Fixture::new().await;
    let config = fixture.push(&repo("a"), b"{}").await;
    let long = format!(r#","annotations":{{"x":"{}"}}"#, "y".repeat(100_000));
    let document = image(&config, &long);
    fixture.put("large", OCI_MANIFEST, document.clone()).await.unwrap();
    let tag = Reference::Tag(Tag::parse("large").unwrap());
    let manifest = fixture.registry.manifest(&repo("a"), &tag).await.unwrap();
    assert_eq!(manifest.bytes, document.as_bytes());
    assert_eq!(fixture.blobs.staged().await.unwrap(), []);
}

#[tokio::test]
async fn switches_for_deletion_and_writing_hold() {
    let digest = Digest::of(Algorithm::Sha256, b"x");
    let fixture = Fixture::with(Options { delete_enabled: false, ..Options::default() }).await;
    fixture.push(&repo("a"), b"x").await;
    let result = fixture.registry.delete_blob(&repo("a"), &digest).await;
    assert!(matches!(result, Err(Error::DeleteDisabled)));
    let fixture = Fixture::with(Options { read_only: true, ..Options::default() }).await;
    let result = fixture.registry.push_blob(&repo("a"), &digest, whole(b"x")).await;
    assert!(matches!(result, Err(Error::ReadOnly)));
}

/// On the file store, where something can be in the way of a file.
#[tokio::test]
async fn contents_that_get_no_file_do_not_hold_up_the_others() {
    let root = tempfile::tempdir().unwrap();
    let inline = crate::ops::Blocking::Inline;
    let vfs = Arc::new(crate::disk::OsVfs);
    let blobs = crate::blob::FsBlobs::open(vfs, root.path(), inline, Arc::new(OsRandom)).unwrap();
    let meta = Arc::new(MemoryMeta::default());
    let registry = Registry::open(
        Arc::clone(&meta) as Arc<dyn MetaStore>,
        Arc::new(blobs),
        Arc::new(ManualClock::default()),
        Arc::new(OsRandom),
        Options::default(),
    );
    let registry = registry.await.unwrap();
    let mut digests = Vec::new();
    for number in 0..600_u32 {
        let content = number.to_be_bytes();
        let digest = Digest::of(Algorithm::Sha256, &content);
        registry.push_blob(&repo("a"), &digest, whole(&content)).await.unwrap();
        digests.push(digest);
    }
    // More than a batch at the head of the queue, which is sorted by digest.
    digests.sort_unstable();
    let layout = crate::blob::Layout::new(root.path());
    let (obstructed, free) = digests.split_at(300);
    for digest in obstructed {
        std::fs::create_dir_all(layout.blob_data(digest).join("in the way")).unwrap();
    }
    registry.spill_once().await.unwrap_err();
    assert!(free.iter().all(|digest| layout.blob_data(digest).is_file()));
    assert_eq!(meta.unspilled(None, 1000, 1 << 20).await.unwrap().len(), obstructed.len());
    assert_eq!(std::fs::read_dir(layout.staging()).unwrap().count(), 0);
    for digest in obstructed {
        std::fs::remove_dir(layout.blob_data(digest).join("in the way")).unwrap();
        std::fs::remove_dir(layout.blob_data(digest)).unwrap();
    }
    assert_eq!(registry.spill_once().await.unwrap().contents, obstructed.len());
    assert!(digests.iter().all(|digest| layout.blob_data(digest).is_file()));
}

#[tokio::test]
async fn contents_that_do_not_fit_together_get_their_files_in_parts() {
    use crate::disk::probe::{Class, ENOSPC, ProbeVfs};
    let root = tempfile::tempdir().unwrap();
    let inline = crate::ops::Blocking::Inline;
    let probe = ProbeVfs::new(Arc::new(crate::disk::OsVfs), root.path());
    let vfs = Arc::new(probe.clone());
    let blobs = crate::blob::FsBlobs::open(vfs, root.path(), inline, Arc::new(OsRandom)).unwrap();
    let registry = Registry::open(
        Arc::new(MemoryMeta::default()),
        Arc::new(blobs),
        Arc::new(ManualClock::default()),
        Arc::new(OsRandom),
        Options::default(),
    );
    let registry = registry.await.unwrap();
    for number in 0..40_u32 {
        let content = number.to_be_bytes();
        let digest = Digest::of(Algorithm::Sha256, &content);
        registry.push_blob(&repo("a"), &digest, whole(&content)).await.unwrap();
    }
    probe.fail(Class::CreateDir, 30, ENOSPC, false);
    assert_eq!(registry.spill_once().await.unwrap().contents, 40);
    assert!(probe.heal(), "the disk was full once");
    assert!(probe.violations().is_empty());
}

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn little_room_refuses_what_adds_and_nothing_else() {
    let fixture = Fixture::new().await;
    let Fixture { registry, blobs, clock, .. } = &fixture;
    let (kept, config) =
        (fixture.push(&repo("a"), b"kept").await, fixture.push(&repo("a"), b"{}").await);
    fixture.put("t", OCI_MANIFEST, image(&config, "")).await.unwrap();
    let upload = registry.begin_upload(&repo("a"), Algorithm::Sha256).await.unwrap().id;
    registry.append_upload(&repo("a"), upload, whole(&[1; 100_000])).await.unwrap();
    let unused = registry.begin_upload(&repo("a"), Algorithm::Sha256).await.unwrap().id;

    blobs.set_space(49 * MIB, 1000 * MIB);
    clock.advance(Duration::from_secs(1));
    let low = |result: error::Result<()>| assert!(matches!(result, Err(Error::LowSpace)), "R6");
    low(registry.begin_upload(&repo("a"), Algorithm::Sha256).await.map(drop));
    low(registry.append_upload(&repo("a"), upload, whole(b"more")).await.map(drop));
    let digest = Digest::of(Algorithm::Sha256, b"new");
    low(registry.push_blob(&repo("a"), &digest, whole(b"new")).await);
    low(registry.mount_blob(&repo("b"), &kept, None, &|_| true).await.map(drop));
    low(fixture.put("u", OCI_MANIFEST, image(&config, "")).await.map(drop));

    assert!(registry.is_ready());
    assert_eq!(read(registry, &repo("a"), &kept).await, b"kept");
    assert_eq!(registry.spill_once().await.unwrap().contents, 3);
    registry.delete_blob(&repo("a"), &kept).await.unwrap();
    registry.cancel_upload(&repo("a"), unused).await.unwrap();
    // What is there already may become a blob: the session is as it was.
    assert_eq!(registry.upload_status(&repo("a"), upload).await.unwrap().offset, 100_000);
    let digest = Digest::of(Algorithm::Sha256, &[1; 100_000]);
    registry.finish_upload(&repo("a"), upload, &digest, whole(b"")).await.unwrap();

    blobs.set_space(51 * MIB, 1000 * MIB);
    clock.advance(Duration::from_secs(1));
    fixture.push(&repo("a"), b"new").await;
}

#[tokio::test]
async fn on_the_reserve_only_what_makes_room_is_committed() {
    let fixture = Fixture::new().await;
    let Fixture { registry, meta, .. } = &fixture;
    let kept = fixture.push(&repo("a"), b"kept").await;
    let config = fixture.push(&repo("a"), b"{}").await;
    let upload = registry.begin_upload(&repo("a"), Algorithm::Sha256).await.unwrap().id;
    registry.append_upload(&repo("a"), upload, whole(b"small")).await.unwrap();
    meta.use_reserve(true);
    let digest = Digest::of(Algorithm::Sha256, b"small");
    let low = |result: error::Result<()>| assert!(matches!(result, Err(Error::LowSpace)), "R6");
    low(registry.finish_upload(&repo("a"), upload, &digest, whole(b"")).await);
    low(registry.push_blob(&repo("a"), &digest, whole(b"small")).await);
    low(fixture.put("t", OCI_MANIFEST, image(&config, "")).await.map(drop));
    registry.delete_blob(&repo("a"), &kept).await.unwrap();
    meta.use_reserve(false);
    registry.finish_upload(&repo("a"), upload, &digest, whole(b"")).await.unwrap();
}

#[tokio::test]
async fn without_inodes_small_images_are_taken_and_what_needs_a_file_is_not() {
    let fixture = Fixture::new().await;
    let Fixture { registry, blobs, clock, .. } = &fixture;
    let begun = registry.begin_upload(&repo("a"), Algorithm::Sha256).await.unwrap().id;
    registry.append_upload(&repo("a"), begun, whole(b"staged")).await.unwrap();
    blobs.set_inodes(0, 400);
    clock.advance(Duration::from_secs(1));

    let config = fixture.push(&repo("a"), b"{}").await;
    fixture.put("t", OCI_MANIFEST, image(&config, "")).await.unwrap();
    let low = |result: error::Result<()>| assert!(matches!(result, Err(Error::LowSpace)), "R6");
    let large = vec![1; 1 << 20];
    let digest = Digest::of(Algorithm::Sha256, &large);
    low(registry.push_blob(&repo("a"), &digest, whole(&large)).await);
    let unknown = Chunk { length: None, ..whole(&large) };
    low(registry.push_blob(&repo("a"), &digest, unknown).await);
    let upload = registry.begin_upload(&repo("a"), Algorithm::Sha256).await.unwrap().id;
    low(registry.append_upload(&repo("a"), upload, whole(b"more")).await.map(drop));
    assert_eq!(registry.upload_status(&repo("a"), upload).await.unwrap().offset, 0);

    let content = b"staged before";
    let digest = Digest::of(Algorithm::Sha256, content);
    registry.finish_upload(&repo("a"), begun, &digest, whole(b" before")).await.unwrap();
    assert_eq!(read(registry, &repo("a"), &digest).await, content);
}

#[tokio::test]
async fn an_upload_that_runs_into_the_mark_ends_and_its_session_goes_on() {
    let fixture = Fixture::new().await;
    let Fixture { registry, blobs, clock, .. } = &fixture;
    let upload = registry.begin_upload(&repo("a"), Algorithm::Sha256).await.unwrap().id;
    registry.append_upload(&repo("a"), upload, whole(&[1; 100_000])).await.unwrap();
    blobs.set_space(52 * MIB, 1000 * MIB);
    clock.advance(Duration::from_secs(1));
    // Of unknown length, so that only its bytes tell that there is no room.
    let endless = stream::repeat(Ok(Bytes::from(vec![2; 100_000])));
    let chunk = Chunk { range: None, length: None, body: Box::pin(endless) };
    let ended = registry.append_upload(&repo("a"), upload, chunk).await;
    assert!(matches!(ended, Err(Error::LowSpace)), "R6");
    let announced = Chunk { length: Some(3 * MIB), ..whole(b"") };
    let refused = registry.append_upload(&repo("a"), upload, announced).await;
    assert!(matches!(refused, Err(Error::LowSpace)), "R6");

    assert_eq!(registry.upload_status(&repo("a"), upload).await.unwrap().offset, 100_000);
    let resumed = blobs.resume(upload, 100_001, Algorithm::Sha256).await.unwrap();
    assert!(resumed.is_none(), "the room that it had taken is given back");
    blobs.set_space(500 * MIB, 1000 * MIB);
    clock.advance(Duration::from_secs(1));
    registry.append_upload(&repo("a"), upload, whole(b"end")).await.unwrap();
    let content = [vec![1; 100_000], b"end".to_vec()].concat();
    let digest = Digest::of(Algorithm::Sha256, &content);
    registry.finish_upload(&repo("a"), upload, &digest, whole(b"")).await.unwrap();
    assert_eq!(read(registry, &repo("a"), &digest).await, content);
}

#[tokio::test]
async fn slow_uploads_hold_little_memory_together() {
    const UPLOADS: u64 = 1500;
    let fixture = Fixture::new().await;
    let Fixture { registry, .. } = &fixture;
    let upload = async |number: u64| {
        let frames = stream::iter((0..60).map(|_| Ok(Bytes::from(vec![7; 1000]))));
        let body = Box::pin(frames.chain(stream::pending()));
        let chunk = Chunk { range: None, length: None, body };
        let repository = repo(&format!("a{}", number % 50));
        let id = registry.begin_upload(&repository, Algorithm::Sha256).await.unwrap().id;
        registry.append_upload(&repository, id, chunk).await
    };
    let mut uploads = Box::pin(futures_util::future::join_all((0..UPLOADS).map(upload)));
    for _ in 0..100 {
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(uploads.as_mut().poll(cx)));
        let polled = polled.await;
        assert!(polled.is_pending());
        tokio::task::yield_now().await;
    }
    let held = registry.inner.buffers.held_bytes();
    let bound = (64 << 20) + UPLOADS * 5000;
    assert!(held <= bound, "{held} bytes of {} are in memory", UPLOADS * 60_000);
    drop(uploads);
    assert_eq!(registry.inner.buffers.held_bytes(), 0);
}

#[tokio::test]
async fn uploads_that_wait_keep_few_files_open_and_go_on() {
    let options = Options { uploads_open_max: 2, ..Options::default() };
    let fixture = Fixture::with(options).await;
    let Fixture { registry, .. } = &fixture;
    let mut uploads = Vec::new();
    for number in 0..6_u8 {
        let id = registry.begin_upload(&repo("a"), Algorithm::Sha256).await.unwrap().id;
        for _ in 0..3 {
            registry.append_upload(&repo("a"), id, whole(&[number; 100_000])).await.unwrap();
        }
        uploads.push(id);
    }
    let is_open = |id: &&crate::oci::UploadId| {
        let session = registry.inner.sessions.get(**id).unwrap();
        matches!(*session.try_idle().unwrap(), sessions::State::Open(_))
    };
    let open: Vec<_> = uploads.iter().filter(is_open).collect();
    assert_eq!(open, uploads[4..].iter().collect::<Vec<_>>());
    for (number, id) in (0_u8..).zip(uploads) {
        let digest = Digest::of(Algorithm::Sha256, &[number; 300_000]);
        registry.finish_upload(&repo("a"), id, &digest, whole(b"")).await.unwrap();
    }
}
