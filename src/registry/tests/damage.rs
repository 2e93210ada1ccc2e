//! Finding damage, containing it, and healing by the next push, on the models of both stores.

use super::*;
use crate::meta::BlobState;
use crate::oci::Shard;

/// Larger than what is stored inline.
const LARGE: usize = 100_000;

impl Fixture {
    async fn scrub(&self) -> crate::meta::ScrubRecord {
        self.registry.scrub_once(None, CancellationToken::new()).await.unwrap()
    }

    fn damage(&self, digest: &Digest) {
        self.blobs.plant(digest, Bytes::from_static(b"damaged"));
    }

    async fn is_served(&self, digest: &Digest) -> bool {
        self.registry.stat_blob(&repo("a"), digest).await.is_ok()
    }
}

#[tokio::test]
async fn a_pass_finds_every_damage_and_nothing_else() {
    let fixture = Fixture::new().await;
    let mut damaged = Vec::new();
    let mut sound = Vec::new();
    for n in 0..40_u8 {
        let digest = fixture.push(&repo("a"), &vec![n; LARGE + usize::from(n)]).await;
        if n % 4 == 0 { &mut damaged } else { &mut sound }.push(digest);
    }
    for (number, digest) in damaged.iter().enumerate() {
        match number % 3 {
            0 => fixture.damage(digest),
            1 => drop(fixture.blobs.remove(digest).await.unwrap()),
            _ => fixture.blobs.plant(digest, vec![1; LARGE + number * 4].into()),
        }
    }
    let record = fixture.scrub().await;
    assert_eq!((record.passes, record.totals.contents, record.totals.damaged), (1, 40, 10));
    for digest in &damaged {
        assert!(!fixture.is_served(digest).await);
        assert!(fixture.blobs.open(digest).await.unwrap().is_none(), "moved away");
    }
    for digest in &sound {
        assert!(fixture.is_served(digest).await);
    }
    let again = fixture.scrub().await.totals;
    assert_eq!((again.contents, again.damaged), (40, 0), "what is contained is not counted again");
    for (n, digest) in (0..40_u8).step_by(4).zip(&damaged) {
        assert_eq!(fixture.push(&repo("b"), &vec![n; LARGE + usize::from(n)]).await, *digest);
        assert!(fixture.is_served(digest).await, "healed for every repository");
    }
    assert_eq!(fixture.scrub().await.totals.damaged, 0);
}

#[tokio::test]
async fn a_pass_goes_on_where_it_was_stopped() {
    let fixture = Fixture::new().await;
    for n in 0..30_u8 {
        fixture.push(&repo("a"), &[n; 10]).await;
    }
    let stop = CancellationToken::new();
    stop.cancel();
    let stopped = fixture.registry.scrub_once(None, stop).await.unwrap();
    assert_eq!((stopped.passes, stopped.totals.contents), (0, 0));
    // As if it had been stopped in the middle.
    let shard = Some(128);
    fixture.meta.save_scrub(crate::meta::ScrubRecord { shard, ..stopped }).await.unwrap();
    let status = fixture.registry.scrub_status().await.unwrap();
    assert!(status.running && status.done_percent == 16, "{status:?}");
    let rest = fixture.scrub().await;
    let mut expected = 0;
    for number in 128..Shard::COUNT {
        let shard = Shard::from_number(number).unwrap();
        expected += fixture.meta.contents(shard, None, 99).await.unwrap().items.len() as u64;
    }
    assert_eq!((rest.passes, rest.totals.contents), (1, expected));
    assert!(expected < 30);
}

#[tokio::test]
async fn a_damaged_manifest_is_unknown_until_it_is_pushed_again() {
    let fixture = Fixture::new().await;
    let config = fixture.push(&repo("a"), b"{}").await;
    let padding = " ".repeat(LARGE);
    let (small, large) = (image(&config, ""), image(&config, &padding));
    for document in [small, large] {
        let is_small = document.len() < LARGE;
        let pushed = fixture.put("latest", OCI_MANIFEST, document.clone()).await.unwrap();
        fixture.registry.spill_once().await.unwrap();
        fixture.damage(&pushed.digest);
        fixture.scrub().await;
        let latest = Reference::Tag(Tag::parse("latest").unwrap());
        let found = fixture.registry.manifest(&repo("a"), &latest).await;
        if is_small {
            // Its copy in the database is right, so nothing became unavailable.
            assert_eq!(found.unwrap().bytes, document);
            fixture.registry.spill_once().await.unwrap();
            let file = fixture.blobs.open(&pushed.digest).await.unwrap().unwrap();
            assert_eq!(file.size_bytes, document.len() as u64, "its file is written again");
            continue;
        }
        assert!(matches!(found, Err(Error::ManifestUnknown)));
        let child = index(&pushed.digest, document.len(), "");
        let refused = fixture.put("index", OCI_INDEX, child.clone()).await;
        assert!(matches!(refused, Err(Error::ManifestBlobUnknown(_))), "it is to be pushed again");
        fixture.put("latest", OCI_MANIFEST, document.clone()).await.unwrap();
        let found = fixture.registry.manifest(&repo("a"), &latest).await;
        assert_eq!(found.unwrap().bytes, document);
        fixture.put("index", OCI_INDEX, child).await.unwrap();
    }
    assert_eq!(fixture.scrub().await.totals.damaged, 0);
}

