//! What clients were told, and what may be found after a power cut because of it.
//!
//! Each key is a register of its own. A value may be there if somebody may have written it and
//! nobody who was answered wrote over it afterwards. Calls that overlap may come in any order.

use super::call::Call;
use super::universe::{SUBJECT, UPLOADED_SIZE_BYTES, Universe};

/// A fact that clients can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// Repository, blob.
    Blob(usize, usize),
    /// Repository, manifest.
    Manifest(usize, usize),
    /// Repository, tag.
    Tag(usize, usize),
    /// The upload of the base state.
    Upload,
}

/// What a fact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// There is none.
    Absent,
    /// It is there, byte for byte.
    Present,
    /// A tag of this manifest.
    Of(usize),
    /// An upload with so many bytes.
    Offset(u64),
    /// An upload with more bytes than before.
    Grown,
}

/// What a call changes.
#[derive(Debug, Clone, Copy)]
pub struct Effect {
    /// Which fact.
    pub key: Key,
    /// Into what.
    pub value: Value,
    /// Only if it is this.
    pub only_over: Option<Value>,
    /// Otherwise it may take place or not, also when it is acknowledged.
    pub is_certain: bool,
}

impl Effect {
    /// Whatever was there before.
    pub fn new(key: Key, value: Value) -> Self {
        Self { key, value, only_over: None, is_certain: true }
    }

    /// Perhaps.
    pub fn possible(key: Key, value: Value) -> Self {
        Self { is_certain: false, ..Self::new(key, value) }
    }
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was acknowledged.
    Done,
    /// It was acknowledged: so many bytes of the upload are durable.
    Kept(u64),
    /// It was refused and changed nothing.
    Refused,
    /// It was refused because the bytes of the upload have another digest, which ends the upload:
    /// an append that overlaps a finish may put its bytes between those of the latter.
    Mismatched,
    /// Nothing fits any more; whether it changed something is not known.
    Full,
    /// The store takes no writes; likewise.
    Poisoned,
    /// Something went wrong; likewise.
    Failed,
}

/// One call. Positions are those of the disk's log; between two of them there may be many
/// moments.
#[derive(Debug, Clone)]
pub struct Record {
    /// Who made it.
    pub client: usize,
    /// What it was.
    pub call: Call,
    /// The position and the moment at which it began.
    pub began: (usize, usize),
    /// Those of its answer, and the answer; `None`: there was none.
    pub ended: Option<(usize, usize, Outcome)>,
    /// The answer for people.
    pub answer: String,
}

impl Record {
    fn begun_by(&self, cut: usize) -> bool {
        let outcome = self.ended.map(|(_, _, outcome)| outcome);
        let refused = matches!(outcome, Some(Outcome::Refused | Outcome::Mismatched));
        self.began.0 <= cut && !refused
    }

    /// Whether both were under way at some moment.
    fn overlaps(&self, other: &Self) -> bool {
        let before =
            |one: &Self, two: &Self| one.ended.is_some_and(|(_, moment, _)| moment <= two.began.1);
        !before(self, other) && !before(other, self)
    }

    /// Whether it was answered by then that the upload has ended.
    fn has_ended(&self, cut: usize) -> bool {
        let ended = |(position, _, outcome)| {
            position <= cut && matches!(outcome, Outcome::Done | Outcome::Mismatched)
        };
        self.call == Call::Finish && self.ended.is_some_and(ended)
    }

    /// Where it says that the upload stands.
    fn kept(&self) -> Option<u64> {
        match self.ended {
            Some((_, _, Outcome::Kept(offset))) => Some(offset),
            _ => None,
        }
    }

    /// The moment of its acknowledgement, if that came before the cut.
    fn acknowledged_by(&self, cut: usize) -> Option<usize> {
        match self.ended {
            Some((position, moment, Outcome::Done | Outcome::Kept(_))) if position <= cut => {
                Some(moment)
            }
            _ => None,
        }
    }
}

/// Every call of a run.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// In the order in which they began.
    pub records: Vec<Record>,
    /// Whether some read may have had a flipped bit: what was staged before this process may have
    /// been hashed with it, and then its digest was wrong and the upload has ended.
    pub flips: bool,
}

/// Somebody who wrote a key.
struct Writer {
    value: Value,
    only_over: Option<Value>,
    is_certain: bool,
    began: usize,
    /// When it was acknowledged.
    ended: Option<usize>,
}

impl History {
    /// Whether somebody had begun to finish the upload of the base state by then.
    pub fn finishes(&self, cut: usize) -> bool {
        let mut records = self.records.iter();
        records.any(|record| record.call == Call::Finish && record.began.0 <= cut)
    }

    /// Whether somebody had begun to finish any upload by then.
    pub fn finishes_any(&self, cut: usize) -> bool {
        let finishes = |call| matches!(call, Call::Finish | Call::Chunks(..));
        self.records.iter().any(|record| finishes(record.call) && record.began.0 <= cut)
    }

    /// Whether somebody had begun to delete that manifest by then.
    pub fn deletes(&self, repository: usize, manifest: usize, cut: usize) -> bool {
        let call = Call::Delete(repository, manifest);
        self.records.iter().any(|record| record.call == call && record.begun_by(cut))
    }

