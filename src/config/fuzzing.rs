//! A way in for the fuzz target `config`.

use super::{Config, ConfigError, Loaded};

/// Reads `text` as the file and applies `variables`, as [`Config::load`] does with those of the
/// process.
///
/// # Errors
/// Every setting that Kelson cannot start with.
pub fn load(text: &str, variables: &[(String, String)]) -> Result<Loaded, ConfigError> {
    Config::from_text(text, None, variables)
}
