//! Kelson: a container registry that replaces `registry:2` in place.
//!
//! Blobs are content-addressed files; every other fact lives in one transactional redb
//! database; an axum service speaks the Docker/OCI v2 API. The layers, lowest first; each
//! imports only layers above it in this list (`tests/tidy.rs` checks every import):
//!
//! - [`oci`] the vocabulary of the specifications: pure, no I/O, types exist only valid
//! - [`disk`] files and directories behind a trait, and the only fsync
//! - [`ops`] clock, randomness, blocking work, shutdown, logs
//! - [`blob`] bytes: content-addressed files and staging
//! - [`meta`] facts: repositories, tags, manifests, links, sessions
//! - [`auth`] which action a request is
//! - [`registry`] the domain: the order of bytes, facts and answers
//! - [`http`] the wire
//! - [`config`] distribution's configuration file and environment
//! - [`app`] puts the parts together and runs them
//! - [`cli`] commands
pub mod app;
pub mod auth;
pub mod blob;
pub mod cli;
pub mod config;
pub mod disk;
pub mod http;
pub mod meta;
pub mod oci;
pub mod ops;
pub mod registry;
#[cfg(any(test, feature = "sim"))]
pub mod sim;

#[cfg(all(feature = "failpoints", not(debug_assertions)))]
compile_error!("failpoints kill the process or lose data; they exist for the crash test alone");
#[cfg(all(feature = "sim", not(debug_assertions)))]
compile_error!("sim holds mutants that lose data: build it with `--profile checked`");
