//! Blobs, links, places.

use super::super::{BlobState, EdgeKind, LinkBlob, MountBlob, Place, PutManifest, UnlinkBlob};
use super::{
    Garbage, Outcome, Subject, content, digest, edge, link, moment, name, push, record, size_bytes,
    tag,
};
use crate::oci::Reference;

pub async fn a_link_is_the_permission<S: Subject>(store: &S) -> Outcome {
    store.link_blob(link("a", 1, 10)).await?;
    let (found, _) = store.blob(&name("a"), &digest(1)).await?.ok_or("linked")?;
    assert_eq!((found.size_bytes, found.place), (size_bytes(1), Place::Inline));
    assert_eq!(store.blob(&name("b"), &digest(1)).await?, None);
    assert_eq!(store.blob(&name("a"), &digest(2)).await?, None);
    assert_eq!(store.stored(&digest(1)).await?, Some(found));
    assert_eq!(store.stored(&digest(2)).await?, None);
    assert_eq!(store.small_content(&digest(1)).await?, Some(content(1)));
    Ok(())
}

pub async fn content_is_stored_once<S: Subject>(store: &S) -> Outcome {
    store.link_blob(LinkBlob { content: None, ..link("a", 1, 10) }).await?;
    store.link_blob(link("b", 1, 10)).await?;
    store.link_blob(link("b", 1, 11)).await?;
    let found = store.stored(&digest(1)).await?.ok_or("stored")?;
    assert_eq!((found.place, found.repositories), (Place::File, 2));
    assert_eq!(store.small_content(&digest(1)).await?, None);
    assert!(store.unspilled(None, 10, 1000).await?.is_empty());
    let counted = record(store, "b").await?;
    assert_eq!((counted.blobs, counted.size_bytes), (1, size_bytes(1)));
    Ok(())
}

pub async fn a_durable_file_ends_the_wait_for_one<S: Subject>(store: &S) -> Outcome {
    store.link_blob(link("a", 1, 10)).await?;
    store.link_blob(LinkBlob { content: None, ..link("b", 1, 10) }).await?;
    let found = store.stored(&digest(1)).await?.ok_or("stored")?;
    assert_eq!(found.place, Place::File);
    assert!(store.unspilled(None, 10, 1000).await?.is_empty());
    assert_eq!(store.small_content(&digest(1)).await?, None);
    Ok(())
}

pub async fn spilled_blobs_lose_their_inline_copy<S: Subject>(store: &S) -> Outcome {
    store.link_blob(link("a", 1, 10)).await?;
    assert_eq!(store.unspilled(None, 10, 1000).await?, [(digest(1), content(1))]);
    store.mark_spilled(vec![digest(1), digest(2)]).await?;
    store.mark_spilled(vec![digest(1)]).await?;
    let found = store.stored(&digest(1)).await?.ok_or("stored")?;
    assert_eq!(found.place, Place::File);
    assert_eq!(store.small_content(&digest(1)).await?, None);
    assert!(store.unspilled(None, 10, 1000).await?.is_empty());
    Ok(())
}

pub async fn unspilled_contents_come_in_bounded_portions<S: Subject>(store: &S) -> Outcome {
    for n in 1..=6 {
        store.link_blob(link("a", n, 10)).await?;
    }
    assert_eq!(store.unspilled(None, 4, 1000).await?.len(), 4);
    assert_eq!(store.unspilled(None, 0, 1000).await?.len(), 0);
    assert_eq!(store.unspilled(None, 6, 0).await?.len(), 1);
    let some = store.unspilled(None, 6, 9).await?;
    let together: usize = some.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(together <= 9 && some.len() < 6, "{some:?}");
    let all = store.unspilled(None, 6, 1000).await?;
    assert_eq!(store.unspilled(Some(&all[3].0), 6, 1000).await?, all[4..]);
    assert!(store.unspilled(Some(&all[5].0), 6, 1000).await?.is_empty());
    Ok(())
}

