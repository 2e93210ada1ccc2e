//! The few contents, repositories and tags that every case is about: small, so that calls meet.

use bytes::Bytes;

use crate::oci::media_type::{OCI_INDEX, OCI_MANIFEST};
use crate::oci::{Algorithm, Digest, MediaType, RepositoryName, Tag};

/// Larger contents get a file before their facts.
pub const SMALL_SIZE_BYTES_MAX: u64 = 600;
/// The blob that the upload of the base state is about.
pub const UPLOADED: usize = 5;
/// How much of it has arrived there.
pub const UPLOADED_SIZE_BYTES: usize = 3000;
/// How much of it one more request brings.
pub const CHUNK_SIZE_BYTES: usize = 1000;

/// The blob whose file may rot. No manifest refers to it.
pub const ROTTED: usize = 6;

/// The manifest that refers to another as its subject, and that one.
pub const REFERRER: usize = 5;
/// See [`REFERRER`].
pub const SUBJECT: usize = 0;

/// A blob.
#[derive(Debug)]
pub struct Blob {
    /// Its name.
    pub digest: Digest,
    /// Its bytes.
    pub bytes: Bytes,
}

/// A manifest.
#[derive(Debug)]
pub struct Manifest {
    /// Its name.
    pub digest: Digest,
    /// Its type.
    pub media_type: MediaType,
    /// Its bytes.
    pub bytes: Bytes,
    /// The blobs that it refers to.
    pub blobs: Vec<usize>,
    /// The manifests that it refers to.
    pub children: Vec<usize>,
}

/// Everything that a case may name, by number.
#[derive(Debug)]
pub struct Universe {
    /// Config, layer, small, layer, small, upload, layer.
    pub blobs: Vec<Blob>,
    /// Two images of the first layer, one of the second, a large one, an index, a referrer.
    pub manifests: Vec<Manifest>,
    /// Two.
    pub repositories: Vec<RepositoryName>,
    /// Two.
    pub tags: Vec<Tag>,
}

const BLOB_SIZES_BYTES: [usize; 7] = [40, 9000, 100, 9000, 120, 6000, 4500];

impl Universe {
    /// Always the same.
    pub fn new() -> Self {
        let blobs: Vec<Blob> = BLOB_SIZES_BYTES.iter().enumerate().map(blob).collect();
        let mut universe = Self {
            blobs,
            manifests: Vec::new(),
            repositories: ["a", "b"].map(|name| RepositoryName::parse(name).unwrap()).into(),
            tags: ["v0", "v1"].map(|name| Tag::parse(name).unwrap()).into(),
        };
        let long = format!(r#","annotations":{{"long":"{}"}}"#, "x".repeat(1500));
        universe.add_image(1, "");
        universe.add_image(1, r#","annotations":{"n":"1"}"#);
        universe.add_image(3, "");
        universe.add_image(1, &long);
        universe.add_index(0);
        let of = &universe.manifests[SUBJECT];
        let subject = descriptor(OCI_MANIFEST, &of.digest, of.bytes.len());
        universe.add_image(1, &format!(r#","subject":{subject}"#));
        universe
    }

    fn add_image(&mut self, layer: usize, more: &str) {
        let of = |kind: &str, blob: usize| {
            descriptor(kind, &self.blobs[blob].digest, self.blobs[blob].bytes.len())
        };
        let config = of("application/vnd.oci.image.config.v1+json", 0);
        let layers = of("application/vnd.oci.image.layer.v1.tar", layer);
        let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layers}]{more}}}"#);
        self.add(OCI_MANIFEST, text, vec![0, layer], Vec::new());
    }

    fn add_index(&mut self, child: usize) {
        let of = &self.manifests[child];
        let child_text = descriptor(OCI_MANIFEST, &of.digest, of.bytes.len());
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{child_text}]}}"#);
        self.add(OCI_INDEX, text, Vec::new(), vec![child]);
    }

    fn add(&mut self, kind: &str, text: String, blobs: Vec<usize>, children: Vec<usize>) {
        let digest = Digest::of(Algorithm::Sha256, text.as_bytes());
        let media_type = MediaType::parse(kind).unwrap();
        let bytes = text.into();
        self.manifests.push(Manifest { digest, media_type, bytes, blobs, children });
    }

    /// What rot makes of the blob that it may befall: where, and the byte that stands there then.
    pub fn rot(&self) -> (u64, u8) {
        let at = BLOB_SIZES_BYTES[ROTTED] / 2;
        (at as u64, self.blobs[ROTTED].bytes[at] ^ 1)
    }

    /// That blob with its rot.
    pub fn rotten(&self) -> Vec<u8> {
        let (at, byte) = self.rot();
        let mut bytes = self.blobs[ROTTED].bytes.to_vec();
        bytes[at as usize] = byte;
        bytes
    }

    /// Every content with its name.
    pub fn contents(&self) -> impl Iterator<Item = (&Digest, &Bytes)> {
        let blobs = self.blobs.iter().map(|blob| (&blob.digest, &blob.bytes));
        blobs.chain(self.manifests.iter().map(|manifest| (&manifest.digest, &manifest.bytes)))
    }
}

fn blob((number, size): (usize, &usize)) -> Blob {
    let bytes: Vec<u8> = (0..*size).map(|at| (at * 7 + at / 251 + number * 31 + 1) as u8).collect();
    Blob { digest: Digest::of(Algorithm::Sha256, &bytes), bytes: bytes.into() }
}

fn descriptor(media_type: &str, digest: &Digest, size: usize) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
}
