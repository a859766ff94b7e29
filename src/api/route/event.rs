//! A request as the function sees it: the event of function URLs and HTTP APIs, payload format 2.0, written straight to bytes.
//! Everything is passed on: what a function does with a strange header or query is its own business.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderValue, USER_AGENT,
};
use http::request::Parts;
use percent_encoding::percent_decode_str;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::api::error::to_json;
use crate::api::route::{HOP_BY_HOP, Sender};
use crate::api::trace::{AMZN_TRACE_ID, TRACEPARENT, TRACESTATE};
use crate::domain::aws::Place;
use crate::domain::function::Function;
use crate::domain::id::RequestId;
use crate::domain::trace::Trace;

/// The only stage there is; so AWS calls it, too.
const STAGE: &str = "$default";
/// Who calls where nobody is asked who they are.
const ACCOUNT: &str = "anonymous";

/// What an event is made of.
#[derive(Debug)]
pub struct Request<'a> {
    pub head: &'a Parts,
    /// What stands in the place of what the request says of its trace.
    pub trace: Option<&'a Trace>,
    pub from: Sender,
    pub at: At<'a>,
    pub request_id: RequestId,
    pub time: jiff::Timestamp,
    pub body: &'a [u8],
}

/// Where the function was found.
#[derive(Debug, Clone, Copy)]
pub enum At<'a> {
    Route {
        function: &'a Function,
        parameters: &'a [(String, String)],
    },
    Url {
        id: &'a str,
        /// The host that is the URL's own.
        domain: &'a str,
        /// What comes after the URL.
        path: &'a str,
        /// Who signed, if somebody had to.
        caller: Option<Caller<'a>>,
        /// Of a call that is not traced.
        trace_id: Option<&'a str>,
    },
}

/// Somebody with a key.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    pub key: &'a str,
    pub name: &'a str,
    /// With the account all are of.
    pub place: &'a Place,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    version: &'static str,
    route_key: &'a str,
    raw_path: &'a str,
    raw_query_string: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cookies: Vec<Cow<'a, str>>,
    headers: Headers<'a>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    query_string_parameters: BTreeMap<Cow<'a, str>, String>,
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    path_parameters: Pairs<'a>,
    request_context: Context<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    body: &'a str,
    is_base64_encoded: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Context<'a> {
    account_id: &'a str,
    api_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorizer: Option<Authorizer<'a>>,
    domain_name: &'a str,
    domain_prefix: &'a str,
    http: Http<'a>,
    request_id: RequestId,
    route_key: &'a str,
    stage: &'static str,
    time: String,
    time_epoch: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Http<'a> {
    method: &'a str,
    path: Cow<'a, str>,
    protocol: String,
    source_ip: IpAddr,
    user_agent: Cow<'a, str>,
}

#[derive(Serialize)]
struct Authorizer<'a> {
    iam: Iam<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Iam<'a> {
    access_key: &'a str,
    account_id: &'a str,
    caller_id: &'a str,
    cognito_identity: Option<()>,
    principal_org_id: Option<()>,
    user_arn: String,
    user_id: &'a str,
}

impl<'a> Authorizer<'a> {
    fn of(caller: Caller<'a>) -> Self {
        Self {
            iam: Iam {
                access_key: caller.key,
                account_id: &caller.place.account,
                caller_id: caller.key,
                cognito_identity: None,
                principal_org_id: None,
                user_arn: caller.place.user(caller.name),
                user_id: caller.key,
            },
        }
    }
}

