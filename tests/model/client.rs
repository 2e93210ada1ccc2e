//! Clients: for each blob of their manifest they ask or upload, then push the manifest.

use super::state::{BLOBS, Content, Link, Mutant, Place, Protocol, REFERENCES, State};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Client {
    manifest: usize,
    /// How many of its manifest's blobs it has seen to.
    done: usize,
    step: Step,
    /// How long it may rely on what it was told of each blob.
    told: [u8; BLOBS],
    /// The rest of the lease that the request in progress took.
    asked: u8,
}

/// Where the request in progress stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    None,
    // HEAD
    Leased,
    Held,
    /// Only if the lease comes after the read.
    Unleased,
    Condemned,
    // Upload of a large content: the stripe is held.
    Striped,
    Trusted,
    Missing,
    Published,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    Head,
    Upload,
    Put,
    /// What follows in the request in progress.
    Next,
}

impl Client {
    pub fn new(manifest: usize) -> Self {
        Self { manifest, done: 0, step: Step::None, told: [0; BLOBS], asked: 0 }
    }

    fn references(&self) -> &'static [usize] {
        REFERENCES[self.manifest]
    }

    pub fn moves(&self) -> &'static [Move] {
        match self.step {
            Step::None if self.done == self.references().len() => &[Move::Put],
            Step::None => &[Move::Head, Move::Upload],
            _ => &[Move::Next],
        }
    }

    pub fn tick(&mut self) {
        self.asked = self.asked.saturating_sub(1);
        for ticks in &mut self.told {
            *ticks = ticks.saturating_sub(1);
        }
        self.settle();
    }

    /// What it was told of the blob no longer counts.
    pub fn release(&mut self, blob: usize) {
        self.told[blob] = 0;
        if self.references().get(self.done) == Some(&blob) {
            self.asked = 0;
            if self.step == Step::Unleased {
                self.step = Step::None;
            }
        }
        self.settle();
    }

    /// Once it cannot rely on one blob, the others do not matter either.
    fn settle(&mut self) {
        if self.references()[..self.done].iter().any(|blob| self.told[*blob] == 0) {
            self.told = [0; BLOBS];
            self.asked = 0;
        }
    }

    /// Its connection is cut; what it was told before still counts.
    pub fn cut(&mut self) {
        self.step = Step::None;
        self.asked = 0;
    }

    fn answered(&mut self, blob: usize, ticks: u8) {
        self.step = Step::None;
        self.asked = 0;
        self.told[blob] = ticks;
        self.done += 1;
        self.settle();
    }
}

impl State {
    pub fn client(&mut self, protocol: &Protocol, number: usize, step: Move) {
        let client = &self.clients[number];
        if step == Move::Put {
            return self.put_manifest(number);
        }
        let blob = client.references()[client.done];
        match (step, client.step) {
            (Move::Upload, _) if protocol.small => self.upload_small(protocol, number, blob),
            (Move::Upload, _) => self.begin_upload(protocol, number, blob),
            (Move::Head, _) if protocol.is(Mutant::LeaseAfterRead) => {
                self.read_row(protocol, number, blob);
            }
            (Move::Head, _) => self.lease(protocol, number, blob, Step::Leased),
            (_, Step::Leased) => self.read_row(protocol, number, blob),
            (_, Step::Held) => self.give_back(protocol, number, blob),
            (_, Step::Unleased) => {
                self.lease(protocol, number, blob, Step::None);
                self.clients[number].answered(blob, protocol.lease);
            }
            (_, Step::Condemned) => self.revive(protocol, number, blob),
            _ => self.upload_large(protocol, number, blob),
        }
    }

    // --- HEAD -------------------------------------------------------------------------------

    fn lease(&mut self, protocol: &Protocol, number: usize, blob: usize, next: Step) {
        self.leases[blob] = protocol.lease;
        self.clients[number].asked = protocol.lease;
        self.clients[number].step = next;
    }

    fn read_row(&mut self, protocol: &Protocol, number: usize, blob: usize) {
        let late = protocol.is(Mutant::LeaseAfterRead);
        let asked = self.clients[number].asked;
        let is_held = self.is_held(blob);
        let client = &mut self.clients[number];
        match self.links[blob] {
            Link::None => client.cut(),
            Link::There(_) if is_held && late => client.answered(blob, protocol.lease),
            Link::There(_) if is_held => client.step = Step::Held,
            Link::There(_) if late => client.step = Step::Unleased,
            Link::Condemned if protocol.is(Mutant::CondemnedWithoutTransaction) => {
                client.answered(blob, asked);
            }
            Link::There(_) => client.answered(blob, asked),
            Link::Condemned => client.step = Step::Condemned,
        }
    }

    /// Only its own: a request that came later may rely on a longer one.
    fn give_back(&mut self, protocol: &Protocol, number: usize, blob: usize) {
        let asked = self.clients[number].asked;
        if self.leases[blob] == asked || protocol.is(Mutant::GiveBackAnyLease) {
            self.leases[blob] = 0;
        }
        self.clients[number].answered(blob, asked);
    }

    fn revive(&mut self, protocol: &Protocol, number: usize, blob: usize) {
        if self.links[blob] == Link::None {
            return self.clients[number].cut();
        }
        self.link(blob, protocol.lease);
        let asked = self.clients[number].asked;
        self.clients[number].answered(blob, asked);
    }

    // --- uploads ----------------------------------------------------------------------------

    /// One transaction: bytes and facts together.
    fn upload_small(&mut self, protocol: &Protocol, number: usize, blob: usize) {
        let trusts_unlinking = protocol.is(Mutant::SmallUploadTrustsUnlinking);
        let place = match self.contents[blob] {
            Content::Live(place, _) => place,
            Content::Unlinking(place) if trusts_unlinking => place,
            Content::Unlinking(_) | Content::None => Place::Inline,
        };
        self.contents[blob] = Content::Live(place, 0);
        self.link(blob, protocol.lease);
        self.clients[number].answered(blob, protocol.lease);
    }

    fn begin_upload(&mut self, protocol: &Protocol, number: usize, blob: usize) {
        if !protocol.is(Mutant::UploadWithoutStripe) {
            if self.stripes[blob] {
                return;
            }
            self.stripes[blob] = true;
        }
        self.clients[number].step = Step::Striped;
    }

    fn upload_large(&mut self, protocol: &Protocol, number: usize, blob: usize) {
        let trusts_unlinking = protocol.is(Mutant::UploadTrustsUnlinking);
        let step = match self.clients[number].step {
            Step::Striped => match self.contents[blob] {
                Content::Live(..) => Step::Trusted,
                Content::Unlinking(_) if trusts_unlinking => Step::Trusted,
                _ => Step::Missing,
            },
            Step::Missing => {
                self.files[blob] = true;
                Step::Published
            }
            _ => {
                self.contents[blob] = Content::Live(Place::File, 0);
                self.link(blob, protocol.lease);
                self.clients[number].answered(blob, protocol.lease);
                self.stripes[blob] = false;
                return;
            }
        };
        self.clients[number].step = step;
    }

    // --- PUT of the manifest ----------------------------------------------------------------

    fn put_manifest(&mut self, number: usize) {
        let client = &mut self.clients[number];
        let (manifest, told) = (client.manifest, client.told);
        *client = Client::new(manifest);
        let references = REFERENCES[manifest];
        if references.iter().all(|blob| self.links[*blob] != Link::None) {
            self.manifests[manifest] = true;
            references.iter().for_each(|blob| self.links[*blob] = Link::There(0));
        } else {
            self.broken |= references.iter().all(|blob| told[*blob] > 0);
        }
    }
}
