//! The collector on the models of both stores, beside clients.

use std::time::Duration;

use super::gc::{Pass, Report};
use super::tests::{Fixture, image, index, repo, whole};
use super::*;
use crate::meta::Expect;
use crate::oci::media_type::{OCI_INDEX, OCI_MANIFEST};
use crate::oci::{Algorithm, Digest, MediaType, Reference, Tag};
use crate::ops::Progress;

const HOUR: Duration = Duration::from_secs(3600);

impl Fixture {
    /// One whose collector has waited for the leases of an earlier process.
    async fn rested(options: Options) -> Self {
        let fixture = Self::with(options).await;
        fixture.clock.advance(fixture.registry.options().gc_lease);
        fixture
    }

    async fn collect(&self) -> Report {
        self.collect_with(Pass::default(), true).await
    }

    async fn collect_with(&self, pass: Pass, served: bool) -> Report {
        let report = self.registry.garbage_collect(pass, served, &Progress::silent()).await;
        let report = report.unwrap();
        assert_eq!(self.meta.check(), []);
        report
    }

    async fn is_there(&self, digest: &Digest) -> bool {
        self.registry.stat_blob(&repo("a"), digest).await.is_ok()
    }

    async fn has_file(&self, digest: &Digest) -> bool {
        self.blobs.open(digest).await.unwrap().is_some()
    }

    async fn put_untagged(&self, media_type: &str, document: &str) -> Digest {
        let digest = Digest::of(Algorithm::Sha256, document.as_bytes());
        let put = PutManifest {
            repository: repo("a"),
            reference: Reference::Digest(digest),
            tags: Vec::new(),
            media_type: Some(MediaType::parse(media_type).unwrap()),
            bytes: document.to_owned().into(),
            expect: Expect::Anything,
        };
        self.registry.put_manifest(put).await.unwrap().digest
    }

    async fn delete(&self, digest: Digest) {
        let reference = Reference::Digest(digest);
        self.registry.delete_manifest(&repo("a"), &reference).await.unwrap();
    }
}

fn large(byte: u8) -> Vec<u8> {
    vec![byte; 70_000]
}

#[tokio::test]
async fn what_nothing_uses_goes_after_the_grace_with_its_file() {
    let fixture = Fixture::rested(Options::default()).await;
    let (small, big) = (fixture.push(&repo("a"), b"{}").await, large(1));
    let big = fixture.push(&repo("a"), &big).await;
    fixture.registry.spill_once().await.unwrap();
    fixture.clock.advance(24 * HOUR);
    assert_eq!(fixture.collect().await.links, 0, "not before");
    fixture.clock.advance(Duration::from_secs(1));
    let report = fixture.collect().await;
    assert_eq!((report.links, report.contents.count), (2, 2));
    assert_eq!(report.contents.size_bytes, 70_002);
    for digest in [small, big] {
        assert!(!fixture.is_there(&digest).await && !fixture.has_file(&digest).await);
        assert_eq!(fixture.meta.stored(&digest).await.unwrap(), None);
    }
    assert_eq!(fixture.collect().await.contents.count, 0);
}

