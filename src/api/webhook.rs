//! The outbound client of webhooks: posts a record to a URL, once, within a bound, and says whether it was taken. Follows no redirects, reads
//! no more of an answer than its head, and goes to no address inside unless it may: whoever sets a webhook could otherwise reach what only
//! this machine can. Called by the queue, through `app`, which tries again when it is told to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderName, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tower::Service;

use crate::api::error::JSON;
use crate::config::Reach;
use crate::domain::id::RequestId;
use crate::queue::carrier::Refusal;

/// Which delivery it is: the same again when it is tried again.
const DELIVERY: HeaderName = HeaderName::from_static("x-hearth-delivery");
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the first byte to the head of the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections that are kept for the next delivery to the same host.
const IDLE_MAX: usize = 4;
const IDLE_FOR: Duration = Duration::from_secs(30);
/// Where machines keep the certificates they trust.
const MACHINE_ROOTS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

#[derive(Debug, Clone)]
pub struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
    reach: Reach,
}

impl Client {
    pub fn new(reach: Reach) -> Self {
        let connector = HttpConnector::new_with_resolver(Resolver {
            inner: GaiResolver::new(),
            reach,
        });
        let connector = outbound(connector, CONNECT_TIMEOUT);
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_FOR)
            .pool_max_idle_per_host(IDLE_MAX)
            .build(connector);
        Self { http, reach }
    }

    /// Posts a document. An answer of 2xx took it.
    pub async fn post(&self, url: &str, id: RequestId, document: Bytes) -> Result<(), Refusal> {
        let never = |message: String| Refusal {
            message,
            for_now: false,
        };
        let later = |message: String| Refusal {
            message,
            for_now: true,
        };
        let uri: Uri = url
            .parse()
            .map_err(|error| never(format!("its URL cannot be read: {error}")))?;
        let host = uri.host().unwrap_or_default();
        // An address needs no resolver.
        let literal = host.trim_matches(['[', ']']).parse::<IpAddr>();
        let inside = literal.is_ok_and(|address| !is_public(address));
        match self.reach {
            Reach::Nowhere => return Err(never("webhooks are off on this server".into())),
            Reach::Public if inside => return Err(never(INSIDE.into())),
            Reach::Public | Reach::Anywhere => {}
        }
        let request = Request::post(uri)
            .header(CONTENT_TYPE, JSON)
            .header(USER_AGENT, concat!("hearth/", env!("CARGO_PKG_VERSION")))
            .header(DELIVERY, id.to_string())
            .body(Full::new(document))
            .map_err(|error| never(format!("it cannot be asked: {error}")))?;
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, self.http.request(request)).await;
        let status = match answered {
            Ok(Ok(response)) => response.status(),
            Ok(Err(error)) => return Err(later(chain(&error))),
            Err(_elapsed) => return Err(later(format!("it did not answer in {ANSWER_TIMEOUT:?}"))),
        };
        let passing = matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        );
        match status {
            status if status.is_success() => Ok(()),
            status if passing || status.is_server_error() => {
                Err(later(format!("it answered {status}")))
            }
            status => Err(never(format!("it answered {status}"))),
        }
    }
}

const INSIDE: &str = "its address is not on the internet, and webhooks may go nowhere else";

/// How every outbound client connects: by TLS where its URL says so.
pub(super) fn outbound<R>(
    mut connector: HttpConnector<R>,
    connect_timeout: Duration,
) -> HttpsConnector<HttpConnector<R>> {
    connector.set_connect_timeout(Some(connect_timeout));
    connector.set_nodelay(true);
    connector.enforce_http(false);
    HttpsConnectorBuilder::new()
        .with_tls_config(tls())
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector)
}

/// With everybody whom the machine trusts.
fn tls() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has what the default versions need")
        .with_root_certificates(roots())
        .with_no_client_auth()
}

/// An error with its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// Those the machine trusts; none means that no https can be spoken.
fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let path = MACHINE_ROOTS.iter().map(Path::new).find(|p| p.exists());
    let found = path.and_then(|path| CertificateDer::pem_file_iter(path).ok());
    roots.add_parsable_certificates(found.into_iter().flatten().filter_map(Result::ok));
    roots
}

