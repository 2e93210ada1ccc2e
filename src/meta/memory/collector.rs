//! The collector's part of the model: who needs what is worked out from the plain facts.

use super::super::{
    Amount, BlobState, Candidate, Collected, EdgeKind, Garbage, GcQueue, Moment, Result, Standing,
    Use, Waiting,
};
use super::{Facts, Manifest, Repository};
use crate::oci::{Digest, RepositoryName};

impl Manifest {
    pub(super) fn standing(&self) -> Standing {
        match self.queue {
            _ if self.condemned => Standing::Condemned,
            Some(_) => Standing::Waiting { eligible_uptime_seconds: self.eligible_uptime_seconds },
            None => Standing::Held,
        }
    }
}

impl Repository {
    pub(super) fn link_standing(&self, digest: &Digest) -> Option<Standing> {
        let link = self.links.get(digest)?;
        Some(match link.eligible_uptime_seconds {
            _ if self.is_needed(digest) => Standing::Held,
            _ if link.condemned => Standing::Condemned,
            eligible_uptime_seconds => Standing::Waiting { eligible_uptime_seconds },
        })
    }

    /// The queue that a manifest belongs into.
    fn queue_of(&self, digest: &Digest) -> Option<Garbage> {
        let manifest = self.manifests.get(digest)?;
        let mut edges = self.manifests.values().flat_map(|manifest| &manifest.edges);
        let subject = manifest.record.subject;
        let held = self.tags.values().any(|(target, _)| target == digest)
            || edges.any(|edge| edge.kind == EdgeKind::Child && edge.digest == *digest)
            || subject.is_some_and(|subject| self.manifests.contains_key(&subject));
        let garbage = if manifest.orphaned { Garbage::Referrer } else { Garbage::Untagged };
        (!held).then_some(garbage)
    }

    /// What entered or left a queue: its grace starts, and nobody has chosen it.
    fn settle(&mut self, moment: Moment) {
        let queues: Vec<_> = self.manifests.keys().map(|d| (*d, self.queue_of(d))).collect();
        for (digest, queue) in queues {
            let Some(manifest) = self.manifests.get_mut(&digest) else { continue };
            if manifest.queue != queue {
                manifest.queue = queue;
                manifest.eligible_uptime_seconds = moment.eligible_uptime_seconds;
                manifest.condemned = false;
            }
        }
        let needed: Vec<_> = self.links.keys().filter(|d| self.is_needed(d)).copied().collect();
        for digest in needed {
            if let Some(link) = self.links.get_mut(&digest) {
                link.condemned = false;
            }
        }
    }

    fn garbage(&self) -> Vec<(u64, u64, Digest, Garbage)> {
        let unused = self.links.iter().filter(|(digest, _)| !self.is_needed(digest));
        let links = unused
            .map(|(digest, link)| (link.eligible_uptime_seconds, self.id, *digest, Garbage::Link));
        let manifests = self.manifests.iter().filter_map(|(digest, manifest)| {
            Some((manifest.eligible_uptime_seconds, self.id, *digest, manifest.queue?))
        });
        links.chain(manifests).collect()
    }
}

impl Facts {
    /// After every change of a repository.
    pub(super) fn settle(&mut self, name: &RepositoryName, moment: Moment) {
        let Some(repository) = self.repositories.get_mut(name) else { return };
        repository.settle(moment);
        if repository.links.is_empty() && repository.manifests.is_empty() {
            self.repositories.remove(name);
        }
    }

    /// One queue, in its order.
    pub(super) fn places(&self, queue: GcQueue) -> Vec<(u64, u64, Digest, Garbage)> {
        let mut places: Vec<_> = self.repositories.values().flat_map(Repository::garbage).collect();
        let unheld = self.contents.iter().filter(|(digest, _)| !self.is_held(digest));
        places.extend(unheld.map(|(digest, content)| {
            (content.eligible_uptime_seconds, 0, *digest, Garbage::Content)
        }));
        let wanted = queue == GcQueue::Untagged;
        places.retain(|(_, _, _, garbage)| (*garbage == Garbage::Untagged) == wanted);
        places.sort_unstable();
        places
    }

    fn candidate(
        &self,
        (eligible_uptime_seconds, repository_id, digest, garbage): (u64, u64, Digest, Garbage),
    ) -> Candidate {
        let mut named = self.repositories.iter();
        let repository = named.find(|(_, repository)| repository.id == repository_id);
        Candidate {
            eligible_uptime_seconds,
            repository_id,
            repository: repository.map(|(name, _)| name.clone()),
            digest,
            garbage,
            size_bytes: self.contents.get(&digest).map_or(0, |content| content.size_bytes),
        }
    }

    pub(super) fn candidates(
        &self,
        queue: GcQueue,
        before: u64,
        after: Option<&Candidate>,
        limit: usize,
    ) -> Vec<Candidate> {
        let key = |c: &Candidate| (c.eligible_uptime_seconds, c.repository_id, c.digest, c.garbage);
        let places = self.places(queue).into_iter();
        places
            .filter(|place| place.0 < before && after.is_none_or(|after| *place > key(after)))
            .take(limit)
            .map(|place| self.candidate(place))
            .collect()
    }

