use std::sync::Arc;

use super::*;
use crate::disk::OsVfs;
use crate::meta::{Edge, EdgeKind, Expect};
use crate::oci::{Algorithm, MediaType};

fn digest(byte: u8) -> Digest {
    Digest::from_bytes(Algorithm::Sha256, &[byte; 32]).unwrap()
}

fn moment(seconds: u64) -> Moment {
    Moment { time: Timestamp(seconds * 1000), eligible_uptime_seconds: seconds }
}

#[tokio::test]
async fn an_image_survives_closing_and_opening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metadata.redb");
    let open =
        || RedbMeta::open(Arc::new(OsVfs), &path, Options::default(), Blocking::Pool).unwrap();
    let name = RepositoryName::parse("a/b").unwrap();
    let store = open();
    let link = LinkBlob {
        repository: name.clone(),
        digest: digest(1),
        size_bytes: 3,
        content: Some(Bytes::from_static(b"abc")),
        upload: None,
        moment: moment(1),
    };
    store.link_blob(link).await.unwrap();
    let push = PushManifest {
        repository: name.clone(),
        digest: digest(2),
        media_type: MediaType::parse("a/b").unwrap(),
        size_bytes: 2,
        content: Some(Bytes::from_static(b"{}")),
        edges: vec![Edge {
            digest: digest(1),
            kind: EdgeKind::Layer,
            size_bytes: 3,
            optional: false,
        }],
        subject: None,
        config_type: None,
        artifact_type: None,
        annotations: std::collections::BTreeMap::default(),
        tags: vec![Tag::parse("latest").unwrap()],
        expect: Expect::Anything,
        moment: moment(2),
    };
    assert_eq!(store.put_manifest(push).await.unwrap(), PutManifest::Stored);
    store.close().await.unwrap();
    drop(store);
    let store = open();
    let reference = Reference::Tag(Tag::parse("latest").unwrap());
    let (record, bytes) = store.manifest(&name, &reference).await.unwrap().unwrap();
    assert_eq!((record.digest, bytes.unwrap()), (digest(2), Bytes::from_static(b"{}")));
}
