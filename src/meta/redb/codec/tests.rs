//! The bytes of every row, fixed; and what happens with any others.

use std::fmt::Debug;

use proptest::prelude::*;

use super::*;
use crate::meta::{BlobRecord, BlobState, EdgeKind, Garbage, Place, Timestamp, UploadRecord};
use crate::oci::Descriptor;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256() -> Digest {
    Digest::from_bytes(Algorithm::Sha256, &[0xaa; 32]).unwrap()
}

fn sha512() -> Digest {
    Digest::from_bytes(Algorithm::Sha512, &[0xbb; 64]).unwrap()
}

fn name() -> RepositoryName {
    RepositoryName::parse("a/b").unwrap()
}

fn media_type(text: &str) -> MediaType {
    MediaType::parse(text).unwrap()
}

fn manifest() -> ManifestRow {
    ManifestRow {
        media_type: media_type("a/b"),
        size_bytes: 5,
        subject: Some(sha256()),
        artifact_type: Some("c".to_owned()),
        config_type: None,
        pushed_at: Timestamp(7),
        eligible_uptime_seconds: Some(9),
        orphaned: true,
        condemned: false,
    }
}

fn link(condemned: bool) -> LinkRow {
    LinkRow { linked_at: Timestamp(7), eligible_uptime_seconds: 9, condemned }
}

fn descriptor() -> Descriptor {
    Descriptor {
        media_type: media_type("a/b"),
        digest: sha256(),
        size_bytes: 5,
        artifact_type: None,
        annotations: [("k".to_owned(), "v".to_owned())].into(),
    }
}

fn content() -> ContentRow {
    let (place, state) = (Place::Both, BlobState::Quarantined);
    let record = BlobRecord { size_bytes: 5, place, state, repositories: 3 };
    ContentRow { record, manifests: 2, eligible_uptime_seconds: 9 }
}

fn upload() -> UploadRecord {
    UploadRecord {
        id: UploadId::from_bytes([0xcc; 16]),
        repository: name(),
        offset: 5,
        algorithm: Algorithm::Blake3,
        started_at: Timestamp(7),
        started_uptime_seconds: 9,
    }
}

#[track_caller]
fn golden<R: Row + PartialEq + Debug>(row: &R, expected: &str) {
    let expected: String = expected.split_whitespace().collect();
    assert_eq!(hex(&row.encode()), expected);
    assert_eq!(&R::decode(&row.encode()).unwrap(), row);
}

fn bytes(hex: &str) -> Vec<u8> {
    let hex: String = hex.split_whitespace().collect();
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[track_caller]
fn older<R: Row + PartialEq + Debug>(row: &R, stored: &str) {
    assert_eq!(&R::decode(&bytes(stored)).unwrap(), row);
}

#[test]
fn rows_are_these_bytes() {
    let aa = "aa".repeat(32);
    golden(&Mark, "01");
    golden(&Counter(258), "01 0000000000000102");
    golden(&StoreId([0xdd; 16]), &format!("01 {}", "dd".repeat(16)));
    let repository = RepositoryRow { name: name(), manifests: 1, tags: 2, blobs: 3, size_bytes: 4 };
    golden(
        &repository,
        "01 00000003 612f62 0000000000000001 0000000000000002 0000000000000003 0000000000000004",
    );
    let tag = TagRow { digest: sha256(), updated_at: Timestamp(7) };
    golden(&tag, &format!("01 00 {aa} 0000000000000007"));
    golden(
        &manifest(),
        &format!(
            "02 00000003 612f62 0000000000000005 01 00 {aa} 01 00000001 63 00 \
             0000000000000007 01 0000000000000009 01 00"
        ),
    );
    let references = References(vec![(sha256(), EdgeKind::Config), (sha512(), EdgeKind::Child)]);
    golden(&references, &format!("01 00000002 00 {aa} 00 01 {} 02", "bb".repeat(64)));
    golden(
        &descriptor(),
        &format!("01 00000003 612f62 00 {aa} 0000000000000005 00 00000001 00000001 6b 00000001 76"),
    );
    golden(
        &content(),
        "02 0000000000000005 02 03 0000000000000003 0000000000000002 0000000000000009",
    );
    golden(&link(true), "02 0000000000000007 0000000000000009 01");
    golden(&Queued { size_bytes: 5 }, "01 0000000000000005");
    golden(&Uses { blob: true, manifest: false }, "01 01");
    golden(&Uses { blob: true, manifest: true }, "01 03");
    golden(&SmallContent(vec![1, 2, 3]), "01 010203");
    golden(
        &upload(),
        &format!(
            "01 {} 00000003 612f62 0000000000000005 02 0000000000000007 0000000000000009",
            "cc".repeat(16)
        ),
    );
}

#[test]
fn rows_of_earlier_releases_are_read() {
    let content = |state: &str| {
        format!("01 0000000000000005 02 {state} 0000000000000003 0000000000000002 0000000000000009")
    };
    let live = |mut row: ContentRow| {
        row.record.state = BlobState::Live;
        row
    };
    older(&live(self::content()), &content("00"));
    older(&live(self::content()), &content("01"));
    assert!(ContentRow::decode(&bytes(&content("03"))).is_err(), "no state of that version");
    older(&link(false), "01 0000000000000007 0000000000000009");
    let waiting = |waits: &str| {
        let aa = "aa".repeat(32);
        format!(
            "01 00000003 612f62 0000000000000005 01 00 {aa} 01 00000001 63 00 \
             0000000000000007 {waits}"
        )
    };
    older(&manifest(), &waiting("01 0000000000000009"));
    let held = ManifestRow { eligible_uptime_seconds: None, orphaned: false, ..manifest() };
    older(&held, &waiting("00"));
}

/// What stands behind each `before` and before the next `after`.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Vec<&'a str> {
    let parts = text.split(before).skip(1);
    parts.filter_map(|part| Some(part.split_once(after)?.0)).collect()
}

