//! What a simulated disk holds: for each file and directory what is durable, what is seen, and in
//! which order the difference came about.
//!
//! A state is cheap to copy: nodes and pages are shared until they change. It changes by
//! [`Disk::apply`] alone, so a log of [`Op`]s makes the same states again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};
use std::sync::Arc;

use bytes::Bytes;

use super::content::Content;
use crate::ops::random::Seeded;

/// A file or directory, whatever its name.
pub type Id = usize;

/// A name in a directory.
pub type Name = (Id, String);

/// The root directory `/`.
pub const ROOT: Id = 0;

/// How a sync ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synced {
    /// Well.
    Done,
    /// With an error: the pages are clean now, whatever became of them.
    Failed {
        /// Whether reads see the new bytes (ext4) or the old ones (btrfs).
        visible: bool,
        /// Decides which of the writes reached the device all the same.
        seed: u64,
    },
}

/// Something that changes the disk.
#[derive(Debug, Clone)]
pub enum Op {
    /// Bytes into a file.
    Write {
        /// Into which.
        file: Id,
        /// Where.
        offset: u64,
        /// What.
        bytes: Bytes,
    },
    /// Another length.
    SetSize {
        /// Of which file.
        file: Id,
        /// Which.
        size_bytes: u64,
    },
    /// A new file or directory, which gets the next [`Id`].
    Create {
        /// Its name.
        name: Name,
        /// Whether it is a directory.
        is_dir: bool,
    },
    /// Another name.
    Rename {
        /// The old one.
        from: Name,
        /// The new one; what had it before loses it.
        to: Name,
    },
    /// A name goes.
    Remove {
        /// Which.
        name: Name,
    },
    /// Data and length of a file become durable.
    SyncFile {
        /// Of which.
        file: Id,
        /// How it went.
        synced: Synced,
    },
    /// The names in a directory become durable.
    SyncDir {
        /// In which.
        directory: Id,
        /// How it went.
        synced: Synced,
    },
    /// The clean pages of a file are dropped: what is read next comes from the device.
    DropCache {
        /// Of which.
        file: Id,
    },
}

/// A change of a file that is not durable yet.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Write { offset: u64, bytes: Bytes },
    SetSize(u64),
}

impl Change {
    pub(super) fn apply(&self, content: &mut Content) {
        match self {
            Self::Write { offset, bytes } => content.write(*offset, bytes),
            Self::SetSize(size_bytes) => content.set_size(*size_bytes),
        }
    }
}

/// A change of names that is not durable yet: all of its steps happen, or none.
#[derive(Debug, Clone)]
pub(super) struct EntryChange {
    pub(super) at: u64,
    /// What is renamed, made or removed.
    pub(super) node: Id,
    /// (name, what it stands for from now on).
    pub(super) steps: Vec<(Name, Option<Id>)>,
    /// Directories whose sync it still waits for.
    unsynced: Vec<Id>,
}

