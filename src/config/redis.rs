//! Where a Redis is, as a URL says it. Pure. What is wrong with a URL is said without the URL, and a place shows no password: there may be
//! one in it. Called by `check`; `store::redis` connects to what this says.

use std::fmt;

const EXPECTED: &str = "expected \"embedded\", redis://[USER:PASSWORD@]HOST[:PORT][/DB], rediss://…, redis+unix:///PATH, \
     redis+sentinel://[USER:PASSWORD@]HOST[:PORT],…/MASTER[/DB] or redis+cluster://[USER:PASSWORD@]HOST[:PORT],…";

/// The ports everybody uses.
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub kind: Kind,
    pub tls: bool,
    pub login: Login,
}

#[derive(Clone, PartialEq, Eq)]
pub enum Kind {
    /// One server, whose URL the client library reads itself.
    One(String),
    /// The one of several that is master now. Sentinels know which.
    Sentinel {
        sentinels: Vec<Node>,
        /// What it is called among them.
        master: String,
        database: i64,
        /// What sentinels ask for, if anything; they do not share the servers' users.
        login: Login,
    },
    /// Nodes of a cluster, through which the others are found.
    Cluster(Vec<Node>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub host: String,
    pub port: u16,
}

#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    pub user: Option<String>,
    pub password: Option<String>,
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::One(_) => f.write_str("One"),
            Kind::Sentinel {
                sentinels, master, ..
            } => write!(f, "Sentinel({master:?} by {sentinels:?})"),
            Kind::Cluster(nodes) => write!(f, "Cluster({nodes:?})"),
        }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").finish_non_exhaustive()
    }
}

/// Reads a URL that is not "embedded".
pub fn read(text: &str) -> Result<Place, String> {
    let bad = |what: &str| Err(format!("{what}, {EXPECTED}"));
    let Some((scheme, rest)) = text.split_once("://") else {
        return bad(&format!("{text:?} is no store"));
    };
    let tls = scheme.starts_with("rediss");
    let one = || Place {
        kind: Kind::One(text.into()),
        tls,
        login: Login::default(),
    };
    match scheme {
        "redis" | "rediss" | "redis+unix" | "unix" if rest.is_empty() => bad("says not where"),
        "redis+unix" | "unix" if !rest.starts_with('/') => bad("has no absolute path"),
        "redis" | "rediss" | "redis+unix" | "unix" => Ok(one()),
        "redis+sentinel" | "rediss+sentinel" => {
            let parts = Parts::of(rest, SENTINEL_PORT)?;
            let (master, database) = match parts.path.split_once('/') {
                Some((master, database)) => (master, database),
                None => (parts.path, "0"),
            };
            if master.is_empty() {
                return bad("says not which master: write its name behind the hosts");
            }
            let Ok(database) = database.parse() else {
                return bad("has no number as its database");
            };
            Ok(Place {
                kind: Kind::Sentinel {
                    sentinels: parts.nodes,
                    master: decoded(master)?,
                    database,
                    login: parts.sentinel_login,
                },
                tls,
                login: parts.login,
            })
        }
        "redis+cluster" | "rediss+cluster" => {
            let parts = Parts::of(rest, PORT)?;
            if !matches!(parts.path, "" | "0") {
                return bad("names a database, which a cluster has only one of");
            }
            Ok(Place {
                kind: Kind::Cluster(parts.nodes),
                tls,
                login: parts.login,
            })
        }
        other => bad(&format!("{other}:// is no store")),
    }
}

/// `[USER:PASSWORD@]HOST[:PORT],…[/PATH][?sentinel_user=…&sentinel_password=…]`
struct Parts<'a> {
    login: Login,
    nodes: Vec<Node>,
    path: &'a str,
    sentinel_login: Login,
}

impl<'a> Parts<'a> {
    fn of(rest: &'a str, port: u16) -> Result<Self, String> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (self::login(login)?, hosts),
            None => (Login::default(), authority),
        };
        let nodes: Result<Vec<Node>, String> = hosts.split(',').map(|h| node(h, port)).collect();
        let mut sentinel_login = Login::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = Some(decoded(value)?);
            match name {
                "sentinel_user" => sentinel_login.user = value,
                "sentinel_password" => sentinel_login.password = value,
                other => return Err(format!("has a parameter {other:?}, which is none")),
            }
        }
        Ok(Self {
            login,
            nodes: nodes?,
            path: path.strip_suffix('/').unwrap_or(path),
            sentinel_login,
        })
    }
}