#[tokio::test]
async fn every_way_of_uploading_heals_and_a_mount_does_not() {
    let fixture = Fixture::new().await;
    let content = vec![5; LARGE];
    let digest = fixture.push(&repo("a"), &content).await;
    let registry = &fixture.registry;
    for first_part in [None, Some(LARGE), Some(LARGE / 2)] {
        fixture.damage(&digest);
        fixture.scrub().await;
        assert!(!fixture.is_served(&digest).await);
        let (from, to) = (repo("a"), repo("b"));
        assert!(!registry.mount_blob(&to, &digest, Some(&from), &|_| true).await.unwrap());
        assert!(!registry.mount_blob(&to, &digest, None, &|_| true).await.unwrap());
        match first_part {
            None => drop(fixture.push(&repo("a"), &content).await),
            Some(first) => {
                let id = registry.begin_upload(&to, Algorithm::Sha256).await.unwrap().id;
                let (first, second) = content.split_at(first);
                registry.append_upload(&to, id, whole(first)).await.unwrap();
                registry.finish_upload(&to, id, &digest, whole(second)).await.unwrap();
            }
        }
        assert_eq!(read(registry, &repo("a"), &digest).await, content);
    }
}

/// A crash between the facts and the move leaves the file where it was.
#[tokio::test]
async fn a_file_that_was_not_moved_yet_is_never_trusted() {
    let fixture = Fixture::new().await;
    let content = vec![6; LARGE];
    let digest = fixture.push(&repo("a"), &content).await;
    for push in [true, false] {
        fixture.blobs.plant(&digest, vec![7; LARGE].into());
        fixture.meta.judge(&digest, false).await.unwrap();
        if push {
            fixture.push(&repo("a"), &content).await;
            assert_eq!(read(&fixture.registry, &repo("a"), &digest).await, content);
        } else {
            fixture.scrub().await;
            assert!(fixture.blobs.open(&digest).await.unwrap().is_none(), "moved by the next pass");
        }
    }
    // Somebody puts the right file back.
    fixture.blobs.plant(&digest, content.clone().into());
    fixture.scrub().await;
    assert_eq!(read(&fixture.registry, &repo("a"), &digest).await, content);
}

#[tokio::test]
async fn verify_on_read_never_gives_the_last_bytes_of_a_wrong_content() {
    let fixture = Fixture::with(Options { verify_on_read: true, ..Options::default() }).await;
    let (large, small) = (vec![8; LARGE], b"small".to_vec());
    let digest = fixture.push(&repo("a"), &large).await;
    let mut wrong = large.clone();
    wrong[10] ^= 1;
    for (bytes, is_right) in [(large.clone(), true), (wrong, false)] {
        fixture.blobs.plant(&digest, bytes.into());
        let (_, content) = fixture.registry.blob(&repo("a"), &digest).await.unwrap();
        let Content::File(file) = fixture.registry.verifying(&digest, content) else {
            panic!("a file")
        };
        assert!(file.reader.read(0, LARGE - 1).await.is_ok());
        assert_eq!(file.reader.read(LARGE as u64 - 1, 1).await.is_ok(), is_right);
    }
    let stop = CancellationToken::new();
    let scrub = fixture.registry.clone();
    let (run, until) = (scrub.run_scrub(stop.clone()), async {
        while fixture.is_served(&digest).await {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    });
    tokio::join!(run, until);
    assert_eq!(
        fixture.meta.stored(&digest).await.unwrap().unwrap().state,
        BlobState::Quarantined,
        "contained without a pass of the scrub"
    );
    let small_digest = fixture.push(&repo("a"), &small).await;
    assert_eq!(read(&fixture.registry, &repo("a"), &small_digest).await, small);
}

#[tokio::test]
async fn files_without_a_row_are_counted_and_left_alone() {
    let fixture = Fixture::new().await;
    fixture.push(&repo("a"), b"inline, without a file yet").await;
    let orphan = Digest::of(Algorithm::Sha512, b"orphan");
    fixture.blobs.plant(&orphan, Bytes::from_static(b"orphan"));
    assert_eq!(fixture.scrub().await.totals.orphans, 1);
    assert!(fixture.blobs.open(&orphan).await.unwrap().is_some());
}
