//! An upload session as a sequential thing: how many bytes it has, and whether it still exists.

use serde::{Deserialize, Serialize};

use super::history::Event;
use super::linear::Model;
use super::shuffled::Random;

/// Bytes of one chunk.
pub const CHUNK: u64 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// A chunk that begins there.
    Append {
        start: u64,
    },
    Status,
    Cancel,
    /// Under the digest of that many bytes.
    Finish {
        length: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// 201, 204 of a cancel
    Done,
    /// 202 and 204: so many bytes
    Offset(u64),
    /// 416
    OutOfOrder,
    /// 409: a newer request took the session
    Superseded,
    /// 400: the digest is another; the session ends
    Mismatch,
    /// 404
    Unknown,
}

/// So many bytes; `None`: it has ended.
pub type State = Option<u64>;

/// One session, from its beginning.
#[derive(Debug)]
pub struct Session;

/// What one request does, alone.
pub fn run(state: State, op: Op) -> (Answer, State) {
    let Some(offset) = state else { return (Answer::Unknown, None) };
    match op {
        Op::Append { start } if start != offset => (Answer::OutOfOrder, state),
        Op::Append { .. } => (Answer::Offset(offset + CHUNK), Some(offset + CHUNK)),
        Op::Status => (Answer::Offset(offset), state),
        Op::Cancel => (Answer::Done, None),
        Op::Finish { length } if length == offset => (Answer::Done, None),
        Op::Finish { .. } => (Answer::Mismatch, None),
    }
}

impl Model for Session {
    type State = State;
    type Event = Event<Op, Answer>;

    fn initial(&self) -> State {
        Some(0)
    }

    fn step(&self, state: &State, (op, answer): &Self::Event) -> Vec<State> {
        match (op, answer, state) {
            // It kept what had arrived, from nothing to all.
            (Op::Append { start }, Some(Answer::Superseded) | None, Some(offset)) => {
                let kept = if start == offset { CHUNK } else { 0 };
                (0..=kept).map(|kept| Some(offset + kept)).collect()
            }
            (_, Some(Answer::Superseded), _) => vec![*state],
            (_, answer, _) => {
                let (expected, after) = run(*state, *op);
                let fits = answer.is_none_or(|answer| answer == expected);
                if fits { vec![after] } else { vec![] }
            }
        }
    }

    fn is_read(&self, (op, answer): &Self::Event) -> bool {
        *op == Op::Status || matches!(answer, Some(Answer::OutOfOrder | Answer::Unknown))
    }
}

impl Op {
    /// A client that believes the session to be about there.
    pub fn random(random: &mut Random, offset: u64) -> Self {
        match random.below(100) {
            0..60 => Self::Append { start: offset },
            60..70 => Self::Append { start: offset + CHUNK },
            70..96 => Self::Status,
            96..98 => Self::Cancel,
            _ => Self::Finish { length: offset },
        }
    }
}
