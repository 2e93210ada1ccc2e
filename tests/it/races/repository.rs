//! A repository as a sequential thing: its blobs, its manifests and its tags together, because a
//! push needs its blobs and a delete of a manifest takes its tags along. Repositories are apart;
//! a mount is two events, one in each.

use serde::{Deserialize, Serialize};

use super::history::Event;
use super::linear::Model;
use super::shuffled::Random;

pub const BLOBS: u8 = 6;
pub const TAGS: u8 = 4;

/// What a manifest says, all by number. In bit sets: the first is bit 0.
#[derive(Debug, Clone, Copy)]
pub struct Document {
    pub blobs: u16,
    pub children: u16,
    pub subject: Option<u8>,
}

const fn image(blobs: u16) -> Document {
    Document { blobs, children: 0, subject: None }
}

/// The manifests that clients push.
pub const DOCUMENTS: [Document; 8] = [
    image(0b00_0011),
    image(0b00_0110),
    image(0b00_1101),
    image(0b01_0000),
    image(0b10_0010),
    Document { blobs: 0, children: 0b0000_0011, subject: None },
    Document { blobs: 0b00_0001, children: 0, subject: Some(0) },
    Document { blobs: 0b00_0010, children: 0, subject: Some(0) },
];

/// The subject of the referrers among them.
pub const SUBJECT: u8 = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    PutTag {
        tag: u8,
        manifest: u8,
    },
    /// If the tag is at this manifest; `None`: if there is no such tag.
    PutTagIf {
        tag: u8,
        manifest: u8,
        seen: Option<u8>,
    },
    PutManifest {
        manifest: u8,
    },
    GetTag {
        tag: u8,
    },
    GetManifest {
        manifest: u8,
    },
    ListTags,
    ListReferrers,
    DeleteTag {
        tag: u8,
    },
    DeleteManifest {
        manifest: u8,
    },
    PutBlob {
        blob: u8,
    },
    /// Mounted from another repository: this one's part of it.
    MountBlob {
        blob: u8,
    },
    GetBlob {
        blob: u8,
    },
    DeleteBlob {
        blob: u8,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// 200, 201, 202
    Done,
    /// 404; for a mount, 202
    Absent,
    /// 412
    Unmet,
    /// 400 MANIFEST_BLOB_UNKNOWN
    Incomplete,
    /// 405: a manifest needs the blob
    Needed,
    /// Where the tag is
    At(u8),
    /// The list, as a bit set
    Set(u16),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct State {
    pub blobs: u16,
    pub manifests: u16,
    pub tags: [Option<u8>; TAGS as usize],
}

fn has(set: u16, number: u8) -> bool {
    set & (1 << number) != 0
}

impl State {
    /// Whether everything is there that the manifest refers to.
    fn completes(&self, manifest: u8) -> bool {
        let document = DOCUMENTS[usize::from(manifest)];
        document.blobs & !self.blobs == 0 && document.children & !self.manifests == 0
    }

    fn needs(&self, blob: u8) -> bool {
        let mut present = (0..DOCUMENTS.len()).filter(|it| has(self.manifests, *it as u8));
        present.any(|manifest| has(DOCUMENTS[manifest].blobs, blob))
    }

    fn referrers(&self) -> u16 {
        let refers = |number: &usize| DOCUMENTS[*number].subject == Some(SUBJECT);
        let all = (0..DOCUMENTS.len()).filter(refers).fold(0, |set, number| set | 1 << number);
        all & self.manifests
    }

    fn tagged(&self) -> u16 {
        let tags = (0..TAGS).filter(|tag| self.tags[usize::from(*tag)].is_some());
        tags.fold(0, |set, tag| set | 1 << tag)
    }

    fn put(mut self, manifest: u8, tag: Option<u8>) -> Self {
        self.manifests |= 1 << manifest;
        if let Some(tag) = tag {
            self.tags[usize::from(tag)] = Some(manifest);
        }
        self
    }

    /// What one request does, alone: its answer and the state after it.
    pub fn run(mut self, op: Op) -> (Answer, Self) {
        let tag_at = |tag: u8| self.tags[usize::from(tag)];
        match op {
            Op::PutTagIf { tag, seen, .. } if tag_at(tag) != seen => (Answer::Unmet, self),
            Op::PutTag { manifest, .. }
            | Op::PutTagIf { manifest, .. }
            | Op::PutManifest { manifest }
                if !self.completes(manifest) =>
            {
                (Answer::Incomplete, self)
            }
            Op::PutTag { tag, manifest } | Op::PutTagIf { tag, manifest, .. } => {
                (Answer::Done, self.put(manifest, Some(tag)))
            }
            Op::PutManifest { manifest } => (Answer::Done, self.put(manifest, None)),
            Op::GetTag { tag } => (tag_at(tag).map_or(Answer::Absent, Answer::At), self),
            Op::GetManifest { manifest } => (present(has(self.manifests, manifest)), self),
            Op::ListTags if self.manifests == 0 => (Answer::Absent, self),
            Op::ListTags => (Answer::Set(self.tagged()), self),
            Op::ListReferrers => (Answer::Set(self.referrers()), self),
            Op::DeleteTag { tag } => {
                let answer = present(tag_at(tag).is_some());
                self.tags[usize::from(tag)] = None;
                (answer, self)
            }
            Op::DeleteManifest { manifest } => {
                let answer = present(has(self.manifests, manifest));
                self.manifests &= !(1 << manifest);
                let on_it = |tag: &&mut Option<u8>| **tag == Some(manifest);
                self.tags.iter_mut().filter(on_it).for_each(|tag| *tag = None);
                (answer, self)
            }
            Op::PutBlob { blob } | Op::MountBlob { blob } => {
                self.blobs |= 1 << blob;
                (Answer::Done, self)
            }
            Op::GetBlob { blob } => (present(has(self.blobs, blob)), self),
            Op::DeleteBlob { blob } if !has(self.blobs, blob) => (Answer::Absent, self),
            Op::DeleteBlob { blob } if self.needs(blob) => (Answer::Needed, self),
            Op::DeleteBlob { blob } => {
                self.blobs &= !(1 << blob);
                (Answer::Done, self)
            }
        }
    }
}

fn present(is_there: bool) -> Answer {
    if is_there { Answer::Done } else { Answer::Absent }
}

/// One repository.
#[derive(Debug)]
pub struct Repository;

impl Model for Repository {
    type State = State;
    type Event = Event<Op, Answer>;

    fn initial(&self) -> State {
        State::default()
    }

    fn step(&self, state: &State, (op, answer): &Self::Event) -> Vec<State> {
        // A mount that found no source changed nothing, whatever is here.
        if let (Op::MountBlob { .. }, Some(Answer::Absent)) = (op, answer) {
            return vec![*state];
        }
        // Which of two reasons a refusal names is the server's choice.
        if let (Op::PutTagIf { manifest, .. }, Some(Answer::Incomplete)) = (op, answer) {
            return if state.completes(*manifest) { vec![] } else { vec![*state] };
        }
        let (expected, after) = state.run(*op);
        if answer.is_none_or(|answer| answer == expected) { vec![after] } else { vec![] }
    }

    fn is_read(&self, (op, answer): &Self::Event) -> bool {
        let asks = matches!(
            op,
            Op::GetTag { .. }
                | Op::GetManifest { .. }
                | Op::GetBlob { .. }
                | Op::ListTags
                | Op::ListReferrers
        );
        asks || answer.is_some_and(|answer| answer != Answer::Done)
    }
}

impl Op {
    /// An operation as clients do them; about half of everything is there at any time.
    pub fn random(random: &mut Random) -> Self {
        let (tag, blob) = (random.below(TAGS), random.below(BLOBS));
        let manifest = random.below(DOCUMENTS.len() as u8);
        match random.below(100) {
            0..12 => Self::PutTag { tag, manifest },
            12..17 => {
                let seen = random.below(DOCUMENTS.len() as u8 + 1).checked_sub(1);
                Self::PutTagIf { tag, manifest, seen }
            }
            17..20 => Self::PutManifest { manifest },
            20..32 => Self::GetTag { tag },
            32..40 => Self::GetManifest { manifest },
            40..46 => Self::ListTags,
            46..50 => Self::ListReferrers,
            50..57 => Self::DeleteTag { tag },
            57..72 => Self::DeleteManifest { manifest },
            72..80 => Self::PutBlob { blob },
            80..83 => Self::MountBlob { blob },
            83..90 => Self::GetBlob { blob },
            _ => Self::DeleteBlob { blob },
        }
    }
}