    /// Whether the file of the blob that may rot may be rotten after a power cut at `cut`: nobody
    /// has looked at all contents since.
    pub fn may_be_rotten(&self, cut: usize) -> bool {
        let since = |rot: &Record| {
            let scrubbed = |record: &&Record| {
                record.call == Call::Scrub && record.acknowledged_by(cut).is_some()
            };
            self.records
                .iter()
                .filter(scrubbed)
                .any(|scrub| rot.ended.is_some_and(|(_, moment, _)| moment <= scrub.began.1))
        };
        let rotted = |record: &&Record| record.call == Call::Rot && record.began.0 <= cut;
        self.records.iter().filter(rotted).any(|rot| !since(rot))
    }

    /// Whether somebody had begun this call before the answer to that one.
    fn comes_before_the_end(&self, call: Call, of: &Record) -> bool {
        let before = |other: &Record| of.ended.is_none_or(|(_, moment, _)| other.began.1 <= moment);
        self.records.iter().any(|record| record.call == call && before(record))
    }

    /// Whether this call can have changed that key: what it does may have a condition.
    fn can_change(&self, record: &Record, key: Key) -> bool {
        match (record.call, key) {
            (Call::Scrub, _) => self.comes_before_the_end(Call::Rot, record),
            (Call::Collect, Key::Manifest(repository, _)) => {
                self.comes_before_the_end(Call::Delete(repository, SUBJECT), record)
            }
            _ => true,
        }
    }

    /// Why this value may not be there after a power cut at `cut`; `None` when it may. `published`
    /// says whether the bytes of the upload had left staging by then.
    pub fn contradicts(
        &self,
        universe: &Universe,
        cut: usize,
        key: Key,
        found: Value,
        first: Value,
        published: &dyn Fn() -> bool,
    ) -> Option<String> {
        if key == Key::Upload {
            return self.contradicts_upload(cut, found, first, published);
        }
        let begin =
            Writer { value: first, only_over: None, is_certain: true, began: 0, ended: Some(0) };
        let mut writers = vec![begin];
        let changes = |record: &&Record| self.can_change(record, key);
        let begun = self.records.iter().filter(|record| record.begun_by(cut));
        for record in begun.filter(changes) {
            let ended = record.acknowledged_by(cut);
            let effects = record.call.effects(universe).into_iter();
            writers.extend(effects.filter(|effect| effect.key == key).map(|effect| Writer {
                value: effect.value,
                only_over: effect.only_over,
                is_certain: effect.is_certain,
                began: record.began.1,
                ended,
            }));
        }
        let allowed: Vec<Value> = (0..writers.len())
            .filter(|one| !is_overwritten(&writers, *one))
            .map(|one| writers[one].value)
            .collect();
        let may = allowed.contains(&found);
        (!may).then(|| format!("I3: {key:?} is {found:?}, but it may only be one of {allowed:?}"))
    }

    /// Whether this call may have ended the upload of the base state by then.
    fn may_end(&self, record: &Record, cut: usize, published: &dyn Fn() -> bool) -> bool {
        if record.call != Call::Finish || record.began.0 > cut {
            return false;
        }
        let grows = |other: &&Record| matches!(other.call, Call::Append | Call::Finish);
        match record.ended.map(|(_, _, outcome)| outcome) {
            Some(Outcome::Mismatched) => {
                let mut others = self.records.iter().filter(grows);
                self.flips
                    || others.any(|other| !std::ptr::eq(other, record) && other.overlaps(record))
            }
            // Out of descriptors: its commit, or that of an earlier one, left the row.
            Some(Outcome::Refused) => published(),
            _ => true,
        }
    }

    fn contradicts_upload(
        &self,
        cut: usize,
        found: Value,
        first: Value,
        published: &dyn Fn() -> bool,
    ) -> Option<String> {
        if first == Value::Absent {
            return (found != first).then(|| format!("I3: the upload is {found:?}"));
        }
        let records = || self.records.iter();
        let acknowledged = records().filter(|record| record.acknowledged_by(cut).is_some());
        let least = acknowledged.filter_map(Record::kept).max();
        let least = least.unwrap_or(UPLOADED_SIZE_BYTES as u64);
        let ended = records().any(|record| record.has_ended(cut));
        let may = match found {
            Value::Absent => records().any(|record| self.may_end(record, cut, published)),
            Value::Offset(offset) => !ended && offset >= least,
            _ => false,
        };
        (!may).then(|| {
            format!("I3: the upload is {found:?}, acknowledged were {least}, ended: {ended}")
        })
    }
}

/// Whether an acknowledged writer, which began after this one was answered, replaced its value.
fn is_overwritten(writers: &[Writer], one: usize) -> bool {
    let Some(ended) = writers[one].ended else { return false };
    let value = writers[one].value;
    writers.iter().enumerate().any(|(other, writer)| {
        let over = writer.only_over.is_none_or(|only| only == value);
        let replaces = over && writer.is_certain;
        other > 0 && other != one && replaces && writer.ended.is_some() && writer.began >= ended
    })
}
