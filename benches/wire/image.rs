//! Images of one small layer.

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
    config: (String, Bytes),
    layer: (String, Bytes),
}

impl Image {
    /// With a layer of that size.
    ///
    /// # Errors
    /// No random bytes.
    pub fn random(layer_size_bytes: usize) -> io::Result<Self> {
        let author = digest_text(&random_bytes(32)?);
        let config = json!({
            "architecture": "amd64", "os": "linux", "author": author,
            "rootfs": { "type": "layers", "diff_ids": [] },
        });
        let config = Bytes::from(config.to_string());
        let layer = Bytes::from(random_bytes(layer_size_bytes)?);
        let (config_digest, layer_digest) = (sha256(&config), sha256(&layer));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config_digest, "size": config.len(),
            },
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": layer_digest, "size": layer.len(),
            }],
        });
        let manifest = Bytes::from(manifest.to_string());
        Ok(Self { manifest, config: (config_digest, config), layer: (layer_digest, layer) })
    }

    /// Digest and bytes of config and layer.
    pub fn blobs(&self) -> [&(String, Bytes); 2] {
        [&self.config, &self.layer]
    }
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
