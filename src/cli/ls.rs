//! `kelson ls`: what is in the registry.

use std::io::Write;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::admin::{self, Admin};
use super::human;
use crate::registry::inventory::{BlobEntry, Listing, ManifestEntry, RepositoryEntry};

/// Lists repositories, or what is in one.
pub fn run(
    repository: Option<String>,
    json: bool,
    config: Option<PathBuf>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let options = admin::options(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Admin::with(options, async |admin| match repository {
        None => repositories(admin, json, out).await,
        Some(name) => contents(admin, &name, json, out).await,
    }))
}

async fn repositories(admin: &Admin, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    if !json {
        writeln!(out, "{}", row("REPOSITORY", ["TAGS", "MANIFESTS", "BLOBS", "SIZE"]))?;
    }
    each(admin, "/repositories", None, out, |entry: RepositoryEntry, out| {
        if json {
            return line(out, &entry);
        }
        let [tags, manifests, blobs] =
            [entry.tags, entry.manifests, entry.blobs].map(|count| count.to_string());
        let columns = [&tags, &manifests, &blobs, &human::size(entry.size_bytes)];
        writeln!(out, "{}", row(&entry.name, columns.map(String::as_str)))?;
        Ok(())
    })
    .await
}

async fn contents(
    admin: &Admin,
    name: &str,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    each(admin, "/manifests", Some(name), out, |entry: ManifestEntry, out| {
        if json {
            return line(out, &Kind { kind: "manifest", entry: &entry });
        }
        writeln!(
            out,
            "manifest {}  {:>10}  {}",
            entry.digest,
            human::size(entry.size_bytes),
            entry.media_type
        )?;
        for tag in &entry.tags {
            writeln!(out, "  tag {tag}")?;
        }
        if let Some(subject) = &entry.subject {
            writeln!(out, "  attached to {subject}")?;
        }
        Ok(())
    })
    .await?;
    each(admin, "/blobs", Some(name), out, |entry: BlobEntry, out| {
        if json {
            return line(out, &Kind { kind: "blob", entry: &entry });
        }
        writeln!(out, "blob     {}  {:>10}", entry.digest, human::size(entry.size_bytes))?;
        Ok(())
    })
    .await
}

fn row(name: &str, [tags, manifests, blobs, size]: [&str; 4]) -> String {
    format!("{name:<40}  {tags:>8}  {manifests:>9}  {blobs:>8}  {size:>10}")
}

/// An entry of `--json`, which tells what it is.
#[derive(Serialize)]
struct Kind<'a, T> {
    kind: &'static str,
    #[serde(flatten)]
    entry: &'a T,
}

fn line<T: Serialize>(out: &mut dyn Write, entry: &T) -> anyhow::Result<()> {
    writeln!(out, "{}", serde_json::to_string(entry)?)?;
    Ok(())
}

/// Shows every entry of a list, page by page.
async fn each<T: DeserializeOwned>(
    admin: &Admin,
    path: &str,
    repository: Option<&str>,
    out: &mut dyn Write,
    mut show: impl FnMut(T, &mut dyn Write) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut after: Option<String> = None;
    loop {
        let query = [("repository", repository), ("after", after.as_deref())];
        let listing: Listing<T> = admin.get(path, &query).await?;
        for entry in listing.entries {
            show(entry, out)?;
        }
        match listing.next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}