impl EntryChange {
    /// What has no name any more afterwards.
    pub(super) fn removes(&self) -> Option<Id> {
        self.steps.iter().all(|(_, to)| to.is_none()).then_some(self.node)
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct FileNode {
    pub(super) live: Content,
    pub(super) durable: Content,
    /// In order, with the time of each.
    pub(super) pending: Vec<(u64, Change)>,
    /// Whether `live` holds what a failed sync has lost.
    pub(super) lost: bool,
}

pub(super) type Names = BTreeMap<String, Id>;

#[derive(Debug, Clone, Default)]
pub(super) struct DirectoryNode {
    pub(super) live: Names,
    pub(super) durable: Names,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    File(FileNode),
    Directory(DirectoryNode),
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// When its durable state last changed.
    pub(super) version: u64,
}

/// The state of a disk.
#[derive(Debug, Clone)]
pub struct Disk {
    pub(super) nodes: Vec<Arc<Node>>,
    /// In order.
    pub(super) entries: Vec<EntryChange>,
    pub(super) now: u64,
}

impl Default for Disk {
    /// An empty root directory.
    fn default() -> Self {
        let kind = Kind::Directory(DirectoryNode::default());
        Self { nodes: vec![Arc::new(Node { kind, version: 0 })], entries: Vec::new(), now: 0 }
    }
}

impl Disk {
    /// What has this path.
    pub fn find(&self, path: &Path) -> Option<Id> {
        let mut id = ROOT;
        for component in path.components() {
            match component {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) => id = *self.names(id)?.get(name.to_str()?)?,
                Component::ParentDir | Component::Prefix(_) => return None,
            }
        }
        Some(id)
    }

    /// Every path from the root, for people.
    pub fn paths(&self) -> Vec<(Id, String)> {
        let mut found = vec![(ROOT, String::new())];
        let mut at = 0;
        while let Some((id, path)) = found.get(at).cloned() {
            let below = self.names(id).into_iter().flatten();
            found.extend(below.map(|(name, id)| (*id, format!("{path}/{name}"))));
            at += 1;
        }
        found
    }

    pub(super) fn names(&self, id: Id) -> Option<&Names> {
        match &self.nodes[id].kind {
            Kind::Directory(directory) => Some(&directory.live),
            Kind::File(_) => None,
        }
    }

    pub(super) fn content(&self, id: Id) -> Option<&Content> {
        match &self.nodes[id].kind {
            Kind::File(file) => Some(&file.live),
            Kind::Directory(_) => None,
        }
    }

    fn node(&mut self, id: Id) -> &mut Node {
        Arc::make_mut(&mut self.nodes[id])
    }

    fn file(&mut self, id: Id) -> Option<&mut FileNode> {
        match &mut self.node(id).kind {
            Kind::File(file) => Some(file),
            Kind::Directory(_) => None,
        }
    }

    /// Changes the state. The operation was checked: what it names is there.
    pub fn apply(&mut self, op: &Op) {
        self.now += 1;
        match op {
            Op::Write { file, offset, bytes } => {
                self.change(*file, Change::Write { offset: *offset, bytes: bytes.clone() });
            }
            Op::SetSize { file, size_bytes } => self.change(*file, Change::SetSize(*size_bytes)),
            Op::Create { name, is_dir } => self.create(name, *is_dir),
            Op::Rename { from, to } => self.rename(from, to),
            Op::Remove { name } => {
                if let Some(node) = self.names(name.0).and_then(|names| names.get(&name.1)) {
                    self.change_entries(*node, vec![(name.clone(), None)]);
                }
            }
            Op::SyncFile { file, synced } => self.sync_file(*file, *synced),
            Op::SyncDir { directory, synced } => self.sync_dir(*directory, *synced),
            Op::DropCache { file } => self.drop_cache(*file),
        }
    }

    fn change(&mut self, id: Id, change: Change) {
        let now = self.now;
        if let Some(file) = self.file(id) {
            change.apply(&mut file.live);
            file.pending.push((now, change));
        }
    }

    fn create(&mut self, name: &Name, is_dir: bool) {
        let kind = match is_dir {
            true => Kind::Directory(DirectoryNode::default()),
            false => Kind::File(FileNode::default()),
        };
        self.nodes.push(Arc::new(Node { kind, version: self.now }));
        let node = self.nodes.len() - 1;
        self.change_entries(node, vec![(name.clone(), Some(node))]);
    }

    fn rename(&mut self, from: &Name, to: &Name) {
        let Some(node) = self.names(from.0).and_then(|names| names.get(&from.1)).copied() else {
            return;
        };
        self.change_entries(node, vec![(from.clone(), None), (to.clone(), Some(node))]);
    }

    fn change_entries(&mut self, node: Id, steps: Vec<(Name, Option<Id>)>) {
        for step in &steps {
            self.set_name(step, |directory| &mut directory.live);
        }
        let mut unsynced: Vec<Id> = steps.iter().map(|((directory, _), _)| *directory).collect();
        unsynced.dedup();
        self.entries.push(EntryChange { at: self.now, node, steps, unsynced });
    }

    fn set_name(
        &mut self,
        ((directory, name), node): &(Name, Option<Id>),
        of: impl Fn(&mut DirectoryNode) -> &mut Names,
    ) {
        if let Kind::Directory(directory) = &mut self.node(*directory).kind {
            match node {
                Some(node) => of(directory).insert(name.clone(), *node),
                None => of(directory).remove(name),
            };
        }
    }

    fn sync_file(&mut self, id: Id, synced: Synced) {
        let now = self.now;
        let Some(file) = self.file(id) else { return };
        let pending = std::mem::take(&mut file.pending);
        match synced {
            Synced::Done if !file.lost => file.durable = file.live.clone(),
            Synced::Done => {
                for (_, change) in pending {
                    change.apply(&mut file.durable);
                }
            }
            Synced::Failed { visible, seed } => {
                let random = Seeded::new(seed);
                for (_, change) in pending.iter().filter(|_| random.one_in(2)) {
                    change.apply(&mut file.durable);
                }
                file.lost = true;
                if !visible {
                    file.live = file.durable.clone();
                }
            }
        }
        self.node(id).version = now;
    }

    /// Names are journalled: a failed sync leaves the rest undecided, and the old file system.
    fn sync_dir(&mut self, id: Id, synced: Synced) {
        if synced != Synced::Done {
            return;
        }
        // What becomes durable takes with it what the same node and the same names went through
        // before: a journal keeps that order.
        // A directory that is gone was emptied before.
        let (mut nodes, mut names) = (BTreeSet::new(), BTreeSet::new());
        let mut emptied = BTreeSet::new();
        let mut settled = Vec::new();
        for number in (0..self.entries.len()).rev() {
            let entry = &mut self.entries[number];
            entry.unsynced.retain(|directory| *directory != id);
            let earlier = nodes.contains(&entry.node)
                || entry.steps.iter().any(|(name, _)| names.contains(name))
                || entry.steps.iter().any(|((directory, _), _)| emptied.contains(directory));
            if entry.unsynced.is_empty() || earlier {
                nodes.insert(entry.node);
                emptied.extend(entry.removes());
                names.extend(entry.steps.iter().map(|(name, _)| name.clone()));
                settled.push(self.entries.remove(number));
            }
        }
        for step in settled.iter().rev().flat_map(|entry| &entry.steps) {
            self.set_name(step, |directory| &mut directory.durable);
            self.node(step.0.0).version = self.now;
        }
    }

    fn drop_cache(&mut self, id: Id) {
        let Some(file) = self.file(id) else { return };
        if file.lost {
            file.live = file.durable.clone();
            for (_, change) in &file.pending {
                change.apply(&mut file.live);
            }
            file.lost = false;
        }
    }
}
