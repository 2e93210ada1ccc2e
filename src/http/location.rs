//! URLs that answers name.
//!
//! They come from the configuration alone, never from `Host` or `X-Forwarded-*`, which any client
//! can set: by default a path, which every client resolves against the URL it used.

use super::options::Options;
use crate::oci::{Digest, RepositoryName, UploadId};

/// Makes the values of `Location` and `Link`.
#[derive(Debug, Clone)]
pub struct Locations {
    /// Up to and including the slash before `v2/`.
    base: String,
}

impl Locations {
    /// As the options want them.
    pub fn new(options: &Options) -> Self {
        let host = options.host.as_deref().filter(|_| !options.relative_urls).unwrap_or_default();
        Self { base: format!("{host}{}", options.prefix) }
    }

    /// Of a blob.
    pub fn blob(&self, repo: &RepositoryName, digest: &Digest) -> String {
        format!("{}v2/{repo}/blobs/{digest}", self.base)
    }

    /// Of a manifest.
    pub fn manifest(&self, repo: &RepositoryName, digest: &Digest) -> String {
        format!("{}v2/{repo}/manifests/{digest}", self.base)
    }

    /// Of an upload session.
    pub fn upload(&self, repo: &RepositoryName, id: UploadId) -> String {
        format!("{}v2/{repo}/blobs/uploads/{id}", self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(host: Option<&str>, prefix: &str, relative_urls: bool) -> String {
        let options = Options {
            host: host.map(str::to_owned),
            prefix: prefix.to_owned(),
            relative_urls,
            ..super::super::tests::options()
        };
        let repo = RepositoryName::parse("a/b").unwrap();
        Locations::new(&options).upload(&repo, UploadId::from_bytes([7; 16]))
    }

    #[test]
    fn locations_are_paths_unless_a_host_is_set() {
        let path = "v2/a/b/blobs/uploads/07070707-0707-0707-0707-070707070707";
        let host = Some("https://r.example.com:8443");
        assert_eq!(upload(None, "/", false), format!("/{path}"));
        assert_eq!(upload(None, "/sub/", true), format!("/sub/{path}"));
        assert_eq!(upload(host, "/sub/", true), format!("/sub/{path}"));
        assert_eq!(upload(host, "/sub/", false), format!("https://r.example.com:8443/sub/{path}"));
    }
}
