//! The listener and its connections: HTTP/1.1 and HTTP/2 on one port, with or without TLS, a bound on how many there are, and an orderly end.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::gateway::addresses::Addresses;
use crate::gateway::connection::{Door, Idle, Underway, Watched, serve};
use crate::gateway::service::Gateway;
use crate::gateway::taking::Streams;
use crate::gateway::timer::HeadTimer;
use crate::gateway::tls::{Accepted, H2_PREFACE, Tls};
use crate::task;
use crate::telemetry::metrics;

/// After an accept that failed for want of file descriptors or memory, the next one waits: trying at once fails again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// An HTTP/2 peer that does not answer a ping for this long is gone.
const H2_PING: Duration = Duration::from_secs(20);
/// A TLS handshake takes no longer.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Between two looks at a preface that came in pieces.
const PREFACE_POLL: Duration = Duration::from_millis(10);
/// Request heads larger than this are refused.
const HEAD_MAX: usize = 64 * 1024;

#[derive(Debug, Clone)]
pub struct Options {
    pub max_connections: usize,
    /// Of them, one address's; `None` is as many as there are.
    pub max_of_address: Option<usize>,
    /// For the head of a request, and for a connection without one.
    pub header_timeout: Duration,
    /// For so long a client may take nothing of what it is sent.
    pub untaken_timeout: Duration,
    pub drain_grace: Duration,
    pub tls: Option<Arc<Tls>>,
}

/// The end of the connections that were open when the drain was over.
pub type Rest = BoxFuture<'static, ()>;

