//! What a power cut may leave. Everything here is legal: some file system under some load does it.
//!
//! Durable things are always there. Of the rest, in the order in which it came about: a rename
//! happens or does not; what happens to a name, or to the names of a file or directory, happens
//! after what happened to it before; a directory goes after what was in it; a file whose creation
//! is lost is gone although its data was synced; an unlinked name may be back; bytes of a write may
//! be there in pages or sectors, in any order, and where a length is there without its bytes, there
//! are zeros.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::content::{Content, PAGE_SIZE_BYTES, SECTOR_SIZE_BYTES};
use super::state::{Change, Disk, FileNode, Id, Kind, Node};
use crate::ops::random::Seeded;

/// A class of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// Only what is durable.
    Nothing,
    /// All that was written: also what a killed process leaves.
    Everything,
    /// All up to some moment: a disk that writes in order.
    Prefix,
    /// All from some moment on.
    Suffix,
    /// Names and lengths, no bytes: a journal that went ahead of its data.
    Journal,
    /// Bytes, no names.
    Data,
    /// All but one.
    LoseOne,
    /// Only one.
    KeepOne,
    /// Any of the writes and names.
    Subset,
    /// Any of the names, and any 4 KiB pages of the writes.
    TornPages,
    /// Any of the names, and any 512 byte sectors of the writes.
    TornSectors,
    /// All up to some moment, and sectors of the write that was under way then.
    PrefixTorn,
}

impl Variant {
    /// Every class.
    pub const ALL: [Self; 12] = [
        Self::Nothing,
        Self::Everything,
        Self::Prefix,
        Self::Suffix,
        Self::Journal,
        Self::Data,
        Self::LoseOne,
        Self::KeepOne,
        Self::Subset,
        Self::TornPages,
        Self::TornSectors,
        Self::PrefixTorn,
    ];

    /// As it is written on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Everything => "everything",
            Self::Prefix => "prefix",
            Self::Suffix => "suffix",
            Self::Journal => "journal",
            Self::Data => "data",
            Self::LoseOne => "lose-one",
            Self::KeepOne => "keep-one",
            Self::Subset => "subset",
            Self::TornPages => "torn-pages",
            Self::TornSectors => "torn-sectors",
            Self::PrefixTorn => "prefix-torn",
        }
    }

    /// The class of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|variant| variant.name() == name)
    }
}

/// How much of a pending change is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kept {
    Not,
    Whole,
    /// Of a write: only the length.
    Length,
    /// Of a write: those of its parts, each so long, that the seed chooses.
    Parts(usize, u64),
}

/// What is pending, in order.
#[derive(Debug, Clone, Copy)]
struct Item {
    at: u64,
    is_entry: bool,
    is_write: bool,
}

/// Decides about each pending change in turn.
struct Choice {
    variant: Variant,
    random: Seeded,
    /// The number of the item that the variant is about.
    pivot: usize,
}

impl Choice {
    fn new(variant: Variant, seed: u64, items: usize) -> Self {
        let random = Seeded::new(seed);
        let pivot = random.below(items + 1);
        Self { variant, random, pivot }
    }

    fn keep(&self, number: usize, item: Item) -> Kept {
        let whole = |kept| if kept { Kept::Whole } else { Kept::Not };
        let any = || whole(self.random.one_in(2));
        match self.variant {
            Variant::Nothing => Kept::Not,
            Variant::Everything => Kept::Whole,
            Variant::Prefix => whole(number < self.pivot),
            Variant::Suffix => whole(number >= self.pivot),
            Variant::Journal if item.is_write => Kept::Length,
            Variant::Journal => Kept::Whole,
            Variant::Data => whole(!item.is_entry),
            Variant::LoseOne => whole(number != self.pivot),
            Variant::KeepOne => whole(number == self.pivot),
            Variant::TornPages if item.is_write => Kept::Parts(PAGE_SIZE_BYTES, self.random.next()),
            Variant::TornSectors if item.is_write => {
                Kept::Parts(SECTOR_SIZE_BYTES, self.random.next())
            }
            Variant::Subset | Variant::TornPages | Variant::TornSectors => any(),
            Variant::PrefixTorn if number == self.pivot && item.is_write => {
                Kept::Parts(SECTOR_SIZE_BYTES, self.random.next())
            }
            Variant::PrefixTorn => whole(number < self.pivot),
        }
    }
}

/// A disk after a power cut.
#[derive(Debug, Clone)]
pub struct Image {
    /// What it holds; nothing is pending.
    pub disk: Disk,
    /// Equal for equal images of the same run.
    pub key: u64,
}

impl Disk {
    /// How many changes are pending.
    pub fn pending(&self) -> usize {
        self.items().len()
    }

