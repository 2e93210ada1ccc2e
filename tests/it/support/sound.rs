//! What must hold of every store that no process has open.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kelson::disk::OsVfs;
use kelson::meta::redb::{Options, RedbMeta};
use kelson::meta::{MetaStore, Place};
use kelson::ops::Blocking;

use super::digest;

/// Panics unless the store below `root` is sound: every blob file has the content that its name
/// says (B1), nothing else lies in the tree of blobs, and a staging directory is named by a
/// session's UUID and holds exactly `data` (B2); the database breaks none of its invariants
/// (M1-M7), and every blob of its catalog has the file or the bytes that its row says.
#[track_caller]
pub fn assert_sound(root: &Path) {
    let findings: Vec<String> =
        [blob_findings(root), staging_findings(root), database_findings(root)].concat();
    assert!(findings.is_empty(), "the store is not sound:\n{}", findings.join("\n"));
}

/// The digests of all blob files.
pub fn blob_files(root: &Path) -> Vec<String> {
    let named = |path: &PathBuf| {
        let hex = path.parent()?.file_name()?.to_str()?.to_owned();
        let algorithm = path.parent()?.parent()?.parent()?.file_name()?.to_str()?;
        Some(format!("{algorithm}:{hex}"))
    };
    files(&root.join("docker/registry/v2/blobs")).iter().filter_map(named).collect()
}

/// The names of the staging directories.
pub fn staged(root: &Path) -> Vec<String> {
    let entries = children(&root.join("kelson/staging"));
    entries.iter().map(|path| file_name(path)).collect()
}

fn blob_findings(root: &Path) -> Vec<String> {
    let blobs = root.join("docker/registry/v2/blobs");
    let mut findings = Vec::new();
    for path in files(&blobs) {
        let parts: Vec<_> = path.strip_prefix(&blobs).unwrap().iter().collect();
        let parts: Vec<_> = parts.iter().map(|part| part.to_str().unwrap()).collect();
        let [algorithm, short, hex, "data"] = parts[..] else {
            findings.push(format!("{} has no place there", path.display()));
            continue;
        };
        if !hex.starts_with(short) || short.len() != 2 {
            findings.push(format!("{} lies in the wrong directory", path.display()));
        }
        let actual = digest(algorithm, &fs::read(&path).unwrap());
        if actual != format!("{algorithm}:{hex}") {
            findings.push(format!("{} has the digest {actual}", path.display()));
        }
    }
    findings
}

fn database_findings(root: &Path) -> Vec<String> {
    let path = root.join("kelson/metadata.redb");
    if !path.exists() {
        return Vec::new();
    }
    let options = Options { create: false, ..Options::default() };
    let meta = RedbMeta::open(Arc::new(OsVfs), &path, options, Blocking::Pool).unwrap();
    let mut findings: Vec<String> =
        meta.check().unwrap().into_iter().map(|finding| finding.0).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        findings.extend(missing_contents(&meta, root).await);
        meta.close().await.unwrap();
    });
    findings
}

/// Blobs whose bytes are neither where their row says nor in the database.
async fn missing_contents(meta: &RedbMeta, root: &Path) -> Vec<String> {
    let files = blob_files(root);
    let mut findings = Vec::new();
    for repo in meta.repositories(None, usize::MAX).await.unwrap().items {
        for (digest, blob) in meta.blobs(&repo, None, usize::MAX).await.unwrap().items {
            let inline = meta.small_content(&digest).await.unwrap().is_some();
            let in_file = files.contains(&digest.to_string());
            let is_there = match blob.place {
                Place::Inline => inline,
                Place::File => in_file,
                Place::Both => inline && in_file,
            };
            if !is_there {
                findings.push(format!("{repo}: {digest} is not at its place {:?}", blob.place));
            }
        }
    }
    findings
}

fn staging_findings(root: &Path) -> Vec<String> {
    let mut findings = Vec::new();
    for directory in children(&root.join("kelson/staging")) {
        let name = file_name(&directory);
        if uuid::Uuid::try_parse(&name).is_err() {
            findings.push(format!("staging/{name} is no session"));
        }
        let entries: Vec<_> = children(&directory).iter().map(|path| file_name(path)).collect();
        if entries != ["data"] {
            findings.push(format!("staging/{name} holds {entries:?}"));
        }
    }
    findings
}

/// All files below a directory; none where it does not exist.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in children(directory) {
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push(path);
        }
    }
    files
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return vec![] };
    let mut children: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    children.sort();
    children
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}
