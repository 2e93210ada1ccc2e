//! Whether a concurrent history is linearizable: the search of Wing and Gong, with Lowe's memory
//! of configurations ("Testing for linearizability", 2017).

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;

use crate::support::random_bytes;

/// Configurations that are looked at before a search gives up.
const CONFIGURATIONS_MAX: usize = 20_000_000;

/// What a thing does when its requests come one after another.
pub trait Model {
    type State: Clone + Debug + Eq + Hash;
    /// A request and its answer.
    type Event: Debug;

    fn initial(&self) -> Self::State;
    /// The states that the event may lead to; none: it cannot happen here.
    fn step(&self, state: &Self::State, event: &Self::Event) -> Vec<Self::State>;
    /// Whether the event never changes anything.
    fn is_read(&self, event: &Self::Event) -> bool;
}

/// An event, and when it was called and returned. Without a return its outcome is unknown: it may
/// take effect at any time after its call, or never.
#[derive(Debug, Clone)]
pub struct Entry<E> {
    pub event: E,
    pub called: u64,
    pub returned: Option<u64>,
}

/// The end of a list; the list's head is `marks.len()`.
const NONE: usize = usize::MAX;

struct Search<'a, M: Model> {
    model: &'a M,
    entries: &'a [Entry<M::Event>],
    /// Calls (`true`) and returns in the order of time, with their entry.
    marks: Vec<(usize, bool)>,
    /// Links between the marks of the entries that have no place yet.
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Where the return of each entry stands.
    returns: Vec<usize>,
    names: Vec<u128>,
    seen: HashSet<(u128, M::State)>,
}

/// An entry that got its place.
struct Choice<S> {
    mark: usize,
    /// The state before it, and which of the states after it was taken.
    state: S,
    taken: usize,
    /// A read that fits may come at once: no other choice could do better.
    is_read: bool,
}

