//! Contents to push, and digests computed apart from the code under test.

use serde_json::{Value, json};
use sha2::Digest as _;

use super::{Client, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};

/// An image: config, layers, manifest.
#[derive(Debug, Clone)]
pub struct Image {
    pub media_type: &'static str,
    pub config: Vec<u8>,
    pub layers: Vec<Vec<u8>>,
    pub manifest: Vec<u8>,
}

impl Image {
    /// An OCI image that is like no other, with layers of these sizes.
    pub fn random(layer_sizes_bytes: &[usize]) -> Self {
        Self::of_type(OCI_MANIFEST, layer_sizes_bytes)
    }

    /// The same as a Docker image (schema 2).
    pub fn docker(layer_sizes_bytes: &[usize]) -> Self {
        Self::of_type(DOCKER_MANIFEST, layer_sizes_bytes)
    }

    fn of_type(media_type: &'static str, layer_sizes_bytes: &[usize]) -> Self {
        let layers = layer_sizes_bytes.iter().map(|size| random_bytes(*size)).collect();
        Self::of(media_type, random_config(), layers)
    }

    /// An image with this layer, too.
    pub fn with_layer(mut self, layer: Vec<u8>) -> Self {
        self.layers.push(layer);
        Self::of(self.media_type, self.config, self.layers)
    }

    fn of(media_type: &'static str, config: Vec<u8>, layers: Vec<Vec<u8>>) -> Self {
        let (config_type, layer_type) = if media_type == DOCKER_MANIFEST {
            let layer = "application/vnd.docker.image.rootfs.diff.tar.gzip";
            ("application/vnd.docker.container.image.v1+json", layer)
        } else {
            let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
            ("application/vnd.oci.image.config.v1+json", layer)
        };
        let described: Vec<_> = layers.iter().map(|it| descriptor(layer_type, it)).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": descriptor(config_type, &config),
            "layers": described,
        });
        Self { media_type, config, layers, manifest: manifest.to_string().into_bytes() }
    }

    /// An artifact attached to `subject` (a descriptor).
    pub fn attached(subject: &Value, artifact_type: &str, annotations: Value) -> Self {
        let config = b"{}".to_vec();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": artifact_type,
            "config": descriptor("application/vnd.oci.empty.v1+json", &config),
            "layers": [],
            "subject": subject,
            "annotations": annotations,
        });
        let manifest = manifest.to_string().into_bytes();
        Self { media_type: OCI_MANIFEST, config, layers: vec![], manifest }
    }

    /// The manifest's sha256 digest.
    pub fn digest(&self) -> String {
        sha256(&self.manifest)
    }

    /// Config and layers.
    pub fn blobs(&self) -> impl Iterator<Item = &Vec<u8>> {
        std::iter::once(&self.config).chain(&self.layers)
    }

    /// What an index or a subject says of it.
    pub fn descriptor(&self) -> Value {
        descriptor(self.media_type, &self.manifest)
    }

    /// Pushes everything but the manifest.
    pub fn push_blobs(&self, client: &Client, repo: &str) {
        for blob in self.blobs() {
            client.push_blob(repo, blob);
        }
    }

    /// Pushes everything; returns the manifest's digest.
    pub fn push(&self, client: &Client, repo: &str, reference: &str) -> String {
        self.push_blobs(client, repo);
        let put = client.put_manifest(repo, reference, self.media_type, &self.manifest);
        assert_eq!(put.expect(201).digest(), self.digest());
        self.digest()
    }

    /// Pulls everything and compares it byte for byte.
    #[track_caller]
    pub fn assert_pullable(&self, client: &Client, repo: &str, reference: &str) {
        let manifest = client.manifest(repo, reference).expect(200);
        assert_eq!(manifest.body, self.manifest, "{repo}:{reference}");
        assert_eq!(manifest.header("content-type"), Some(self.media_type));
        for blob in self.blobs() {
            let digest = sha256(blob);
            assert!(client.blob(repo, &digest).expect(200).body == *blob, "{repo} {digest}");
        }
    }
}

/// An OCI index of these descriptors.
pub fn index(children: &[Value]) -> Vec<u8> {
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children });
    index.to_string().into_bytes()
}

/// A descriptor by sha256.
pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": sha256(bytes), "size": bytes.len() })
}

/// Bytes that no other call returns.
pub fn random_bytes(size_bytes: usize) -> Vec<u8> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).unwrap();
    let mut bytes = vec![0; size_bytes];
    blake3::Hasher::new_keyed(&seed).finalize_xof().fill(&mut bytes);
    bytes
}

fn random_config() -> Vec<u8> {
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "author": hex(&random_bytes(16)),
        "rootfs": { "type": "layers", "diff_ids": [] },
    });
    config.to_string().into_bytes()
}

pub fn sha256(bytes: &[u8]) -> String {
    digest("sha256", bytes)
}

pub fn sha512(bytes: &[u8]) -> String {
    digest("sha512", bytes)
}

pub fn blake3(bytes: &[u8]) -> String {
    digest("blake3", bytes)
}

/// The digest of `bytes` under that algorithm.
pub fn digest(algorithm: &str, bytes: &[u8]) -> String {
    let value = match algorithm {
        "sha256" => sha2::Sha256::digest(bytes).to_vec(),
        "sha512" => sha2::Sha512::digest(bytes).to_vec(),
        "blake3" => blake3::hash(bytes).as_bytes().to_vec(),
        other => panic!("no such algorithm: {other}"),
    };
    format!("{algorithm}:{}", hex(&value))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
