//! The store, what is in memory, and what may happen next.

use stateright::{Model, Property};

use super::client::{Client, Move};
use super::collector::{Collector, Spill};

pub const BLOBS: usize = 2;

/// What the manifests refer to: both need the second blob.
pub const REFERENCES: [&[usize]; 2] = [&[0, 1], &[1]];

/// One variant of the protocol, and who takes part.
#[derive(Debug, Clone)]
pub struct Protocol {
    /// The manifest that each client pushes, again and again.
    pub clients: Vec<usize>,
    /// Contents are small: stored inline first, spilled later.
    pub small: bool,
    /// Whether the process may be killed.
    pub crashes: bool,
    /// The length of a lease in ticks.
    pub lease: u8,
    /// The rule that is broken.
    pub mutant: Option<Mutant>,
}

/// A rule of the protocol that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    LeaseAfterRead,
    CollectWithoutLook,
    CollectWithoutRecheck,
    CondemnedWithoutTransaction,
    GiveBackAnyLease,
    GraceShorterThanLease,
    NoWaitAfterStart,
    UnlinkBeforeCommit,
    UnlinkWithoutRecheck,
    ForgetWithoutRecheck,
    UploadWithoutStripe,
    UploadTrustsUnlinking,
    SmallUploadTrustsUnlinking,
    SpillWithoutStripe,
    SpillWithoutRecheck,
}

/// The repository's row about a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Link {
    None,
    /// No garbage while a manifest refers to it; else garbage in so many ticks.
    There(u8),
    Condemned,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    Inline,
    File,
}

/// The row about a blob's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Content {
    None,
    /// Garbage in so many ticks, if no repository has it.
    Live(Place, u8),
    Unlinking(Place),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    // Durable: each change of the rows is a transaction.
    pub links: [Link; BLOBS],
    pub contents: [Content; BLOBS],
    pub manifests: [bool; REFERENCES.len()],
    pub files: [bool; BLOBS],
    // In memory.
    pub leases: [u8; BLOBS],
    pub stripes: [bool; BLOBS],
    pub collector: Collector,
    /// Ticks until the collector may begin.
    pub wait: u8,
    pub spill: Spill,
    // Not of this process.
    pub clients: Vec<Client>,
    /// A client was refused although it kept its lease.
    pub broken: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Client(usize, Move),
    Collect(usize),
    Spill(usize),
    DeleteManifest(usize),
    DeleteBlob(usize),
    Tick,
    /// A file whose removal was not synced may come back.
    Crash {
        restores: bool,
    },
}

impl Protocol {
    pub fn new(clients: &[usize]) -> Self {
        let clients = clients.to_vec();
        Self { clients, small: false, crashes: true, lease: 1, mutant: None }
    }

    pub fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// The grace of what loses its last use.
    pub fn grace(&self) -> u8 {
        if self.is(Mutant::GraceShorterThanLease) { 0 } else { self.lease }
    }
}

impl State {
    pub fn is_held(&self, blob: usize) -> bool {
        let refers = |manifest: usize| REFERENCES[manifest].contains(&blob);
        (0..REFERENCES.len()).any(|manifest| self.manifests[manifest] && refers(manifest))
    }

    /// The repository has the blob, anew.
    pub fn link(&mut self, blob: usize, grace: u8) {
        self.links[blob] = Link::There(if self.is_held(blob) { 0 } else { grace });
        if let Content::Live(place, _) = self.contents[blob] {
            self.contents[blob] = Content::Live(place, 0);
        }
    }

    /// The repository has the blob no longer; its bytes may go in so many ticks.
    pub fn unlink(&mut self, blob: usize, grace: u8) {
        self.links[blob] = Link::None;
        if let Content::Live(place, _) = self.contents[blob] {
            self.contents[blob] = Content::Live(place, grace);
        }
    }

