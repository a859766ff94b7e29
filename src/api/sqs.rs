//! The outbound client of the one service for queues that the configuration names: makes one request of an action of SQS, in its JSON protocol,
//! within a bound of time and of size, and says what is wrong if nothing came of it. No other host is asked, whatever queues' URLs say: they are
//! only told to that service again. Called through `app` by event sources and, for `messages`, by the queue of asynchronous calls, which
//! ask again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, USER_AGENT};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Deserialize;

use crate::api::lambda::sigv4::outgoing;
use crate::api::lambda::sigv4::presign::Signer;
use crate::api::webhook::{chain, outbound};
use crate::clock;
use crate::config;
use crate::sources::queues::{Action, Queues, Refusal};
use crate::sources::room::{self, Intake, NoRoom};

const SERVICE: &str = "sqs";
const JSON: &str = "application/x-amz-json-1.0";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
/// What the error was called before there was JSON; some say it here alone.
const QUERY_ERROR: HeaderName = HeaderName::from_static("x-amzn-query-error");
const AGENT: &str = concat!("hearth/", env!("CARGO_PKG_VERSION"));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_MAX: usize = 64;
const IDLE_FOR: Duration = Duration::from_secs(30);
/// Ten messages of a MiB, each character of them escaped.
const ANSWER_MAX: usize = 64 * 1024 * 1024;
/// Room that is taken at first for an answer that does not say how long it is: more than nearly all have.
const UNANNOUNCED: usize = 2 * 1024 * 1024;
/// Of an answer that no room was taken for.
const SMALL_MAX: usize = 64 * 1024;
/// What is told of an error.
const CODE_MAX: usize = 64;
const MESSAGE_MAX: usize = 512;

/// What a service says when it does not like who asks.
const OURS: [&str; 11] = [
    "ExpiredToken",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "OptInRequired",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];

#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no endpoint of a service")]
pub struct NoEndpoint(String);

#[derive(Debug, Clone)]
pub struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    settings: config::Service,
    /// Where every request goes.
    uri: Uri,
    host: String,
}

