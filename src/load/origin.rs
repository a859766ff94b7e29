//! Whom the load is put on: a server on this machine, and nobody else. A load generator that can be pointed anywhere is a weapon;
//! this one resolves no names and connects to loopback addresses only.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri};
use http_body_util::Full;

use crate::load::Error;

/// A server on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin(SocketAddr);

impl Origin {
    /// From `http://127.0.0.1:8080`, or a longer URL of which only the server counts.
    pub fn parse(url: &str) -> Result<Self, Error> {
        let bad = |reason| Error::BadUrl {
            url: url.to_owned(),
            reason,
        };
        let uri: Uri = url
            .parse()
            .map_err(|_unreadable| bad("it cannot be read"))?;
        if uri.scheme_str() != Some("http") {
            return Err(bad("it must start with http://"));
        }
        let host = uri.host().unwrap_or_default();
        let ip: IpAddr = match host.trim_start_matches('[').trim_end_matches(']') {
            "localhost" => Ipv4Addr::LOCALHOST.into(),
            literal => literal
                .parse()
                .map_err(|_a_name| bad("its host must be localhost or an address"))?,
        };
        Self::new(SocketAddr::new(ip, uri.port_u16().unwrap_or(80)))
    }

    pub fn new(address: SocketAddr) -> Result<Self, Error> {
        if address.ip().is_loopback() {
            Ok(Self(address))
        } else {
            Err(Error::NotLoopback(address))
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.0
    }
}

/// One call, as often as it is sent.
#[derive(Debug, Clone)]
pub struct Call {
    method: Method,
    path: PathAndQuery,
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
    pub fn get(path: &str) -> Result<Self, Error> {
        Self::new(Method::GET, path, Bytes::new())
    }

    pub fn post(path: &str, body: impl Into<Bytes>) -> Result<Self, Error> {
        Self::new(Method::POST, path, body.into())
    }

    fn new(method: Method, path: &str, body: Bytes) -> Result<Self, Error> {
        Ok(Self {
            method,
            path: PathAndQuery::try_from(path).map_err(|e| Error::Request(e.into()))?,
            headers: HeaderMap::new(),
            body,
        })
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Result<Self, Error> {
        let value = HeaderValue::from_str(value).map_err(|e| Error::Request(e.into()))?;
        self.headers.insert(name, value);
        Ok(self)
    }

    /// The request to send to this server; the parts are shared, so this is cheap.
    pub(super) fn request(&self, host: &HeaderValue) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.path.clone().into();
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert(HOST, host.clone());
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_can_be_named() {
        for (url, address) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://127.9.9.9:1/functions/", "127.9.9.9:1"),
            ("http://localhost", "127.0.0.1:80"),
            ("http://[::1]:8080/", "[::1]:8080"),
        ] {
            let want: SocketAddr = address.parse().expect("an address");
            assert_eq!(Origin::parse(url).expect(url).address(), want);
        }
        for url in [
            "http://10.0.0.1:8080",
            "http://0.0.0.0:8080",
            "http://[::]:1/",
        ] {
            assert!(
                matches!(Origin::parse(url), Err(Error::NotLoopback(_))),
                "{url}"
            );
        }
        for url in [
            "https://127.0.0.1",
            "http://example.com/",
            "127.0.0.1:80",
            "",
        ] {
            assert!(
                matches!(Origin::parse(url), Err(Error::BadUrl { .. })),
                "{url}"
            );
        }
    }

    #[test]
    fn a_call_carries_its_parts_and_the_servers_name() {
        let call = Call::post("/functions/hello/execute", "{}")
            .and_then(|c| c.header("authorization", "Bearer key"))
            .expect("a call");
        let request = call.request(&HeaderValue::from_static("127.0.0.1:80"));
        assert_eq!(request.uri(), "/functions/hello/execute");
        assert_eq!(request.headers()["authorization"], "Bearer key");
        assert_eq!(request.headers()["host"], "127.0.0.1:80");
        assert!(Call::post("no path", "").is_err());
        let unprintable = Call::post("/", "").expect("a call").header("x", "\n");
        assert!(unprintable.is_err());
    }
}