/// The event's bytes.
pub fn write(request: &Request<'_>) -> Bytes {
    let Parts {
        method,
        uri,
        version,
        headers,
        ..
    } = request.head;
    let host = host(request.head);
    let named = without_port(host);
    let (route_key, api_id, domain, path, parameters, caller) = match request.at {
        At::Route {
            function,
            parameters,
        } => {
            let route = function.route.as_deref().unwrap_or_default();
            let key = Cow::Owned(format!("ANY {route}"));
            (
                key,
                function.id.as_str(),
                named,
                uri.path(),
                parameters,
                None,
            )
        }
        At::Url {
            id,
            domain,
            path,
            caller,
            ..
        } => (STAGE.into(), id, domain, path, &[][..], caller),
    };
    let text = text(headers, request.body);
    let body = match text {
        Some(text) => Cow::Borrowed(text),
        None => BASE64_STANDARD.encode(request.body).into(),
    };
    to_json(&Event {
        version: "2.0",
        route_key: &route_key,
        raw_path: path,
        raw_query_string: uri.query().unwrap_or_default(),
        cookies: cookies(headers),
        headers: Headers {
            given: headers,
            trace: request.trace,
            host,
            from: request.from,
            signed: caller.is_some(),
            trace_id: match request.at {
                At::Route { .. } => None,
                At::Url { trace_id, .. } => trace_id,
            },
        },
        query_string_parameters: query(uri.query().unwrap_or_default()),
        path_parameters: Pairs(parameters),
        request_context: Context {
            account_id: caller.map_or(ACCOUNT, |caller| &caller.place.account),
            api_id,
            authorizer: caller.map(Authorizer::of),
            domain_name: domain,
            domain_prefix: domain.split('.').next().unwrap_or(domain),
            http: Http {
                method: method.as_str(),
                path: plain(path),
                protocol: format!("{version:?}"),
                source_ip: request.from.address,
                user_agent: headers.get(USER_AGENT).map(value).unwrap_or_default(),
            },
            request_id: request.request_id,
            route_key: &route_key,
            stage: STAGE,
            time: request.time.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string(),
            time_epoch: request.time.as_millisecond(),
        },
        body: &body,
        is_base64_encoded: text.is_none(),
    })
}

/// Whether a body of this kind goes into the event as it is, unless its bytes are no text after all. The same kinds as on AWS: a
/// form, for one, comes in base64.
pub fn is_text(headers: &HeaderMap) -> bool {
    if headers.contains_key(CONTENT_ENCODING) {
        return false;
    }
    let Some(content_type) = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()) else {
        return false;
    };
    let essence = content_type.split(';').next().unwrap_or(content_type);
    let essence = essence.trim().to_ascii_lowercase();
    essence.starts_with("text/")
        || ["json", "xml", "script"]
            .iter()
            .any(|end| essence.ends_with(end))
}

fn text<'a>(headers: &HeaderMap, body: &'a [u8]) -> Option<&'a str> {
    if body.is_empty() {
        return Some("");
    }
    is_text(headers).then(|| std::str::from_utf8(body).ok())?
}

/// A path as AWS writes it where it is not the raw one: decoded, and without empty segments.
fn plain(path: &str) -> Cow<'_, str> {
    let mut decoded = percent_decode_str(path).decode_utf8_lossy();
    while decoded.contains("//") {
        decoded = decoded.replace("//", "/").into();
    }
    decoded
}

/// Of several cookies in a header, and of several headers.
fn cookies(headers: &HeaderMap) -> Vec<Cow<'_, str>> {
    let mut cookies = Vec::new();
    for header in headers.get_all(COOKIE) {
        match value(header) {
            Cow::Borrowed(text) => cookies.extend(split(text).map(Cow::Borrowed)),
            Cow::Owned(text) => cookies.extend(split(&text).map(|c| Cow::Owned(c.to_owned()))),
        }
    }
    cookies
}

fn split(cookies: &str) -> impl Iterator<Item = &str> {
    cookies.split(';').map(str::trim).filter(|c| !c.is_empty())
}

/// Names and values, decoded; the values of a name that is there more than once joined by commas.
fn query(raw: &str) -> BTreeMap<Cow<'_, str>, String> {
    let mut parameters = BTreeMap::<_, String>::new();
    for (name, value) in form_urlencoded::parse(raw.as_bytes()) {
        match parameters.entry(name) {
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(value.into_owned());
            }
            std::collections::btree_map::Entry::Occupied(place) => {
                let joined = place.into_mut();
                joined.push(',');
                joined.push_str(&value);
            }
        }
    }
    parameters
}

