//! The checker itself: it accepts what is right, and rejects every bug that is put in.

use proptest::prelude::*;

use super::linear::check;
use super::repository::{self, Answer, DOCUMENTS, Op, Repository, State};
use super::session::{self, Session};
use super::shuffled::{Load, Random, Service, shuffle};

/// What a registry may do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    StaleTag,
    StaleList,
    LostPush,
    TagBeforeManifest,
    TagOutlivesManifest,
    ManifestComesBack,
    SiblingTagGoes,
    TagTakesItsManifest,
    ConditionIgnored,
    RefusedAndDone,
    IncompleteManifest,
    NeededBlobGoes,
    BlobComesBack,
    ReferrerHidden,
    MountOfNothing,
}

const BUGS: [Bug; 15] = [
    Bug::StaleTag,
    Bug::StaleList,
    Bug::LostPush,
    Bug::TagBeforeManifest,
    Bug::TagOutlivesManifest,
    Bug::ManifestComesBack,
    Bug::SiblingTagGoes,
    Bug::TagTakesItsManifest,
    Bug::ConditionIgnored,
    Bug::RefusedAndDone,
    Bug::IncompleteManifest,
    Bug::NeededBlobGoes,
    Bug::BlobComesBack,
    Bug::ReferrerHidden,
    Bug::MountOfNothing,
];

/// A repository, perhaps with a bug that shows now and then.
#[derive(Debug)]
struct Simulated {
    bug: Option<Bug>,
    state: State,
    /// As it was a while ago.
    earlier: Vec<State>,
}

impl Simulated {
    fn new(bug: Option<Bug>) -> Self {
        Self { bug, state: State::default(), earlier: vec![State::default()] }
    }

    fn stale(&self, random: &mut Random) -> State {
        let back = 30 + random.index(50);
        self.earlier[self.earlier.len().saturating_sub(back)]
    }

    /// The answer and the state after it, as the bug has it.
    fn misbehave(&self, bug: Bug, op: Op, random: &mut Random) -> Option<(Answer, State)> {
        let (answer, right) = self.state.run(op);
        let mut wrong = right;
        let done = answer == Answer::Done;
        match (bug, op) {
            (Bug::StaleTag, Op::GetTag { .. }) | (Bug::StaleList, Op::ListTags) => {
                return Some((self.stale(random).run(op).0, self.state));
            }
            (Bug::LostPush, Op::PutTag { .. } | Op::PutManifest { .. })
            | (Bug::ManifestComesBack, Op::DeleteManifest { .. })
            | (Bug::BlobComesBack, Op::DeleteBlob { .. })
                if done =>
            {
                wrong = self.state;
            }
            (Bug::TagBeforeManifest, Op::PutTag { .. }) if done => {
                wrong.manifests = self.state.manifests;
            }
            (Bug::TagOutlivesManifest, Op::DeleteManifest { .. }) if done => {
                wrong.tags = self.state.tags;
            }
            (Bug::SiblingTagGoes, Op::DeleteTag { tag }) if done => {
                let manifest = self.state.tags[usize::from(tag)];
                wrong.tags.iter_mut().filter(|it| **it == manifest).for_each(|it| *it = None);
            }
            (Bug::TagTakesItsManifest, Op::DeleteTag { tag }) if done => {
                let manifest = self.state.tags[usize::from(tag)]?;
                wrong = self.state.run(Op::DeleteManifest { manifest }).1;
            }
            (Bug::ConditionIgnored, Op::PutTagIf { tag, manifest, .. }) => {
                return Some(self.state.run(Op::PutTag { tag, manifest }));
            }
            (Bug::RefusedAndDone, Op::PutTagIf { tag, manifest, .. }) => {
                return (answer == Answer::Unmet)
                    .then(|| (answer, self.state.run(Op::PutTag { tag, manifest }).1));
            }
            (Bug::IncompleteManifest, Op::PutManifest { manifest }) => {
                wrong.manifests |= 1 << manifest;
                return Some((Answer::Done, wrong));
            }
            (Bug::NeededBlobGoes, Op::DeleteBlob { blob }) if answer == Answer::Needed => {
                wrong.blobs &= !(1 << blob);
                return Some((Answer::Done, wrong));
            }
            (Bug::ReferrerHidden, Op::ListReferrers) => {
                let Answer::Set(set) = answer else { return None };
                return Some((Answer::Set(set & (set >> 1)), wrong));
            }
            // The source's part of it: there was nothing to mount.
            (Bug::MountOfNothing, Op::GetBlob { .. }) => return Some((Answer::Done, wrong)),
            _ => return None,
        }
        (wrong != right).then_some((answer, wrong))
    }
}

impl Service for Simulated {
    type Op = Op;
    type Answer = Answer;

    fn next(&mut self, random: &mut Random) -> Op {
        Op::random(random)
    }

    fn run(&mut self, op: Op, random: &mut Random) -> Answer {
        let bug = self.bug.filter(|_| random.percent(50));
        let wrong = bug.and_then(|bug| self.misbehave(bug, op, random));
        let (answer, after) = wrong.unwrap_or_else(|| self.state.run(op));
        self.state = after;
        self.earlier.push(after);
        answer
    }
}

