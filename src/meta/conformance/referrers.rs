//! Manifests attached to others.

use super::super::{Garbage, PushManifest};
use super::{Outcome, Subject, digest, moment, name, push, record};
use crate::oci::Digest;

fn attached(n: u8, subject: u8, artifact_type: Option<&str>) -> PushManifest {
    PushManifest {
        subject: Some(digest(subject)),
        artifact_type: artifact_type.map(str::to_owned),
        annotations: [("note".to_owned(), format!("\"{n}\"\n"))].into(),
        ..push("a", n, vec![], &[])
    }
}

fn sorted(numbers: &[u8]) -> Vec<Digest> {
    let mut digests: Vec<_> = numbers.iter().copied().map(digest).collect();
    digests.sort();
    digests
}

pub async fn referrers_are_listed_by_digest<S: Subject>(store: &S) -> Outcome {
    for n in [5, 3, 4] {
        store.put_manifest(attached(n, 1, Some("a/b"))).await?;
    }
    store.put_manifest(attached(6, 2, None)).await?;
    let page = store.referrers(&name("a"), &digest(1), &[], None, 1 << 20).await?;
    let found: Vec<_> = page.items.iter().map(|descriptor| descriptor.digest).collect();
    assert_eq!((found, page.more), (sorted(&[3, 4, 5]), false));
    let expected = attached(page.items[0].annotations["note"].as_bytes()[1] - b'0', 1, Some("a/b"));
    assert_eq!(page.items[0], expected.descriptor());
    assert!(store.referrers(&name("b"), &digest(1), &[], None, 9).await?.items.is_empty());
    // Its subject changes with another reading of the same document.
    store.put_manifest(attached(5, 2, None)).await?;
    let page = store.referrers(&name("a"), &digest(1), &[], None, 1 << 20).await?;
    assert_eq!(page.items.len(), 2);
    assert!(store.delete_manifest(&name("a"), &digest(3), moment(30)).await?);
    let page = store.referrers(&name("a"), &digest(1), &[], None, 1 << 20).await?;
    assert_eq!(page.items.len(), 1);
    Ok(())
}

pub async fn referrers_are_filtered<S: Subject>(store: &S) -> Outcome {
    store.put_manifest(attached(3, 1, Some("a/b"))).await?;
    store.put_manifest(attached(4, 1, Some("c/d"))).await?;
    store.put_manifest(attached(5, 1, None)).await?;
    let filtered = async |types: &[&str]| {
        let types: Vec<_> = types.iter().map(|text| (*text).to_owned()).collect();
        let page = store.referrers(&name("a"), &digest(1), &types, None, 1 << 20).await?;
        let found: Vec<_> = page.items.iter().map(|descriptor| descriptor.digest).collect();
        Ok::<_, super::super::Error>(found)
    };
    assert_eq!(filtered(&["c/d"]).await?, sorted(&[4]));
    assert_eq!(filtered(&["c/d", "a/b"]).await?, sorted(&[3, 4]));
    assert!(filtered(&["e/f"]).await?.is_empty());
    Ok(())
}

pub async fn pages_of_referrers_are_bounded_in_bytes<S: Subject>(store: &S) -> Outcome {
    let numbers = [10, 11, 12, 13, 14];
    for n in numbers {
        store.put_manifest(attached(n, 1, None)).await?;
    }
    for size_bytes_max in [0, 1, 300, 600, 10_000] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let subject = digest(1);
            let page =
                store.referrers(&name("a"), &subject, &[], after.as_ref(), size_bytes_max).await?;
            let sizes = page.items.iter().map(crate::oci::Descriptor::json_size_bytes);
            assert!(page.items.len() == 1 || sizes.sum::<usize>() <= size_bytes_max);
            found.extend(page.items.iter().map(|descriptor| descriptor.digest));
            after = found.last().copied();
            if !page.more {
                break;
            }
        }
        assert_eq!(found, sorted(&numbers), "{size_bytes_max}");
    }
    Ok(())
}

pub async fn referrers_of_a_deleted_subject_are_queued<S: Subject>(store: &S) -> Outcome {
    // Pushed before its subject, as cosign may: it waits, nothing is garbage.
    store.put_manifest(attached(3, 1, None)).await?;
    assert!(store.gc_queue()?.is_empty());
    store.put_manifest(push("a", 1, vec![], &[])).await?;
    store.put_manifest(attached(4, 1, None)).await?;
    assert!(store.delete_manifest(&name("a"), &digest(1), moment(30)).await?);
    let id = record(store, "a").await?.id;
    let mut expected = vec![
        (30, 0, digest(1), Garbage::Content),
        (30, id, digest(3), Garbage::Referrer),
        (30, id, digest(4), Garbage::Referrer),
    ];
    expected.sort_unstable();
    assert_eq!(store.gc_queue()?, expected);
    // Pushed again, one is wanted for itself; the other with its subject.
    store.put_manifest(attached(3, 1, None)).await?;
    assert_eq!(store.gc_queue()?.len(), 2);
    store.put_manifest(push("a", 1, vec![], &[])).await?;
    assert!(store.gc_queue()?.is_empty());
    Ok(())
}
