//! What the collector decides, and what takes it back.

use super::super::{
    Amount, BlobState, Candidate, EdgeKind, Garbage, GcQueue, LinkBlob, MountBlob, Place,
    PushManifest, Standing, Use,
};
use super::{
    Outcome, Subject, content, digest, edge, link, moment, name, push, record, size_bytes, tag,
};
use crate::oci::Reference;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// All that stands in a queue.
async fn all<S: Subject>(store: &S, queue: GcQueue) -> Result<Vec<Candidate>> {
    Ok(store.garbage(queue, u64::MAX, None, 99).await?)
}

async fn standing<S: Subject>(store: &S, repository: &str, n: u8) -> Result<Option<Standing>> {
    Ok(store.blob(&name(repository), &digest(n)).await?.map(|(_, standing)| standing))
}

async fn manifest_standing<S: Subject>(store: &S, n: u8) -> Result<Option<Standing>> {
    let found = store.stat_manifest(&name("a"), &Reference::Digest(digest(n))).await?;
    Ok(found.map(|record| record.standing))
}

const fn waits(eligible_uptime_seconds: u64) -> Option<Standing> {
    Some(Standing::Waiting { eligible_uptime_seconds })
}

pub async fn a_link_goes_and_its_content_after_it<S: Subject>(store: &S) -> Outcome {
    store.link_blob(link("a", 1, 10)).await?;
    let id = record(store, "a").await?.id;
    assert_eq!(standing(store, "a", 1).await?, waits(10));
    assert_eq!(store.garbage(GcQueue::Garbage, 10, None, 9).await?, []);
    let batch = store.garbage(GcQueue::Garbage, 11, None, 9).await?;
    let candidate = Candidate {
        eligible_uptime_seconds: 10,
        repository_id: id,
        repository: Some(name("a")),
        digest: digest(1),
        garbage: Garbage::Link,
        size_bytes: size_bytes(1),
    };
    assert_eq!(batch, [candidate]);
    assert_eq!(store.collect(batch.clone(), moment(20)).await?.links, 0, "not condemned");
    assert_eq!(store.condemn(batch.clone()).await?, batch);
    assert_eq!(store.condemn(batch.clone()).await?, batch, "chosen again after a crash");
    assert_eq!(standing(store, "a", 1).await?, Some(Standing::Condemned));
    let collected = store.collect(batch.clone(), moment(20)).await?;
    assert_eq!((collected.links, collected.contents), (1, vec![digest(1)]));
    assert_eq!(standing(store, "a", 1).await?, None);
    let stored = store.stored(&digest(1)).await?.ok_or("stored")?;
    assert_eq!((stored.state, stored.repositories), (BlobState::Unlinking, 0));
    assert_eq!(store.repository(&name("a")).await?, None, "nothing is left in it");
    // After a crash the content is found again, and is to be unlinked again.
    let again = all(store, GcQueue::Garbage).await?;
    assert_eq!(again.iter().map(|c| c.garbage).collect::<Vec<_>>(), [Garbage::Content]);
    assert_eq!(store.condemn(again.clone()).await?, again);
    assert_eq!(store.collect(again, moment(20)).await?.contents, [digest(1)]);
    let expected = Amount { count: 1, size_bytes: size_bytes(1) };
    assert_eq!(store.forget_contents(vec![digest(1), digest(1)]).await?, expected);
    assert_eq!(store.forget_contents(vec![digest(1)]).await?, Amount::default());
    assert_eq!((store.stored(&digest(1)).await?, store.gc_queue()?), (None, vec![]));
    assert_eq!(store.small_content(&digest(1)).await?, None);
    Ok(())
}

