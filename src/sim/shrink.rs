//! A failure made smaller for people.

use std::time::{Duration, Instant};

use super::explore::{Failure, Tally, try_all, try_kind};
use super::run::{Base, Case};
use crate::disk::durable::Step;
use crate::disk::durable::mutant::without;

/// How long to look for a smaller failure.
const SHRINKING: Duration = Duration::from_secs(30);

/// Drops clients, then calls, as long as something stays broken.
pub fn shrink(base: &Base, failure: Failure, left_out: Option<Step>) -> Failure {
    let mut smallest = failure;
    let tally = Tally { end: Some(Instant::now() + SHRINKING), ..Tally::default() };
    loop {
        let smaller = smaller(&smallest.case).find_map(|case| {
            if tally.is_over() {
                return None;
            }
            let mode = smallest.mode;
            without(left_out, || match smallest.fault {
                // The same kind of fault, wherever it meets the smaller case.
                Some((kind, _)) => try_kind(base, mode, &case, kind, &tally).err(),
                None => try_all(base, mode, &case, &tally).err(),
            })
        });
        match smaller {
            Some(smaller) => smallest = smaller,
            None => return smallest,
        }
    }
}

/// The case without one client, then without one call.
fn smaller(case: &Case) -> impl Iterator<Item = Case> {
    let clients = case.clients.len();
    let without_client = (0..clients).filter(move |_| clients > 1).map(|number| {
        let mut case = case.clone();
        case.clients.remove(number);
        case
    });
    let calls = case.clients.iter().enumerate();
    let calls = calls.flat_map(|(client, calls)| (0..calls.len()).map(move |n| (client, n)));
    let without_call = calls.filter_map(|(client, number)| {
        let mut case = case.clone();
        case.clients[client].remove(number);
        case.clients.retain(|calls| !calls.is_empty());
        (!case.clients.is_empty()).then_some(case)
    });
    without_client.chain(without_call)
}
