//! Where connections come from: TCP addresses, a socket file.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::options::Listen;

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 4096;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Not `host:port`.
    #[error("{address:?} is no address: expected host:port, :port or [ipv6]:port")]
    Address {
        /// As configured.
        address: String,
    },
    /// The name of the host is unknown.
    #[error("cannot resolve {address:?}: {source}")]
    Resolve {
        /// As configured.
        address: String,
        /// The resolver's answer.
        source: io::Error,
    },
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address tried last.
        address: String,
        /// The operating system's answer.
        source: io::Error,
    },
    /// There is something else at the socket's path.
    #[error("cannot listen on {}: there is a file that is no socket", path.display())]
    NoSocket {
        /// The path.
        path: PathBuf,
    },
    /// Another process listens there.
    #[error("cannot listen on {}: another process listens on it", path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
}

/// An open listening socket.
#[derive(Debug)]
pub enum Listener {
    /// On one TCP address, or on a port of all.
    Tcp(TcpListener),
    /// On a socket file, which goes away with it.
    Unix(UnixListener, SocketFile),
}

/// A socket's name in the file system; dropping it removes the name.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Gone already is as good; a name that stays is taken over at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Listens. `:port` means IPv6 and IPv4 on one socket, or IPv4 alone where there is no IPv6;
    /// port 0 means any free one.
    pub async fn bind(listen: &Listen) -> Result<Self, ListenError> {
        match listen {
            Listen::Tcp(address) => Ok(Self::Tcp(bind_tcp(address).await?)),
            Listen::Unix(path) => bind_unix(path).await,
        }
    }

    /// The real address: `ip:port`, or the path of the socket file.
    pub fn local_address(&self) -> io::Result<String> {
        match self {
            Self::Tcp(listener) => Ok(listener.local_addr()?.to_string()),
            Self::Unix(_, file) => Ok(file.0.display().to_string()),
        }
    }

    /// The next connection, and the client's IP address if it has one.
    pub async fn accept(&self) -> io::Result<(Stream, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Answers are written whole: waiting to fill packets only delays them. It fails
                // for a client that is gone again, which the first read finds out too.
                let _ = stream.set_nodelay(true);
                Ok((Stream::Tcp(stream), Some(peer.ip().to_canonical())))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), None))
            }
        }
    }
}

async fn bind_tcp(address: &str) -> Result<TcpListener, ListenError> {
    let malformed = || ListenError::Address { address: address.to_owned() };
    let (host, port) = address.rsplit_once(':').ok_or_else(malformed)?;
    let port: u16 = port.parse().map_err(|_| malformed())?;
    if host.is_empty() {
        let every_v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let every_v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        return match bind_address(every_v6) {
            Err(error) if has_no_ipv6(&error) => bind_address(every_v4)
                .map_err(|source| ListenError::Bind { address: every_v4.to_string(), source }),
            bound => {
                bound.map_err(|source| ListenError::Bind { address: every_v6.to_string(), source })
            }
        };
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let resolved = tokio::net::lookup_host((bare, port)).await;
    let resolved =
        resolved.map_err(|source| ListenError::Resolve { address: address.to_owned(), source })?;
    let mut candidates: Vec<SocketAddr> = resolved.collect();
    // As clients of a name like localhost try it.
    candidates.sort_by_key(SocketAddr::is_ipv6);
    let mut failed = malformed();
    for candidate in candidates {
        match bind_address(candidate) {
            Ok(listener) => return Ok(listener),
            Err(source) => failed = ListenError::Bind { address: candidate.to_string(), source },
        }
    }
    Err(failed)
}

/// Whether the kernel or the container has IPv6 switched off.
fn has_no_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let codes = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL, Errno::PROTONOSUPPORT];
    codes.iter().any(|code| error.raw_os_error() == Some(code.raw_os_error()))
}

fn bind_address(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        let is_every_address = address.ip().is_unspecified();
        socket.set_only_v6(!is_every_address)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

async fn bind_unix(path: &Path) -> Result<Listener, ListenError> {
    let failed = |source| ListenError::Bind { address: path.display().to_string(), source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ListenError::NoSocket { path: path.to_owned() });
        }
        // What a process that was killed has left answers nobody.
        Ok(_) => match UnixStream::connect(path).await {
            Ok(_) => return Err(ListenError::InUse { path: path.to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        },
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    Ok(Listener::Unix(listener, SocketFile(path.to_owned())))
}

/// A connection's stream.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A socket file.
    Unix(UnixStream),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn port(address: &str) -> SocketAddr {
        let listener = Listener::bind(&Listen::Tcp(address.to_owned())).await.unwrap();
        listener.local_address().unwrap().parse().unwrap()
    }

    #[tokio::test]
    async fn port_zero_gives_the_real_port_back() {
        let address = port("127.0.0.1:0").await;
        assert_ne!(address.port(), 0);
        assert!(address.ip().is_loopback());
        assert!(port("localhost:0").await.ip().is_loopback());
    }

    #[tokio::test]
    async fn an_empty_host_listens_for_ipv4_too() {
        let listener = Listener::bind(&Listen::Tcp(":0".to_owned())).await.unwrap();
        let address: SocketAddr = listener.local_address().unwrap().parse().unwrap();
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, address.port()));
        let (accepted, connected) = tokio::join!(listener.accept(), client);
        connected.unwrap();
        assert_eq!(accepted.unwrap().1, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }

    #[tokio::test]
    async fn texts_that_are_no_address_are_refused() {
        for text in ["", "5000", "localhost", "localhost:", "localhost:70000", "127.0.0.1:-1"] {
            let error = Listener::bind(&Listen::Tcp(text.to_owned())).await.unwrap_err();
            assert!(matches!(error, ListenError::Address { .. }), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn a_taken_port_is_named_in_the_error() {
        let first = Listener::bind(&Listen::Tcp("127.0.0.1:0".to_owned())).await.unwrap();
        let address = first.local_address().unwrap();
        let error = Listener::bind(&Listen::Tcp(address.clone())).await.unwrap_err();
        assert!(error.to_string().contains(&address), "{error}");
    }

    #[tokio::test]
    async fn a_stale_socket_file_is_taken_over_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listen = Listen::Unix(path.clone());
        let listener = Listener::bind(&listen).await.unwrap();
        let error = Listener::bind(&listen).await.unwrap_err();
        assert!(matches!(error, ListenError::InUse { .. }), "{error}");
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "precious").unwrap();
        let error = Listener::bind(&Listen::Unix(path.clone())).await.unwrap_err();
        assert!(matches!(error, ListenError::NoSocket { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }
}
