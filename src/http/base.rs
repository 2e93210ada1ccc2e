//! `GET /v2/`: this is a registry.

use super::reply::Reply;

/// The answer that clients of every age recognise (distribution-spec, end-1).
pub fn base() -> Reply {
    Reply::json("application/json; charset=utf-8", b"{}".to_vec())
}
