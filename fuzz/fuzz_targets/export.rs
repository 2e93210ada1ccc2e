//! F-18: an export of the database, as backups hold it. Whatever the bytes are, reading them does
//! not panic and takes no more memory than they have; and what can be read is, written again, the
//! same bytes, so that an export has one form.
#![no_main]

use kelson::meta::export::{Reader, Record, Writer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(mut reader) = Reader::new(data) else { return };
    let mut again = Vec::new();
    let mut writer = Writer::new(&mut again, reader.header()).expect("memory");
    loop {
        let written = match reader.next_record() {
            Ok(Some(Record::Content(content))) => writer.content(&content),
            Ok(Some(Record::Table(kind, name))) => writer.table(kind, name),
            Ok(Some(Record::Row(key, value))) => writer.row(key, value),
            Ok(None) => {
                writer.finish().expect("memory");
                assert_eq!(again, data);
                return;
            }
            Err(_) => break,
        };
        written.expect("memory");
    }
    drop(writer);
    assert!(data.starts_with(&again), "{} bytes", again.len());
});
