//! Why a head is refused.

/// A refused head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejection {
    /// What is wrong with it.
    pub reason: Reason,
    /// Whether it is a `HEAD` request, whose answer has no body.
    pub is_head: bool,
}

/// What is wrong with a head. The texts go to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The first byte of a TLS record: the client speaks TLS.
    #[error("the client sent a TLS hello to a port that speaks plain HTTP")]
    Tls,
    /// A line ends in a bare line feed, or holds a control character.
    #[error("a line of the head has a control character or a bare line feed")]
    ControlCharacter,
    /// Not `method target version`, one space apart.
    #[error("the request line is malformed")]
    RequestLine,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("the protocol version is neither HTTP/1.0 nor HTTP/1.1")]
    Version,
    /// The target is no URI, or of a form that the method does not have.
    #[error("the request target is malformed")]
    Target,
    /// The target is longer than any URI this server has.
    #[error("the request target is too long")]
    TargetTooLong,
    /// `CONNECT` is for proxies.
    #[error("this server is no proxy")]
    Connect,
    /// A header is not `name: value`.
    #[error("a header line is malformed")]
    Field,
    /// A header goes on in a second line (RFC 9112, section 5.2).
    #[error("a header is folded over several lines")]
    Folded,
    /// No `Host`, more than one, or an invalid one.
    #[error("there must be exactly one valid Host header")]
    Host,
    /// `Content-Length` is repeated, or no decimal number in range.
    #[error("there may be one Content-Length header, a decimal number")]
    ContentLength,
    /// `Transfer-Encoding` is repeated, or anything but `chunked`.
    #[error("the only transfer coding is chunked, given once, in HTTP/1.1")]
    TransferEncoding,
    /// Both: the start of many smuggling attacks (RFC 9112, section 11.2).
    #[error("a request has either Content-Length or Transfer-Encoding, not both")]
    BothFramings,
    /// The head has too many bytes or too many fields.
    #[error("the header is too large")]
    TooLarge,
    /// The head did not arrive in time.
    #[error("the header did not arrive in time")]
    TimedOut,
}
