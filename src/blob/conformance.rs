//! What every blob store must do: the contract of [`BlobStore`] as tests.
//!
//! An implementation calls [`run_all`] with a factory of empty stores. A breach of the contract
//! panics with the name of the expectation, or is the error of an operation that should work.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::{BlobFile, BlobStore, Hasher, Staging};
use crate::oci::{Algorithm, Digest, Shard, UploadId};

/// Result of one test.
pub type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

/// A store under test.
pub trait Subject: Send + Sync {
    /// The store.
    fn store(&self) -> Arc<dyn BlobStore>;
    /// The same store after its process was killed and started again.
    fn restart(&mut self);
    /// Puts bytes at a digest's place, right or wrong, as an outsider might.
    fn plant(&self, digest: &Digest, bytes: &[u8]);
}

/// Runs every test, each on a new empty store.
pub async fn run_all<S: Subject>(factory: impl Fn() -> S) -> Outcome {
    published_content_reads_back(factory()).await?;
    zero_bytes_are_a_blob(factory()).await?;
    every_algorithm_has_its_own_tree(factory()).await?;
    reads_stay_inside_the_blob(factory()).await?;
    an_open_blob_outlives_its_name(factory()).await?;
    absent_blobs_are_none(factory()).await?;
    appends_are_hashed_in_order(factory()).await?;
    an_id_is_staged_once(factory()).await?;
    staged_uploads_are_listed_until_they_are_gone(factory()).await?;
    resume_cuts_the_tail(factory()).await?;
    resume_of_too_few_bytes_is_none(factory()).await?;
    resume_ends_the_older_handle(factory()).await?;
    discard_ends_the_handle(factory()).await?;
    publish_of_another_size_is_refused(factory()).await?;
    publish_keeps_a_live_file(factory()).await?;
    publish_replaces_a_wrong_file(factory()).await?;
    publish_replaces_a_file_of_another_size_even_if_live(factory()).await?;
    publish_again_after_removal(factory()).await?;
    spilled_contents_read_back(factory()).await?;
    spill_replaces_wrong_files(factory()).await?;
    a_quarantined_file_makes_room_for_a_right_one(factory()).await?;
    only_a_right_file_is_kept(factory()).await?;
    shards_list_every_file(factory()).await?;
    hashing_reads_what_reading_does(factory()).await?;
    verified_blobs_never_end_wrong(factory()).await
}

fn id(n: u8) -> UploadId {
    UploadId::from_random([n; 16])
}

fn sha256(bytes: &[u8]) -> Digest {
    Hasher::digest_of(Algorithm::Sha256, bytes)
}

async fn read_all(blob: &BlobFile) -> super::Result<Bytes> {
    blob.reader.read(0, usize::try_from(blob.size_bytes).unwrap_or(usize::MAX)).await
}

/// The bytes of a blob, if it is there.
pub async fn blob(store: &dyn BlobStore, digest: &Digest) -> super::Result<Option<Bytes>> {
    match store.open(digest).await? {
        Some(found) => Ok(Some(read_all(&found).await?)),
        None => Ok(None),
    }
}

async fn staged(
    store: &dyn BlobStore,
    id: UploadId,
    bytes: &[u8],
) -> super::Result<Box<dyn Staging>> {
    let mut staging = store.stage(id, Algorithm::Sha256).await?;
    staging.append(vec![Bytes::copy_from_slice(bytes)]).await?;
    staging.sync().await?;
    Ok(staging)
}

/// Pushes bytes under a digest, durably.
pub async fn push(
    store: &dyn BlobStore,
    id: UploadId,
    digest: &Digest,
    bytes: &[u8],
    live: bool,
) -> super::Result<()> {
    let staging = staged(store, id, bytes).await?;
    let published = store.publish(staging, digest, bytes.len() as u64, live).await?;
    store.sync_directories(published).await
}

