//! A registry as a process, and a client that costs little: one connection, one request at a
//! time, bodies counted and thrown away.

pub mod client;
pub mod image;
pub mod server;

pub use client::{Connection, Keep, Request};
pub use image::Image;
pub use server::{Program, Server};