/// A session; `bug` 1: two appends win one offset; 2: one is lost; 3: an ended session answers.
#[derive(Debug)]
struct SimulatedSession {
    bug: u8,
    state: session::State,
    length: u64,
}

impl Service for SimulatedSession {
    type Op = session::Op;
    type Answer = session::Answer;

    fn next(&mut self, random: &mut Random) -> session::Op {
        session::Op::random(random, self.length)
    }

    fn run(&mut self, op: session::Op, random: &mut Random) -> session::Answer {
        let (answer, after) = session::run(self.state, op);
        let shows = random.percent(40);
        let appended = matches!(op, session::Op::Append { .. });
        match (self.bug, answer) {
            (1, session::Answer::OutOfOrder) if shows => {
                let session::Op::Append { start } = op else { return answer };
                return session::Answer::Offset(start + session::CHUNK);
            }
            (2, session::Answer::Offset(_)) if shows && appended => return answer,
            (3, session::Answer::Unknown) if shows => return session::Answer::Offset(self.length),
            _ => {}
        }
        self.state = after;
        self.length = after.unwrap_or(self.length);
        answer
    }
}

const LOAD: Load = Load { clients: 8, requests: 4000, unknown_percent: 0 };

#[test]
fn every_seeded_bug_is_rejected() {
    for bug in BUGS {
        for seed in 0..5 {
            let entries = shuffle(&mut Simulated::new(Some(bug)), &mut Random(seed), LOAD);
            let found = check(&Repository, &entries);
            assert!(found.is_err(), "{bug:?} with seed {seed} was accepted");
        }
    }
}

#[test]
fn every_seeded_bug_of_a_session_is_rejected() {
    for bug in 1..=3 {
        // A session ends soon, so there are many.
        let rejected = (0..200).filter(|seed| {
            let mut session = SimulatedSession { bug, state: Some(0), length: 0 };
            let load = Load { clients: 4, requests: 60, unknown_percent: 0 };
            check(&Session, &shuffle(&mut session, &mut Random(*seed), load)).is_err()
        });
        let rejected = rejected.count();
        assert!(rejected > 100, "bug {bug} was rejected in {rejected} of 200 histories");
    }
}

#[test]
fn effects_before_the_call_and_after_the_return_are_rejected() {
    let put = (Op::PutBlob { blob: 0 }, Some(Answer::Done));
    let seen = |answer| (Op::GetBlob { blob: 0 }, Some(answer));
    let history = |events: [(Op, Option<Answer>, u64, u64); 2]| {
        let entries = events.map(|(op, answer, called, returned)| super::linear::Entry {
            event: (op, answer),
            called,
            returned: answer.map(|_| returned),
        });
        check(&Repository, &entries)
    };
    let (op, done) = put;
    let (get, there) = seen(Answer::Done);
    let (_, absent) = seen(Answer::Absent);
    assert!(history([(op, done, 3, 4), (get, there, 1, 2)]).is_err());
    assert!(history([(op, done, 1, 2), (get, absent, 3, 4)]).is_err());
    assert!(history([(op, done, 1, 3), (get, absent, 2, 4)]).is_ok());
    assert!(history([(op, done, 1, 3), (get, there, 2, 4)]).is_ok());
    // An unknown push may have been done, or not, but only after it was asked for.
    assert!(history([(op, None, 1, 9), (get, there, 5, 6)]).is_ok());
    assert!(history([(op, None, 7, 9), (get, there, 5, 6)]).is_err());
}

#[test]
fn an_unknown_outcome_may_come_late_or_never() {
    let entry = |event, called, returned| super::linear::Entry { event, called, returned };
    let push = entry((Op::PutBlob { blob: 0 }, None), 1, None);
    let get = |answer, at| entry((Op::GetBlob { blob: 0 }, Some(answer)), at, Some(at + 1));
    let (absent, there) = (Answer::Absent, Answer::Done);
    let accepted = |answers: &[Answer]| {
        let gets = answers.iter().enumerate().map(|(number, it)| get(*it, 10 * number as u64 + 5));
        let entries: Vec<_> = std::iter::once(push.clone()).chain(gets).collect();
        check(&Repository, &entries).is_ok()
    };
    assert!(accepted(&[absent, absent, absent]));
    assert!(accepted(&[absent, there, there]));
    assert!(!accepted(&[there, absent]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn true_interleavings_are_accepted(
        seed: u64,
        clients in 1_usize..=16,
        requests in 1_usize..400,
        unknown_percent in 0_u8..4,
    ) {
        let load = Load { clients, requests, unknown_percent };
        let entries = shuffle(&mut Simulated::new(None), &mut Random(seed), load);
        prop_assert_eq!(check(&Repository, &entries), Ok(()));
        let mut session = SimulatedSession { bug: 0, state: Some(0), length: 0 };
        let entries = shuffle(&mut session, &mut Random(seed), load);
        prop_assert_eq!(check(&Session, &entries), Ok(()));
    }
}

/// The table of documents has an image, an index and a referrer, and no cycle.
#[test]
fn documents_are_what_the_generator_takes_them_for() {
    for (number, document) in DOCUMENTS.iter().enumerate() {
        assert!(document.children < 1 << number, "{number} refers to itself or a later one");
        assert!(document.blobs < 1 << repository::BLOBS);
        assert!(document.subject.is_none_or(|subject| usize::from(subject) < number));
    }
}