async fn published_content_reads_back(mut subject: impl Subject) -> Outcome {
    let digest = sha256(b"content");
    push(&*subject.store(), id(1), &digest, b"content", false).await?;
    assert_eq!(blob(&*subject.store(), &digest).await?, Some("content".into()));
    assert_eq!(subject.store().staged().await?, [], "B2: the staging directory went");
    subject.restart();
    assert_eq!(blob(&*subject.store(), &digest).await?, Some("content".into()));
    Ok(())
}

async fn zero_bytes_are_a_blob(subject: impl Subject) -> Outcome {
    let digest = sha256(b"");
    let store = subject.store();
    let mut staging = store.stage(id(1), Algorithm::Sha256).await?;
    staging.sync().await?;
    assert_eq!(staging.digest(Algorithm::Sha256).await?, digest);
    let published = store.publish(staging, &digest, 0, false).await?;
    store.sync_directories(published).await?;
    assert_eq!(blob(&*store, &digest).await?, Some(Bytes::new()));
    Ok(())
}

async fn every_algorithm_has_its_own_tree(subject: impl Subject) -> Outcome {
    let store = subject.store();
    for (n, algorithm) in (1..).zip(Algorithm::ALL) {
        let digest = Hasher::digest_of(algorithm, b"same");
        assert_eq!(blob(&*store, &digest).await?, None, "{algorithm}");
        push(&*store, id(n), &digest, b"same", false).await?;
        assert_eq!(blob(&*store, &digest).await?, Some("same".into()), "{algorithm}");
    }
    Ok(())
}

async fn reads_stay_inside_the_blob(subject: impl Subject) -> Outcome {
    let digest = sha256(b"0123456789");
    push(&*subject.store(), id(1), &digest, b"0123456789", false).await?;
    let found = subject.store().open(&digest).await?.ok_or("no blob")?;
    assert_eq!(found.size_bytes, 10);
    assert_eq!(found.reader.read(3, 4).await?, "3456");
    assert_eq!(found.reader.read(10, 0).await?, "");
    assert!(found.reader.read(8, 3).await.is_err(), "a read beyond the end is an error");
    assert!(found.reader.read(u64::MAX, 1).await.is_err(), "so is one far beyond");
    Ok(())
}

async fn an_open_blob_outlives_its_name(subject: impl Subject) -> Outcome {
    let digest = sha256(b"content");
    let store = subject.store();
    push(&*store, id(1), &digest, b"content", false).await?;
    let found = store.open(&digest).await?.ok_or("no blob")?;
    assert!(store.remove(&digest).await?);
    assert_eq!(read_all(&found).await?, "content");
    Ok(())
}

async fn absent_blobs_are_none(subject: impl Subject) -> Outcome {
    let store = subject.store();
    assert!(store.open(&sha256(b"none")).await?.is_none());
    assert!(!store.remove(&sha256(b"none")).await?);
    assert!(store.resume(id(1), 0, Algorithm::Sha256).await?.is_none());
    store.discard(id(1)).await?;
    assert_eq!(store.staged().await?, []);
    assert!(!store.is_poisoned());
    Ok(())
}

async fn appends_are_hashed_in_order(subject: impl Subject) -> Outcome {
    let mut staging = subject.store().stage(id(1), Algorithm::Sha512).await?;
    assert_eq!((staging.id(), staging.offset()), (id(1), 0));
    staging.append(vec!["one ".into(), Bytes::new(), "two ".into()]).await?;
    assert_eq!(staging.offset(), 8);
    staging.append(vec![]).await?;
    staging.append(vec!["three".into()]).await?;
    assert_eq!(staging.offset(), 13);
    for algorithm in Algorithm::ALL {
        let expected = Hasher::digest_of(algorithm, b"one two three");
        assert_eq!(staging.digest(algorithm).await?, expected);
    }
    assert_eq!(staging.contents().await?, "one two three");
    Ok(())
}

async fn an_id_is_staged_once(subject: impl Subject) -> Outcome {
    let store = subject.store();
    let mut staging = staged(&*store, id(1), b"first").await?;
    assert!(store.stage(id(1), Algorithm::Sha256).await.is_err());
    assert_eq!(staging.contents().await?, "first");
    Ok(())
}

