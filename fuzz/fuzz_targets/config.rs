//! F-10: no configuration file and no set of variables makes the reader panic, hang or show a
//! secret, and each refusal says what is wrong. The input is the file and, each behind a zero
//! byte, variables as `NAME=value`.
#![no_main]

use kelson::config::{ConfigError, fuzzing};
use libfuzzer_sys::fuzz_target;

const SECRET: &str = "canary-7f3a";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut parts = text.split('\0');
    let file = parts.next().unwrap_or_default();
    let mut variables: Vec<(String, String)> = parts
        .filter_map(|part| part.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let secret_of_input = text.contains("canary") || text.contains("HTTP");
    variables.push(("REGISTRY_HTTP_SECRET".to_owned(), SECRET.to_owned()));
    let shown = match fuzzing::load(file, &variables) {
        Ok(loaded) => {
            assert!(!loaded.settings.is_empty());
            // What is in effect has a value of its own kind, or none.
            format!("{:?} {:?}", loaded.settings, loaded.notices)
        }
        Err(ConfigError::Invalid(problems)) => {
            assert!(!problems.is_empty(), "refused without a word");
            for problem in &problems {
                assert!(!problem.text.is_empty());
            }
            format!("{}", ConfigError::Invalid(problems))
        }
        Err(error) => panic!("{error} of a text in memory"),
    };
    assert!(secret_of_input || !shown.contains(SECRET), "{shown}");
});
