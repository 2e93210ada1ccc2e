//! What one repository of the model needs, and what its manifests change.

use super::super::{Edge, ManifestRecord, Moment, PushManifest, Standing};
use super::{Manifest, Repository};
use crate::oci::Digest;

impl Repository {
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.links.contains_key(digest) || self.manifests.contains_key(digest)
    }

    pub(super) fn is_needed(&self, digest: &Digest) -> bool {
        let mut edges = self.manifests.values().flat_map(|manifest| &manifest.edges);
        edges.any(|edge| edge.digest == *digest)
    }

    /// The grace of links that lost their last use with these edges starts.
    pub(super) fn disuse(&mut self, edges: &[Edge], moment: Moment) {
        let unused: Vec<_> = edges.iter().filter(|edge| !self.is_needed(&edge.digest)).collect();
        for edge in unused {
            if let Some(link) = self.links.get_mut(&edge.digest) {
                link.eligible_uptime_seconds = moment.eligible_uptime_seconds;
            }
        }
    }

    pub(super) fn replace(&mut self, push: PushManifest) {
        let descriptor = push.descriptor();
        let record = ManifestRecord {
            digest: push.digest,
            media_type: push.media_type,
            size_bytes: push.size_bytes,
            subject: push.subject,
            artifact_type: push.artifact_type,
            config_type: push.config_type,
            pushed_at: push.moment.time,
            standing: Standing::Held,
        };
        let manifest = Manifest {
            record,
            edges: push.edges,
            descriptor,
            orphaned: false,
            queue: None,
            eligible_uptime_seconds: 0,
            condemned: false,
        };
        if let Some(replaced) = self.manifests.insert(push.digest, manifest) {
            self.disuse(&replaced.edges, push.moment);
        }
    }

    /// The subject of what is attached to `subject` was deleted, or has come.
    pub(super) fn set_orphaned(&mut self, subject: &Digest, orphaned: bool) {
        let attached = self.manifests.values_mut();
        for manifest in attached.filter(|manifest| manifest.record.subject == Some(*subject)) {
            if std::mem::replace(&mut manifest.orphaned, orphaned) != orphaned {
                // It changes the queue, if it is in one.
                manifest.queue = None;
            }
        }
    }
}