impl Client {
    pub fn new(settings: &config::Service) -> Result<Self, NoEndpoint> {
        let wrong = || NoEndpoint(settings.endpoint.clone());
        let uri: Uri = format!("{}/", settings.endpoint)
            .parse()
            .map_err(|_odd| wrong())?;
        let connector = outbound(HttpConnector::new(), CONNECT_TIMEOUT.min(settings.timeout));
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_FOR)
            .pool_max_idle_per_host(IDLE_MAX)
            .build(connector);
        Ok(Self {
            http,
            settings: settings.clone(),
            host: uri.authority().ok_or_else(wrong)?.to_string(),
            uri,
        })
    }

    /// What the service answers to an action.
    pub async fn ask(&self, action: Action) -> Result<Bytes, Refusal> {
        let Action {
            name,
            told,
            waits,
            intake,
        } = action;
        let within = self.settings.timeout + waits;
        // For all of it but what is waited for here.
        let until = clock::now() + within;
        let body = serde_json::to_vec(&told).expect("JSON can be written");
        let answered = tokio::time::timeout_at(until.into(), self.begin(name, body.into())).await;
        let answered = answered.unwrap_or_else(|_elapsed| {
            let did = format!("did not answer {name} within {within:?}");
            Err(Refusal::away(did, ""))
        });
        let (head, body) = answered?.into_parts();
        match head.status {
            StatusCode::OK => self.read((name, within), body, until, intake).await,
            status => {
                let body = beginning(body, until).await;
                Err(refusal(name, status, &head.headers, &body))
            }
        }
    }

    async fn begin(&self, name: &'static str, body: Bytes) -> Result<Response<Incoming>, Refusal> {
        let request = self.request(name, body);
        let request = request.map_err(|e| Refusal::away("cannot be asked", chain(&e)))?;
        let response = self.http.request(request).await;
        response.map_err(|error| {
            let did = match error.is_connect() {
                true => "could not be reached",
                false => "did not answer as SQS does",
            };
            Refusal::away(did, chain(&error))
        })
    }

    /// All of an answer. While there is no room for it, the rest of it waits at the other end.
    async fn read(
        &self,
        (name, within): (&'static str, Duration),
        mut body: Incoming,
        mut until: Instant,
        intake: Option<Arc<Intake>>,
    ) -> Result<Bytes, Refusal> {
        let announced = body.size_hint().upper();
        let announced = announced.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        let too_long = || Refusal::away("gave an answer that is too long", "");
        let (mut most, limit) = match intake {
            Some(_) => (room::FIRST, ANSWER_MAX),
            None => (SMALL_MAX, SMALL_MAX),
        };
        let all = announced.unwrap_or(limit);
        if all > limit {
            return Err(too_long());
        }
        let mut read = BytesMut::new();
        loop {
            let next = tokio::time::timeout_at(until.into(), body.frame()).await;
            let next = next.map_err(|_elapsed| {
                let did = format!("did not end its answer to {name} within {within:?}");
                Refusal::away(did, "")
            })?;
            let Some(frame) = next else { break };
            let frame =
                frame.map_err(|error| Refusal::away("broke off its answer", chain(&error)))?;
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            let size = read.len() + piece.len();
            if size > all {
                return Err(too_long());
            }
            if let (Some(intake), true) = (&intake, size > most) {
                most = match announced {
                    None if size <= UNANNOUNCED => UNANNOUNCED,
                    _ => all,
                };
                let waited = intake.expect(most).await;
                until += waited.map_err(|NoRoom| Refusal::NoRoom)?;
                if announced.is_some() {
                    read.reserve(all - read.len());
                }
            }
            read.extend_from_slice(&piece);
        }
        if let Some(intake) = intake {
            intake.read(read.len());
        }
        Ok(read.freeze())
    }

    fn request(&self, name: &str, body: Bytes) -> Result<Request<Full<Bytes>>, http::Error> {
        let signer = Signer {
            access_key: &self.settings.access_key,
            secret: &self.settings.secret_key,
            region: &self.settings.region,
            service: SERVICE,
        };
        let target = format!("AmazonSQS.{name}");
        let signed = outgoing::post(
            signer,
            &self.host,
            self.uri.path(),
            outgoing::Told {
                content_type: JSON,
                target: &target,
                body: &body,
            },
            clock::wall(),
        );
        Request::post(self.uri.clone())
            .header(HOST, &self.host)
            .header(DATE, signed.date)
            .header(TARGET, target)
            .header(CONTENT_TYPE, JSON)
            .header(AUTHORIZATION, signed.authorization)
            .header(USER_AGENT, AGENT)
            .body(Full::new(body))
    }
}

/// What an error says, as far as it is worth reading: whatever becomes of that, its status says something.
async fn beginning(mut body: Incoming, until: Instant) -> Bytes {
    let mut read = BytesMut::new();
    while read.len() < SMALL_MAX {
        let next = tokio::time::timeout_at(until.into(), body.frame()).await;
        let Ok(Some(Ok(frame))) = next else { break };
        let piece = frame.into_data().unwrap_or_default();
        read.extend_from_slice(&piece);
    }
    read.freeze()
}

#[derive(Deserialize)]
struct Said {
    #[serde(default, rename = "__type")]
    kind: String,
    #[serde(default, alias = "Message")]
    message: Option<String>,
}

