//! Connections to Redis, as many as are needed up to a bound. One that was idle is asked whether it still lives before it is given out,
//! so that a Redis that was restarted, or lost its rank to another, costs no call: the store is not on the way of a call, and a round
//! trip does not matter.

use std::sync::Arc;

use deadpool::Runtime;
use deadpool::managed::{self, Metrics, RecycleError, RecycleResult};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, Pipeline, RedisError, RedisFuture, Value, cmd};

use crate::store::redis::Fault;
use crate::store::redis::place::Place;

pub(super) type Pool = managed::Pool<Connector>;

/// To one server, or to all nodes of a cluster.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Connection::One(one) => one.req_packed_command(command),
            Connection::Cluster(cluster) => cluster.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Connection::One(one) => one.req_packed_commands(pipeline, offset, count),
            Connection::Cluster(cluster) => cluster.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Connection::One(one) => one.get_db(),
            Connection::Cluster(cluster) => cluster.get_db(),
        }
    }
}

/// Makes connections and looks after them.
pub(super) struct Connector {
    place: Arc<Place>,
}

impl Connector {
    pub(super) fn new(place: Arc<Place>) -> Self {
        Self { place }
    }
}

impl managed::Manager for Connector {
    type Type = Connection;
    type Error = RedisError;

    async fn create(&self) -> Result<Connection, RedisError> {
        self.place.connect().await
    }

    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<RedisError> {
        match connection {
            Connection::One(_) if self.place.may_change() => {
                // A server that was master and is not any more still answers, and refuses every write.
                let role = cmd("ROLE").query_async(connection).await;
                match is_master(role.map_err(RecycleError::Backend)?) {
                    true => Ok(()),
                    false => Err(RecycleError::message("it is not the master any more")),
                }
            }
            Connection::One(_) => {
                let alive = cmd("PING").exec_async(connection).await;
                alive.map_err(RecycleError::Backend)
            }
            // It looks after its connections to the nodes itself.
            Connection::Cluster(_) => Ok(()),
        }
    }
}

/// ROLE answers a list whose length depends on the role, which comes first.
fn is_master(role: Value) -> bool {
    let Value::Array(list) = role else {
        return false;
    };
    let first = list.into_iter().next().unwrap_or(Value::Nil);
    redis::from_redis_value::<String>(first).is_ok_and(|name| name == "master")
}

pub(super) fn build(place: Arc<Place>, size: usize) -> Result<Pool, Fault> {
    let deadline = Some(place.deadline());
    Pool::builder(Connector::new(place))
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .wait_timeout(deadline)
        .create_timeout(deadline)
        .recycle_timeout(deadline)
        .build()
        .map_err(Fault::Pool)
}
