//! Reading JSON objects member by member, more strictly than derived code does.
//!
//! Derived structs also take arrays, and Go's parser, which most clients use, matches member
//! names without regard to case and lets the last of two equal names win. A document that two
//! parsers read differently is refused here, so that what was checked is what clients use.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A JSON object whose known members are read, and whose others are skipped.
pub trait Object<'de>: Default {
    /// The names of the known members, at most 32.
    const MEMBERS: &'static [&'static str];

    /// Reads the value of the known member `name`; called at most once for each.
    fn member<A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        map: &mut A,
    ) -> Result<(), A::Error>;
}

/// Deserializes an [`Object`]; anything but a JSON object is an error.
pub struct Members<T>(pub T);

impl<'de, T: Object<'de>> Deserialize<'de> for Members<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor(PhantomData))
    }
}

struct MembersVisitor<T>(PhantomData<T>);

impl<'de, T: Object<'de>> Visitor<'de> for MembersVisitor<T> {
    type Value = Members<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut object = T::default();
        let mut seen = 0_u32;
        while let Some(Text(name)) = map.next_key()? {
            #[cfg(test)]
            steps::count();
            let position = T::MEMBERS.iter().position(|known| folds_to(&name, known));
            let Some((index, known)) = position.map(|index| (index, T::MEMBERS[index])) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if name != known {
                let message = format!("member {name:?} differs from {known:?} only by its case");
                return Err(A::Error::custom(message));
            }
            if seen & 1 << index != 0 {
                return Err(A::Error::custom(format!("member {known:?} occurs twice")));
            }
            seen |= 1 << index;
            object.member(known, &mut map).map_err(|error| within(known, &error))?;
        }
        Ok(Members(object))
    }
}

/// A text, borrowed where the document writes it without escapes.
#[derive(Deserialize)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// The same error, saying in which part of the document it is.
pub fn within<E: serde::de::Error>(part: impl fmt::Display, error: &E) -> E {
    E::custom(format!("{part}: {error}"))
}

/// Whether Go's parser takes `name` for the ASCII name `known`: equal but for case, where two
/// letters outside ASCII (the long s and the Kelvin sign) fold into it.
fn folds_to(name: &str, known: &str) -> bool {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    name == known || name.chars().map(fold).eq(known.chars().map(fold))
}

/// Counts the members and elements visited, to show that the work is linear.
#[cfg(test)]
pub mod steps {
    use std::cell::Cell;

    thread_local!(static STEPS: Cell<u64> = const { Cell::new(0) });

    pub fn count() {
        STEPS.set(STEPS.get() + 1);
    }

    pub fn take() -> u64 {
        STEPS.take()
    }
}
