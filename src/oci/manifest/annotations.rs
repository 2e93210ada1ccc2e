//! Annotations: texts by name (image-spec, annotations.md).

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Most annotations of one object: far above any use, and few enough that a document of them
/// takes no more than a few times its own size in memory.
pub const ANNOTATIONS_MAX: usize = 65_536;

/// The annotations of one object, each name once.
#[derive(Default)]
pub struct Annotations(pub BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AnnotationsVisitor)
    }
}

struct AnnotationsVisitor;

impl<'de> Visitor<'de> for AnnotationsVisitor {
    type Value = Annotations;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Annotations, A::Error> {
        let mut annotations = BTreeMap::new();
        while let Some((name, text)) = map.next_entry::<String, String>()? {
            #[cfg(test)]
            super::object::steps::count();
            if annotations.insert(name, text).is_some() {
                return Err(A::Error::custom("a name occurs twice"));
            }
            if annotations.len() > ANNOTATIONS_MAX {
                let message = format!("more than {ANNOTATIONS_MAX} annotations");
                return Err(A::Error::custom(message));
            }
        }
        Ok(Annotations(annotations))
    }
}