async fn staged_uploads_are_listed_until_they_are_gone(mut subject: impl Subject) -> Outcome {
    let one = staged(&*subject.store(), id(1), b"one").await?;
    drop(staged(&*subject.store(), id(2), b"two").await?);
    let expected: BTreeSet<_> = [id(1), id(2)].into();
    let listed: BTreeSet<_> = subject.store().staged().await?.into_iter().collect();
    assert_eq!(listed, expected);
    drop(one);
    subject.restart();
    let listed: BTreeSet<_> = subject.store().staged().await?.into_iter().collect();
    assert_eq!(listed, expected);
    subject.store().discard(id(1)).await?;
    assert_eq!(subject.store().staged().await?, [id(2)]);
    Ok(())
}

async fn resume_cuts_the_tail(mut subject: impl Subject) -> Outcome {
    drop(staged(&*subject.store(), id(1), b"durable and more").await?);
    subject.restart();
    let store = subject.store();
    let resumed = store.resume(id(1), 7, Algorithm::Sha256).await?;
    let mut staging = resumed.ok_or("the upload is there")?;
    assert_eq!((staging.offset(), staging.contents().await?), (7, "durable".into()));
    staging.append(vec!["!".into()]).await?;
    let digest = staging.digest(Algorithm::Sha256).await?;
    assert_eq!(digest, sha256(b"durable!"));
    staging.sync().await?;
    let published = store.publish(staging, &digest, 8, false).await?;
    store.sync_directories(published).await?;
    assert_eq!(blob(&*store, &digest).await?, Some("durable!".into()));
    Ok(())
}

async fn resume_of_too_few_bytes_is_none(mut subject: impl Subject) -> Outcome {
    drop(staged(&*subject.store(), id(1), b"four").await?);
    subject.restart();
    let store = subject.store();
    assert!(store.resume(id(1), 5, Algorithm::Sha256).await?.is_none());
    let resumed = store.resume(id(1), 4, Algorithm::Blake3).await?;
    let mut staging = resumed.ok_or("the bytes are still there")?;
    let expected = Hasher::digest_of(Algorithm::Blake3, b"four");
    assert_eq!(staging.digest(Algorithm::Blake3).await?, expected);
    Ok(())
}

async fn resume_ends_the_older_handle(subject: impl Subject) -> Outcome {
    let store = subject.store();
    let mut older = staged(&*store, id(1), b"prefix and more").await?;
    let resumed = store.resume(id(1), 6, Algorithm::Sha256).await?;
    let mut newer = resumed.ok_or("the upload is there")?;
    assert!(older.append(vec!["older".into()]).await.is_err());
    assert!(older.sync().await.is_err());
    assert!(older.digest(Algorithm::Sha256).await.is_err());
    newer.append(vec![" newer".into()]).await?;
    assert_eq!(newer.contents().await?, "prefix newer");
    let refused = store.publish(older, &sha256(b"prefix and more"), 15, false).await;
    assert!(refused.is_err());
    assert_eq!(newer.contents().await?, "prefix newer");
    Ok(())
}

async fn discard_ends_the_handle(subject: impl Subject) -> Outcome {
    let store = subject.store();
    let mut staging = staged(&*store, id(1), b"content").await?;
    store.discard(id(1)).await?;
    assert!(staging.append(vec!["more".into()]).await.is_err());
    assert!(staging.contents().await.is_err());
    assert_eq!(store.staged().await?, []);
    drop(staged(&*store, id(1), b"the id is free again").await?);
    Ok(())
}

async fn publish_of_another_size_is_refused(subject: impl Subject) -> Outcome {
    let store = subject.store();
    let digest = sha256(b"content");
    let staging = staged(&*store, id(1), b"content").await?;
    assert!(store.publish(staging, &digest, 8, false).await.is_err());
    assert_eq!(blob(&*store, &digest).await?, None);
    let again = store.resume(id(1), 7, Algorithm::Sha256).await?;
    assert_eq!(again.ok_or("the upload stays")?.contents().await?, "content");
    Ok(())
}

