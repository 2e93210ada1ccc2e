//! What is in each registry before the work begins.

use anyhow::Result;
use bytes::Bytes;
use futures_util::future::try_join_all;
use hyper::Method;

use crate::common::random_bytes;
use crate::wire::image::{MANIFEST, sha256};
use crate::wire::{Connection, Image, Request, Server};

/// Tags in [`TAGGED`].
pub const TAGS: usize = 2000;
/// Repositories named by [`repository`].
pub const REPOSITORIES: usize = 1500;
/// Referrers of one manifest in [`REFERRED`].
pub const REFERRERS: usize = 1000;
/// The repository of many tags.
pub const TAGGED: &str = "lists/tagged";
/// The repository of a manifest with many referrers.
pub const REFERRED: &str = "lists/referred";
/// The repository of what is pulled.
pub const PULLED: &str = "pull/app";
/// Tags there.
pub const PULLED_TAGS: usize = 100;
/// Length of the large layer that is pulled.
pub const LARGE_SIZE_BYTES: usize = 256 << 20;
/// Length of the layers of a small image.
pub const SMALL_SIZE_BYTES: usize = 10 << 10;
/// How many it has.
pub const SMALL_LAYERS: usize = 3;

const CLIENTS: usize = 8;

/// Contents, made once, the same for all registries.
#[derive(Debug)]
pub struct Fixture {
    /// What is pulled under `v0` and so on.
    pub pulled: Vec<Image>,
    /// Digest and bytes of the large layer.
    pub large: (String, Bytes),
}

/// The tag of that number; sorts by number.
pub fn tag(number: usize) -> String {
    format!("v{number:04}")
}

/// The repository of that number; sorts by number.
pub fn repository(number: usize) -> String {
    format!("lists/many/r{number:04}")
}

/// An image as the small ones are.
///
/// # Errors
/// No random bytes.
pub fn small_image() -> std::io::Result<Image> {
    Image::random(SMALL_LAYERS, SMALL_SIZE_BYTES)
}

impl Fixture {
    /// Makes the contents.
    ///
    /// # Errors
    /// No random bytes.
    pub fn new() -> Result<Self> {
        let pulled = (0..PULLED_TAGS).map(|_| small_image()).collect::<std::io::Result<_>>()?;
        let large = Bytes::from(random_bytes(LARGE_SIZE_BYTES)?);
        Ok(Self { pulled, large: (sha256(&large), large) })
    }

    /// Pushes all of it.
    ///
    /// # Errors
    /// The registry does not take it.
    pub async fn push(&self, server: &Server) -> Result<()> {
        let workers = (0..CLIENTS).map(|worker| self.push_share(server, worker));
        try_join_all(workers).await?;
        Ok(())
    }

    async fn push_share(&self, server: &Server, worker: usize) -> Result<()> {
        let mut connection = Connection::open(server.address).await?;
        let share = |count: usize| (worker..count).step_by(CLIENTS);
        for number in share(self.pulled.len()) {
            connection.push(PULLED, &tag(number), &self.pulled[number]).await?;
        }
        let image = &self.pulled[0];
        for repository in [TAGGED, REFERRED] {
            connection.push(repository, "subject", image).await?;
        }
        for number in share(TAGS) {
            put(&mut connection, TAGGED, &tag(number), image.manifest.clone()).await?;
        }
        for number in share(REFERRERS) {
            let referrer = image.referrer(&image.manifest, number);
            put(&mut connection, REFERRED, &sha256(&referrer), referrer).await?;
        }
        for number in share(REPOSITORIES) {
            connection.push(&repository(number), "latest", image).await?;
        }
        if worker == 0 {
            let (digest, bytes) = &self.large;
            connection.push_blob(PULLED, digest, bytes.clone()).await?;
        }
        Ok(())
    }
}

/// Puts a manifest whose blobs are there.
///
/// # Errors
/// The registry does not take it.
pub async fn put(
    connection: &mut Connection,
    repository: &str,
    reference: &str,
    manifest: Bytes,
) -> Result<()> {
    let path = format!("/v2/{repository}/manifests/{reference}");
    connection.send(Request::create(Method::PUT, &path, MANIFEST, manifest)).await?;
    Ok(())
}