/// Over HTTP/2 the host is not among the headers.
fn host(head: &Parts) -> &str {
    let authority = || head.uri.authority().map(http::uri::Authority::as_str);
    let header = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    header.or_else(authority).unwrap_or_default()
}

/// The colons in an address of IP version 6 are in brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// A header's text; bytes that are no UTF-8 as the letters they are in Latin-1.
fn value(header: &HeaderValue) -> Cow<'_, str> {
    match std::str::from_utf8(header.as_bytes()) {
        Ok(text) => text.into(),
        Err(_) => header.as_bytes().iter().map(|b| char::from(*b)).collect(),
    }
}

struct Pairs<'a>(&'a [(String, String)]);

impl Pairs<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// The headers with what function URLs add: who sent it and how. What concerns only this connection is left out.
struct Headers<'a> {
    given: &'a HeaderMap,
    trace: Option<&'a Trace>,
    host: &'a str,
    from: Sender,
    /// What let the request in is not the function's: it is good for another five minutes.
    signed: bool,
    /// Of a call that is not traced: AWS gives every call of a URL an id for a trace.
    trace_id: Option<&'a str>,
}

const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_PROTO: &str = "x-forwarded-proto";
const FORWARDED_PORT: &str = "x-forwarded-port";
/// What is the call's own where it is traced: its function comes below it, and not below whoever sent the request.
const TRACE: [&str; 3] = [TRACEPARENT, TRACESTATE, AMZN_TRACE_ID];

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for name in self.given.keys() {
            let own = [HOST.as_str(), FORWARDED_FOR];
            if own.contains(&name.as_str()) || HOP_BY_HOP.contains(&name.as_str()) {
                continue;
            }
            if self.signed && name == AUTHORIZATION {
                continue;
            }
            if self.trace.is_some() && TRACE.contains(&name.as_str()) {
                continue;
            }
            if self.trace_id.is_some() && name == AMZN_TRACE_ID {
                continue;
            }
            let between = if name == COOKIE { "; " } else { "," };
            map.serialize_entry(name.as_str(), &self.joined(name.as_str(), between))?;
        }
        if !self.host.is_empty() {
            map.serialize_entry(HOST.as_str(), self.host)?;
        }
        let before = self.joined(FORWARDED_FOR, ",");
        let peer = self.from.address;
        match before.is_empty() {
            true => map.serialize_entry(FORWARDED_FOR, &peer)?,
            false => map.serialize_entry(FORWARDED_FOR, &format!("{before}, {peer}"))?,
        }
        if !self.given.contains_key(FORWARDED_PROTO) {
            let scheme = if self.from.tls { "https" } else { "http" };
            map.serialize_entry(FORWARDED_PROTO, scheme)?;
        }
        if !self.given.contains_key(FORWARDED_PORT) {
            map.serialize_entry(FORWARDED_PORT, self.port())?;
        }
        if let Some(id) = self.trace_id {
            map.serialize_entry(AMZN_TRACE_ID, id)?;
        }
        if let Some(trace) = self.trace {
            map.serialize_entry(TRACEPARENT, &trace.traceparent())?;
            map.serialize_entry(AMZN_TRACE_ID, &trace.amzn())?;
            if !trace.state.is_empty() {
                map.serialize_entry(TRACESTATE, &trace.state)?;
            }
        }
        map.end()
    }
}

impl Headers<'_> {
    fn joined(&self, name: &str, between: &str) -> Cow<'_, str> {
        let mut values = self.given.get_all(name).iter().map(value);
        let first = values.next().unwrap_or_default();
        values.fold(first, |joined, next| {
            format!("{joined}{between}{next}").into()
        })
    }

    /// Where the client believes it sent the request: a host without a port is the scheme's.
    fn port(&self) -> &str {
        match self.host.rsplit_once(':') {
            Some((_, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => port,
            _ => match self.given.get(FORWARDED_PROTO) {
                Some(scheme) if scheme == "https" => "443",
                None if self.from.tls => "443",
                _ => "80",
            },
        }
    }
}

#[cfg(test)]
mod tests;