fn login(text: &str) -> Result<Login, String> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let given = |text: &str| match text {
        "" => Ok(None),
        text => decoded(text).map(Some),
    };
    Ok(Login {
        user: given(user)?,
        password: given(password)?,
    })
}

fn node(text: &str, port: u16) -> Result<Node, String> {
    // An IPv6 address stands in brackets, because it has colons of its own.
    let (host, after) = match text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        Some((host, after)) => (host, after.strip_prefix(':')),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() {
        return Err(format!("has an empty host, {EXPECTED}"));
    }
    let port = match after {
        None => port,
        Some(text) => text
            .parse()
            .map_err(|_ignored| format!("has a port that is none for {host}, {EXPECTED}"))?,
    };
    Ok(Node {
        host: host.into(),
        port,
    })
}

/// Without percent signs: a password may have any character.
fn decoded(text: &str) -> Result<String, String> {
    let wrong = || "has a percent sign without two hex digits behind it".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let mut one = [0];
        let digits = after.get(..2).ok_or_else(wrong)?;
        hex::decode_to_slice(digits, &mut one).map_err(|_ignored| wrong())?;
        bytes.push(one[0]);
        rest = after.get(2..).ok_or_else(wrong)?;
    }
    String::from_utf8(bytes).map_err(|_ignored| "has a name that is no text".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: &str, port: u16) -> Node {
        Node {
            host: host.into(),
            port,
        }
    }

    fn login(user: Option<&str>, password: Option<&str>) -> Login {
        Login {
            user: user.map(Into::into),
            password: password.map(Into::into),
        }
    }

    #[test]
    fn one_server_is_read_by_the_client_library() {
        for (good, tls) in [
            ("redis://127.0.0.1", false),
            ("redis://:secret@redis:6379/1", false),
            ("redis+unix:///run/redis.sock", false),
            ("unix:///run/redis.sock?db=1", false),
            ("rediss://:secret@redis:6379/1", true),
        ] {
            let place = read(good).expect(good);
            assert!(place.kind == Kind::One(good.into()) && place.tls == tls);
            assert!(!format!("{place:?}").contains("secret"));
        }
    }

    #[test]
    fn sentinels_say_which_server_is_the_master() {
        let place =
            read("rediss+sentinel://u:p%40ss@a:1,[::1]:2,c/the-master/3?sentinel_password=secret");
        let place = place.expect("is one");
        let kind = Kind::Sentinel {
            sentinels: vec![node("a", 1), node("::1", 2), node("c", 26379)],
            master: "the-master".into(),
            database: 3,
            login: login(None, Some("secret")),
        };
        assert!(place.kind == kind && place.tls);
        assert!(place.login == login(Some("u"), Some("p@ss")));
        let shown = format!("{place:?}");
        assert!(
            !shown.contains("secret") && !shown.contains("p@ss"),
            "{shown}"
        );
    }

    #[test]
    fn a_cluster_is_found_through_any_of_its_nodes() {
        let place = read("redis+cluster://:p@a,b:7001").expect("is one");
        assert!(place.kind == Kind::Cluster(vec![node("a", 6379), node("b", 7001)]));
        assert!(place.login == login(None, Some("p")) && !place.tls);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (bad, why) in [
            ("", "no store"),
            ("redis", "no store"),
            ("redis://", "says not where"),
            ("unix://run", "no absolute path"),
            ("http://:secret@h", "http:// is no store"),
            ("redis+sentinel://:secret@h", "not which master"),
            ("redis+sentinel://:secret@h/m/x", "no number"),
            ("redis+sentinel://:secret@h:x/m", "port that is none for h"),
            ("redis+sentinel://:secret@,h/m", "empty host"),
            (
                "redis+sentinel://:secret@h/m?password=secret",
                "\"password\"",
            ),
            ("redis+sentinel://:secret%4@h/m", "percent sign"),
            ("redis+cluster://:secret@h/1", "names a database"),
            ("redis+cluster://", "empty host"),
        ] {
            let found = read(bad).expect_err(bad);
            assert!(found.contains(why) && !found.contains("secret"), "{found}");
        }
    }
}