pub async fn mounts_need_a_readable_source<S: Subject>(store: &S) -> Outcome {
    let mount = |from: &str| MountBlob {
        from: name(from),
        to: name("b"),
        digest: digest(1),
        moment: moment(20),
    };
    assert!(!store.mount_blob(mount("a")).await?);
    assert_eq!(store.repository(&name("b")).await?, None);
    store.link_blob(link("a", 1, 10)).await?;
    assert!(store.mount_blob(mount("a")).await?);
    assert!(store.mount_blob(mount("a")).await?);
    let (found, _) = store.blob(&name("b"), &digest(1)).await?.ok_or("mounted")?;
    assert_eq!((found.repositories, found.place), (2, Place::Inline));
    assert_eq!(record(store, "b").await?.blobs, 1);
    let readers = store.repositories_with_blob(&digest(1), None, 1).await?;
    assert_eq!((readers.items, readers.more), (vec![name("a")], true));
    let readers = store.repositories_with_blob(&digest(1), Some(&name("a")), 9).await?;
    assert_eq!((readers.items, readers.more), (vec![name("b")], false));
    let unknown = store.repositories_with_blob(&digest(1), Some(&name("c")), 9).await?;
    assert!(unknown.items.is_empty());
    Ok(())
}

pub async fn referenced_blobs_stay<S: Subject>(store: &S) -> Outcome {
    store.link_blob(link("a", 1, 10)).await?;
    let manifest = push("a", 9, vec![edge(1, EdgeKind::Layer)], &[]);
    assert_eq!(store.put_manifest(manifest).await?, PutManifest::Stored);
    let unlinked = store.unlink_blob(&name("a"), &digest(1), moment(30)).await?;
    assert_eq!(unlinked, UnlinkBlob::Referenced);
    assert!(store.blob(&name("a"), &digest(1)).await?.is_some());
    assert!(store.gc_queue()?.is_empty());
    Ok(())
}

pub async fn unlinked_blobs_wait_for_the_collector<S: Subject>(store: &S) -> Outcome {
    store.link_blob(link("a", 1, 10)).await?;
    store.link_blob(link("b", 1, 10)).await?;
    let unlink =
        async |repository| store.unlink_blob(&name(repository), &digest(1), moment(30)).await;
    assert_eq!(unlink("a").await?, UnlinkBlob::Removed);
    assert_eq!(unlink("a").await?, UnlinkBlob::Unknown);
    assert_eq!(unlink("c").await?, UnlinkBlob::Unknown);
    assert_eq!(store.blob(&name("a"), &digest(1)).await?, None);
    assert_eq!(store.repository(&name("a")).await?, None);
    assert_eq!(unlink("b").await?, UnlinkBlob::Removed);
    assert_eq!(store.gc_queue()?, [(30, 0, digest(1), Garbage::Content)]);
    assert_eq!(store.stored(&digest(1)).await?.map(|found| found.repositories), Some(0));
    store.link_blob(link("b", 1, 40)).await?;
    let id = record(store, "b").await?.id;
    assert_eq!(store.gc_queue()?, [(40, id, digest(1), Garbage::Link)]);
    Ok(())
}

pub async fn a_link_without_use_is_queued_once<S: Subject>(store: &S) -> Outcome {
    store.link_blob(link("a", 1, 10)).await?;
    store.link_blob(link("a", 1, 20)).await?;
    let id = record(store, "a").await?.id;
    assert_eq!(store.gc_queue()?, [(20, id, digest(1), Garbage::Link)]);
    store.put_manifest(push("a", 9, vec![edge(1, EdgeKind::Config)], &[])).await?;
    assert!(store.gc_queue()?.is_empty());
    store.link_blob(link("a", 1, 25)).await?;
    assert!(store.gc_queue()?.is_empty());
    assert!(store.delete_manifest(&name("a"), &digest(9), moment(30)).await?);
    let queued = [(30, 0, digest(9), Garbage::Content), (30, id, digest(1), Garbage::Link)];
    assert_eq!(store.gc_queue()?, queued);
    Ok(())
}

pub async fn one_digest_has_one_length<S: Subject>(store: &S) -> Outcome {
    store.link_blob(link("a", 1, 10)).await?;
    let wrong = LinkBlob { size_bytes: 99, ..link("b", 1, 10) };
    assert!(store.link_blob(wrong).await.is_err());
    assert_eq!(store.repository(&name("b")).await?, None);
    Ok(())
}