/// What an answer that is none means for whoever asked.
fn refusal(name: &'static str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Refusal {
    let said = serde_json::from_slice::<Said>(body).unwrap_or(Said {
        kind: String::new(),
        message: None,
    });
    let kind = said.kind.rsplit('#').next().unwrap_or_default();
    let query = headers
        .get(QUERY_ERROR)
        .and_then(|value| value.to_str().ok());
    let query = query.and_then(|text| text.split(';').next());
    // Of the two names the one that says less well what is wrong may be missing.
    let code = [kind, query.unwrap_or_default()];
    let code = code.into_iter().find(|code| !code.is_empty());
    let short = |text: &str, most| -> String {
        let printed = text.chars().filter(|c| !c.is_control());
        printed.take(most).collect()
    };
    let Some(code) = code else {
        return Refusal::away(format!("answered with {status}"), "not as SQS does");
    };
    let named = |word: &str| kind.contains(word) || query.is_some_and(|query| query.contains(word));
    let message = short(&said.message.unwrap_or_default(), MESSAGE_MAX);
    let passing = status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || named("Throttl")
        || named("RequestLimitExceeded");
    let code = short(code, CODE_MAX);
    if named("QueueDoesNotExist") || named("NonExistentQueue") {
        return Refusal::NoQueue;
    }
    if passing {
        return Refusal::away(
            format!("answered {name} with {status}"),
            format!("{code}: {message}"),
        );
    }
    if OURS.iter().any(|ours| named(ours)) {
        return Refusal::Key { code, message };
    }
    match named("AccessDenied") {
        true => Refusal::Denied(name),
        false => Refusal::Refused { code, message },
    }
}

