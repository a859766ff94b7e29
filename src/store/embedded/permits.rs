//! The ledger of permits of a store that one process has to itself: the rules as they are, in memory, because what it grants ends
//! with the process. A process alone needs no ledger, and `app` gives it none; it is here so that the rules stand the same tests as
//! the script that Redis runs.

use std::collections::HashMap;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::clock;
use crate::store::embedded::Embedded;
use crate::store::permits::ledger::{Ledger, Sight};
use crate::store::permits::{Answer, Ask, Error, Permits};

#[derive(Debug, Default)]
pub(super) struct Granted {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ledger: Ledger,
    listening: HashMap<String, mpsc::Sender<()>>,
}

impl Granted {
    fn exchange(&self, ask: &Ask) -> Answer {
        let mut state = self.state.lock();
        state.listening.retain(|_, told| !told.is_closed());
        let sight = Sight {
            now: clock::unix_millis(),
            run: "only".into(),
            listening: state.listening.keys().cloned().collect(),
        };
        let (answer, told) = state.ledger.exchange(ask, &sight);
        for process in told {
            if let Some(told) = state.listening.get(&process) {
                // Full is told already.
                told.try_send(()).ok();
            }
        }
        answer
    }

    fn listen(&self, process: &str) -> BoxStream<'static, ()> {
        let (sender, receiver) = mpsc::channel(1);
        self.state.lock().listening.insert(process.into(), sender);
        stream::unfold(receiver, async |mut receiver| {
            Some((receiver.recv().await?, receiver))
        })
        .boxed()
    }
}

impl Permits for Embedded {
    fn exchange<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<Answer, Error>> {
        async { Ok(self.granted.exchange(ask)) }.boxed()
    }

    fn listen<'a>(
        &'a self,
        process: &'a str,
    ) -> BoxFuture<'a, Result<BoxStream<'static, ()>, Error>> {
        async { Ok(self.granted.listen(process)) }.boxed()
    }
}