#[tokio::test]
async fn what_is_referred_to_stays_for_ever() {
    let fixture = Fixture::rested(Options::default()).await;
    let config = fixture.push(&repo("a"), b"{}").await;
    let document = image(&config, "");
    let child = fixture.put_untagged(OCI_MANIFEST, &document).await;
    let entry = index(&child, document.len(), "");
    let parent = fixture.put("index", OCI_INDEX, entry).await.unwrap().digest;
    let subject =
        format!(r#","subject":{{"mediaType":"{OCI_INDEX}","digest":"{parent}","size":1}}"#);
    let signature = fixture.put_untagged(OCI_MANIFEST, &image(&config, &subject)).await;
    fixture.clock.advance(10_000 * HOUR);
    let pass = Pass { untagged: true, ..Pass::default() };
    let report = fixture.collect_with(pass, true).await;
    assert_eq!((report.links, report.manifests, report.contents.count), (0, 0, 0));
    for digest in [child, parent, signature] {
        let reference = Reference::Digest(digest);
        assert!(fixture.registry.manifest(&repo("a"), &reference).await.is_ok());
    }
    assert!(fixture.is_there(&config).await);
}

#[tokio::test]
async fn a_deleted_index_leaves_nothing_in_the_end_when_untagged_manifests_go() {
    let fixture = Fixture::rested(Options::default()).await;
    let config = fixture.push(&repo("a"), b"{}").await;
    let document = image(&config, "");
    let child = fixture.put_untagged(OCI_MANIFEST, &document).await;
    let entry = index(&child, document.len(), "");
    let parent = fixture.put("index", OCI_INDEX, entry).await.unwrap().digest;
    fixture.delete(parent).await;
    fixture.clock.advance(24 * HOUR + Duration::from_secs(1));
    let report = fixture.collect().await;
    assert_eq!((report.manifests, report.contents.count, report.untagged_kept), (0, 1, 1));
    assert!(fixture.is_there(&config).await, "its image is kept, since nobody asked");
    let untagged = Pass { untagged: true, ..Pass::default() };
    assert_eq!(fixture.collect_with(untagged, true).await.manifests, 1);
    fixture.clock.advance(3 * HOUR);
    assert!(fixture.is_there(&config).await, "who was told so relies on it for a lease");
    fixture.clock.advance(3 * HOUR + Duration::from_secs(1));
    assert_eq!(fixture.collect_with(untagged, true).await.leased, 1, "asked for just now");
    fixture.clock.advance(6 * HOUR + Duration::from_secs(1));
    assert_eq!(fixture.collect_with(untagged, true).await.contents.count, 1);
    assert_eq!(fixture.meta.repository(&repo("a")).await.unwrap(), None);
}

#[tokio::test]
async fn without_a_server_everything_goes_in_one_pass() {
    let fixture = Fixture::new().await;
    let config = fixture.push(&repo("a"), b"{}").await;
    let document = image(&config, "");
    let child = fixture.put_untagged(OCI_MANIFEST, &document).await;
    fixture.put_untagged(OCI_INDEX, &index(&child, document.len(), "")).await;
    let all = Pass { untagged: true, grace_seconds: Some(0), ..Pass::default() };
    let dry = fixture.collect_with(Pass { dry_run: true, ..all }, false).await;
    assert_eq!((dry.eligible.manifests.count, dry.manifests), (1, 0));
    let report = fixture.collect_with(all, false).await;
    assert_eq!((report.links, report.manifests, report.contents.count), (1, 2, 3));
    assert_eq!(report.eligible.count() + report.waiting.count(), 0);
}

#[tokio::test]
async fn a_shorter_grace_counts_where_it_is_asked_for() {
    let fixture = Fixture::new().await;
    let digest = fixture.push(&repo("a"), b"{}").await;
    fixture.clock.advance(2 * HOUR);
    let hours = |hours| Pass { grace_seconds: Some(hours * HOUR.as_secs()), ..Pass::default() };
    assert_eq!(fixture.collect_with(hours(2), false).await.links, 0);
    fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(fixture.collect_with(hours(3), false).await.links, 0);
    assert_eq!(fixture.collect_with(hours(2), false).await.links, 1);
    assert!(!fixture.is_there(&digest).await);
}

#[tokio::test]
async fn a_client_that_was_told_so_finds_it_when_it_needs_it() {
    let fixture = Fixture::rested(Options::default()).await;
    let layer = fixture.push(&repo("a"), b"{}").await;
    fixture.clock.advance(24 * HOUR);
    assert!(fixture.is_there(&layer).await);
    fixture.clock.advance(5 * HOUR);
    let report = fixture.collect().await;
    assert_eq!((report.links, report.leased), (0, 1));
    fixture.put("image", OCI_MANIFEST, image(&layer, "")).await.unwrap();
    fixture.clock.advance(1000 * HOUR);
    assert_eq!(fixture.collect().await.links, 0);
}

#[tokio::test]
async fn a_lease_lives_on_while_its_repository_receives_bytes() {
    let fixture = Fixture::rested(Options::default()).await;
    let layer = fixture.push(&repo("a"), b"{}").await;
    fixture.clock.advance(24 * HOUR);
    assert!(fixture.is_there(&layer).await);
    fixture.clock.advance(5 * HOUR);
    let session = fixture.registry.begin_upload(&repo("a"), Algorithm::Sha256).await.unwrap();
    fixture.registry.append_upload(&repo("a"), session.id, whole(b"x")).await.unwrap();
    fixture.clock.advance(5 * HOUR);
    assert_eq!(fixture.collect().await.leased, 1);
}

#[tokio::test]
async fn an_upload_that_was_begun_in_time_keeps_a_lease_as_long_as_it_goes_on() {
    let fixture = Fixture::rested(Options::default()).await;
    let layer = fixture.push(&repo("a"), b"{}").await;
    fixture.clock.advance(24 * HOUR);
    assert!(fixture.is_there(&layer).await);
    fixture.clock.advance(4 * HOUR);
    let session = fixture.registry.begin_upload(&repo("a"), Algorithm::Sha256).await.unwrap();
    for _ in 0..2 {
        fixture.registry.append_upload(&repo("a"), session.id, whole(b"x")).await.unwrap();
        fixture.clock.advance(5 * HOUR);
    }
    assert_eq!(fixture.collect().await.leased, 1);
}

#[tokio::test]
async fn in_a_repository_that_is_never_quiet_a_lease_ends_all_the_same() {
    let fixture = Fixture::rested(Options::default()).await;
    let layer = fixture.push(&repo("a"), b"{}").await;
    fixture.clock.advance(24 * HOUR);
    assert!(fixture.is_there(&layer).await);
    for _ in 0..14 {
        fixture.clock.advance(HOUR);
        let session = fixture.registry.begin_upload(&repo("a"), Algorithm::Sha256).await.unwrap();
        fixture.registry.append_upload(&repo("a"), session.id, whole(b"x")).await.unwrap();
    }
    let report = fixture.collect().await;
    assert_eq!((report.links, report.leased), (1, 0));
}

#[tokio::test]
async fn the_collector_waits_for_leases_that_it_cannot_know() {
    let fixture = Fixture::new().await;
    fixture.push(&repo("a"), b"{}").await;
    fixture.clock.advance(5 * HOUR);
    let report = fixture.collect().await;
    assert_eq!(report.resting_seconds, Some(3601));
    assert_eq!((report.links, report.waiting.links.count), (0, 1));
}

#[tokio::test]
async fn a_reader_takes_back_what_was_chosen() {
    let fixture = Fixture::rested(Options::default()).await;
    let blob = fixture.push(&repo("a"), b"{}").await;
    let manifest = fixture.put_untagged(OCI_MANIFEST, &image(&blob, "")).await;
    let lonely = fixture.push(&repo("a"), b"lonely").await;
    fixture.clock.advance(25 * HOUR);
    for queue in [crate::meta::GcQueue::Garbage, crate::meta::GcQueue::Untagged] {
        let batch = fixture.meta.garbage(queue, u64::MAX, None, 9).await.unwrap();
        assert_eq!(fixture.meta.condemn(batch).await.unwrap().len(), 1);
    }
    assert!(fixture.is_there(&lonely).await);
    let reference = Reference::Digest(manifest);
    assert!(fixture.registry.stat_manifest(&repo("a"), &reference).await.is_ok());
    let untagged = Pass { untagged: true, ..Pass::default() };
    let report = fixture.collect_with(untagged, true).await;
    assert_eq!((report.links, report.manifests, report.leased), (0, 0, 0));
    fixture.clock.advance(24 * HOUR);
    assert_eq!(fixture.collect_with(untagged, true).await.links, 0, "a whole grace");
}

#[tokio::test]
async fn pushed_again_while_it_goes_it_is_there() {
    for content in [b"{}".to_vec(), large(1)] {
        let fixture = Fixture::rested(Options::default()).await;
        let digest = fixture.push(&repo("a"), &content).await;
        fixture.registry.spill_once().await.unwrap();
        fixture.clock.advance(25 * HOUR);
        // As after a crash before the file was removed.
        let batch =
            fixture.meta.garbage(crate::meta::GcQueue::Garbage, u64::MAX, None, 9).await.unwrap();
        fixture.meta.condemn(batch.clone()).await.unwrap();
        let moment = fixture.registry.moment();
        assert_eq!(fixture.meta.collect(batch, moment).await.unwrap().contents, [digest]);
        assert!(!fixture.is_there(&digest).await);
        fixture.push(&repo("a"), &content).await;
        fixture.collect().await;
        assert_eq!(tests::read(&fixture.registry, &repo("a"), &digest).await, content);
        fixture.registry.spill_once().await.unwrap();
        assert!(fixture.has_file(&digest).await);
    }
}

#[tokio::test]
async fn a_content_that_went_gets_no_file() {
    let fixture = Fixture::new().await;
    let digest = fixture.push(&repo("a"), b"{}").await;
    let all = Pass { grace_seconds: Some(0), ..Pass::default() };
    // The spill has read the content, and waits for its stripe.
    let stripe = fixture.registry.inner.stripes.lock(&digest).await;
    let spill = tokio::spawn({
        let registry = fixture.registry.clone();
        async move { registry.spill_once().await }
    });
    tokio::task::yield_now().await;
    let batch =
        fixture.meta.garbage(crate::meta::GcQueue::Garbage, u64::MAX, None, 9).await.unwrap();
    fixture.meta.condemn(batch.clone()).await.unwrap();
    fixture.meta.collect(batch, fixture.registry.moment()).await.unwrap();
    fixture.meta.forget_contents(vec![digest]).await.unwrap();
    drop(stripe);
    assert_eq!(spill.await.unwrap().unwrap().contents, 0);
    assert!(!fixture.has_file(&digest).await);
    assert_eq!(fixture.collect_with(all, false).await.contents.count, 0);
}

/// What has a file is not stored again: who is about to contain that file comes first, or after.
#[tokio::test]
async fn a_small_push_of_what_has_a_file_waits_for_its_stripe() {
    let fixture = Fixture::rested(Options::default()).await;
    let digest = fixture.push(&repo("a"), b"{}").await;
    let stripe = fixture.registry.inner.stripes.lock(&digest).await;
    fixture.push(&repo("b"), b"{}").await;
    drop(stripe);
    fixture.registry.spill_once().await.unwrap();
    assert!(fixture.has_file(&digest).await);
    let stripe = fixture.registry.inner.stripes.lock(&digest).await;
    let again = {
        let registry = fixture.registry.clone();
        async move { registry.push_blob(&repo("c"), &digest, whole(b"{}")).await }
    };
    let mut again = std::pin::pin!(again);
    for _ in 0..10 {
        tokio::select! {
            biased;
            _ = again.as_mut() => panic!("it did not wait"),
            () = tokio::task::yield_now() => {}
        }
    }
    assert!(fixture.meta.judge(&digest, false).await.is_ok());
    drop(stripe);
    again.await.unwrap();
    assert!(fixture.registry.stat_blob(&repo("c"), &digest).await.is_ok(), "its bytes are kept");
}

#[tokio::test]
async fn a_pass_that_nobody_asked_for_does_not_count_what_is_left() {
    let fixture = Fixture::rested(Options::default()).await;
    let config = fixture.push(&repo("a"), b"{}").await;
    fixture.put_untagged(OCI_MANIFEST, &image(&config, "")).await;
    fixture.push(&repo("a"), b"[]").await;
    let progress = Progress::silent();
    let report = fixture.registry.collect_once(Pass::default(), true, &progress).await.unwrap();
    assert_eq!(report, Report::default(), "its cost would grow with all that waits");
    let report = fixture.collect().await;
    assert_eq!((report.waiting.count(), report.untagged_kept), (1, 1));
}

#[tokio::test]
async fn a_paused_collector_waits() {
    let fixture = Fixture::rested(Options::default()).await;
    fixture.push(&repo("a"), b"{}").await;
    fixture.clock.advance(25 * HOUR);
    let turn = fixture.registry.pause_collector().await;
    let collecting = tokio::spawn({
        let registry = fixture.registry.clone();
        async move { registry.collect_once(Pass::default(), true, &Progress::silent()).await }
    });
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(fixture.meta.gc_queue().len(), 1);
    drop(turn);
    assert_eq!(collecting.await.unwrap().unwrap().contents.count, 1);
}

#[tokio::test]
async fn untagged_manifests_go_at_their_own_age() {
    let age = Some(48 * HOUR);
    let fixture = Fixture::rested(Options { gc_untagged: age, ..Options::default() }).await;
    let config = fixture.push(&repo("a"), b"{}").await;
    fixture.put_untagged(OCI_MANIFEST, &image(&config, "")).await;
    fixture.clock.advance(48 * HOUR);
    assert_eq!(fixture.collect().await.manifests, 0);
    fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(fixture.collect().await.manifests, 1);
}

#[tokio::test]
async fn a_tag_that_moves_on_leaves_an_untagged_manifest() {
    let fixture = Fixture::rested(Options::default()).await;
    let config = fixture.push(&repo("a"), b"{}").await;
    fixture.put("latest", OCI_MANIFEST, image(&config, "")).await.unwrap();
    fixture.put("latest", OCI_MANIFEST, image(&config, r#","x":1"#)).await.unwrap();
    fixture.clock.advance(25 * HOUR);
    let untagged = Pass { untagged: true, ..Pass::default() };
    assert_eq!(fixture.collect().await.untagged_kept, 1);
    assert_eq!(fixture.collect_with(untagged, true).await.manifests, 1);
    let latest = Reference::Tag(Tag::parse("latest").unwrap());
    assert!(fixture.registry.manifest(&repo("a"), &latest).await.is_ok());
    assert!(fixture.is_there(&config).await);
}
