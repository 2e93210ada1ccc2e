//! Sessions, counters, identity.

use super::super::{LinkBlob, UploadRecord};
use super::{Outcome, Subject, Timestamp, link, name};
use crate::oci::{Algorithm, UploadId};

fn id(n: u8) -> UploadId {
    UploadId::from_random([n; 16])
}

fn upload(n: u8, started_uptime_seconds: u64) -> UploadRecord {
    UploadRecord {
        id: id(n),
        repository: name("a"),
        offset: u64::from(n),
        algorithm: Algorithm::Blake3,
        started_at: Timestamp(7),
        started_uptime_seconds,
    }
}

pub async fn sessions_are_saved_replaced_and_forgotten<S: Subject>(store: &S) -> Outcome {
    assert_eq!(store.upload(id(1)).await?, None);
    store.save_upload(upload(1, 5)).await?;
    assert_eq!(store.upload(id(1)).await?, Some(upload(1, 5)));
    let grown = UploadRecord { offset: 99, ..upload(1, 6) };
    store.save_upload(grown.clone()).await?;
    store.save_upload(grown.clone()).await?;
    assert_eq!(store.upload(id(1)).await?, Some(grown.clone()));
    assert_eq!(store.uploads(9, None, 9).await?, [grown]);
    store.forget_upload(id(1)).await?;
    store.forget_upload(id(1)).await?;
    assert_eq!(store.upload(id(1)).await?, None);
    assert!(store.uploads(9, None, 9).await?.is_empty());
    // A session is no repository: whoever only asks for one leaves nothing behind.
    assert_eq!(store.repository(&name("a")).await?, None);
    Ok(())
}

pub async fn sessions_are_listed_by_uptime<S: Subject>(store: &S) -> Outcome {
    for (n, seconds) in [(1, 30), (2, 10), (3, 20), (4, 20), (5, 40)] {
        store.save_upload(upload(n, seconds)).await?;
    }
    let listed = async |before, after, limit| {
        let found = store.uploads(before, after, limit).await?;
        Ok::<_, super::super::Error>(found.into_iter().map(|row| row.id).collect::<Vec<_>>())
    };
    assert_eq!(listed(40, None, 9).await?, [id(2), id(3), id(4), id(1)]);
    assert_eq!(listed(20, None, 9).await?, [id(2)]);
    assert_eq!(listed(40, Some((20, id(3))), 1).await?, [id(4)]);
    assert_eq!(listed(40, Some((40, id(9))), 9).await?, []);
    assert_eq!(listed(40, None, 0).await?, []);
    Ok(())
}

pub async fn a_finished_session_ends_with_its_blob<S: Subject>(store: &S) -> Outcome {
    store.save_upload(upload(1, 5)).await?;
    store.link_blob(LinkBlob { upload: Some(id(1)), ..link("a", 1, 10) }).await?;
    assert_eq!(store.upload(id(1)).await?, None);
    store.link_blob(LinkBlob { upload: Some(id(2)), ..link("a", 1, 10) }).await?;
    Ok(())
}

pub async fn counters_rise<S: Subject>(store: &S) -> Outcome {
    let before = store.counters().await?;
    store.advance_uptime(60).await?;
    store.advance_uptime(0).await?;
    store.advance_uptime(5).await?;
    let after = store.counters().await?;
    assert_eq!(after.uptime_seconds, before.uptime_seconds + 65);
    assert!(after.transactions >= before.transactions + 2);
    Ok(())
}

pub async fn the_store_remembers_its_id<S: Subject>(store: &S) -> Outcome {
    assert_eq!(store.store_id().await?, None);
    store.set_store_id([7; 16]).await?;
    store.set_store_id([7; 16]).await?;
    assert_eq!(store.store_id().await?, Some([7; 16]));
    Ok(())
}