    pub(super) fn waiting(&self, [garbage, untagged]: [u64; 2]) -> Waiting {
        let mut waiting = Waiting::default();
        for (queue, before) in [(GcQueue::Garbage, garbage), (GcQueue::Untagged, untagged)] {
            for candidate in self.candidates(queue, u64::MAX, None, usize::MAX) {
                let at = candidate.eligible_uptime_seconds;
                let amounts =
                    if at < before { &mut waiting.eligible } else { &mut waiting.waiting };
                amounts.of(candidate.garbage).add(candidate.size_bytes);
                if queue == GcQueue::Garbage {
                    waiting.last_eligible_uptime_seconds = Some(at);
                }
            }
        }
        waiting
    }

    fn stands(&self, candidate: &Candidate) -> bool {
        let queue = match candidate.garbage {
            Garbage::Untagged => GcQueue::Untagged,
            _ => GcQueue::Garbage,
        };
        let Candidate { eligible_uptime_seconds, repository_id, digest, garbage, .. } = candidate;
        let place = (*eligible_uptime_seconds, *repository_id, *digest, *garbage);
        self.places(queue).contains(&place)
    }

    /// The mark of the link or manifest, and when it may go.
    fn mark(&mut self, candidate: &Candidate) -> Option<(&mut bool, &mut u64)> {
        let repository = self.repositories.get_mut(candidate.repository.as_ref()?)?;
        if candidate.garbage == Garbage::Link {
            let link = repository.links.get_mut(&candidate.digest)?;
            return Some((&mut link.condemned, &mut link.eligible_uptime_seconds));
        }
        let manifest = repository.manifests.get_mut(&candidate.digest)?;
        Some((&mut manifest.condemned, &mut manifest.eligible_uptime_seconds))
    }

    fn is_condemned(&mut self, candidate: &Candidate) -> bool {
        self.stands(candidate) && self.mark(candidate).is_none_or(|(condemned, _)| *condemned)
    }

    pub(super) fn condemn(&mut self, batch: Vec<Candidate>) -> Vec<Candidate> {
        let standing: Vec<_> = batch.into_iter().filter(|c| self.stands(c)).collect();
        for candidate in &standing {
            if let Some((condemned, _)) = self.mark(candidate) {
                *condemned = true;
            }
        }
        standing
    }

    pub(super) fn spare(&mut self, batch: &[Candidate], eligible_uptime_seconds: u64) {
        for candidate in batch {
            if self.is_condemned(candidate)
                && let Some((condemned, eligible)) = self.mark(candidate)
            {
                (*condemned, *eligible) = (false, eligible_uptime_seconds);
            }
        }
    }

    pub(super) fn collect(&mut self, batch: &[Candidate], moment: Moment) -> Collected {
        let mut collected = Collected::default();
        for candidate in batch {
            if !self.is_condemned(candidate) {
                continue;
            }
            let at = candidate.eligible_uptime_seconds;
            match (&candidate.repository, candidate.garbage) {
                (Some(name), Garbage::Link) => {
                    collected.links += 1;
                    self.remove_link(name, &candidate.digest, moment, at);
                }
                (Some(name), _) => {
                    collected.manifests += 1;
                    self.remove_manifest(name, &candidate.digest, moment, at);
                }
                (None, _) => {}
            }
            if self.is_held(&candidate.digest) {
                continue;
            }
            if let Some(content) = self.contents.get_mut(&candidate.digest) {
                content.state = BlobState::Unlinking;
                collected.contents.push(candidate.digest);
            }
        }
        collected
    }

    pub(super) fn forget(&mut self, digests: &[Digest]) -> Amount {
        let mut amount = Amount::default();
        for digest in
            digests.iter().filter(|digest| !self.is_held(digest)).copied().collect::<Vec<_>>()
        {
            let content = self.contents.get(&digest);
            if let Some(gone) = content.filter(|c| c.state == BlobState::Unlinking) {
                amount.add(gone.size_bytes);
                self.contents.remove(&digest);
            }
        }
        amount
    }

    pub(super) fn revive(
        &mut self,
        name: &RepositoryName,
        digest: &Digest,
        usage: Use,
        moment: Moment,
    ) -> Result<bool> {
        let Some(repository) = self.repositories.get_mut(name) else { return Ok(false) };
        let marks = match usage {
            Use::Blob => repository
                .links
                .get_mut(digest)
                .map(|link| (&mut link.condemned, &mut link.eligible_uptime_seconds)),
            Use::Manifest => repository
                .manifests
                .get_mut(digest)
                .map(|m| (&mut m.condemned, &mut m.eligible_uptime_seconds)),
        };
        let Some((condemned, eligible)) = marks else { return Ok(false) };
        if std::mem::take(condemned) {
            *eligible = moment.eligible_uptime_seconds;
        }
        Ok(self.is_live(digest))
    }
}