pub async fn lists_of_blobs_have_pages<S: Subject>(store: &S) -> Outcome {
    for n in [3, 1, 2, 4] {
        store.link_blob(link("a", n, 10)).await?;
        store.link_blob(link("b", n + 10, 10)).await?;
    }
    let mut expected: Vec<_> = (1..=4).map(digest).collect();
    expected.sort();
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.blobs(&name("a"), after.as_ref(), 3).await?;
        found.extend(page.items.iter().map(|(digest, _)| *digest));
        after = found.last().copied();
        if !page.more {
            break;
        }
    }
    assert_eq!(found, expected);
    let nothing = store.blobs(&name("a"), None, 0).await?;
    assert_eq!((nothing.items.len(), nothing.more), (0, true));
    assert!(store.blobs(&name("c"), None, 9).await?.items.is_empty());
    Ok(())
}

pub async fn contents_that_are_not_live_are_not_there<S: Subject>(store: &S) -> Outcome {
    let (n, digest) = (1, digest(1));
    store.link_blob(LinkBlob { content: None, ..link("a", n, 10) }).await?;
    store.set_state(&digest, BlobState::Quarantined)?;
    assert_eq!(store.blob(&name("a"), &digest).await?, None);
    assert!(store.blobs(&name("a"), Some(&digest), 9).await?.items.is_empty());
    assert!(store.repositories_with_blob(&digest, None, 9).await?.items.is_empty());
    let mount = MountBlob { from: name("a"), to: name("b"), digest, moment: moment(20) };
    assert!(!store.mount_blob(mount).await?);
    let refused = store.put_manifest(push("a", 9, vec![edge(n, EdgeKind::Layer)], &[])).await?;
    assert_eq!(refused, PutManifest::Missing(vec![digest]));
    let unlinked = store.unlink_blob(&name("a"), &digest, moment(30)).await?;
    assert_eq!(unlinked, UnlinkBlob::Unknown);
    // Uploaded again inline: its file may be gone or wrong, so it is written again.
    store.link_blob(link("b", n, 30)).await?;
    let (found, _) = store.blob(&name("a"), &digest).await?.ok_or("revived")?;
    let expected = (Place::Inline, BlobState::Live, 2);
    assert_eq!((found.place, found.state, found.repositories), expected);
    assert_eq!(store.unspilled(None, 9, 99).await?, [(digest, content(n))]);
    // Uploaded again as a file: the caller published it anew.
    store.mark_spilled(vec![digest]).await?;
    store.set_state(&digest, BlobState::Quarantined)?;
    store.link_blob(LinkBlob { content: None, ..link("a", n, 40) }).await?;
    let (found, _) = store.blob(&name("b"), &digest).await?.ok_or("revived")?;
    assert_eq!((found.place, found.state), (Place::File, BlobState::Live));
    Ok(())
}

pub async fn manifests_that_are_not_live_are_not_there<S: Subject>(store: &S) -> Outcome {
    store.put_manifest(push("a", 1, vec![], &["latest"])).await?;
    store.mark_spilled(vec![digest(1)]).await?;
    store.set_state(&digest(1), BlobState::Quarantined)?;
    let references = [Reference::Tag(tag("latest")), Reference::Digest(digest(1))];
    for reference in &references {
        assert_eq!(store.stat_manifest(&name("a"), reference).await?, None);
        assert_eq!(store.manifest(&name("a"), reference).await?, None);
    }
    let index = push("a", 2, vec![edge(1, EdgeKind::Child)], &[]);
    let refused = store.put_manifest(index.clone()).await?;
    assert_eq!(refused, PutManifest::Missing(vec![digest(1)]));
    store.put_manifest(push("a", 1, vec![], &[])).await?;
    for reference in &references {
        assert!(store.manifest(&name("a"), reference).await?.is_some());
    }
    assert_eq!(
        store.unspilled(None, 9, 99).await?,
        [(digest(1), content(1))],
        "its file is written anew"
    );
    assert_eq!(store.put_manifest(index).await?, PutManifest::Stored);
    Ok(())
}
