//! The certificate the listener shows, if it speaks TLS. Files are read again when they change and on SIGHUP; what cannot be used
//! leaves the old certificate in place, says so and is counted. Connections keep the certificate they began with. Offers what the
//! listener without TLS speaks: HTTP/1.1 and HTTP/2, told apart by ALPN.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::signal::unix::Signal;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config;
use crate::task;
use crate::telemetry::metrics;

/// Between two looks at the files. A change is taken over when it was there for two, so that a certificate and its key that are
/// replaced one after the other are read together.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const H2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";
/// How an HTTP/2 connection begins.
pub const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path} cannot be read as PEM")]
    Read {
        path: PathBuf,
        #[source]
        source: pem::Error,
    },
    #[error("{0} has no certificate in it")]
    NoCertificate(PathBuf),
    #[error("the certificate and its key cannot be used")]
    Refused(#[source] rustls::Error),
}

#[derive(Debug)]
pub struct Tls {
    files: config::Tls,
    current: ArcSwap<ServerConfig>,
}

/// What tells whether a file is another: time, size, number of each.
type Stamp = [Option<(i64, i64, u64, u64)>; 2];

/// A connection whose handshake is done, and which protocol it agreed on.
#[derive(Debug)]
pub enum Accepted {
    Http1(TlsStream<TcpStream>),
    Http2(Begun),
}

impl Tls {
    pub fn open(files: config::Tls) -> Result<Self, Error> {
        let current = ArcSwap::from_pointee(read(&files)?);
        Ok(Self { files, current })
    }

    /// The handshake, and for HTTP/2 the beginning, which tells that there is somebody. The caller bounds its time.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Accepted> {
        let acceptor = TlsAcceptor::from(self.current.load_full());
        let mut stream = acceptor.accept(stream).await?;
        if stream.get_ref().1.alpn_protocol() != Some(H2) {
            return Ok(Accepted::Http1(stream));
        }
        let mut preface = [0; H2_PREFACE.len()];
        stream.read_exact(&mut preface).await?;
        match preface == *H2_PREFACE {
            true => Ok(Accepted::Http2(Begun {
                again: H2_PREFACE,
                stream,
            })),
            false => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Reads the files again when they change or somebody asks, for as long as it is let.
    pub async fn watch(self: Arc<Self>, mut hangup: Signal) {
        // Where blocking is allowed: files on a disk that hangs are to hold up nobody's call.
        let stamp = async || {
            let this = self.clone();
            task::blocking("look at certificate", move || this.stamp()).await
        };
        let (mut known, mut seen) = (stamp().await, None);
        loop {
            let asked = tokio::select! {
                _ = hangup.recv() => true,
                () = tokio::time::sleep(LOOK_AGAIN) => false,
            };
            let now = stamp().await;
            let settled = seen.replace(now) == Some(now);
            if !asked && (now == known || !settled) {
                continue;
            }
            known = now;
            let this = self.clone();
            task::blocking("read certificate", move || this.reload()).await;
        }
    }

    fn reload(&self) {
        let certificate = self.files.certificate.display();
        match read(&self.files) {
            Ok(config) => {
                self.current.store(Arc::new(config));
                metrics::certificate_read(true);
                tracing::info!(%certificate, "certificate read again");
            }
            Err(error) => {
                metrics::certificate_read(false);
                let error: &dyn std::error::Error = &error;
                tracing::error!(%certificate, error, "new certificate cannot be used, the old one stays");
            }
        }
    }

    fn stamp(&self) -> Stamp {
        [&self.files.certificate, &self.files.key].map(|path| {
            let file = std::fs::metadata(path).ok()?;
            Some((file.mtime(), file.mtime_nsec(), file.len(), file.ino()))
        })
    }
}

/// The certificates, if they and the key can be used.
pub(super) fn usable_chain(files: &config::Tls) -> Result<Vec<CertificateDer<'static>>, Error> {
    read(files)?;
    chain(files)
}

fn read(files: &config::Tls) -> Result<ServerConfig, Error> {
    let chain = chain(files)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(unread(&files.key))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
        .map_err(Error::Refused)?;
    config.alpn_protocols = vec![H2.into(), HTTP1.into()];
    Ok(config)
}

fn chain(files: &config::Tls) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&files.certificate)
        .map_err(unread(&files.certificate))?
        .collect();
    let chain = chain.map_err(unread(&files.certificate))?;
    match chain.is_empty() {
        true => Err(Error::NoCertificate(files.certificate.clone())),
        false => Ok(chain),
    }
}

fn unread(path: &Path) -> impl FnOnce(pem::Error) -> Error {
    let path = path.to_owned();
    |source| Error::Read { path, source }
}

/// A connection whose first bytes were read, and are read once more.
#[derive(Debug)]
pub struct Begun {
    again: &'static [u8],
    stream: TlsStream<TcpStream>,
}

impl AsyncRead for Begun {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.again.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, into);
        }
        let (now, later) = self.again.split_at(self.again.len().min(into.remaining()));
        into.put_slice(now);
        self.again = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Begun {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
