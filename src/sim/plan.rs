//! What each mode plans: which cases there are, and which faults they meet.

use super::call::Call;
use super::run::Case;
use crate::disk::sim::{Class, EDQUOT, EINTR, EIO, EMFILE, ENOSPC, EROFS, Fault, Kind};
use crate::ops::random::Seeded;

/// Which cases, cut how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Mode {
    /// D-4: every sequence of up to three calls, cut at every operation, every variant.
    Short,
    /// D-5: random calls of several clients.
    Random,
    /// D-6: further power cuts while a store recovers.
    Recovery,
    /// D-7: the first start, and the first calls after it.
    FirstStart,
    /// D-13: no space at the n-th operation that takes some, for every n.
    Enospc,
    /// The n-th sync fails, for every n, in both variants of the kernel.
    FailedSync,
    /// Any operation fails in any other way.
    Faults,
    /// The n-th read of a file beside the database has a flipped bit, for every n.
    Flips,
    /// D-18: a database of an older release is opened, cut at every operation.
    Upgrade,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 9] = [
        Self::FirstStart,
        Self::Short,
        Self::Random,
        Self::Recovery,
        Self::Enospc,
        Self::FailedSync,
        Self::Faults,
        Self::Flips,
        Self::Upgrade,
    ];

    /// Whether there is no store yet.
    pub fn first_start(self) -> bool {
        self == Self::FirstStart
    }
}

/// The case of this number; `None` when there are no more.
pub fn case_of(mode: Mode, seed: u64, number: u64) -> Option<Case> {
    let random = Seeded::new(seed.wrapping_mul(1_000_003).wrapping_add(number));
    let case_seed = random.next() >> 16;
    match mode {
        Mode::Short => short(seed, number).map(|calls| Case { seed, clients: vec![calls] }),
        Mode::Random => Some(Case::random(case_seed, 2 + random.below(5), 2 + random.below(6))),
        Mode::Recovery => Some(Case::random(case_seed, 1 + random.below(3), 1 + random.below(4))),
        Mode::FirstStart => first_start(seed, number),
        Mode::Upgrade => (number == 0).then(|| Case { seed, clients: Vec::new() }),
        Mode::Enospc | Mode::FailedSync | Mode::Faults | Mode::Flips => {
            let mut case = Case::random(case_seed, 1 + random.below(3), 2 + random.below(4));
            for client in &mut case.clients {
                // A disk that cannot read a content for good has lost it.
                let scrubs = mode != Mode::Faults;
                client.retain(|call| match call {
                    Call::Restart | Call::Plant(_) | Call::Rot => false,
                    Call::Scrub => scrubs,
                    _ => true,
                });
            }
            Some(case)
        }
    }
}

/// How many cases a mode has; `None` when there is always another.
pub fn cases(mode: Mode) -> Option<u64> {
    let is_finite = matches!(mode, Mode::Short | Mode::FirstStart | Mode::Upgrade);
    let is_case = |number: &u64| case_of(mode, 0, *number).is_some();
    is_finite.then(|| (0..).take_while(is_case).count() as u64)
}

fn first_start(seed: u64, number: u64) -> Option<Case> {
    let calls: [&[Call]; 7] = [
        &[Call::Half(0, 1)],
        &[Call::Push(0, 1)],
        &[Call::Push(0, 0), Call::Push(0, 1), Call::Put(0, 0, 0), Call::Spill],
        &[Call::Chunks(0, 3), Call::Restart, Call::Push(0, 3)],
        &[Call::Restart, Call::Push(0, 0), Call::Spill, Call::Beat],
        &[Call::Push(0, 6), Call::Rot, Call::Scrub, Call::Push(1, 6)],
        &[Call::Push(0, 6), Call::Rot, Call::Scrub, Call::Plant(6), Call::Scrub, Call::Push(1, 6)],
    ];
    let calls = calls.get(number as usize)?.to_vec();
    Some(Case { seed, clients: vec![calls] })
}

/// Sequences of one, two, three calls; those of three in an order that the seed decides.
fn short(seed: u64, number: u64) -> Option<Vec<Call>> {
    let calls = Call::SHORT.len() as u64;
    let (mut number, mut length) = (number, 1);
    while number >= calls.pow(length) {
        number -= calls.pow(length);
        length += 1;
        if length > 3 {
            return None;
        }
    }
    if length == 3 {
        // Coprime to the number of sequences: every one comes once.
        number = (number * 1009 + seed) % calls.pow(3);
    }
    let place = |place: u32| Call::SHORT[(number / calls.pow(place) % calls) as usize];
    Some((0..length).map(place).collect())
}

/// The n-th fault of a kind, in a mode that has some; `None` in the others.
pub fn fault_of(mode: Mode, case: &Case, kind: usize, nth: usize) -> Option<Fault> {
    let fault = |classes: &[Class], kind, persistent| {
        Some(Fault { classes: classes.to_vec(), nth, kind, persistent })
    };
    match (mode, kind) {
        (Mode::Enospc, 0) => fault(&Class::ROOM, Kind::Error(ENOSPC), false),
        (Mode::Enospc, 1) => fault(&Class::ROOM, Kind::Error(ENOSPC), true),
        (Mode::Enospc, 2) => fault(&[Class::Write], Kind::Short(ENOSPC), true),
        (Mode::Enospc, 3) => fault(&Class::ROOM, Kind::Error(EDQUOT), false),
        (Mode::FailedSync, 0) => fault(&Class::SYNCS, Kind::FailedSync { visible: true }, false),
        (Mode::FailedSync, 1) => fault(&Class::SYNCS, Kind::FailedSync { visible: false }, false),
        (Mode::Flips, 0) => fault(&[Class::Read], Kind::Flip, false),
        (Mode::Faults, 2) => fault(&[Class::Write], Kind::Short(EIO), false),
        (Mode::Faults, 0 | 1) => {
            let random = Seeded::new(case.seed ^ nth as u64 ^ (kind as u64) << 32);
            let errno = [EIO, EINTR, EMFILE, EROFS, ENOSPC][random.below(5)];
            let classes = [Class::Open, Class::Read, Class::Rename, Class::RemoveFile];
            let classes = [&classes[..], &Class::CHANGES[..7]].concat();
            let class = classes[random.below(classes.len())];
            fault(&[class], Kind::Error(errno), kind == 1)
        }
        _ => None,
    }
}
