//! One shard's main task: storage, broker and listener, until the broker stops.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use millrace_shard::env::Env;
use millrace_shard::env::glommio::GlommioEnv;
use millrace_shard::mesh::{Mesh, Port};
use millrace_shard::shard::Shard;
use millrace_wire::error::WireError;
use millrace_wire::ids::ShardId;

use super::signals::StopSignal;
use super::{Node, ServeError};
use crate::broker::Broker;
use crate::broker::calls::{Call, Local, Peers, Reply, shard_gone};
use crate::controller::driver::Controller;
use crate::listen::{Door, Listener};

/// How long requests under way may take to finish once the broker drains.
const DRAIN_PATIENCE: Duration = Duration::from_secs(3);

/// How long the last answers may take to reach their clients after that.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

/// How long closing the storage may take. What is left undone then is what a crash would leave, and
/// the next start knows how to recover that.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// What a shard is given to start with.
pub(super) struct Setup {
    pub(super) shard: ShardId,
    pub(super) node: Arc<Node>,
    pub(super) port: Port<Call, Reply>,
    pub(super) doors: Vec<Door>,
    pub(super) stop: Arc<StopSignal>,
}

/// The mesh as the broker sees it.
struct MeshPeers(Mesh<Call, Reply>);

impl Peers for MeshPeers {
    fn send(&self, to: ShardId, call: Call) -> Local<Result<Local<Reply>, WireError>> {
        let mesh = self.0.clone();
        Box::pin(async move {
            let pending = mesh.send(to, call).await.map_err(|_| shard_gone(to))?;
            let reply: Local<Reply> = Box::pin(async move {
                pending
                    .await
                    .unwrap_or_else(|_| Reply::Failed(shard_gone(to)))
            });
            Ok(reply)
        })
    }
}

/// Runs a shard from its start to its end.
pub(super) async fn run(env: GlommioEnv, setup: Setup) -> Result<(), ServeError> {
    let Setup {
        shard: id,
        node,
        port,
        doors,
        stop,
    } = setup;
    let storage = Shard::open(env.clone(), node.shard_config(id))
        .await
        .map_err(|error| ServeError::Storage { shard: id, error })?;
    let mesh = port.connect(env.clone()).await;
    let peers = Rc::new(MeshPeers(mesh.clone()));
    let (identity, rules, limits) = (node.identity(), node.rules(), node.limits());
    let broker = Broker::new(
        env.clone(),
        id,
        identity,
        Rc::clone(&storage),
        peers,
        &rules,
        limits,
    );
    let listener = Listener::new(
        Rc::clone(&broker),
        env.ring().clone(),
        doors,
        node.listen_settings(),
    );
    let answering = Rc::clone(&broker);
    mesh.serve(move |_, call| answering.answer(call));
    if id == ShardId(0) {
        lead(&broker, &node, &stop).await?;
    } else {
        broker.finished().await;
    }
    listener.finish(FLUSH_PATIENCE).await;
    within(
        &env,
        CLOSE_PATIENCE,
        "closing the storage",
        storage.shutdown(),
    )
    .await;
    mesh.close();
    Ok(())
}

/// What shard 0 does for all: opens the broker for business and, when told to, stops it.
async fn lead(
    broker: &Rc<Broker<GlommioEnv>>,
    node: &Node,
    stop: &StopSignal,
) -> Result<(), ServeError> {
    let controller = Controller::start(broker, node.rules(), &node.data_directory).await?;
    for (shard, opened) in broker.everywhere(|| Call::Open).await {
        opened.map_err(|error| ServeError::Open { shard, error })?;
    }
    node.announce(&controller.totals());
    stop.requested().await;
    let drained = broker.everywhere(|| Call::Drain);
    within(
        &broker.env,
        DRAIN_PATIENCE,
        "finishing what is under way",
        drained,
    )
    .await;
    broker.everywhere(|| Call::Finish).await;
    Ok(())
}

async fn within<E: Env, T>(env: &E, patience: Duration, what: &str, work: impl Future<Output = T>) {
    match select(pin!(work), pin!(env.sleep(patience))).await {
        Either::Left(_) => {}
        Either::Right(_) => tracing::warn!(?patience, "{what} took too long and was cut off"),
    }
}