    fn items(&self) -> Vec<Item> {
        let entries = self.entries.iter();
        let mut items: Vec<Item> =
            entries.map(|entry| Item { at: entry.at, is_entry: true, is_write: false }).collect();
        for file in self.nodes.iter().filter_map(|node| file(node)) {
            items.extend(file.pending.iter().map(|(at, change)| {
                let is_write = matches!(change, Change::Write { .. });
                Item { at: *at, is_entry: false, is_write }
            }));
        }
        items.sort_by_key(|item| item.at);
        items
    }

    /// The disk after a power cut now.
    pub fn crash(&self, variant: Variant, seed: u64) -> Image {
        let items = self.items();
        let choice = Choice::new(variant, seed, items.len());
        let kept: Vec<(u64, Kept)> = items
            .iter()
            .enumerate()
            .map(|(number, item)| (item.at, choice.keep(number, *item)))
            .collect();
        self.image(&kept)
    }

    fn image(&self, kept: &[(u64, Kept)]) -> Image {
        let kept_at = |at: u64| match kept.binary_search_by_key(&at, |(at, _)| *at) {
            Ok(found) => kept[found].1,
            Err(_) => Kept::Not,
        };
        let mut hasher = DefaultHasher::new();
        let mut nodes = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            node.version.hash(&mut hasher);
            nodes.push(after(node, kept_at, &mut hasher));
        }
        let (mut lost, mut lost_names) = (BTreeSet::new(), BTreeSet::new());
        let mut not_emptied: BTreeSet<Id> = BTreeSet::new();
        for entry in &self.entries {
            let names = || entry.steps.iter().map(|(name, _)| name);
            let depends =
                lost.contains(&entry.node) || names().any(|name| lost_names.contains(name));
            let depends = depends || entry.removes().is_some_and(|id| not_emptied.contains(&id));
            if kept_at(entry.at) == Kept::Not || depends {
                lost.insert(entry.node);
                lost_names.extend(names());
                not_emptied.extend(names().map(|(directory, _)| directory));
                continue;
            }
            entry.at.hash(&mut hasher);
            for ((directory, name), node) in &entry.steps {
                set_name(&mut nodes[*directory], name, *node);
            }
        }
        let disk = Self { nodes, entries: Vec::new(), now: self.now };
        Image { disk, key: hasher.finish() }
    }
}

fn file(node: &Node) -> Option<&FileNode> {
    match &node.kind {
        Kind::File(file) => Some(file),
        Kind::Directory(_) => None,
    }
}

/// The node after a power cut, before the pending changes of names.
fn after(node: &Arc<Node>, kept: impl Fn(u64) -> Kept, hasher: &mut DefaultHasher) -> Arc<Node> {
    match &node.kind {
        Kind::File(file) if file.pending.is_empty() && !file.lost => Arc::clone(node),
        Kind::File(file) => {
            let mut content = file.durable.clone();
            for (at, change) in &file.pending {
                let kept = kept(*at);
                if kept != Kept::Not {
                    (*at, kept).hash(hasher);
                    apply_part(change, kept, &mut content);
                }
            }
            let live = content.clone();
            let file = FileNode { live, durable: content, pending: Vec::new(), lost: false };
            Arc::new(Node { kind: Kind::File(file), version: node.version })
        }
        Kind::Directory(directory) if directory.live == directory.durable => Arc::clone(node),
        Kind::Directory(directory) => {
            let mut directory = directory.clone();
            directory.live.clone_from(&directory.durable);
            Arc::new(Node { kind: Kind::Directory(directory), version: node.version })
        }
    }
}

fn apply_part(change: &Change, kept: Kept, content: &mut Content) {
    let Change::Write { offset, bytes } = change else {
        return change.apply(content);
    };
    match kept {
        Kept::Not => {}
        Kept::Whole => content.write(*offset, bytes),
        Kept::Length => content.extend_to(offset + bytes.len() as u64),
        Kept::Parts(size, seed) => {
            let random = Seeded::new(seed);
            let mut at = *offset as usize;
            let end = at + bytes.len();
            while at < end {
                // Parts end where the disk's do, not where the write began.
                let next = ((at / size + 1) * size).min(end);
                if random.one_in(2) {
                    let begin = *offset as usize;
                    content.write(at as u64, &bytes[at - begin..next - begin]);
                }
                at = next;
            }
        }
    }
}

fn set_name(node: &mut Arc<Node>, name: &str, to: Option<Id>) {
    if let Kind::Directory(directory) = &mut Arc::make_mut(node).kind {
        for names in [&mut directory.live, &mut directory.durable] {
            match to {
                Some(id) => names.insert(name.to_owned(), id),
                None => names.remove(name),
            };
        }
    }
}
