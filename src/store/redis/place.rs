//! Where Redis is, as the client library wants it: one server, the server that sentinels call master now, or a cluster. Owns nothing that
//! lasts; connections are made here and kept by `pool` and `watch`.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::aio::PubSub;
use redis::cluster::ClusterClient;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo,
    RedisError, RedisResult, TlsCertificates, TlsMode,
};
use tokio::sync::Mutex;

use crate::config::redis::{self as url, Kind, Login, Node};
use crate::store::redis::Fault;
use crate::store::redis::pool::Connection;

pub(super) struct Place {
    servers: Servers,
    deadline: Duration,
}

enum Servers {
    One(Box<Client>),
    /// It remembers which sentinel answered last, so it is used by one at a time.
    Sentinel(Box<Mutex<SentinelClient>>),
    Cluster {
        client: Box<ClusterClient>,
        /// What is announced to one node is announced to all, so any will do to listen at: the next one after each failure.
        nodes: Vec<Client>,
        turn: AtomicUsize,
    },
}

impl fmt::Debug for Place {
    // Nothing of the addresses: there may be a password with them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").finish_non_exhaustive()
    }
}

impl Place {
    /// `authority` is a file with the certificates that are trusted; without one, those the system trusts are.
    pub(super) fn new(
        place: &url::Place,
        authority: Option<&Path>,
        deadline: Duration,
    ) -> Result<Self, Fault> {
        let root_cert = match authority {
            Some(path) if place.tls => Some(std::fs::read(path).map_err(|source| {
                let path = path.to_owned();
                Fault::Authority { path, source }
            })?),
            _ => None,
        };
        if place.tls {
            // The first one stays; that it is there is all that matters.
            rustls::crypto::ring::default_provider()
                .install_default()
                .ok();
        }
        let certificates = TlsCertificates {
            client_tls: None,
            root_cert,
        };
        let servers = match &place.kind {
            Kind::One(url) => one(url, place.tls, certificates),
            Kind::Sentinel {
                sentinels,
                master,
                database,
                login,
            } => sentinel(place, sentinels, (master, *database), login, certificates),
            Kind::Cluster(nodes) => cluster(place, nodes, certificates, deadline),
        };
        Ok(Self {
            servers: servers.map_err(Fault::Url)?,
            deadline,
        })
    }

    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Whether a server that answers may not be the one to ask any more.
    pub(super) fn may_change(&self) -> bool {
        matches!(self.servers, Servers::Sentinel(_))
    }

    /// Boxed, because the client library's futures lie in each other so deeply that the compiler gives up on them.
    pub(super) fn connect(&self) -> BoxFuture<'_, Result<Connection, RedisError>> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.deadline))
            .set_response_timeout(Some(self.deadline));
        async move {
            let client = match &self.servers {
                Servers::One(client) => Client::clone(client),
                Servers::Sentinel(sentinel) => sentinel.lock().await.async_get_client().await?,
                Servers::Cluster { client, .. } => {
                    return client.get_async_connection().await.map(Connection::Cluster);
                }
            };
            let connection = client.get_multiplexed_async_connection_with_config(&config);
            connection.await.map(Connection::One)
        }
        .boxed()
    }

    /// A connection for announcements.
    pub(super) fn listen(&self) -> BoxFuture<'_, Result<PubSub, RedisError>> {
        async move {
            match &self.servers {
                Servers::One(client) => client.get_async_pubsub().await,
                Servers::Sentinel(sentinel) => {
                    let master = sentinel.lock().await.async_get_client().await?;
                    master.get_async_pubsub().await
                }
                Servers::Cluster { nodes, turn, .. } => {
                    let turn = turn.fetch_add(1, Ordering::Relaxed);
                    nodes[turn % nodes.len()].get_async_pubsub().await
                }
            }
        }
        .boxed()
    }
}

fn one(url: &str, tls: bool, certificates: TlsCertificates) -> RedisResult<Servers> {
    let client = match tls {
        true => Client::build_with_tls(url, certificates),
        false => Client::open(url),
    };
    client.map(|client| Servers::One(Box::new(client)))
}

fn sentinel(
    place: &url::Place,
    sentinels: &[Node],
    (master, database): (&str, i64),
    login: &Login,
    certificates: TlsCertificates,
) -> RedisResult<Servers> {
    let addresses = sentinels.iter().map(|node| address(node, place.tls));
    let mut builder = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?
        .set_client_to_redis_db(database);
    if place.tls {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_certificates(certificates);
    }
    if let Some(user) = &place.login.user {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = &place.login.password {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(user) = &login.user {
        builder = builder.set_client_to_sentinel_username(user);
    }
    if let Some(password) = &login.password {
        builder = builder.set_client_to_sentinel_password(password);
    }
    let client = builder.build()?;
    Ok(Servers::Sentinel(Box::new(Mutex::new(client))))
}

fn cluster(
    place: &url::Place,
    nodes: &[Node],
    certificates: TlsCertificates,
    deadline: Duration,
) -> RedisResult<Servers> {
    let mut login = RedisConnectionInfo::default();
    if let Some(user) = &place.login.user {
        login = login.set_username(user);
    }
    if let Some(password) = &place.login.password {
        login = login.set_password(password);
    }
    let infos: RedisResult<Vec<_>> = nodes
        .iter()
        .map(|node| {
            let info = address(node, place.tls).into_connection_info()?;
            Ok(info.set_redis_settings(login.clone()))
        })
        .collect();
    let infos = infos?;
    let mut builder = ClusterClient::builder(infos.clone())
        .connection_timeout(deadline)
        .response_timeout(deadline);
    if place.tls {
        builder = builder.tls(TlsMode::Secure).certs(certificates.clone());
    }
    let client = |info| match place.tls {
        true => Client::build_with_tls(info, certificates.clone()),
        false => Client::open(info),
    };
    Ok(Servers::Cluster {
        client: Box::new(builder.build()?),
        nodes: infos.into_iter().map(client).collect::<RedisResult<_>>()?,
        turn: AtomicUsize::new(0),
    })
}

fn address(node: &Node, tls: bool) -> ConnectionAddr {
    let (host, port) = (node.host.clone(), node.port);
    match tls {
        true => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        },
        false => ConnectionAddr::Tcp(host, port),
    }
}
