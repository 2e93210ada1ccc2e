//! What must hold of every store that no process has open.

use std::fs;
use std::path::{Path, PathBuf};

use super::digest;

/// Panics unless the store below `root` is sound: every blob file has the content that its name
/// says (B1), nothing else lies in the tree of blobs, and a staging directory is named by a
/// session's UUID and holds exactly `data` (B2).
///
/// This is the one place for further findings, such as those of an offline check of rows
/// against files.
#[track_caller]
pub fn assert_sound(root: &Path) {
    let findings: Vec<String> = [blob_findings(root), staging_findings(root)].concat();
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
fn files(directory: &Path) -> Vec<PathBuf> {
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
