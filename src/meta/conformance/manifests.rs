//! Manifests, tags, the catalog.

use super::super::{Edge, EdgeKind, Expect, LinkBlob, Place, PushManifest, PutManifest, Timestamp};
use super::{
    Garbage, Outcome, Subject, content, digest, edge, link, moment, name, push, record, size_bytes,
    tag,
};
use crate::oci::{Digest, Reference};

type Found = Result<Option<Digest>, Box<dyn std::error::Error>>;

async fn tagged<S: Subject>(store: &S, repository: &str, text: &str) -> Found {
    let reference = Reference::Tag(tag(text));
    let found = store.stat_manifest(&name(repository), &reference).await?;
    Ok(found.map(|record| record.digest))
}

pub async fn a_pushed_manifest_is_found_by_tag_and_digest<S: Subject>(store: &S) -> Outcome {
    store.link_blob(link("a", 1, 10)).await?;
    let manifest = push("a", 9, vec![edge(1, EdgeKind::Layer)], &["v1", "v2"]);
    assert_eq!(store.put_manifest(manifest.clone()).await?, PutManifest::Stored);
    for reference in
        [Reference::Digest(digest(9)), Reference::Tag(tag("v1")), Reference::Tag(tag("v2"))]
    {
        let found = store.manifest(&name("a"), &reference).await?;
        let (found, bytes) = found.ok_or("pushed")?;
        assert_eq!((found.digest, found.media_type), (digest(9), manifest.media_type.clone()));
        assert_eq!((found.size_bytes, bytes), (size_bytes(9), Some(content(9))));
    }
    assert_eq!(tagged(store, "b", "v1").await?, None);
    let counted = record(store, "a").await?;
    assert_eq!((counted.manifests, counted.tags, counted.blobs), (1, 2, 1));
    assert_eq!(counted.size_bytes, size_bytes(1) + size_bytes(9));
    Ok(())
}

pub async fn missing_references_change_nothing<S: Subject>(store: &S) -> Outcome {
    store.link_blob(link("b", 1, 10)).await?;
    store.link_blob(link("a", 2, 10)).await?;
    let edges = [1, 2, 3].map(|n| edge(n, EdgeKind::Layer)).to_vec();
    let mut missing = vec![digest(1), digest(3)];
    missing.sort();
    let refused = store.put_manifest(push("a", 9, edges, &["v1"])).await?;
    assert_eq!(refused, PutManifest::Missing(missing));
    assert_eq!(tagged(store, "a", "v1").await?, None);
    assert_eq!(store.stored(&digest(9)).await?, None);
    let refused = store.put_manifest(push("c", 9, vec![edge(1, EdgeKind::Config)], &[])).await?;
    assert_eq!(refused, PutManifest::Missing(vec![digest(1)]));
    assert_eq!(store.repository(&name("c")).await?, None);
    Ok(())
}

pub async fn wrong_lengths_change_nothing<S: Subject>(store: &S) -> Outcome {
    store.link_blob(link("a", 1, 10)).await?;
    let wrong = Edge { size_bytes: 99, ..edge(1, EdgeKind::Layer) };
    let refused = store.put_manifest(push("a", 9, vec![wrong], &["v1"])).await?;
    let stored_size_bytes = size_bytes(1);
    assert_eq!(refused, PutManifest::SizeMismatch { digest: digest(1), stored_size_bytes });
    assert_eq!(tagged(store, "a", "v1").await?, None);
    // A length in another repository is none of this one's business.
    let optional = Edge { optional: true, ..wrong };
    assert_eq!(store.put_manifest(push("b", 9, vec![optional], &[])).await?, PutManifest::Stored);
    Ok(())
}

pub async fn children_may_be_manifests_or_blobs<S: Subject>(store: &S) -> Outcome {
    store.link_blob(link("a", 1, 10)).await?;
    store.put_manifest(push("a", 2, vec![], &[])).await?;
    let children = vec![edge(1, EdgeKind::Child), edge(2, EdgeKind::Child)];
    let stored = store.put_manifest(push("a", 9, children, &["index"])).await?;
    assert_eq!(stored, PutManifest::Stored);
    let as_layer = store.put_manifest(push("a", 8, vec![edge(2, EdgeKind::Layer)], &[])).await?;
    assert_eq!(as_layer, PutManifest::Missing(vec![digest(2)]));
    assert!(store.delete_manifest(&name("a"), &digest(2), moment(30)).await?);
    Ok(())
}

pub async fn late_content_of_a_sparse_manifest_is_held<S: Subject>(store: &S) -> Outcome {
    let sparse = Edge { optional: true, ..edge(1, EdgeKind::Layer) };
    assert_eq!(store.put_manifest(push("a", 9, vec![sparse], &[])).await?, PutManifest::Stored);
    store.link_blob(link("a", 1, 10)).await?;
    assert!(store.gc_queue()?.is_empty());
    Ok(())
}

