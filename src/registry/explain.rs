//! Why a content is kept: who holds it, and when it may go.

use serde::{Deserialize, Serialize};

use super::Registry;
use super::error::{Error, Result};
use crate::meta::{BlobState, EdgeKind, Explanation, Holder, Place, Standing};
use crate::oci::Digest;

/// Repositories, tags and manifests that are named at most.
const SHOWN_MAX: usize = 100;

/// A content, and why it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// Its name.
    pub digest: String,
    /// Its length.
    pub size_bytes: u64,
    /// `live`, `unlinking` or `quarantined`.
    pub state: String,
    /// Where its bytes are: `database`, `file` or `both`.
    pub place: String,
    /// How many repositories have it.
    pub repositories: u64,
    /// The first of them.
    pub holders: Vec<Held>,
    /// Seconds until it may go, when no repository has it.
    pub may_go_in_seconds: Option<u64>,
}

/// Why one repository keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Which.
    pub repository: String,
    /// As a blob that the repository may read.
    pub blob: Option<Use>,
    /// As a manifest.
    pub manifest: Option<Use>,
    /// Tags on it.
    pub tags: Vec<String>,
    /// Manifests that refer to it.
    pub parents: Vec<Parent>,
    /// What it is attached to.
    pub subject: Option<String>,
    /// Whether that is there, and so holds it.
    pub subject_is_there: bool,
    /// Whether there are more tags or manifests than are named.
    pub more: bool,
    /// Seconds for which a client may still rely on it.
    pub leased_seconds: Option<u64>,
}

/// Whether a use of a content is needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// `held`, `waiting` or `condemned`.
    pub standing: String,
    /// Seconds until it may go; 0: now.
    pub may_go_in_seconds: Option<u64>,
}

/// A manifest that refers to a content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Its name.
    pub digest: String,
    /// As what: `config`, `layer` or `child`.
    pub kind: String,
}

impl Registry {
    /// Who holds the content, and when it may go.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`] when it is not stored; those of the store.
    pub async fn explain(&self, digest: &Digest) -> Result<Explained> {
        let found = self.inner.meta.explain(digest, SHOWN_MAX).await?;
        let Explanation { content, eligible_uptime_seconds, holders, .. } =
            found.ok_or(Error::BlobUnknown)?;
        let uptime = self.uptime_seconds();
        Ok(Explained {
            digest: digest.to_string(),
            size_bytes: content.size_bytes,
            state: match content.state {
                BlobState::Live => "live",
                BlobState::Unlinking => "unlinking",
                BlobState::Quarantined => "quarantined",
            }
            .to_owned(),
            place: match content.place {
                Place::Inline => "database",
                Place::File => "file",
                Place::Both => "both",
            }
            .to_owned(),
            repositories: content.repositories,
            holders: holders.into_iter().map(|holder| self.held(holder, digest, uptime)).collect(),
            may_go_in_seconds: eligible_uptime_seconds.map(|at| at.saturating_sub(uptime)),
        })
    }

    fn held(&self, holder: Holder, digest: &Digest, uptime: u64) -> Held {
        let now = self.inner.clock.monotonic();
        let leased = self.inner.leases.leased_until(&holder.repository, digest, now);
        let parent = |(digest, kind): (Digest, EdgeKind)| Parent {
            digest: digest.to_string(),
            kind: match kind {
                EdgeKind::Config => "config",
                EdgeKind::Layer => "layer",
                EdgeKind::Child => "child",
            }
            .to_owned(),
        };
        Held {
            repository: holder.repository.to_string(),
            blob: holder.link.map(|standing| Use::new(standing, uptime)),
            manifest: holder.manifest.map(|standing| Use::new(standing, uptime)),
            tags: holder.tags.iter().map(ToString::to_string).collect(),
            parents: holder.parents.into_iter().map(parent).collect(),
            subject: holder.subject.map(|(subject, _)| subject.to_string()),
            subject_is_there: holder.subject.is_some_and(|(_, is_there)| is_there),
            more: holder.more,
            leased_seconds: leased.map(|until| until.saturating_sub(now).as_secs()),
        }
    }
}

impl Use {
    fn new(standing: Standing, uptime: u64) -> Self {
        let (standing, may_go_in_seconds) = match standing {
            Standing::Held => ("held", None),
            Standing::Waiting { eligible_uptime_seconds: at } => {
                ("waiting", Some(at.saturating_sub(uptime)))
            }
            Standing::Condemned => ("condemned", Some(0)),
        };
        Self { standing: standing.to_owned(), may_go_in_seconds }
    }
}
