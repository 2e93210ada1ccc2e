//! Who holds a content, in the model.

use super::super::{EdgeKind, Explanation, Holder};
use super::{Facts, Repository};
use crate::oci::{Digest, RepositoryName};

impl Repository {
    fn holder(&self, name: &RepositoryName, digest: &Digest, limit: usize) -> Holder {
        let tags = self.tags.iter().filter(|(_, (target, _))| target == digest);
        let mut tags: Vec<_> = tags.map(|(tag, _)| tag.clone()).collect();
        let mut parents: Vec<(EdgeKind, Digest)> = Vec::new();
        for (parent, manifest) in &self.manifests {
            let to = manifest.edges.iter().filter(|edge| edge.digest == *digest);
            parents.extend(to.map(|edge| (edge.kind, *parent)));
        }
        parents.sort_unstable();
        parents.dedup();
        let more = tags.len() > limit || parents.len() > limit;
        tags.truncate(limit);
        parents.truncate(limit);
        let manifest = self.manifests.get(digest);
        let subject = manifest.and_then(|manifest| manifest.record.subject);
        Holder {
            repository: name.clone(),
            link: self.link_standing(digest),
            manifest: manifest.map(super::Manifest::standing),
            tags,
            parents: parents.into_iter().map(|(kind, parent)| (parent, kind)).collect(),
            subject: subject.map(|subject| (subject, self.manifests.contains_key(&subject))),
            more,
        }
    }
}

impl Facts {
    pub(super) fn explain(&self, digest: &Digest, limit: usize) -> Option<Explanation> {
        let content = self.blob_record(digest)?;
        let have = self.repositories.iter().filter(|(_, repository)| repository.has(digest));
        let mut have: Vec<_> = have.collect();
        have.sort_by_key(|(_, repository)| repository.id);
        let eligible = self.contents.get(digest).map(|content| content.eligible_uptime_seconds);
        Some(Explanation {
            content,
            eligible_uptime_seconds: eligible.filter(|_| have.is_empty()),
            more: have.len() > limit,
            holders: have
                .into_iter()
                .take(limit)
                .map(|(name, repository)| repository.holder(name, digest, limit))
                .collect(),
        })
    }
}