/// Finds an order of the entries that the model allows and that keeps every "returned before it
/// was called". The error tells how far an order got, and what could not follow.
pub fn check<M: Model>(model: &M, entries: &[Entry<M::Event>]) -> Result<(), String> {
    Search::new(model, entries).run()
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, entries: &'a [Entry<M::Event>]) -> Self {
        let mut times: Vec<(u64, bool, usize)> = Vec::new();
        for (number, entry) in entries.iter().enumerate() {
            times.push((entry.called, true, number));
            times.extend(entry.returned.map(|at| (at, false, number)));
        }
        // At the same time, calls come first: the two are concurrent.
        times.sort_by_key(|(at, is_call, number)| (*at, !is_call, *number));
        let marks: Vec<_> = times.iter().map(|(_, is_call, number)| (*number, *is_call)).collect();
        let mut returns = vec![NONE; entries.len()];
        for (mark, (number, is_call)) in marks.iter().enumerate() {
            if !is_call {
                returns[*number] = mark;
            }
        }
        let count = marks.len();
        // The head links to the first mark; the last mark links to nothing.
        let mut next: Vec<_> = (1..=count).collect();
        next.push(0);
        if let Some(last) = next[..count].last_mut() {
            *last = NONE;
        }
        if count == 0 {
            next[0] = NONE;
        }
        let mut previous: Vec<_> = (0..count).map(|mark| mark.wrapping_sub(1)).collect();
        if let Some(first) = previous.first_mut() {
            *first = count;
        }
        let names = random_bytes(16 * entries.len());
        let names = names.chunks(16).map(|it| u128::from_ne_bytes(it.try_into().unwrap()));
        let names = names.collect();
        let seen = HashSet::new();
        Self { model, entries, marks, next, previous, returns, names, seen }
    }

    fn run(mut self) -> Result<(), String> {
        let head = self.marks.len();
        let mut state = self.model.initial();
        let mut placed = 0_u128;
        let mut open = self.returns.iter().filter(|mark| **mark != NONE).count();
        let mut choices: Vec<Choice<M::State>> = Vec::new();
        let mut furthest = (0, String::new());
        let (mut mark, mut from) = (self.next[head], 0);
        while open > 0 {
            if self.seen.len() > CONFIGURATIONS_MAX {
                return Err(format!("undecided after {CONFIGURATIONS_MAX} configurations"));
            }
            let (entry, is_call) = self.marks[mark];
            if is_call {
                if let Some((taken, after)) = self.place(&state, placed, entry, from) {
                    let is_read = self.model.is_read(&self.entries[entry].event);
                    choices.push(Choice { mark, state, taken, is_read });
                    state = after;
                    placed ^= self.names[entry];
                    open -= usize::from(self.returns[entry] != NONE);
                    self.lift(mark);
                    (mark, from) = (self.next[head], 0);
                    continue;
                }
                if !self.is_dead_end(&state, entry, from) {
                    (mark, from) = (self.next[mark], 0);
                    if mark != NONE {
                        continue;
                    }
                }
            }
            if choices.len() >= furthest.0 {
                furthest = (choices.len(), self.describe(&choices, &state, entry));
            }
            // Back to the last choice that had another way.
            loop {
                let Some(choice) = choices.pop() else { return Err(furthest.1) };
                let entry = self.marks[choice.mark].0;
                self.unlift(choice.mark);
                state = choice.state;
                placed ^= self.names[entry];
                open += usize::from(self.returns[entry] != NONE);
                if !choice.is_read {
                    (mark, from) = (choice.mark, choice.taken + 1);
                    break;
                }
            }
        }
        Ok(())
    }

    /// The next way, from the `from`-th on, in which the entry can come now.
    fn place(
        &mut self,
        state: &M::State,
        placed: u128,
        entry: usize,
        from: usize,
    ) -> Option<(usize, M::State)> {
        let ways = self.model.step(state, &self.entries[entry].event);
        let is_unknown = self.returns[entry] == NONE;
        for (taken, after) in ways.into_iter().enumerate().skip(from) {
            // Without an effect, an unknown outcome needs no place.
            if is_unknown && after == *state {
                continue;
            }
            if self.seen.insert((placed ^ self.names[entry], after.clone())) {
                return Some((taken, after));
            }
        }
        None
    }

    /// A read that fits here, but where that leads was looked at before.
    fn is_dead_end(&self, state: &M::State, entry: usize, from: usize) -> bool {
        let event = &self.entries[entry].event;
        from == 0
            && self.returns[entry] != NONE
            && self.model.is_read(event)
            && !self.model.step(state, event).is_empty()
    }

    /// Takes the entry's call and return out of the list.
    fn lift(&mut self, mark: usize) {
        self.take_out(mark);
        let end = self.returns[self.marks[mark].0];
        if end != NONE {
            self.take_out(end);
        }
    }

    fn unlift(&mut self, mark: usize) {
        let end = self.returns[self.marks[mark].0];
        if end != NONE {
            self.put_back(end);
        }
        self.put_back(mark);
    }

    fn take_out(&mut self, mark: usize) {
        let (before, after) = (self.previous[mark], self.next[mark]);
        self.next[before] = after;
        if after != NONE {
            self.previous[after] = before;
        }
    }

    fn put_back(&mut self, mark: usize) {
        let (before, after) = (self.previous[mark], self.next[mark]);
        self.next[before] = mark;
        if after != NONE {
            self.previous[after] = mark;
        }
    }

    fn describe(&self, choices: &[Choice<M::State>], state: &M::State, entry: usize) -> String {
        let from = choices.len().saturating_sub(8);
        let last: Vec<_> = choices[from..]
            .iter()
            .map(|choice| format!("  {:?}", self.entries[self.marks[choice.mark].0]))
            .collect();
        format!(
            "{} of {} placed, the last ones:\n{}\nthen {state:?}, where this cannot be:\n  {:?}",
            choices.len(),
            self.entries.len(),
            last.join("\n"),
            self.entries[entry]
        )
    }
}
