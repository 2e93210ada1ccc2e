//! Lists: tags of a repository, repositories of the registry. A page costs what it holds.

use super::Registry;
use super::error::{Error, Result};
use crate::meta::Page;
use crate::oci::{RepositoryName, Tag};

impl Registry {
    /// A page of tags by bytes, after `after`, which need not exist or be a tag.
    pub async fn tags(
        &self,
        repo: &RepositoryName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<Tag>> {
        let page = self.inner.meta.tags(repo, after, limit).await?;
        let page = page.ok_or(Error::RepositoryUnknown)?;
        let items = page.items.into_iter().map(|record| record.tag).collect();
        Ok(Page { items, more: page.more })
    }

    /// A page of repositories by bytes, after `after`, which need not exist or be a name.
    pub async fn catalog(&self, after: Option<&str>, limit: usize) -> Result<Page<RepositoryName>> {
        Ok(self.inner.meta.repositories(after, limit).await?)
    }
}