pub async fn whoever_uses_a_condemned_link_takes_it_back<S: Subject>(store: &S) -> Outcome {
    store.link_blob(link("z", 1, 999)).await?;
    for (index, seconds) in [100, 200, 300, 400].into_iter().enumerate() {
        store.link_blob(link("a", 1, seconds)).await?;
        let batch = store.garbage(GcQueue::Garbage, seconds + 1, None, 9).await?;
        assert_eq!(store.condemn(batch.clone()).await?.len(), 1);
        let later = moment(seconds + 50);
        let mount = MountBlob { from: name("z"), to: name("a"), digest: digest(1), moment: later };
        match index {
            0 => store.link_blob(link("a", 1, seconds + 50)).await?,
            1 => assert!(store.mount_blob(mount).await?),
            2 => assert!(store.revive(&name("a"), &digest(1), Use::Blob, later).await?),
            _ => store.spare(batch.clone(), seconds + 50).await?,
        }
        assert_eq!(standing(store, "a", 1).await?, waits(seconds + 50), "{index}");
        assert_eq!(store.collect(batch, later).await?.links, 0);
    }
    let batch = store.garbage(GcQueue::Garbage, 900, None, 9).await?;
    store.condemn(batch.clone()).await?;
    store.put_manifest(push("a", 9, vec![edge(1, EdgeKind::Layer)], &["t"])).await?;
    assert_eq!(standing(store, "a", 1).await?, Some(Standing::Held));
    assert_eq!(store.collect(batch, moment(900)).await?.links, 0);
    // And it begins anew when that use ends.
    assert!(store.delete_manifest(&name("a"), &digest(9), moment(950)).await?);
    assert_eq!(standing(store, "a", 1).await?, waits(950));
    Ok(())
}

pub async fn what_is_gone_or_elsewhere_is_not_revived<S: Subject>(store: &S) -> Outcome {
    let revive = async |repository, usage| {
        store.revive(&name(repository), &digest(1), usage, moment(90)).await
    };
    assert!(!revive("a", Use::Blob).await?);
    store.link_blob(link("a", 1, 10)).await?;
    assert!(!revive("a", Use::Manifest).await?);
    assert!(!revive("b", Use::Blob).await?);
    assert!(revive("a", Use::Blob).await?);
    assert_eq!(standing(store, "a", 1).await?, waits(10), "it was not condemned");
    let batch = all(store, GcQueue::Garbage).await?;
    store.condemn(batch.clone()).await?;
    store.collect(batch, moment(20)).await?;
    assert!(!revive("a", Use::Blob).await?);
    Ok(())
}

pub async fn only_what_stands_at_its_place_is_condemned<S: Subject>(store: &S) -> Outcome {
    store.link_blob(link("a", 1, 10)).await?;
    store.link_blob(link("a", 2, 10)).await?;
    store.link_blob(link("a", 3, 10)).await?;
    let batch = all(store, GcQueue::Garbage).await?;
    store.link_blob(link("a", 1, 11)).await?;
    store.put_manifest(push("a", 9, vec![edge(2, EdgeKind::Config)], &["t"])).await?;
    let condemned = store.condemn(batch.clone()).await?;
    assert_eq!(condemned.iter().map(|c| c.digest).collect::<Vec<_>>(), [digest(3)]);
    assert_eq!(store.collect(batch, moment(20)).await?.contents, [digest(3)]);
    assert!(store.blob(&name("a"), &digest(1)).await?.is_some());
    assert!(store.blob(&name("a"), &digest(2)).await?.is_some());
    Ok(())
}

pub async fn shared_contents_stay<S: Subject>(store: &S) -> Outcome {
    store.link_blob(link("a", 1, 10)).await?;
    store.link_blob(link("b", 1, 90)).await?;
    let batch = store.garbage(GcQueue::Garbage, 11, None, 9).await?;
    store.condemn(batch.clone()).await?;
    let collected = store.collect(batch, moment(20)).await?;
    assert_eq!((collected.links, collected.contents), (1, vec![]));
    let stored = store.stored(&digest(1)).await?.ok_or("stored")?;
    assert_eq!((stored.state, stored.repositories), (BlobState::Live, 1));
    assert_eq!(store.forget_contents(vec![digest(1)]).await?.count, 0);
    Ok(())
}

/// Lets everything go that stands in `gc_queue`, but for the files.
async fn collect_all<S: Subject>(store: &S) -> Result<super::super::Collected> {
    let batch = all(store, GcQueue::Garbage).await?;
    store.condemn(batch.clone()).await?;
    Ok(store.collect(batch, moment(500)).await?)
}

