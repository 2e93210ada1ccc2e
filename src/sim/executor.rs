//! Runs futures on this thread, in an order that a seed decides.
//!
//! Every step of the stores lets others go first, so whoever is polled next is what a scheduler
//! would have decided. Nobody is woken: what cannot go on yet says so again.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::ops::random::Seeded;

/// Polls without an end in sight mean that everybody waits for everybody.
const POLLS_MAX: usize = 1_000_000;

/// A client, or work beside the clients.
pub type Task<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Runs one future alone.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..POLLS_MAX {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
    panic!("a future never ends");
}

/// Runs all tasks until they end, or until `step`, which is called after each poll, says `false`.
pub fn interleave(mut tasks: Vec<Task<'_>>, random: &Seeded, mut step: impl FnMut() -> bool) {
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..POLLS_MAX {
        if tasks.is_empty() {
            return;
        }
        let chosen = random.below(tasks.len());
        if tasks[chosen].as_mut().poll(&mut context).is_ready() {
            drop(tasks.swap_remove(chosen));
        }
        if !step() {
            return;
        }
    }
    panic!("{} clients wait for each other", tasks.len());
}