/// The queues of a service, as event sources and who sends to them ask for them.
pub fn queues(service: &config::Service) -> Result<Queues, NoEndpoint> {
    let client = Client::new(service)?;
    Ok(Queues::new(&service.region, move |action| {
        let client = client.clone();
        Box::pin(async move { client.ask(action).await })
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::domain::mapping::MappingId;
    use crate::sources::room::Room;
    use crate::task;

    /// A service that has this answer, once, and tells what it was asked.
    async fn service(
        status: &'static str,
        more: &'static str,
        body: &str,
    ) -> (Client, JoinHandle<Option<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let answer = format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{more}\r\n{body}",
            body.len()
        );
        let served = task::spawn(task::Kind::Local, "queues", async move {
            let (mut stream, _) = listener.accept().await.expect("a request");
            let mut got = Vec::new();
            while !got.ends_with(b"}") {
                let mut piece = [0; 1024];
                let read = stream.read(&mut piece).await.expect("reads");
                got.extend_from_slice(&piece[..read]);
            }
            stream.write_all(answer.as_bytes()).await.expect("writes");
            String::from_utf8_lossy(&got).into_owned()
        });
        let client = Client::new(&settings(&format!("http://{address}")));
        (client.expect("an endpoint"), served)
    }

    fn settings(endpoint: &str) -> config::Service {
        config::Service {
            endpoint: endpoint.into(),
            access_key: "hearth".into(),
            secret_key: "hidden".into(),
            region: "eu-west-3".into(),
            timeout: Duration::from_secs(20),
        }
    }

    fn action() -> Action {
        Action {
            name: "GetQueueUrl",
            told: json!({"QueueName": "q"}),
            waits: Duration::ZERO,
            intake: None,
        }
    }

    #[tokio::test]
    async fn it_is_asked_as_sqs_is() {
        let (client, served) = service("200 OK", "", r#"{"QueueUrl": "http://elsewhere/q"}"#).await;
        let answer = client.ask(action()).await.expect("an answer");
        assert_eq!(answer, r#"{"QueueUrl": "http://elsewhere/q"}"#);
        let asked = served.await.expect("ends").expect("is served");
        assert!(asked.starts_with("POST / HTTP/1.1\r\n"), "{asked}");
        for wanted in [
            "x-amz-target: AmazonSQS.GetQueueUrl\r\n",
            "content-type: application/x-amz-json-1.0\r\n",
            "/eu-west-3/sqs/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=",
            "\r\n\r\n{\"QueueName\":\"q\"}",
        ] {
            assert!(asked.contains(wanted), "{wanted}: {asked}");
        }
        assert!(!asked.contains("hidden"));
    }

    #[tokio::test]
    async fn what_is_wrong_is_told_apart() {
        let key = |code: &str| Refusal::Key {
            code: code.into(),
            message: "no".into(),
        };
        for (status, more, body, wanted) in [
            (
                "400 Bad",
                "x-amzn-query-error: AWS.SimpleQueueService.NonExistentQueue;Sender\r\n",
                r#"{"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "no"}"#,
                Refusal::NoQueue,
            ),
            (
                "400 Bad",
                "",
                r#"{"__type": "AWS.SimpleQueueService.NonExistentQueue", "message": "no"}"#,
                Refusal::NoQueue,
            ),
            (
                "403 No",
                "",
                r#"{"__type": "com.amazon.coral.service#AccessDeniedException", "Message": "no"}"#,
                Refusal::Denied("GetQueueUrl"),
            ),
            (
                "403 No",
                "",
                r#"{"__type": "InvalidClientTokenId", "message": "no"}"#,
                key("InvalidClientTokenId"),
            ),
            (
                "400 Bad",
                "",
                r#"{"__type": "com.amazonaws.sqs#InvalidAddress", "message": "odd\u0007"}"#,
                Refusal::Refused {
                    code: "InvalidAddress".into(),
                    message: "odd".into(),
                },
            ),
            (
                "503 Busy",
                "",
                r#"{"__type": "ServiceUnavailable", "message": "later"}"#,
                Refusal::away(
                    "answered GetQueueUrl with 503 Service Unavailable",
                    "ServiceUnavailable: later",
                ),
            ),
            (
                "400 Bad",
                "",
                r#"{"__type": "RequestThrottled", "message": "later"}"#,
                Refusal::away(
                    "answered GetQueueUrl with 400 Bad Request",
                    "RequestThrottled: later",
                ),
            ),
            (
                "502 Bad",
                "",
                "<html>",
                Refusal::away("answered with 502 Bad Gateway", "not as SQS does"),
            ),
        ] {
            let (client, _served) = service(status, more, body).await;
            let refused = client.ask(action()).await.expect_err(body);
            assert_eq!(refused, wanted, "{body}");
        }
        let client = Client::new(&settings("http://127.0.0.1:1")).expect("an endpoint");
        let refused = client.ask(action()).await.expect_err("nobody is there");
        assert!(
            refused.to_string().contains("could not be reached"),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn a_large_answer_is_read_when_there_is_room_for_it() {
        let large = format!("{{\"Messages\": \"{}\"}}", "x".repeat(100 * 1024));
        for more in ["", "no-room: 0\r\n"] {
            let (client, _served) = service("200 OK", more, &large).await;
            let room = Room::new(256 * 1024);
            let first = |room: &Room| room.try_take_first(MappingId::generate());
            let mut held: Vec<_> = std::iter::from_fn(|| first(&room)).collect();
            let part = held.pop().expect("there is room");
            let intake = Intake::new(part, Duration::from_secs(3600));
            if more.is_empty() {
                held.clear();
            }
            let asking = client.ask(Action {
                intake: Some(intake.clone()),
                ..action()
            });
            let room_comes = async {
                if !more.is_empty() {
                    intake.waits().await;
                    held.clear();
                }
            };
            let (answer, ()) = tokio::join!(asking, room_comes);
            assert_eq!(answer.expect("an answer"), large);
            assert!(first(&room).is_none(), "it has its room");
            drop(intake);
            assert!(first(&room).is_some());
        }
        // Who says nothing of messages has nothing to say at such length.
        let (client, _served) = service("200 OK", "", &large).await;
        let refused = client.ask(action()).await.expect_err("it is too long");
        assert!(refused.to_string().contains("too long"), "{refused}");
    }

    #[tokio::test]
    async fn an_answer_of_unknown_length_needs_no_more_room_than_most_have() {
        let large = format!("{{\"Messages\": \"{}\"}}", "x".repeat(100 * 1024));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        // Its end is where the connection ends.
        let said = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{large}");
        task::spawn(task::Kind::Local, "queues", async move {
            let (mut stream, _) = listener.accept().await.expect("a request");
            let mut got = Vec::new();
            while !got.ends_with(b"}") {
                assert_ne!(stream.read_buf(&mut got).await.expect("reads"), 0);
            }
            stream.write_all(said.as_bytes()).await.expect("writes");
        });
        let client = Client::new(&settings(&format!("http://{address}"))).expect("an endpoint");
        let (room, mapping) = (Room::new(256 * 1024 * 1024), MappingId::generate());
        let part = || room.try_take_first(mapping).expect("there is room");
        // Another batch of the same mapping is under way.
        let _held = part();
        let intake = Intake::new(part(), Duration::from_secs(3600));
        let asking = client.ask(Action {
            intake: Some(intake.clone()),
            ..action()
        });
        let answer = tokio::select! {
            answer = asking => answer,
            () = intake.waits() => unreachable!("there is room for it"),
        };
        assert_eq!(answer.expect("an answer"), large);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let client = Client::new(&settings(&format!("http://{address}"))).expect("an endpoint");
        let asked = Action {
            waits: Duration::from_secs(5),
            ..action()
        };
        let refused = client.ask(asked).await.expect_err("nobody answers");
        assert!(refused.to_string().contains("within 25s"), "{refused}");
    }

    /// A service that says so much, and then nothing more.
    async fn service_that_stops(said: String) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        task::spawn(task::Kind::Local, "queues", async move {
            let (mut stream, _) = listener.accept().await.expect("a request");
            let mut piece = [0; 4096];
            assert_ne!(stream.read(&mut piece).await.expect("reads"), 0);
            stream.write_all(said.as_bytes()).await.expect("writes");
            std::future::pending::<()>().await;
        });
        Client::new(&settings(&format!("http://{address}"))).expect("an endpoint")
    }

    #[tokio::test]
    async fn a_request_has_its_time_for_all_of_it() {
        let said = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_owned();
        let client = service_that_stops(said).await;
        let answer = client.begin("GetQueueUrl", Bytes::from_static(b"{}"));
        let (_, body) = answer.await.expect("a head").into_parts();
        // The head took all of it.
        let told = ("GetQueueUrl", Duration::from_secs(20));
        let read = client.read(told, body, clock::now(), None);
        let refused = read.await.expect_err("there is no time for the rest");
        assert!(refused.to_string().contains("within 20s"), "{refused}");
    }

    #[tokio::test]
    async fn an_error_is_told_by_its_status_however_long_it_is() {
        let long = "x".repeat(2 * SMALL_MAX);
        let head = |length: usize| format!("HTTP/1.1 502 Bad\r\ncontent-length: {length}\r\n\r\n");
        // All of it is there, or what there is of it breaks off.
        for said in [
            format!("{}{long}", head(long.len())),
            format!("{}{long}", head(usize::MAX / 2)),
        ] {
            let client = service_that_stops(said).await;
            let refused = client.ask(action()).await.expect_err("it failed");
            let wanted = Refusal::away("answered with 502 Bad Gateway", "not as SQS does");
            assert_eq!(refused, wanted);
        }
    }

    #[tokio::test]
    async fn who_finds_no_room_in_time_is_told_so() {
        let large = format!("{{\"Messages\": \"{}\"}}", "x".repeat(100 * 1024));
        let (client, _served) = service("200 OK", "", &large).await;
        let room = Room::new(256 * 1024);
        let take = || room.try_take_first(MappingId::generate());
        let mut held: Vec<_> = std::iter::from_fn(take).collect();
        let part = held.pop().expect("there is room");
        let intake = Intake::new(part, Duration::from_millis(50));
        let asked = Action {
            intake: Some(intake),
            ..action()
        };
        assert_eq!(client.ask(asked).await, Err(Refusal::NoRoom));
    }
}
