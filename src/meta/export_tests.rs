use proptest::prelude::*;

use super::*;
use crate::oci::Algorithm;

fn header() -> Header {
    Header {
        schema: 2,
        store_id: [9; 16],
        transactions: 4711,
        uptime_seconds: 60,
        created_at: Timestamp(1_700_000_000_000),
        release: "0.1.0".to_owned(),
    }
}

fn content(byte: u8) -> Content {
    let digest = Digest::of(Algorithm::Sha256, &[byte]);
    Content { digest, size_bytes: 1, has_file: true, has_bytes: byte > 1 }
}

/// A small export with everything in it.
fn sample() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, &header()).unwrap();
    let mut contents = [content(1), content(2)];
    contents.sort_by_key(|content| content.digest);
    contents.iter().for_each(|content| writer.content(content).unwrap());
    writer.table(TableKind::Texts, "schema").unwrap();
    writer.row(b"version", &[1, 0, 0, 0, 2]).unwrap();
    writer.table(TableKind::Names, "repository_names-1").unwrap();
    writer.table(TableKind::Bytes, "tags-1").unwrap();
    writer.row(b"", b"").unwrap();
    writer.row(b"a", b"1").unwrap();
    writer.table(TableKind::Numbers, "outbox-1").unwrap();
    writer.row(&7_u64.to_be_bytes(), b"event").unwrap();
    let totals = writer.finish().unwrap();
    assert_eq!(totals.size_bytes, bytes.len() as u64);
    bytes
}

fn read(bytes: &[u8]) -> Result<(Header, Totals)> {
    Reader::new(bytes)?.verify()
}

#[test]
fn what_is_written_is_read() {
    let bytes = sample();
    let (found, totals) = read(&bytes).unwrap();
    assert_eq!(found, header());
    let size_bytes = bytes.len() as u64;
    assert_eq!(totals, Totals { contents: 2, tables: 4, rows: 4, size_bytes });
    let mut reader = Reader::new(bytes.as_slice()).unwrap();
    let first = reader.next_record().unwrap();
    let expected = if content(1).digest < content(2).digest { content(1) } else { content(2) };
    assert_eq!(first, Some(Record::Content(expected)));
    reader.next_record().unwrap();
    let table = Record::Table(TableKind::Texts, "schema");
    assert_eq!(reader.next_record().unwrap(), Some(table));
    let row = Record::Row(b"version", &[1, 0, 0, 0, 2]);
    assert_eq!(reader.next_record().unwrap(), Some(row));
}

/// The first bytes are fixed for ever: what a release wrote, every later one reads.
#[test]
fn the_header_is_as_documented() {
    let bytes = sample();
    let expected = [
        &b"KELSONMX"[..],
        &[0, 0, 0, 1 + 4 + 4 + 16 + 24 + 5, 1],
        &[0, 0, 0, 1],
        &[0, 0, 0, 2],
        &[9; 16],
        &4711_u64.to_be_bytes(),
        &60_u64.to_be_bytes(),
        &1_700_000_000_000_u64.to_be_bytes(),
        b"0.1.0",
    ];
    assert!(bytes.starts_with(&expected.concat()));
}

#[test]
fn every_wrong_byte_and_every_cut_is_found() {
    let bytes = sample();
    for index in 0..bytes.len() {
        let mut wrong = bytes.clone();
        wrong[index] ^= 0x10;
        assert!(read(&wrong).is_err(), "byte {index}");
        assert!(read(&bytes[..index]).is_err(), "cut at {index}");
    }
    let longer = [bytes.as_slice(), b"x"].concat();
    assert!(read(&longer).unwrap_err().to_string().contains("behind its end"));
}

#[test]
fn a_newer_format_is_named() {
    let mut bytes = sample();
    bytes[16] = 2;
    let error = read(&bytes).unwrap_err();
    assert_eq!(error.to_string(), "the export has format 2, this release knows up to 1");
}

#[test]
fn an_export_without_a_format_is_refused() {
    let mut bytes = sample();
    bytes[16] = 0;
    assert!(read(&bytes).unwrap_err().to_string().contains("no format"));
}

#[test]
fn a_length_costs_no_memory_before_its_bytes_arrive() {
    let mut bytes = sample();
    bytes.truncate(8 + 5 + 54);
    let length = u32::try_from(FRAME_SIZE_BYTES_MAX).unwrap();
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.push(ROW);
    let mut reader = Reader::new(bytes.as_slice()).unwrap();
    assert!(reader.next_record().is_err());
    assert!(reader.frame.capacity() < 4096, "{}", reader.frame.capacity());
}

#[test]
fn what_is_out_of_order_is_refused() {
    let refusal = |fill: &dyn Fn(&mut Writer<&mut Vec<u8>>)| {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, &header()).unwrap();
        fill(&mut writer);
        writer.finish().unwrap();
        read(&bytes).unwrap_err().to_string()
    };
    let twice = refusal(&|writer| {
        writer.content(&content(1)).unwrap();
        writer.content(&content(1)).unwrap();
    });
    assert!(twice.contains("order of their digests"), "{twice}");
    let late = refusal(&|writer| {
        writer.table(TableKind::Bytes, "tags-1").unwrap();
        writer.content(&content(1)).unwrap();
    });
    assert!(late.contains("behind a table"), "{late}");
    let rows = refusal(&|writer| {
        writer.table(TableKind::Bytes, "tags-1").unwrap();
        writer.row(b"b", b"").unwrap();
        writer.row(b"a", b"").unwrap();
    });
    assert!(rows.contains("order of their keys"), "{rows}");
    let homeless = refusal(&|writer| writer.row(b"b", b"").unwrap());
    assert!(homeless.contains("in no table"), "{homeless}");
    let kind = refusal(&|writer| {
        writer.table(TableKind::Numbers, "outbox-1").unwrap();
        writer.row(b"b", b"").unwrap();
    });
    assert!(kind.contains("kind of its table"), "{kind}");
}

proptest! {
    /// Whatever the bytes: an answer, never a panic.
    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = read(&bytes);
        let begun = [&sample()[..67], &bytes].concat();
        prop_assert!(read(&begun).is_err());
    }

    /// Frames of every kind with any body, in any order.
    #[test]
    fn any_frames_are_read(
        frames in proptest::collection::vec(
            (0_u8..7, proptest::collection::vec(any::<u8>(), 0..40)), 0..8,
        )
    ) {
        let mut bytes = sample()[..67].to_vec();
        for (kind, body) in frames {
            bytes.extend_from_slice(&u32::try_from(body.len() + 1).unwrap().to_be_bytes());
            bytes.push(kind);
            bytes.extend_from_slice(&body);
        }
        prop_assert!(read(&bytes).is_err());
    }
}