/// Whether an address is one of the internet's.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let benchmark = a == 198 && matches!(b, 18 | 19);
    let assignments = (a, b, c) == (192, 0, 0);
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || a == 0
        || a >= 224
        || shared
        || benchmark
        || assignments)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    // Global unicast is all of 2000::/3; what stands for an IP version 4 address in there is as good as that.
    match segments {
        [0x2002, high, low, ..] => {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            is_public_v4(Ipv4Addr::new(a, b, c, d))
        }
        [0x2001, 0xdb8, ..] | [0x2001, 0, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// Resolves names to addresses that may be reached; so no answer of a name server leads inside.
#[derive(Debug, Clone)]
struct Resolver {
    inner: GaiResolver,
    reach: Reach,
}

type Resolving =
    Pin<Box<dyn Future<Output = Result<std::vec::IntoIter<SocketAddr>, std::io::Error>> + Send>>;

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::io::Error;
    type Future = Resolving;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Resolving {
        let (resolving, reach) = (self.inner.call(name), self.reach);
        Box::pin(async move {
            let good = |at: &SocketAddr| reach == Reach::Anywhere || is_public(at.ip());
            let found: Vec<SocketAddr> = resolving.await?.filter(good).collect();
            match found.is_empty() {
                true => Err(std::io::Error::other(INSIDE)),
                false => Ok(found.into_iter()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::task;

    #[test]
    fn addresses_inside_are_not_public() {
        for inside in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "2002:7f00:1::",
            "64:ff9b::7f00:1",
        ] {
            assert!(!is_public(inside.parse().expect("an address")), "{inside}");
        }
        for public in ["8.8.8.8", "1.1.1.1", "172.32.0.1", "2606:4700::1111"] {
            assert!(is_public(public.parse().expect("an address")), "{public}");
        }
    }

    /// Answers one request with this status line, and returns what came.
    async fn answering(status: &'static str) -> (String, tokio::task::JoinHandle<Option<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let served = task::spawn(task::Kind::Local, "hook", async move {
            let (mut stream, _) = listener.accept().await.expect("a request");
            let mut got = Vec::new();
            while !got.ends_with(b"{}") {
                let mut piece = [0; 1024];
                let read = stream.read(&mut piece).await.expect("reads");
                got.extend_from_slice(&piece[..read]);
            }
            let answer =
                format!("HTTP/1.1 {status}\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.expect("writes");
            String::from_utf8_lossy(&got).to_ascii_lowercase()
        });
        (format!("http://{address}/hook?x=1"), served)
    }

    #[tokio::test]
    async fn what_is_answered_decides_whether_it_is_tried_again() {
        let client = Client::new(Reach::Anywhere);
        for (status, wanted) in [
            ("204 Fine", None),
            ("503 Busy", Some(true)),
            ("429 Slow", Some(true)),
            ("302 Elsewhere", Some(false)),
            ("404 Gone", Some(false)),
        ] {
            let (url, served) = answering(status).await;
            let id = RequestId::generate();
            let posted = client.post(&url, id, Bytes::from_static(b"{}")).await;
            let refused = posted.err().map(|refusal| refusal.for_now);
            assert_eq!(refused, wanted, "{status}");
            let got = served.await.expect("ends").expect("is served");
            assert!(got.starts_with("post /hook?x=1 http/1.1\r\n"), "{got}");
            assert!(got.contains(&format!("x-hearth-delivery: {id}")), "{got}");
            assert!(got.contains("content-type: application/json"), "{got}");
        }
    }

    #[tokio::test]
    async fn where_it_may_not_go_it_does_not() {
        for (reach, url) in [
            (Reach::Public, "http://127.0.0.1:1/"),
            (Reach::Public, "http://[::1]:1/"),
            (Reach::Nowhere, "http://example.org/"),
        ] {
            let client = Client::new(reach);
            let posted = client.post(url, RequestId::generate(), Bytes::new());
            assert!(!posted.await.expect_err("is refused").for_now, "{url}");
        }
        let client = Client::new(Reach::Public);
        let posted = client.post("http://localhost:1/", RequestId::generate(), Bytes::new());
        let refused = posted.await.expect_err("is refused").message;
        assert!(refused.contains("internet"), "{refused}");
        // Nobody is there.
        let client = Client::new(Reach::Anywhere);
        let posted = client.post("http://127.0.0.1:1/", RequestId::generate(), Bytes::new());
        assert!(posted.await.expect_err("is refused").for_now);
    }
}