async fn publish_keeps_a_live_file(subject: impl Subject) -> Outcome {
    let digest = sha256(b"content");
    // Not the right bytes, so that the test can tell which file stands there.
    subject.plant(&digest, b"CONTENT");
    push(&*subject.store(), id(1), &digest, b"content", true).await?;
    assert_eq!(blob(&*subject.store(), &digest).await?, Some("CONTENT".into()));
    assert_eq!(subject.store().staged().await?, [], "B2");
    Ok(())
}

async fn publish_replaces_a_wrong_file(subject: impl Subject) -> Outcome {
    let digest = sha256(b"content");
    for (n, wrong) in (1..).zip(["CONTENT", "", "content and more"]) {
        subject.plant(&digest, wrong.as_bytes());
        push(&*subject.store(), id(n), &digest, b"content", false).await?;
        assert_eq!(blob(&*subject.store(), &digest).await?, Some("content".into()), "{wrong}");
        assert_eq!(subject.store().staged().await?, [], "B2");
    }
    Ok(())
}

async fn publish_replaces_a_file_of_another_size_even_if_live(subject: impl Subject) -> Outcome {
    let digest = sha256(b"content");
    subject.plant(&digest, b"cont");
    push(&*subject.store(), id(1), &digest, b"content", true).await?;
    assert_eq!(blob(&*subject.store(), &digest).await?, Some("content".into()));
    Ok(())
}

async fn publish_again_after_removal(subject: impl Subject) -> Outcome {
    let store = subject.store();
    let digest = sha256(b"content");
    for n in 1..4 {
        push(&*store, id(n), &digest, b"content", false).await?;
        assert_eq!(blob(&*store, &digest).await?, Some("content".into()));
        assert!(store.remove(&digest).await?);
        assert_eq!(blob(&*store, &digest).await?, None);
        assert!(!store.remove(&digest).await?);
    }
    Ok(())
}

async fn spilled_contents_read_back(mut subject: impl Subject) -> Outcome {
    let contents: [&[u8]; 4] = [b"", b"one", b"two", b"three"];
    let batch: Vec<_> =
        contents.iter().map(|bytes| (sha256(bytes), Bytes::copy_from_slice(bytes))).collect();
    for _ in 0..2 {
        let mut spilled = subject.store().spill(batch.clone()).await?;
        spilled.durable.sort();
        let mut expected: Vec<_> = batch.iter().map(|(digest, _)| *digest).collect();
        expected.sort();
        assert_eq!(spilled.durable, expected);
        assert!(spilled.failed.is_empty(), "{:?}", spilled.failed);
        assert_eq!(subject.store().staged().await?, [], "B2");
        subject.restart();
        for (digest, bytes) in &batch {
            assert_eq!(blob(&*subject.store(), digest).await?.as_ref(), Some(bytes));
        }
    }
    assert!(subject.store().spill(vec![]).await?.durable.is_empty());
    Ok(())
}

async fn spill_replaces_wrong_files(subject: impl Subject) -> Outcome {
    let (one, two) = (sha256(b"one"), sha256(b"two"));
    subject.plant(&one, b"ONE");
    subject.plant(&two, b"longer than two");
    let batch = vec![(one, "one".into()), (two, "two".into()), (one, "one".into())];
    let spilled = subject.store().spill(batch).await?;
    assert!(spilled.failed.is_empty(), "{:?}", spilled.failed);
    assert_eq!(blob(&*subject.store(), &one).await?, Some("one".into()));
    assert_eq!(blob(&*subject.store(), &two).await?, Some("two".into()));
    Ok(())
}

