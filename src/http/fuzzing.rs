//! Ways in for the fuzz targets `framing` and `http`.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::wire::Guard;
use super::{Api, router, serve};

/// Serves one connection of any kind to its end, as [`serve::run`] does.
pub async fn converse<S: AsyncRead + AsyncWrite + Unpin>(api: Api, stream: S) {
    let router = router(api.clone());
    serve::converse(api, router, stream, (None, None), CancellationToken::new()).await;
}

/// What the framing guard makes of a client's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// The bytes that reach the HTTP library.
    pub bytes: Vec<u8>,
    /// Heads among them.
    pub heads: u64,
    /// Whether more bytes of the last body are to come.
    pub in_body: bool,
    /// What was refused behind them.
    pub refusal: Option<String>,
}

/// Offers a stream to the guard in pieces of `piece_size_bytes`, as reads would bring it.
pub fn guard(stream: &[u8], piece_size_bytes: usize) -> Passed {
    let (mut guard, mut held, mut bytes) = (Guard::new(), Vec::new(), Vec::new());
    let mut refusal = None;
    for piece in stream.chunks(piece_size_bytes.max(1)) {
        held.extend_from_slice(piece);
        let verdict = guard.offer(&held);
        bytes.extend(held.drain(..verdict.passed));
        if let Some(found) = verdict.refusal {
            refusal = Some(format!("{found:?}"));
            break;
        }
    }
    let in_body = guard.in_body();
    Passed { bytes, heads: guard.heads(), in_body, refusal }
}
