//! The outbound client of traces: posts one OTLP message to the collector that the configuration names, once, within a bound, and says
//! whether it was taken, as the protocol has it. Called by the task that exports spans, through `app`.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::api::webhook::{chain, outbound};
use crate::config;
use crate::telemetry::traces::Refusal;

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("hearth/", env!("CARGO_PKG_VERSION")));
/// What is read of an answer: it says at most how many spans were refused, and why.
const ANSWER_MAX: usize = 64 * 1024;
const IDLE_FOR: Duration = Duration::from_secs(60);
/// No collector makes anybody wait for longer.
const LATER_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
    headers: HeaderMap,
    timeout: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("its endpoint is no URL")]
    Uri(#[from] http::uri::InvalidUri),
    #[error("header {name} cannot be sent")]
    Header { name: String },
}

impl Client {
    pub fn new(options: &config::Traces) -> Result<Self, Error> {
        let connector = outbound(HttpConnector::new(), options.timeout);
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_FOR)
            .pool_max_idle_per_host(1)
            .build(connector);
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, AGENT);
        for (name, value) in &options.headers {
            let pair = HeaderName::try_from(name).ok();
            let pair = pair.zip(HeaderValue::try_from(value).ok());
            let (name, mut value) = pair.ok_or_else(|| Error::Header { name: name.clone() })?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        headers.insert(CONTENT_TYPE, PROTOBUF);
        Ok(Self {
            http,
            uri: options.endpoint.parse()?,
            headers,
            timeout: options.timeout,
        })
    }

    /// Posts a message, and brings what was answered to one that was taken.
    pub async fn post(&self, message: Bytes) -> Result<Bytes, Refusal> {
        let later = |message| Refusal {
            message,
            later: Some(Duration::ZERO),
        };
        let mut request = Request::new(Full::new(message));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let exchange = async {
            let response = self.http.request(request).await;
            let response = response.map_err(|error| later(chain(&error)))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_MAX).collect().await;
            match (head.status.is_success(), body) {
                (true, Ok(body)) => Ok(body.to_bytes()),
                // It was taken, and only what it said of that was lost.
                (true, Err(_)) => Ok(Bytes::new()),
                (false, _) => Err(refusal(head.status, &head.headers)),
            }
        };
        let answered = tokio::time::timeout(self.timeout, exchange).await;
        answered.unwrap_or_else(|_elapsed| {
            Err(later(format!("it did not answer in {:?}", self.timeout)))
        })
    }
}

/// These four say that it may be taken later; everything else is as it will always be.
fn refusal(status: StatusCode, headers: &HeaderMap) -> Refusal {
    let later = matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    );
    let after = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    let after = after.and_then(|text| text.trim().parse().ok());
    let after = after.map_or(Duration::ZERO, Duration::from_secs);
    Refusal {
        message: format!("it answered {status}"),
        later: later.then_some(after.min(LATER_MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_protocol_calls_passing_is_tried_again() {
        let of = |status: u16, after: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            after.map(|after| headers.insert(RETRY_AFTER, HeaderValue::from_static(after)));
            refusal(StatusCode::from_u16(status).expect("a status"), &headers).later
        };
        assert_eq!(of(400, None), None);
        assert_eq!(of(401, Some("1")), None);
        assert_eq!(of(500, None), None);
        assert_eq!(of(503, None), Some(Duration::ZERO));
        assert_eq!(of(429, Some("7")), Some(Duration::from_secs(7)));
        assert_eq!(of(429, Some("86400")), Some(LATER_MAX));
        assert_eq!(
            of(502, Some("Sun, 06 Nov 1994 08:49:37 GMT")),
            Some(Duration::ZERO)
        );
    }

    #[tokio::test]
    async fn nobody_there_is_passing() {
        let client = Client::new(&config::Traces {
            endpoint: "http://127.0.0.1:1/v1/traces".into(),
            headers: vec![("x-key".into(), "secret".into())],
            timeout: Duration::from_secs(5),
            service: "hearth".into(),
            ratio: 1.0,
            queue: 1,
        });
        let client = client.expect("can be used");
        assert!(!format!("{client:?}").contains("secret"));
        let refused = client
            .post(Bytes::new())
            .await
            .expect_err("nobody is there");
        assert_eq!(refused.later, Some(Duration::ZERO));
    }
}
