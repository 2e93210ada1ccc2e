//! Who may do what. Until authentication exists, every action is allowed; each route already
//! names its [`Action`], so that none can be forgotten later.

/// What a request does, as authorisation sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// `GET /v2/`: are you a registry, and do you know me.
    Base,
    /// Read the list of repositories.
    Catalog,
    /// Read content of one repository.
    Pull,
    /// Add content to one repository; cancelling one's own upload is a push too.
    Push,
    /// Remove content from one repository.
    Delete,
}
