//! The collector, and the spill of small contents beside it.

use super::state::{Content, Link, Mutant, Place, Protocol, State};

/// Where a pass stands. A crash forgets it; the rows say how to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Collector {
    Resting,
    /// T1 is committed.
    Condemned(usize),
    /// Nobody had a lease.
    Looked(usize),
    /// Only if the unlink comes before its commit.
    Early(usize),
    /// T2 is committed: the content is unlinking.
    Doomed(usize),
    /// The stripe is held; whether the row, read again, is still unlinking.
    Striped(usize, bool),
    Unlinked(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Spill {
    Resting,
    /// The content has no file yet.
    Found(usize),
    /// The stripe is held.
    Striped(usize),
    /// The row, read again, is still without a file.
    Writing(usize),
    Written(usize),
}

impl State {
    /// The collector's next step; `blob` is what a new pass begins with.
    pub fn collect(&mut self, protocol: &Protocol, blob: usize) {
        self.collector = match self.collector {
            Collector::Resting => self.begin_pass(protocol, blob),
            Collector::Condemned(blob) => self.look(protocol, blob),
            Collector::Looked(blob) => self.collect_link(protocol, blob),
            Collector::Early(blob) => self.doom(blob),
            Collector::Doomed(blob) => self.take_stripe(protocol, blob),
            Collector::Striped(blob, is_unlinking) => {
                self.stripes[blob] = false;
                if is_unlinking {
                    self.files[blob] = false;
                    Collector::Unlinked(blob)
                } else {
                    Collector::Resting
                }
            }
            Collector::Unlinked(blob) => self.forget(protocol, blob),
        };
    }

    fn begin_pass(&mut self, protocol: &Protocol, blob: usize) -> Collector {
        if self.wait > 0 {
            return Collector::Resting;
        }
        match (self.links[blob], self.contents[blob]) {
            (Link::There(0), _) if !self.is_held(blob) => {
                self.links[blob] = Link::Condemned;
                Collector::Condemned(blob)
            }
            (Link::Condemned, _) => Collector::Condemned(blob),
            (Link::None, Content::Live(_, 0)) if protocol.is(Mutant::UnlinkBeforeCommit) => {
                self.files[blob] = false;
                Collector::Early(blob)
            }
            (Link::None, Content::Live(_, 0)) => self.doom(blob),
            (_, Content::Unlinking(_)) => Collector::Doomed(blob),
            _ => Collector::Resting,
        }
    }

    fn look(&mut self, protocol: &Protocol, blob: usize) -> Collector {
        if self.leases[blob] == 0 || protocol.is(Mutant::CollectWithoutLook) {
            return Collector::Looked(blob);
        }
        if self.links[blob] == Link::Condemned {
            self.links[blob] = Link::There(protocol.lease);
        }
        Collector::Resting
    }

    fn collect_link(&mut self, protocol: &Protocol, blob: usize) -> Collector {
        let found = self.links[blob];
        let unchecked = protocol.is(Mutant::CollectWithoutRecheck) && found != Link::None;
        if found == Link::Condemned || unchecked {
            self.unlink(blob, 0);
        }
        Collector::Resting
    }

    fn doom(&mut self, blob: usize) -> Collector {
        match (self.links[blob], self.contents[blob]) {
            (Link::None, Content::Live(place, _)) => {
                self.contents[blob] = Content::Unlinking(place);
                Collector::Doomed(blob)
            }
            _ => Collector::Resting,
        }
    }

    fn take_stripe(&mut self, protocol: &Protocol, blob: usize) -> Collector {
        if self.stripes[blob] {
            return self.collector;
        }
        self.stripes[blob] = true;
        let is_unlinking = matches!(self.contents[blob], Content::Unlinking(_));
        Collector::Striped(blob, is_unlinking || protocol.is(Mutant::UnlinkWithoutRecheck))
    }

    fn forget(&mut self, protocol: &Protocol, blob: usize) -> Collector {
        let is_unlinking = matches!(self.contents[blob], Content::Unlinking(_));
        if is_unlinking || protocol.is(Mutant::ForgetWithoutRecheck) {
            self.contents[blob] = Content::None;
        }
        Collector::Resting
    }

    /// The spill's next step; `blob` is what a new batch begins with.
    pub fn spill(&mut self, protocol: &Protocol, blob: usize) {
        let without_stripe = protocol.is(Mutant::SpillWithoutStripe);
        self.spill = match self.spill {
            Spill::Resting if self.is_inline(blob) => Spill::Found(blob),
            Spill::Resting => Spill::Resting,
            Spill::Found(blob) if self.stripes[blob] && !without_stripe => Spill::Found(blob),
            Spill::Found(blob) => {
                self.stripes[blob] |= !without_stripe;
                Spill::Striped(blob)
            }
            Spill::Striped(blob) => {
                let is_live = matches!(self.contents[blob], Content::Live(Place::Inline, _));
                if is_live || protocol.is(Mutant::SpillWithoutRecheck) {
                    Spill::Writing(blob)
                } else {
                    self.stripes[blob] &= without_stripe;
                    Spill::Resting
                }
            }
            Spill::Writing(blob) => {
                self.files[blob] = true;
                Spill::Written(blob)
            }
            Spill::Written(blob) => {
                match &mut self.contents[blob] {
                    Content::Live(place, _) | Content::Unlinking(place) => *place = Place::File,
                    Content::None => {}
                }
                self.stripes[blob] &= without_stripe;
                Spill::Resting
            }
        };
    }

    fn is_inline(&self, blob: usize) -> bool {
        matches!(
            self.contents[blob],
            Content::Live(Place::Inline, _) | Content::Unlinking(Place::Inline)
        )
    }
}