#[test]
fn every_row_and_key_is_fuzzed() {
    let targets = include_str!("../fuzzing.rs");
    let rows = between(include_str!("rows.rs"), "impl Row for ", " {");
    let keys = between(include_str!("keys.rs"), "pub fn ", "(");
    let keys: Vec<&str> = keys.into_iter().filter(|name| name.ends_with("_key")).collect();
    assert!(rows.len() > 10 && keys.len() > 5);
    let unfuzzed = rows.iter().filter(|row| !targets.contains(&format!("row::<{row}>")));
    let unfuzzed: Vec<_> =
        unfuzzed.chain(keys.iter().filter(|key| !targets.contains(&format!("::{key}(")))).collect();
    assert!(unfuzzed.is_empty(), "add to src/meta/redb/fuzzing.rs: {unfuzzed:?}");
}

#[test]
fn annotations_stand_once_each_and_in_order() {
    let mut row = descriptor();
    row.annotations.insert("l".to_owned(), String::new());
    let sound = row.encode();
    assert_eq!(Descriptor::decode(&sound).unwrap(), row);
    let name = sound.len() - 5;
    for damaged in [b'k', b'a'] {
        let mut bytes = sound.clone();
        bytes[name] = damaged;
        assert!(Descriptor::decode(&bytes).is_err(), "{}", char::from(damaged));
    }
}

#[test]
fn keys_are_these_bytes() {
    let aa = "aa".repeat(32);
    let check = |key: Key, expected: &str| {
        let expected: String = expected.split_whitespace().collect();
        assert_eq!(hex(key.as_slice()), expected);
    };
    check(Key::number(1).and_tag("v1"), "0000000000000001 7631");
    check(Key::number(1).and_digest(&sha256()), &format!("0000000000000001 00 {aa}"));
    check(
        Key::number(1).and_digest(&sha256()).and_kind(EdgeKind::Layer).and_digest(&sha512()),
        &format!("0000000000000001 00 {aa} 01 01 {}", "bb".repeat(64)),
    );
    check(
        Key::number(3).and_number(1).and_digest(&sha256()).and_garbage(Garbage::Content),
        &format!("0000000000000003 0000000000000001 00 {aa} 02"),
    );
    check(
        Key::number(3).and_number(1).and_digest(&sha256()),
        &format!("0000000000000003 0000000000000001 00 {aa}"),
    );
    check(Key::number(7).and_upload(upload().id), &format!("0000000000000007 {}", "cc".repeat(16)));
}

#[test]
fn the_end_of_a_prefix_is_after_all_that_begin_with_it() {
    assert_eq!(end_of(&Key::number(1)), Key::number(2));
    assert_eq!(end_of(&Key::number(0xff)), end_of(&Key::number(0xff)));
    let prefix = Key::number(0xff);
    let inside = prefix.clone().and_tag("\u{10ffff}");
    assert!(inside.as_slice() < end_of(&prefix).as_slice());
    assert!(end_of(&prefix).as_slice() <= Key::number(0x100).as_slice());
    let all = Digest::from_bytes(Algorithm::Blake3, &[0xff; 32]).unwrap();
    let prefix = Key::number(1).and_digest(&all);
    assert!(prefix.clone().and_tag("z").as_slice() < end_of(&prefix).as_slice());
    assert!(end_of(&prefix).as_slice() <= Key::number(2).as_slice());
}

