//! Finding and containing damage. Here contents have their true digests: the store compares them.

use bytes::Bytes;

use super::super::{BlobState, LinkBlob, Place, PushManifest, ScrubRecord, ScrubTotals, Verdict};
use super::{Outcome, Subject, link, name, push, tag};
use crate::meta::Timestamp;
use crate::oci::{Algorithm, Digest, Reference, Shard};

const RIGHT: &[u8] = b"content";

fn digest() -> Digest {
    Digest::of(Algorithm::Sha256, RIGHT)
}

/// The content arrives, inline, with these bytes.
fn arrival(bytes: &'static [u8]) -> LinkBlob {
    let content = Some(Bytes::from_static(bytes));
    LinkBlob { digest: digest(), size_bytes: RIGHT.len() as u64, content, ..link("a", 1, 10) }
}

/// The same as a manifest, which keeps its inline copy.
fn manifest(bytes: &'static [u8]) -> PushManifest {
    let content = Some(Bytes::from_static(bytes));
    let size_bytes = RIGHT.len() as u64;
    PushManifest { digest: digest(), size_bytes, content, ..push("a", 1, vec![], &["latest"]) }
}

async fn place_and_state<S: Subject>(
    store: &S,
) -> Result<(Place, BlobState), Box<dyn std::error::Error>> {
    let found = store.stored(&digest()).await?.ok_or("stored")?;
    Ok((found.place, found.state))
}

pub async fn a_content_without_a_right_copy_is_quarantined<S: Subject>(store: &S) -> Outcome {
    assert_eq!(store.judge(&digest(), false).await?, Verdict::Gone);
    store.link_blob(LinkBlob { content: None, ..arrival(RIGHT) }).await?;
    assert_eq!(store.judge(&digest(), true).await?, Verdict::Sound);
    for _ in 0..2 {
        assert_eq!(store.judge(&digest(), false).await?, Verdict::Quarantined);
        assert_eq!(place_and_state(store).await?, (Place::File, BlobState::Quarantined));
        assert_eq!(store.blob(&name("a"), &digest()).await?, None);
    }
    // Its file came back right, or it is pushed again.
    assert_eq!(store.judge(&digest(), true).await?, Verdict::Kept);
    assert!(store.blob(&name("a"), &digest()).await?.is_some());
    assert_eq!(store.judge(&digest(), false).await?, Verdict::Quarantined);
    store.link_blob(arrival(RIGHT)).await?;
    assert_eq!(place_and_state(store).await?, (Place::Inline, BlobState::Live));
    assert_eq!(store.unspilled(None, 9, 99).await?, [(digest(), RIGHT.into())]);
    Ok(())
}

pub async fn a_right_inline_copy_replaces_a_wrong_file<S: Subject>(store: &S) -> Outcome {
    store.put_manifest(manifest(RIGHT)).await?;
    assert_eq!(store.judge(&digest(), false).await?, Verdict::Sound, "it has no file yet");
    store.mark_spilled(vec![digest()]).await?;
    assert_eq!(store.judge(&digest(), true).await?, Verdict::Sound);
    assert_eq!(store.judge(&digest(), false).await?, Verdict::Rewrite);
    assert_eq!(place_and_state(store).await?, (Place::Inline, BlobState::Live));
    assert_eq!(store.unspilled(None, 9, 99).await?, [(digest(), RIGHT.into())]);
    let latest = Reference::Tag(tag("latest"));
    assert!(store.manifest(&name("a"), &latest).await?.is_some(), "nothing became unavailable");
    Ok(())
}

pub async fn a_right_file_replaces_a_wrong_inline_copy<S: Subject>(store: &S) -> Outcome {
    store.put_manifest(manifest(b"damaged")).await?;
    store.mark_spilled(vec![digest()]).await?;
    assert_eq!(store.judge(&digest(), true).await?, Verdict::Kept);
    assert_eq!(place_and_state(store).await?, (Place::File, BlobState::Live));
    assert_eq!(store.small_content(&digest()).await?, None);
    let latest = Reference::Tag(tag("latest"));
    let found = store.manifest(&name("a"), &latest).await?.ok_or("served")?;
    assert_eq!(found.1, None, "its bytes come from its file");
    store.put_manifest(manifest(RIGHT)).await?;
    assert_eq!(place_and_state(store).await?, (Place::Both, BlobState::Live));
    Ok(())
}

pub async fn a_wrong_inline_copy_alone_is_quarantined<S: Subject>(store: &S) -> Outcome {
    store.link_blob(arrival(b"damaged")).await?;
    assert_eq!(store.judge(&digest(), false).await?, Verdict::Quarantined);
    assert!(store.unspilled(None, 9, 99).await?.is_empty());
    assert_eq!(store.small_content(&digest()).await?, None);
    store.set_state(&digest(), BlobState::Unlinking)?;
    assert_eq!(store.judge(&digest(), false).await?, Verdict::Gone, "it is the collector's");
    // Such a state with a repository is nobody's but this test's (M9).
    store.set_state(&digest(), BlobState::Quarantined)?;
    Ok(())
}

pub async fn contents_are_listed_by_shard<S: Subject>(store: &S) -> Outcome {
    let numbered = |algorithm, first: u8, last: u8| {
        let mut value = vec![0; Algorithm::size_bytes(algorithm)];
        value[0] = first;
        value[31] = last;
        Digest::from_bytes(algorithm, &value).ok_or("a digest")
    };
    let mut all = Vec::new();
    for algorithm in Algorithm::ALL {
        for first in [0, 7, 255] {
            for last in [0, 1, 255] {
                all.push(numbered(algorithm, first, last)?);
            }
        }
    }
    for digest in &all {
        store.link_blob(LinkBlob { digest: *digest, ..link("a", 1, 10) }).await?;
    }
    let mut found = Vec::new();
    for shard in Shard::all() {
        let mut after = None;
        loop {
            let page = store.contents(shard, after.as_ref(), 2).await?;
            assert!(page.items.len() <= 2);
            after = page.items.last().map(|(digest, _)| *digest);
            found.extend(page.items.into_iter().map(|(digest, _)| digest));
            if !page.more {
                break;
            }
        }
    }
    assert_eq!(found, all, "each once, in the order of digests");
    Ok(())
}

pub async fn the_place_of_the_scrub_is_remembered<S: Subject>(store: &S) -> Outcome {
    assert_eq!(store.scrub().await?, ScrubRecord::default());
    let totals = ScrubTotals { contents: 1, size_bytes: 2, damaged: 3, unreadable: 4, orphans: 5 };
    let record = ScrubRecord {
        passes: 6,
        finished_at: Timestamp(7),
        started_uptime_seconds: 8,
        shard: Some(Shard::COUNT - 1),
        after: Some(digest()),
        totals,
    };
    for record in [record, ScrubRecord { shard: None, after: None, ..record }] {
        store.save_scrub(record).await?;
        assert_eq!(store.scrub().await?, record);
    }
    Ok(())
}
