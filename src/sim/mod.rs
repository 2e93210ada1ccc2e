//! The whole registry on a disk that loses power: cases, clients in a seeded order, images of
//! every cut, and whether they keep what was promised (docs/design/simulation.md).
//!
//! Only in tests and in `kelson-sim`; nothing of it is in a registry that people run.

#![expect(clippy::unwrap_used, reason = "what a simulation sets up cannot fail")]

mod call;
mod cli;
mod engine;
mod executor;
mod explain;
mod explore;
mod model;
mod plan;
mod run;
mod shrink;
#[cfg(test)]
mod tests;
mod universe;
mod upgrade;
mod verify;

pub use cli::main;