async fn only_a_right_file_is_kept(subject: impl Subject) -> Outcome {
    let (store, digest) = (subject.store(), sha256(b"content"));
    assert!(!store.keep(&digest, 7).await?, "there is none");
    subject.plant(&digest, b"damaged");
    assert!(!store.keep(&digest, 7).await?);
    assert_eq!(blob(&*store, &digest).await?, Some("damaged".into()), "it is left alone");
    subject.plant(&digest, b"content");
    assert!(!store.keep(&digest, 8).await?);
    assert!(store.keep(&digest, 7).await?);
    Ok(())
}

async fn a_quarantined_file_makes_room_for_a_right_one(subject: impl Subject) -> Outcome {
    let (store, digest) = (subject.store(), sha256(b"content"));
    assert_eq!(store.quarantine(&digest).await?, None);
    let mut names = BTreeSet::new();
    for round in 0..12 {
        push(&*store, id(round), &digest, b"content", false).await?;
        subject.plant(&digest, b"damaged");
        names.extend(store.quarantine(&digest).await?);
        assert_eq!(blob(&*store, &digest).await?, None);
    }
    assert_eq!(names.len(), 10, "the oldest are kept, their number is bounded");
    push(&*store, id(99), &digest, b"content", true).await?;
    assert_eq!(blob(&*store, &digest).await?, Some("content".into()));
    Ok(())
}

async fn shards_list_every_file(subject: impl Subject) -> Outcome {
    let store = subject.store();
    let mut expected = Vec::new();
    for (n, algorithm) in (0_u8..).zip(Algorithm::ALL.into_iter().cycle()).take(12) {
        let content = vec![n; usize::from(n)];
        let digest = Hasher::digest_of(algorithm, &content);
        push(&*store, id(n), &digest, &content, false).await?;
        expected.push((digest, u64::from(n)));
    }
    expected.sort_unstable();
    // A blob that was removed leaves at most its shard behind.
    store.remove(&expected.remove(3).0).await?;
    let mut found = Vec::new();
    for shard in Shard::all() {
        let listed = store.shard_files(shard).await?;
        assert!(listed.foreign.is_empty());
        found.extend(listed.files);
    }
    assert_eq!(found, expected, "in the order of digests");
    assert!(store.foreign().await?.is_empty());
    Ok(())
}

async fn hashing_reads_what_reading_does(subject: impl Subject) -> Outcome {
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 4]).collect();
    let (store, digest) = (subject.store(), sha256(&content));
    push(&*store, id(1), &digest, &content, false).await?;
    let reader = store.open(&digest).await?.ok_or("published")?.reader;
    let hasher = reader.hash(0, 1_000_001, Hasher::new(Algorithm::Sha256)).await?;
    let hasher = reader.hash(1_000_001, 1_999_999, hasher).await?;
    assert_eq!(hasher.finish(), digest);
    let (bytes, hasher) = reader.read_hashed(5, 10, Hasher::new(Algorithm::Sha256)).await?;
    assert_eq!((&bytes[..], hasher.finish()), (&content[5..15], sha256(&content[5..15])));
    assert!(reader.hash(2_999_999, 2, Hasher::new(Algorithm::Sha256)).await.is_err());
    Ok(())
}

async fn verified_blobs_never_end_wrong(subject: impl Subject) -> Outcome {
    let (store, digest) = (subject.store(), sha256(b"content"));
    for (bytes, is_right) in [(&b"content"[..], true), (b"contend", false), (b"", false)] {
        push(&*store, id(1), &digest, b"content", false).await?;
        subject.plant(&digest, bytes);
        let told = Arc::new(AtomicBool::new(false));
        let telling = Arc::clone(&told);
        let on_damage = Box::new(move || telling.store(true, Ordering::Release));
        let mut opened = store.open(&digest).await?.ok_or("planted")?;
        opened.size_bytes = 7;
        let verified = opened.verifying(&digest, on_damage);
        let (first, last) = (verified.reader.read(0, 4).await, verified.reader.read(4, 3).await);
        assert_eq!(first.is_ok(), !bytes.is_empty());
        assert_eq!(last.is_ok(), is_right);
        assert_eq!(told.load(Ordering::Acquire), !is_right);
    }
    Ok(())
}
