//! F-12: the bytes of every row and key of the database. Whatever they are, reading them does not
//! panic; and what can be read is written again as it was, so each fact has one form. A value of
//! an older version is written in the present one, and that is read and written as it is.
//! The first byte chooses the codec.
#![no_main]

use kelson::meta::redb::fuzzing::{KEYS, ROWS};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else { return };
    let choice = usize::from(*choice) % (ROWS.len() + KEYS.len());
    let codec = ROWS.get(choice).or_else(|| KEYS.get(choice - ROWS.len()));
    let Some((name, codec)) = codec else { return };
    let Ok(written) = codec(bytes) else { return };
    let is_older = choice < ROWS.len() && bytes.first() < written.first();
    if !is_older {
        assert_eq!(written, bytes, "{name}");
    }
    assert_eq!(codec(&written).ok(), Some(written), "{name}");
});
