//! The collector's protocol (docs/design/collector.md) as a model: every interleaving of clients,
//! collector, spill, deletes, time and crashes is walked.
//!
//! What must hold in every state:
//! I1 a live row has its bytes where it says;
//! I2 a committed manifest has everything that it refers to;
//! I3 a client that was told 200 or 201 within the lease gets its manifest stored;
//! I4 without a crash, a file without a row is somebody's work in progress.
//!
//! Time is counted in ticks; everything in between takes none. A use that ends leaves a grace as
//! long as the lease, the shortest that the protocol allows; `KELSON_MODEL_LEASE` is its length,
//! and asks for the larger protocols too.

#[cfg(test)]
mod client;
#[cfg(test)]
mod collector;
#[cfg(test)]
mod state;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stateright::{Checker, HasDiscoveries, Model};

    use super::state::{Mutant, Protocol};

    /// Walks everything; fails when an invariant breaks or the walk did not end. Breadth first:
    /// what waits remembers how it was reached, and depth first some of those ways are millions of
    /// steps long.
    fn walk(protocol: Protocol) {
        let name = format!("{protocol:?}");
        let checker = protocol.checker().timeout(Duration::from_secs(600)).spawn_bfs().join();
        checker.assert_properties();
        assert!(checker.is_done(), "{name}: not walked to its end");
        println!("{} states, {name}", checker.unique_state_count());
    }

    /// Walks until `invariant` breaks, and fails if it never does.
    fn refute(protocol: Protocol, invariant: &'static str) {
        let checker = protocol.checker().finish_when(HasDiscoveries::Any).spawn_bfs().join();
        let path = checker.assert_any_discovery(invariant);
        println!("{invariant} breaks: {:?}", path.into_actions());
    }

    /// Ticks of a lease, and whether there is time to walk the protocols with more clients.
    fn plan() -> (u8, bool) {
        let asked = std::env::var("KELSON_MODEL_LEASE");
        asked.map_or((1, false), |ticks| (ticks.parse().unwrap(), true))
    }

    #[test]
    fn large_contents_survive_every_interleaving() {
        let (lease, is_whole) = plan();
        let sets: &[&[usize]] = if is_whole { &[&[0, 1], &[0, 0], &[0, 1, 1]] } else { &[&[0, 1]] };
        for clients in sets {
            walk(Protocol { lease, ..Protocol::new(clients) });
        }
    }

    #[test]
    fn small_contents_survive_every_interleaving() {
        let (lease, is_whole) = plan();
        let sets: &[&[usize]] = if is_whole { &[&[1, 1], &[0], &[0, 1]] } else { &[&[1, 1]] };
        for clients in sets {
            walk(Protocol { lease, small: true, ..Protocol::new(clients) });
        }
    }

    #[test]
    fn nothing_is_left_behind_without_a_crash() {
        let (lease, _) = plan();
        for small in [false, true] {
            walk(Protocol { lease, small, crashes: false, ..Protocol::new(&[1, 1]) });
        }
    }

    #[test]
    fn every_mutant_is_refuted() {
        let large = |mutant| Protocol { mutant: Some(mutant), ..Protocol::new(&[0, 1]) };
        let small = |mutant| Protocol { small: true, ..large(mutant) };
        let tidy = |mutant| Protocol { crashes: false, ..small(mutant) };
        use Mutant::*;
        refute(large(LeaseAfterRead), "I3");
        refute(large(CollectWithoutLook), "I3");
        refute(large(CollectWithoutRecheck), "I2");
        refute(large(CondemnedWithoutTransaction), "I3");
        refute(large(GiveBackAnyLease), "I3");
        refute(large(GraceShorterThanLease), "I3");
        refute(large(NoWaitAfterStart), "I3");
        refute(large(UnlinkBeforeCommit), "I1");
        refute(large(UnlinkWithoutRecheck), "I1");
        refute(large(ForgetWithoutRecheck), "I2");
        refute(large(UploadWithoutStripe), "I1");
        refute(large(UploadTrustsUnlinking), "I1");
        refute(small(SmallUploadTrustsUnlinking), "I1");
        refute(small(SpillWithoutStripe), "I1");
        refute(tidy(SpillWithoutRecheck), "I4");
    }
}