    fn delete_manifest(&mut self, manifest: usize, grace: u8) {
        self.manifests[manifest] = false;
        for blob in REFERENCES[manifest] {
            if !self.is_held(*blob) {
                self.links[*blob] = Link::There(grace);
            }
        }
    }

    fn tick(&mut self) {
        let pass = |ticks: &mut u8| *ticks = ticks.saturating_sub(1);
        self.leases.iter_mut().for_each(pass);
        pass(&mut self.wait);
        for link in &mut self.links {
            if let Link::There(eligible) = link {
                pass(eligible);
            }
        }
        for content in &mut self.contents {
            if let Content::Live(_, eligible) = content {
                pass(eligible);
            }
        }
        self.clients.iter_mut().for_each(Client::tick);
    }

    fn crash(&mut self, restores: bool, wait: u8) {
        self.leases = [0; BLOBS];
        self.stripes = [false; BLOBS];
        self.collector = Collector::Resting;
        self.spill = Spill::Resting;
        self.wait = wait;
        if restores {
            self.files = [true; BLOBS];
        }
        self.clients.iter_mut().for_each(Client::cut);
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            links: [Link::None; BLOBS],
            contents: [Content::None; BLOBS],
            manifests: [false; REFERENCES.len()],
            files: [false; BLOBS],
            leases: [0; BLOBS],
            stripes: [false; BLOBS],
            collector: Collector::Resting,
            wait: 0,
            spill: Spill::Resting,
            clients: self.clients.iter().map(|manifest| Client::new(*manifest)).collect(),
            broken: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (number, client) in state.clients.iter().enumerate() {
            actions.extend(client.moves().iter().map(|it| Action::Client(number, *it)));
        }
        for blob in 0..BLOBS {
            actions.push(Action::Collect(blob));
            if self.small {
                actions.push(Action::Spill(blob));
            }
            if matches!(state.links[blob], Link::There(_)) && !state.is_held(blob) {
                actions.push(Action::DeleteBlob(blob));
            }
        }
        for manifest in (0..REFERENCES.len()).filter(|manifest| state.manifests[*manifest]) {
            actions.push(Action::DeleteManifest(manifest));
        }
        actions.push(Action::Tick);
        if self.crashes {
            actions.push(Action::Crash { restores: false });
            actions.push(Action::Crash { restores: true });
        }
    }

    /// `None` where the action has to wait or has nothing to do.
    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Client(number, step) => state.client(self, number, step),
            Action::Collect(blob) => state.collect(self, blob),
            Action::Spill(blob) => state.spill(self, blob),
            Action::DeleteManifest(manifest) => state.delete_manifest(manifest, self.grace()),
            Action::DeleteBlob(blob) => {
                state.unlink(blob, self.grace());
                // Whoever deletes a blob takes back what clients were told of it.
                state.clients.iter_mut().for_each(|client| client.release(blob));
            }
            Action::Tick => state.tick(),
            Action::Crash { restores } => {
                let wait = if self.is(Mutant::NoWaitAfterStart) { 0 } else { self.lease };
                state.crash(restores, wait);
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let i4 = |protocol: &Self, state: &State| {
            let stray = |blob: usize| state.files[blob] && state.contents[blob] == Content::None;
            protocol.crashes || (0..BLOBS).all(|blob| !stray(blob) || state.stripes[blob])
        };
        vec![
            Property::always("I1", |_, state: &State| {
                let sound = |blob: usize| match state.contents[blob] {
                    Content::Live(Place::File, _) => state.files[blob],
                    _ => true,
                };
                (0..BLOBS).all(sound)
            }),
            Property::always("I2", |_, state: &State| {
                let readable = |blob: usize| {
                    state.links[blob] != Link::None
                        && matches!(state.contents[blob], Content::Live(..))
                };
                (0..BLOBS).all(|blob| !state.is_held(blob) || readable(blob))
            }),
            Property::always("I3", |_, state: &State| !state.broken),
            Property::always("I4", i4),
        ]
    }
}
