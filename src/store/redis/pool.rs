//! Connections to Redis, as many as are needed up to a bound. One that was idle is asked whether it still lives before it is given out,
//! so that a Redis that was restarted costs no call: the store is not on the way of a call, and a round trip does not matter.

use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{self, Metrics, RecycleError, RecycleResult};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, cmd};

use crate::store::redis::Fault;

pub(super) type Pool = managed::Pool<Connector>;
pub(super) type Connection = MultiplexedConnection;

/// Makes connections and looks after them.
#[derive(Debug)]
pub(super) struct Connector {
    client: Client,
    deadline: Duration,
}

impl Connector {
    pub(super) fn new(client: Client, deadline: Duration) -> Self {
        Self { client, deadline }
    }
}

impl managed::Manager for Connector {
    type Type = Connection;
    type Error = RedisError;

    async fn create(&self) -> Result<Connection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.deadline))
            .set_response_timeout(Some(self.deadline));
        let connect = self
            .client
            .get_multiplexed_async_connection_with_config(&config);
        connect.await
    }

    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<RedisError> {
        let alive = cmd("PING").exec_async(connection).await;
        alive.map_err(RecycleError::Backend)
    }
}

pub(super) fn build(connector: Connector, size: usize) -> Result<Pool, Fault> {
    let deadline = Some(connector.deadline);
    Pool::builder(connector)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .wait_timeout(deadline)
        .create_timeout(deadline)
        .recycle_timeout(deadline)
        .build()
        .map_err(Fault::Pool)
}