pub async fn conditions_look_at_every_tag<S: Subject>(store: &S) -> Outcome {
    let expecting =
        |n, tags: &[&str], expect| PushManifest { expect, ..push("a", n, vec![], tags) };
    let cases = [
        (expecting(1, &["v1"], Expect::Present), PutManifest::Unexpected),
        (expecting(1, &["v1"], Expect::OneOf(vec![digest(1)])), PutManifest::Unexpected),
        (expecting(1, &[], Expect::Present), PutManifest::Unexpected),
        (expecting(1, &["v1"], Expect::Absent), PutManifest::Stored),
        (expecting(2, &["v1"], Expect::Absent), PutManifest::Unexpected),
        (expecting(2, &["v2", "v1"], Expect::Absent), PutManifest::Unexpected),
        (expecting(2, &["v1", "v2"], Expect::Present), PutManifest::Unexpected),
        (expecting(2, &["v1"], Expect::NoneOf(vec![digest(1)])), PutManifest::Unexpected),
        (expecting(2, &["v2"], Expect::NoneOf(vec![digest(1)])), PutManifest::Stored),
        (expecting(2, &["v1"], Expect::OneOf(vec![digest(1)])), PutManifest::Stored),
        (expecting(1, &[], Expect::Absent), PutManifest::Unexpected),
        (expecting(1, &[], Expect::Present), PutManifest::Stored),
        (expecting(3, &[], Expect::NoneOf(vec![digest(3)])), PutManifest::Stored),
        (expecting(3, &[], Expect::NoneOf(vec![digest(3)])), PutManifest::Unexpected),
    ];
    for (index, (push, expected)) in cases.into_iter().enumerate() {
        assert_eq!(store.put_manifest(push).await?, expected, "case {index}");
    }
    assert_eq!(tagged(store, "a", "v1").await?, Some(digest(2)));
    Ok(())
}

pub async fn pushing_again_changes_nothing_but_the_time<S: Subject>(store: &S) -> Outcome {
    store.link_blob(link("a", 1, 10)).await?;
    let manifest = push("a", 9, vec![edge(1, EdgeKind::Layer)], &["v1"]);
    store.put_manifest(manifest.clone()).await?;
    let before = record(store, "a").await?;
    store.put_manifest(PushManifest { moment: moment(200), ..manifest }).await?;
    assert_eq!(record(store, "a").await?, before);
    let found = store.stat_manifest(&name("a"), &Reference::Digest(digest(9))).await?;
    assert_eq!(found.map(|record| record.pushed_at), Some(Timestamp(200_000)));
    let tags = store.tags(&name("a"), None, 9).await?.ok_or("known")?.items;
    assert_eq!(tags[0].updated_at, Timestamp(100_000));
    Ok(())
}

pub async fn tags_move<S: Subject>(store: &S) -> Outcome {
    store.put_manifest(push("a", 1, vec![], &["v1", "latest"])).await?;
    store.put_manifest(push("a", 2, vec![], &["v2", "latest", "latest"])).await?;
    assert_eq!(tagged(store, "a", "latest").await?, Some(digest(2)));
    let on = store.tags_of(&name("a"), &digest(1), None, 9).await?;
    assert_eq!(on.items, [tag("v1")]);
    let on = store.tags_of(&name("a"), &digest(2), None, 1).await?;
    assert_eq!((on.items, on.more), (vec![tag("latest")], true));
    let on = store.tags_of(&name("a"), &digest(2), Some(&tag("latest")), 9).await?;
    assert_eq!((on.items, on.more), (vec![tag("v2")], false));
    assert_eq!(record(store, "a").await?.tags, 3);
    Ok(())
}

pub async fn a_deleted_tag_leaves_its_manifest<S: Subject>(store: &S) -> Outcome {
    store.put_manifest(push("a", 1, vec![], &["v1"])).await?;
    assert!(store.delete_tag(&name("a"), &tag("v1"), moment(30)).await?);
    assert!(!store.delete_tag(&name("a"), &tag("v1"), moment(30)).await?);
    assert!(!store.delete_tag(&name("b"), &tag("v1"), moment(30)).await?);
    assert_eq!(tagged(store, "a", "v1").await?, None);
    let tags = store.tags(&name("a"), None, 9).await?.ok_or("it has a manifest")?;
    assert!(tags.items.is_empty());
    assert_eq!(record(store, "a").await?.manifests, 1);
    assert!(store.gc_queue()?.is_empty());
    Ok(())
}