pub async fn contents_pushed_while_they_are_unlinked_live<S: Subject>(store: &S) -> Outcome {
    store.link_blob(link("a", 1, 10)).await?;
    store.link_blob(LinkBlob { content: None, ..link("a", 2, 10) }).await?;
    store.link_blob(LinkBlob { content: None, ..link("a", 3, 10) }).await?;
    assert_eq!(collect_all(store).await?.contents.len(), 3);
    assert!(store.unspilled(None, 9, 99).await?.is_empty(), "what is unlinked gets no file");
    store.mark_spilled(vec![digest(1)]).await?;
    let place = async |n| Ok::<_, super::super::Error>(store.stored(&digest(n)).await?);
    assert_eq!(place(1).await?.map(|stored| stored.place), Some(Place::Inline));
    // Its file may be gone, so content given is stored.
    store.link_blob(link("b", 1, 20)).await?;
    store.link_blob(link("b", 2, 20)).await?;
    // Or it was published again.
    store.link_blob(LinkBlob { content: None, ..link("b", 3, 20) }).await?;
    let forgotten = store.forget_contents(vec![digest(1), digest(2), digest(3)]).await?;
    assert_eq!(forgotten.count, 0);
    let unspilled: Vec<_> =
        store.unspilled(None, 9, 99).await?.into_iter().map(|(d, _)| d).collect();
    let mut expected = [digest(1), digest(2)];
    expected.sort();
    assert_eq!(unspilled, expected);
    for (n, expected) in [(1, Place::Inline), (2, Place::Inline), (3, Place::File)] {
        let stored = place(n).await?.ok_or("stored")?;
        assert_eq!((stored.state, stored.place), (BlobState::Live, expected));
    }
    assert_eq!(store.small_content(&digest(2)).await?, Some(content(2)));
    Ok(())
}

pub async fn untagged_manifests_wait_apart<S: Subject>(store: &S) -> Outcome {
    store.put_manifest(push("a", 1, vec![], &[])).await?;
    assert_eq!(manifest_standing(store, 1).await?, waits(100));
    assert!(all(store, GcQueue::Garbage).await?.is_empty());
    let untagged = all(store, GcQueue::Untagged).await?;
    assert_eq!(untagged.iter().map(|c| c.garbage).collect::<Vec<_>>(), [Garbage::Untagged]);
    // A tag, an index and a living subject hold it; their end lets it wait.
    store.put_manifest(push("a", 1, vec![], &["t"])).await?;
    assert_eq!(manifest_standing(store, 1).await?, Some(Standing::Held));
    assert!(store.delete_tag(&name("a"), &tag("t"), moment(110)).await?);
    assert_eq!(manifest_standing(store, 1).await?, waits(110));
    store.put_manifest(push("a", 2, vec![edge(1, EdgeKind::Child)], &["t"])).await?;
    assert_eq!(manifest_standing(store, 1).await?, Some(Standing::Held));
    store.delete_manifest(&name("a"), &digest(2), moment(120)).await?;
    assert_eq!(manifest_standing(store, 1).await?, waits(120));
    let subject = push("a", 3, vec![], &["t"]);
    let attached = PushManifest { subject: Some(digest(3)), ..push("a", 1, vec![], &[]) };
    store.put_manifest(attached).await?;
    assert_eq!(manifest_standing(store, 1).await?, waits(100), "its subject is not there");
    store.put_manifest(subject).await?;
    assert_eq!(manifest_standing(store, 1).await?, Some(Standing::Held));
    // A tag that moves on lets go of what it pointed at.
    store
        .put_manifest(PushManifest { moment: moment(130), ..push("a", 4, vec![], &["t"]) })
        .await?;
    assert_eq!(manifest_standing(store, 3).await?, waits(130));
    assert_eq!(manifest_standing(store, 1).await?, Some(Standing::Held));
    Ok(())
}

pub async fn tags_and_indexes_hold_orphaned_referrers<S: Subject>(store: &S) -> Outcome {
    let signature = PushManifest { subject: Some(digest(1)), ..push("a", 2, vec![], &["sig"]) };
    store.put_manifest(push("a", 1, vec![], &["t"])).await?;
    store.put_manifest(signature.clone()).await?;
    store.delete_manifest(&name("a"), &digest(1), moment(110)).await?;
    assert_eq!(manifest_standing(store, 2).await?, Some(Standing::Held));
    store.put_manifest(push("a", 3, vec![edge(2, EdgeKind::Child)], &["index"])).await?;
    store.delete_tag(&name("a"), &tag("sig"), moment(120)).await?;
    assert_eq!(manifest_standing(store, 2).await?, Some(Standing::Held));
    store.delete_manifest(&name("a"), &digest(3), moment(130)).await?;
    assert_eq!(manifest_standing(store, 2).await?, waits(130));
    let kinds = |found: Vec<Candidate>| {
        found.iter().filter(|c| c.digest == digest(2)).map(|c| c.garbage).collect::<Vec<_>>()
    };
    assert_eq!(kinds(all(store, GcQueue::Garbage).await?), [Garbage::Referrer]);
    assert!(all(store, GcQueue::Untagged).await?.is_empty());
    // Pushed anew it is wanted, with or without its subject.
    store.put_manifest(PushManifest { tags: vec![], ..signature }).await?;
    assert_eq!(kinds(all(store, GcQueue::Garbage).await?), []);
    assert_eq!(kinds(all(store, GcQueue::Untagged).await?), [Garbage::Untagged]);
    Ok(())
}

