//! Finding damage, containing it, and healing by the next push, on the models of both stores.

use std::pin::Pin;

use super::*;
use crate::meta::BlobState;
use crate::oci::Shard;
use crate::ops::clock::Timestamp;

/// Larger than what is stored inline.
const LARGE: usize = 100_000;

/// The manual clock, moved by whoever sleeps: what is paced takes its time, and nobody waits.
#[derive(Debug)]
struct Hurried(Arc<ManualClock>);

impl Clock for Hurried {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let clock = Arc::clone(&self.0);
        Box::pin(async move {
            clock.advance(duration);
            tokio::task::yield_now().await;
        })
    }
}

impl Fixture {
    /// Another process on the same stores, where time passes as it is slept away.
    async fn hurried(&self, scrub: ScrubOptions) -> Registry {
        let registry = Registry::open(
            Arc::clone(&self.meta) as Arc<dyn MetaStore>,
            Arc::clone(&self.blobs) as Arc<dyn BlobStore>,
            Arc::new(Hurried(Arc::clone(&self.clock))),
            Arc::new(OsRandom),
            Options { scrub: Some(scrub), ..Options::default() },
        );
        registry.await.unwrap()
    }

    async fn is_it(&self, seconds: u64) {
        while self.clock.monotonic().as_secs() < seconds {
            tokio::task::yield_now().await;
        }
    }

    /// Runs the scrub until this time, and lets it write down where it stands.
    async fn scrub_until(&self, registry: &Registry, seconds: u64) -> crate::meta::ScrubRecord {
        let stop = CancellationToken::new();
        tokio::join!(registry.run_scrub(stop.clone()), async {
            self.is_it(seconds).await;
            stop.cancel();
        });
        self.meta.scrub().await.unwrap()
    }

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
async fn a_pass_is_due_after_an_hour_and_then_once_in_a_period() {
    const DAY: u64 = 24 * 3600;
    // How often it is looked whether one is due.
    const LATE_MAX: u64 = 60;
    let fixture = Fixture::new().await;
    fixture.push(&repo("a"), &[1; LARGE]).await;
    let registry = fixture.hurried(ScrubOptions::default()).await;
    let mut due = 3600;
    for passes in 0..3 {
        let early = fixture.scrub_until(&registry, due - LATE_MAX).await;
        assert_eq!((early.passes, early.shard), (passes, None), "not before {due}");
        let record = fixture.scrub_until(&registry, due + 2 * LATE_MAX).await;
        assert_eq!((record.passes, record.totals.contents), (passes + 1, 1), "at {due}");
        let began = record.started_uptime_seconds;
        assert!((due..=due + LATE_MAX).contains(&began), "due at {due}, began at {began}");
        due = began + 14 * DAY;
    }
}

#[tokio::test]
async fn a_paced_pass_takes_the_time_of_its_bytes() {
    const COUNT: u64 = 20;
    let fixture = Fixture::new().await;
    for n in 0..COUNT as u8 {
        fixture.push(&repo("a"), &[n; LARGE]).await;
    }
    let registry = fixture.hurried(ScrubOptions::default()).await;
    for (rate, slowest) in [(None, 0), (Some(LARGE as u64), 30), (Some(LARGE as u64 / 10), 300)] {
        let begin = fixture.clock.monotonic();
        let record = registry.scrub_once(rate, CancellationToken::new()).await.unwrap();
        assert_eq!(record.totals.contents, COUNT);
        let took = (fixture.clock.monotonic() - begin).as_secs();
        let fastest = rate.map_or(0, |rate| COUNT * LARGE as u64 / rate);
        assert!((fastest..=slowest).contains(&took), "{took} s at {rate:?}");
    }
}

/// What was damaged meanwhile is found only by those who look at it: by the rest of the pass.
#[tokio::test]
async fn a_pass_goes_on_where_it_was_interrupted() {
    const COUNT: u64 = 100;
    let scrub = ScrubOptions { bytes_per_second: LARGE as u64, ..ScrubOptions::default() };
    for is_killed in [false, true] {
        let fixture = Fixture::new().await;
        let contents: Vec<_> = (0..COUNT as u8).map(|n| vec![n; LARGE]).collect();
        for content in &contents {
            fixture.push(&repo("a"), content).await;
        }
        let registry = fixture.hurried(scrub).await;
        fixture.clock.advance(Duration::from_secs(3600));
        if is_killed {
            tokio::select! {
                () = registry.run_scrub(CancellationToken::new()) => {}
                () = fixture.is_it(3600 + 90) => {}
            }
        } else {
            fixture.scrub_until(&registry, 3600 + 90).await;
        }
        let (left, looked) = (fixture.meta.scrub().await.unwrap(), registry.scrub_status().await);
        let seen = left.totals.contents;
        // A content takes more than a second; a killed pass forgets what came in a minute.
        assert!((if is_killed { 20 } else { 60 }..90).contains(&seen), "{left:?}");
        let (looked, shard) = (looked.unwrap(), u64::from(left.shard.unwrap()));
        let percent = shard * 100 / u64::from(Shard::COUNT);
        assert_eq!((looked.running, looked.done_percent), (true, percent));
        for content in &contents {
            fixture.damage(&Digest::of(Algorithm::Sha256, content));
        }
        let registry = fixture.hurried(scrub).await;
        let record = fixture.scrub_until(&registry, 3600 + 300).await;
        assert_eq!((record.passes, record.shard), (1, None), "at once, and to its end");
        assert_eq!(record.started_uptime_seconds, 3600, "it is the same pass");
        assert_eq!((record.totals.contents, record.totals.damaged), (COUNT, COUNT - seen));
    }
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
