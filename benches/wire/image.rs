//! Images of small layers.

use std::io;

use bytes::Bytes;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::common::random_bytes;

/// Media type of the manifests.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image that shares nothing with any other.
#[derive(Debug, Clone)]
pub struct Image {
    pub manifest: Bytes,
    /// Digest and bytes of the config, then of each layer.
    pub blobs: Vec<(String, Bytes)>,
}

impl Image {
    /// With as many layers of that size.
    ///
    /// # Errors
    /// No random bytes.
    pub fn random(layers: usize, layer_size_bytes: usize) -> io::Result<Self> {
        let author = digest_text(&random_bytes(32)?);
        let config = json!({
            "architecture": "amd64", "os": "linux", "author": author,
            "rootfs": { "type": "layers", "diff_ids": [] },
        });
        let mut blobs = vec![named(config.to_string().into())];
        for _ in 0..layers {
            blobs.push(named(random_bytes(layer_size_bytes)?.into()));
        }
        let descriptor = |kind: &str, (digest, bytes): &(String, Bytes)| {
            let media_type = format!("application/vnd.oci.image.{kind}");
            json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
        };
        let layer = |blob| descriptor("layer.v1.tar+gzip", blob);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor("config.v1+json", &blobs[0]),
            "layers": blobs[1..].iter().map(layer).collect::<Vec<_>>(),
        });
        Ok(Self { manifest: manifest.to_string().into(), blobs })
    }

    /// A manifest of the same blobs whose subject is `subject`; `number` makes it another one.
    pub fn referrer(&self, subject: &Bytes, number: usize) -> Bytes {
        let of: Result<serde_json::Value, _> = serde_json::from_slice(&self.manifest);
        let mut manifest = of.unwrap_or_default();
        manifest["artifactType"] = "application/vnd.example.signature".into();
        manifest["annotations"] = json!({ "number": number.to_string() });
        manifest["subject"] =
            json!({ "mediaType": MANIFEST, "digest": sha256(subject), "size": subject.len() });
        manifest.to_string().into()
    }
}

fn named(bytes: Bytes) -> (String, Bytes) {
    (sha256(&bytes), bytes)
}

/// `sha256:...` of these bytes.
pub fn sha256(bytes: &[u8]) -> String {
    digest_text(&Sha256::digest(bytes))
}

/// A sha256 value as text.
pub fn digest_text(value: &[u8]) -> String {
    let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