/// Serves until `stop`, then lets the requests under way finish within the grace period, or until there is a `hurry`. Returns
/// `None` if all did; the rest goes on meanwhile.
pub async fn run(
    listener: TcpListener,
    gateway: Gateway,
    options: Options,
    stop: CancellationToken,
    hurry: CancellationToken,
) -> Option<Rest> {
    // One pointer to copy for each request, and not all it has.
    let gateway = Arc::new(gateway);
    let door = Door::default();
    let addresses = Addresses::new(options.max_of_address);
    let places = Arc::new(Semaphore::new(options.max_connections));
    let head_timeout = options.header_timeout;
    let first_bytes = head_timeout;
    let patience = options.untaken_timeout;
    // The kernel's is an int, of which 0 stands for no limit.
    let untaken = patience.as_millis().clamp(1, i32::MAX as u128) as u32;
    let mut failing = false;
    loop {
        // A place first: connections beyond the bound wait in the kernel, where they cost nothing.
        let place = tokio::select! {
            () = stop.cancelled() => break,
            place = places.clone().acquire_owned() => place.expect("the semaphore is never closed"),
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok((stream, peer)) => (stream, peer.ip().to_canonical()),
            Err(error) => {
                let Some(lacking) = lacking(&error) else {
                    // That connection's own doing: it ended before it was looked at.
                    tracing::debug!(%error, "connection ended before it was accepted");
                    continue;
                };
                metrics::accept_failed(lacking);
                // Said once: it will fail again until something is closed.
                if !failing {
                    tracing::warn!(%error, lacking, "connections cannot be accepted; those that are open go on");
                }
                failing = true;
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if failing {
            tracing::info!("connections are accepted again");
            failing = false;
        }
        let Ok(share) = addresses.enter(peer, clock::now()) else {
            continue;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "connection without nodelay");
        }
        // By the kernel, which alone knows: an answer that nobody takes would be held, and the place with it, for as long as the client likes.
        if let Err(error) = setsockopt(&stream, sockopt::TcpUserTimeout, &untaken) {
            tracing::debug!(%error, "connection without an end to what is not taken");
        }
        let (gateway, open) = (gateway.clone(), door.open());
        let (stop, tls) = (stop.clone(), options.tls.clone());
        task::spawn(task::Kind::Local, "connection", async move {
            let _held = (place, share);
            let streams = {
                let room = gateway.untaken.clone();
                move || Streams {
                    patience,
                    underway: Underway::default(),
                    room,
                    peer,
                }
            };
            let service = service_fn(move |request| gateway.handle(request, peer));
            if let Some(tls) = tls {
                let accepted = tokio::select! {
                    biased;
                    accepted = tokio::time::timeout(first_bytes.min(HANDSHAKE), tls.accept(stream)) => accepted,
                    () = stop.cancelled() => return,
                };
                // The handshake says which protocol it is.
                match accepted {
                    Ok(Ok(Accepted::Http1(stream))) => {
                        let server = one(head_timeout);
                        let connection = server.serve_connection(TokioIo::new(stream), service);
                        serve(connection, open, None).await;
                    }
                    Ok(Ok(Accepted::Http2(stream))) => {
                        let streams = streams();
                        let (server, stream, idle) = two(stream, head_timeout, streams);
                        let connection = server.serve_connection(stream, service);
                        serve(connection, open, Some(idle)).await;
                    }
                    Ok(Err(error)) => tracing::debug!(%error, "no handshake"),
                    Err(_) => tracing::debug!("connection without a handshake"),
                }
                return;
            }
            // The first bytes say it, and the server's own timer starts only after that.
            let spoke = tokio::select! {
                biased;
                spoke = tokio::time::timeout(first_bytes, speaks(&stream)) => spoke,
                // Whoever has asked nothing yet does not hold up the end.
                () = stop.cancelled() => return,
            };
            match spoke {
                Ok(Ok(Protocol::Http1)) => {
                    let server = one(head_timeout);
                    let connection = server.serve_connection(TokioIo::new(stream), service);
                    serve(connection, open, None).await;
                }
                Ok(Ok(Protocol::Http2)) => {
                    let streams = streams();
                    let (server, stream, idle) = two(stream, head_timeout, streams);
                    serve(server.serve_connection(stream, service), open, Some(idle)).await;
                }
                _ => tracing::debug!("connection without a request"),
            }
        });
    }
    drop(listener);
    let mut rest = door.close();
    tokio::select! {
        biased;
        () = &mut rest => None,
        () = tokio::time::sleep(options.drain_grace) => Some(rest),
        () = hurry.cancelled() => Some(rest),
    }
}

/// What an accept that failed lacks; nothing if it was the connection's own fault.
fn lacking(error: &std::io::Error) -> Option<&'static str> {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EMFILE | Errno::ENFILE) => Some("descriptors"),
        Some(Errno::ENOBUFS | Errno::ENOMEM) => Some("memory"),
        Some(
            Errno::ECONNABORTED
            | Errno::ECONNRESET
            | Errno::EINTR
            | Errno::EPERM
            | Errno::EPROTO
            | Errno::ENETDOWN
            | Errno::ENETUNREACH
            | Errno::EHOSTDOWN
            | Errno::EHOSTUNREACH,
        ) => None,
        _ => Some("other"),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// Waits until the peer has sent enough to tell which protocol it speaks.
async fn speaks(stream: &TcpStream) -> std::io::Result<Protocol> {
    let mut start = [0; H2_PREFACE.len()];
    loop {
        let seen = stream.peek(&mut start).await?;
        if seen == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if !H2_PREFACE.starts_with(&start[..seen]) {
            return Ok(Protocol::Http1);
        }
        if seen == start.len() {
            return Ok(Protocol::Http2);
        }
        tokio::time::sleep(PREFACE_POLL).await;
    }
}

/// The server of one connection that speaks HTTP/1.1.
fn one(head_timeout: Duration) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(HeadTimer::default())
        .header_read_timeout(head_timeout)
        .max_buf_size(HEAD_MAX)
        // What came at once may be more than the buffer is to hold. It is the limit of trailers, too, which nobody reads.
        .max_header_size(HEAD_MAX);
    builder
}

/// The server of one connection that speaks HTTP/2, the connection as it is watched, and how long it may carry nothing.
fn two<S>(
    stream: S,
    head_timeout: Duration,
    streams: Streams,
) -> (http2::Builder<Streams>, Watched<TokioIo<S>>, Idle) {
    let underway = streams.underway.clone();
    let watched = Watched::new(TokioIo::new(stream), underway.clone());
    let idle = Idle::new(underway, head_timeout);
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_MAX as u32)
        .keep_alive_interval(Some(H2_PING))
        .keep_alive_timeout(H2_PING);
    (builder, watched, idle)
}
