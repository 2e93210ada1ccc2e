//! The members of a manifest's JSON document, before its media type decides what they mean.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::annotations::Annotations;
use super::object::{Object, Text, within};
use super::reference::ChildRef;

/// Every member that any kind of manifest gives a meaning to. Members that may be absent may
/// also be `null`, as Go's parser has it; those that say of which kind it is may not.
#[derive(Default)]
pub struct Document<'a> {
    pub schema_version: Option<u64>,
    pub media_type: Option<Text<'a>>,
    pub artifact_type: Option<String>,
    pub config: Option<ChildRef>,
    pub layers: Option<Vec<ChildRef>>,
    pub manifests: Option<Vec<ChildRef>>,
    pub subject: Option<ChildRef>,
    pub annotations: Annotations,
    /// Layers of a schema 1 manifest are there.
    pub has_schema1_layers: bool,
}

impl<'de> Object<'de> for Document<'de> {
    const MEMBERS: &'static [&'static str] = &[
        "schemaVersion",
        "mediaType",
        "artifactType",
        "config",
        "layers",
        "manifests",
        "subject",
        "annotations",
        "fsLayers",
    ];

    fn member<A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        map: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "schemaVersion" => self.schema_version = Some(map.next_value()?),
            "mediaType" => self.media_type = map.next_value()?,
            "artifactType" => self.artifact_type = map.next_value()?,
            "config" => self.config = Some(map.next_value()?),
            "layers" => self.layers = Some(map.next_value::<ChildRefs>()?.0),
            "manifests" => self.manifests = Some(map.next_value::<ChildRefs>()?.0),
            "subject" => self.subject = map.next_value()?,
            "annotations" => self.annotations = map.next_value::<Option<_>>()?.unwrap_or_default(),
            _ => {
                map.next_value::<IgnoredAny>()?;
                self.has_schema1_layers = true;
            }
        }
        Ok(())
    }
}

struct ChildRefs(Vec<ChildRef>);

impl<'de> Deserialize<'de> for ChildRefs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ChildRefsVisitor)
    }
}

struct ChildRefsVisitor;

impl<'de> Visitor<'de> for ChildRefsVisitor {
    type Value = ChildRefs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of descriptors")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ChildRefs, A::Error> {
        let mut references = Vec::new();
        loop {
            let next = seq.next_element();
            match next.map_err(|error| within(references.len(), &error))? {
                Some(reference) => references.push(reference),
                None => return Ok(ChildRefs(references)),
            }
        }
    }
}
