//! Damage, in the model.

use super::super::{BlobRecord, BlobState, Page, Verdict};
use super::Facts;
use crate::oci::{Digest, Shard};

impl Facts {
    pub(super) fn contents(
        &self,
        shard: Shard,
        after: Option<&Digest>,
        limit: usize,
    ) -> Page<(Digest, BlobRecord)> {
        let is_in = |digest: &&Digest| {
            let shard_of = (digest.algorithm(), digest.as_bytes()[0]);
            shard_of == (shard.algorithm, shard.first_byte)
                && after.is_none_or(|after| *digest > after)
        };
        let mut all = self.contents.keys().filter(is_in);
        let found = all.by_ref().take(limit);
        let items = found.filter_map(|digest| Some((*digest, self.blob_record(digest)?))).collect();
        Page { items, more: all.next().is_some() }
    }

    pub(super) fn judge(&mut self, digest: &Digest, file_is_right: bool) -> Verdict {
        let content = self.contents.get_mut(digest);
        let Some(content) = content.filter(|content| content.state != BlobState::Unlinking) else {
            return Verdict::Gone;
        };
        let is_live = content.state == BlobState::Live;
        let copy = content.inline.as_ref();
        let is_right = |copy: &bytes::Bytes| Digest::of(digest.algorithm(), copy) == *digest;
        let has_right_copy = copy.is_some_and(is_right);
        let needs_file = content.has_file;
        if is_live && has_right_copy && (file_is_right || !needs_file) {
            return Verdict::Sound;
        }
        if is_live && copy.is_none() && file_is_right {
            return Verdict::Sound;
        }
        if is_live && has_right_copy {
            content.has_file = false;
            return Verdict::Rewrite;
        }
        if !is_live && !file_is_right {
            return Verdict::Quarantined;
        }
        content.inline = None;
        content.has_file = true;
        content.state = if file_is_right { BlobState::Live } else { BlobState::Quarantined };
        if file_is_right { Verdict::Kept } else { Verdict::Quarantined }
    }
}