pub async fn a_collected_manifest_leaves_a_grace_to_what_it_held<S: Subject>(store: &S) -> Outcome {
    store.link_blob(link("a", 1, 10)).await?;
    store.put_manifest(push("a", 2, vec![edge(1, EdgeKind::Layer)], &[])).await?;
    let index = push("a", 3, vec![edge(2, EdgeKind::Child)], &[]);
    store.put_manifest(index).await?;
    let attached = PushManifest { subject: Some(digest(3)), ..push("a", 4, vec![], &[]) };
    store.put_manifest(attached).await?;
    let batch = all(store, GcQueue::Untagged).await?;
    assert_eq!(batch.iter().map(|c| c.digest).collect::<Vec<_>>(), [digest(3)]);
    store.condemn(batch.clone()).await?;
    assert_eq!(manifest_standing(store, 3).await?, Some(Standing::Condemned));
    assert!(store.revive(&name("a"), &digest(3), Use::Manifest, moment(150)).await?);
    assert_eq!(store.collect(batch, moment(500)).await?.manifests, 0);
    let batch = all(store, GcQueue::Untagged).await?;
    store.condemn(batch.clone()).await?;
    let collected = store.collect(batch, moment(500)).await?;
    // Readers were told that they need nothing of this, and gave back their leases.
    assert_eq!((collected.manifests, collected.contents), (1, vec![digest(3)]));
    assert_eq!(manifest_standing(store, 2).await?, waits(500));
    assert_eq!(manifest_standing(store, 4).await?, waits(500));
    assert_eq!(standing(store, "a", 1).await?, Some(Standing::Held));
    assert_eq!(all(store, GcQueue::Garbage).await?.len(), 2, "the content and the referrer");
    assert_eq!(store.forget_contents(vec![digest(3)]).await?.count, 1);
    Ok(())
}

pub async fn empty_repositories_go_and_come_with_a_new_id<S: Subject>(store: &S) -> Outcome {
    store.link_blob(link("a", 1, 10)).await?;
    let first = record(store, "a").await?.id;
    store.unlink_blob(&name("a"), &digest(1), moment(20)).await?;
    assert_eq!(store.repository(&name("a")).await?, None);
    store.put_manifest(push("a", 2, vec![], &["t"])).await?;
    assert!(record(store, "a").await?.id > first);
    store.delete_manifest(&name("a"), &digest(2), moment(20)).await?;
    assert_eq!(store.repository(&name("a")).await?, None);
    assert!(store.repositories(None, 9).await?.items.is_empty());
    Ok(())
}

pub async fn queues_are_counted_and_have_pages<S: Subject>(store: &S) -> Outcome {
    for n in 1..=5 {
        store.link_blob(link("a", n, 10 * u64::from(n))).await?;
    }
    store.put_manifest(push("b", 6, vec![], &[])).await?;
    store.unlink_blob(&name("a"), &digest(5), moment(60)).await?;
    let waiting = store.waiting(25, 25).await?;
    let sum = |digests: &[u8]| Amount {
        count: digests.len() as u64,
        size_bytes: digests.iter().map(|n| size_bytes(*n)).sum(),
    };
    assert_eq!(waiting.eligible.links, sum(&[1, 2]));
    assert_eq!(waiting.waiting.links, sum(&[3, 4]));
    assert_eq!(waiting.waiting.contents, sum(&[5]));
    assert_eq!(waiting.waiting.untagged, sum(&[6]));
    assert_eq!(waiting.last_eligible_uptime_seconds, Some(60));
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.garbage(GcQueue::Garbage, 45, after.as_ref(), 3).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        found.extend(page.iter().map(|c| c.digest));
    }
    assert_eq!(found, [digest(1), digest(2), digest(3), digest(4)]);
    Ok(())
}
