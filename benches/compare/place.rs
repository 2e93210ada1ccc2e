//! Where the registries of a comparison are to be had.

use std::net::SocketAddr;

use anyhow::Result;

use crate::wire::{Program, Server};

/// One registry.
#[derive(Debug, Clone)]
pub enum Place {
    /// Started for each turn.
    Program(Program),
    /// It runs, and goes on running.
    Elsewhere(SocketAddr),
}

impl Place {
    /// One that answers.
    ///
    /// # Errors
    /// As [`Program::start`].
    pub async fn start(&self) -> Result<Server> {
        match self {
            Self::Program(program) => program.start().await,
            Self::Elsewhere(address) => Ok(Server { process: None, address: *address }),
        }
    }
}