#[test]
fn what_a_row_may_not_be_is_corrupt() {
    let refused = |result: Result<()>| match result {
        Err(Error::Corrupt(text)) => text,
        other => panic!("{other:?}"),
    };
    let text = |bytes: &[u8]| refused(TagRow::decode(bytes).map(|_| ()));
    assert_eq!(text(b""), "a row of tags is too short");
    assert_eq!(text(b"\x02"), "a row of tags has the version 2");
    assert_eq!(text(b"\x01\x09"), "a row of tags has an unknown digest algorithm");
    let mut long = TagRow { digest: sha256(), updated_at: Timestamp(7) }.encode();
    long.push(0);
    assert_eq!(text(&long), "a row of tags is too long");
    let bits = refused(Uses::decode(b"\x01\x04").map(|_| ()));
    assert_eq!(bits, "a row of blob_repositories has unknown bits");
    let lie = refused(References::decode(b"\x01\xff\xff\xff\xff").map(|_| ()));
    assert_eq!(lie, "a row of references is too short");
    let option = refused(ManifestRow::decode(b"\x01\0\0\0\x03a/b\0\0\0\0\0\0\0\0\x02").map(|_| ()));
    assert!(option.contains("neither there nor absent"), "{option}");
}

fn any_digest() -> impl Strategy<Value = Digest> {
    let algorithm = prop::sample::select(Algorithm::ALL.to_vec());
    (algorithm, any::<[u8; 32]>()).prop_map(|(algorithm, half)| {
        let value = [half, half].concat();
        Digest::from_bytes(algorithm, &value[..algorithm.size_bytes()]).unwrap()
    })
}

proptest! {
    #[test]
    fn keys_come_apart_as_they_were_put_together(
        (id, seconds) in any::<(u64, u64)>(),
        first in any_digest(),
        second in any_digest(),
        tag in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}",
    ) {
        let parsed = Tag::parse(&tag).unwrap();
        let key = Key::number(id).and_tag(&tag);
        prop_assert_eq!(Reader::tag_key(key.as_slice()).unwrap(), (id, parsed.clone()));
        let key = Key::number(id).and_digest(&first).and_tag(&tag);
        let parts = Reader::tag_by_manifest_key(key.as_slice()).unwrap();
        prop_assert_eq!(parts, (id, first, parsed));
        for kind in [EdgeKind::Config, EdgeKind::Layer, EdgeKind::Child] {
            let key = Key::number(id).and_digest(&first).and_kind(kind).and_digest(&second);
            let parts = Reader::edge_key(key.as_slice()).unwrap();
            prop_assert_eq!(parts, (id, first, kind, second));
        }
        for garbage in [Garbage::Link, Garbage::Referrer, Garbage::Content] {
            let key = Key::number(seconds).and_number(id).and_digest(&first).and_garbage(garbage);
            let parts = Reader::garbage_key(key.as_slice()).unwrap();
            prop_assert_eq!(parts, (seconds, id, first, garbage));
        }
        // Keys sort as what they are made of.
        let keys = [&first, &second].map(|digest| Key::number(id).and_digest(digest));
        let order = keys[0].as_slice().cmp(keys[1].as_slice());
        prop_assert_eq!(order, first.cmp(&second));
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_never_change(
        bytes in prop::collection::vec(any::<u8>(), 0..120),
        flip in any::<prop::sample::Index>(),
    ) {
        fn check<R: Row + PartialEq + Debug>(bytes: &[u8]) {
            let Ok(row) = R::decode(bytes) else { return };
            if bytes.first() == Some(&R::VERSION) {
                assert_eq!(row.encode(), bytes, "{}", R::NAME);
            }
            assert_eq!(R::decode(&row.encode()).unwrap(), row);
        }
        fn check_all(bytes: &[u8]) {
            check::<Mark>(bytes);
            check::<Counter>(bytes);
            check::<StoreId>(bytes);
            check::<RepositoryRow>(bytes);
            check::<TagRow>(bytes);
            check::<ManifestRow>(bytes);
            check::<References>(bytes);
            check::<ContentRow>(bytes);
            check::<LinkRow>(bytes);
            check::<Queued>(bytes);
            check::<Uses>(bytes);
            check::<SmallContent>(bytes);
            check::<UploadRecord>(bytes);
            check::<Descriptor>(bytes);
            let _ = Reader::tag_key(bytes);
            let _ = Reader::tag_by_manifest_key(bytes);
            let _ = Reader::number_digest_key("a key", bytes);
            let _ = Reader::digest_key("a key", bytes);
            let _ = Reader::digest_number_key("a key", bytes);
            let _ = Reader::referrer_key(bytes);
            let _ = Reader::edge_key(bytes);
            let _ = Reader::garbage_key(bytes);
            let _ = Reader::untagged_key(bytes);
            let _ = Reader::upload_time_key(bytes);
        }
        check_all(&bytes);
        let (manifest, descriptor) = (manifest().encode(), descriptor().encode());
        let rows = [manifest, descriptor, content().encode(), upload().encode()];
        for mut row in rows {
            let index = flip.index(row.len());
            row[index] ^= bytes.first().copied().unwrap_or(1);
            check_all(&row);
            check_all(&row[..index]);
        }
    }
}
