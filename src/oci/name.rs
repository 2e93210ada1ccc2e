//! Repository names (distribution-spec, "Pulling manifests": `<name>`).

use std::fmt;

/// The longest repository name in bytes; longer ones break clients that count the host in.
pub const LENGTH_MAX: usize = 255;

/// A text is no repository name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a repository name is up to 255 characters of lowercase components [a-z0-9], \
     separated inside by . _ __ or dashes and from each other by a slash"
)]
pub struct NameError;

/// A valid repository name. Ordered by bytes, as the catalog is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryName(Box<str>);

impl RepositoryName {
    /// Parses `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` components joined by `/`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.len() > LENGTH_MAX || !text.split('/').all(is_component) {
            return Err(NameError);
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_component(text: &str) -> bool {
    let mut rest = text.as_bytes();
    loop {
        let word = rest.iter().take_while(|b| b.is_ascii_lowercase() || b.is_ascii_digit()).count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        let separator = match rest {
            [] => return true,
            [b'_', b'_', ..] => 2,
            [b'.' | b'_', ..] => 1,
            _ => rest.iter().take_while(|b| **b == b'-').count(),
        };
        rest = &rest[separator..];
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The specification's, whole.
    const GRAMMAR: &str =
        r"\A[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*\z";

    #[test]
    fn names_up_to_255_bytes_are_taken() {
        for name in ["a", "0", "a/b", "a.b", "a_b", "a__b", "a-b", "a---b", "a.b_c__d-e/f0"] {
            assert_eq!(RepositoryName::parse(name).map(|n| n.to_string()), Ok(name.to_owned()));
        }
        assert!(RepositoryName::parse(&"a".repeat(LENGTH_MAX)).is_ok());
        assert!(RepositoryName::parse(&"a".repeat(LENGTH_MAX + 1)).is_err());
    }

    #[test]
    fn names_outside_the_grammar_are_refused() {
        for name in [
            "", "/", "a/", "/a", "a//b", "A", "-a", "a-", ".a", "a.", "_a", "a_", "a..b", "a___b",
            "a._b", "a.-b", "a-_b", "a_-b", "a__", "..", "a/../b", "a b", "a\n", "a\0", "\u{e4}",
            "a:b", "a\\b", "a%2fb", "_catalog",
        ] {
            assert_eq!(RepositoryName::parse(name), Err(NameError), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn names_are_those_of_the_grammar(text in prop_oneof![
            "[ab0._/-]{0,12}", "[a-z0-9]{1,3}((\\.|_{1,3}|-{0,2}|/)[a-z0-9]{1,2}){0,5}", ".{0,6}",
        ]) {
            let grammar = regex::Regex::new(GRAMMAR).unwrap();
            prop_assert_eq!(RepositoryName::parse(&text).is_ok(), grammar.is_match(&text));
        }
    }
}