pub async fn a_deleted_manifest_takes_its_tags_and_frees_its_blobs<S: Subject>(
    store: &S,
) -> Outcome {
    for n in [1, 2] {
        store.link_blob(link("a", n, 10)).await?;
    }
    let both = vec![edge(1, EdgeKind::Config), edge(1, EdgeKind::Layer), edge(2, EdgeKind::Layer)];
    store.put_manifest(push("a", 8, both, &["v1", "v2"])).await?;
    store.put_manifest(push("a", 9, vec![edge(2, EdgeKind::Layer)], &["v3"])).await?;
    assert!(store.delete_manifest(&name("a"), &digest(8), moment(30)).await?);
    assert!(!store.delete_manifest(&name("a"), &digest(8), moment(30)).await?);
    assert!(!store.delete_manifest(&name("b"), &digest(8), moment(30)).await?);
    assert_eq!(tagged(store, "a", "v1").await?, None);
    assert_eq!(tagged(store, "a", "v3").await?, Some(digest(9)));
    let counted = record(store, "a").await?;
    assert_eq!((counted.manifests, counted.tags, counted.blobs), (1, 1, 2));
    let queued = [(30, 0, digest(8), Garbage::Content), (30, counted.id, digest(1), Garbage::Link)];
    assert_eq!(store.gc_queue()?, queued);
    Ok(())
}

pub async fn the_catalog_lists_repositories_with_manifests<S: Subject>(store: &S) -> Outcome {
    for repository in ["b", "a/b", "c", "a"] {
        store.put_manifest(push(repository, 1, vec![], &[])).await?;
    }
    store.link_blob(link("only-blobs", 1, 10)).await?;
    assert_eq!(store.tags(&name("only-blobs"), None, 9).await?, None);
    let page = store.repositories(None, 2).await?;
    assert_eq!((page.items, page.more), (vec![name("a"), name("a/b")], true));
    let page = store.repositories(Some("a/b"), 9).await?;
    assert_eq!((page.items, page.more), (vec![name("b"), name("c")], false));
    // Where a page starts need not be a name.
    let page = store.repositories(Some("A~"), 1).await?;
    assert_eq!((page.items, page.more), (vec![name("a")], true));
    assert!(store.delete_manifest(&name("b"), &digest(1), moment(30)).await?);
    let page = store.repositories(None, 9).await?;
    assert_eq!(page.items, [name("a"), name("a/b"), name("c")]);
    assert_eq!(store.tags(&name("b"), None, 9).await?, None);
    Ok(())
}

pub async fn repository_ids_are_never_used_again<S: Subject>(store: &S) -> Outcome {
    store.put_manifest(push("a", 1, vec![], &[])).await?;
    let first = record(store, "a").await?.id;
    assert!(store.delete_manifest(&name("a"), &digest(1), moment(30)).await?);
    store.put_manifest(push("b", 1, vec![], &[])).await?;
    store.put_manifest(push("a", 1, vec![], &[])).await?;
    let second = record(store, "b").await?.id;
    assert!(second > first && record(store, "a").await?.id > second);
    Ok(())
}

pub async fn pages_begin_anywhere<S: Subject>(store: &S) -> Outcome {
    store.put_manifest(push("a", 1, vec![], &["a", "b", "c", "d"])).await?;
    store.put_manifest(push("b", 2, vec![], &["x"])).await?;
    let page = store.tags(&name("a"), Some("b"), 1).await?.ok_or("known")?;
    let tags: Vec<_> = page.items.into_iter().map(|record| record.tag).collect();
    assert_eq!((tags, page.more), (vec![tag("c")], true));
    let page = store.tags(&name("a"), Some("b!"), 9).await?.ok_or("known")?;
    assert_eq!((page.items.len(), page.more), (2, false));
    let page = store.tags(&name("a"), Some("zzz"), 9).await?.ok_or("known")?;
    assert!(page.items.is_empty());
    let page = store.tags(&name("a"), None, 0).await?.ok_or("known")?;
    assert_eq!((page.items.len(), page.more), (0, true));
    store.put_manifest(push("a", 3, vec![], &[])).await?;
    let mut expected = [digest(1), digest(3)];
    expected.sort();
    let page = store.manifests(&name("a"), Some(&expected[0]), 9).await?;
    let found: Vec<_> = page.items.into_iter().map(|record| record.digest).collect();
    assert_eq!(found, [expected[1]]);
    Ok(())
}

pub async fn a_manifest_keeps_its_inline_copy<S: Subject>(store: &S) -> Outcome {
    store.put_manifest(push("a", 1, vec![], &[])).await?;
    store.link_blob(LinkBlob { content: None, ..link("a", 2, 10) }).await?;
    store.put_manifest(push("a", 2, vec![], &[])).await?;
    store.mark_spilled(vec![digest(1)]).await?;
    for n in [1, 2] {
        let found = store.stored(&digest(n)).await?.ok_or("stored")?;
        assert_eq!(found.place, Place::Both);
        assert_eq!(store.small_content(&digest(n)).await?, Some(content(n)));
    }
    assert!(store.delete_manifest(&name("a"), &digest(2), moment(30)).await?);
    assert_eq!(store.small_content(&digest(2)).await?, None);
    assert!(store.blob(&name("a"), &digest(2)).await?.is_some());
    Ok(())
}
