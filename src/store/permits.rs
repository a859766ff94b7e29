//! Permits to run code, shared by all processes on one store. Who holds how many is written in a ledger; a process asks it for blocks,
//! spends them from memory, and gives back what others need more. `ledger` is the rules as a pure machine: the embedded store uses it
//! as it is, Redis runs the same rules as a script (`store::redis::leases`), and a test compares the two. Asked by
//! `scheduler::share` alone.
//!
//! **The promise**: the code that runs at the same time in all processes is never more than a limit allows. What it rests on:
//!
//! * *The ledger never gives out more than the limit*, and what it gave out is held until it was given back or has returned.
//! * *A process spends only while its lease lasts by its own clock*, counted from before it asked, a tenth early, on a clock that goes
//!   on while the process is stopped. Whoever was stopped for too long finds out by a look at the clock, at every call.
//! * *Permits of a process return* when its lease has run out by the ledger's clock and one of these is so:
//!   - It is dead: it had been listening on its channel, and does not any more. The kernel closes the connections of a process that is
//!     killed, and with it go its workers, whose sockets close as well. So they return within the lease.
//!   - Its *tail* has passed too: the longest timeout of its functions and the time to kill. A process that is stopped, or cut off by
//!     the network, keeps its connection and its workers go on with the calls they have; by then these have ended. (A stopped process
//!     enforces no timeout: code that overruns its own in that time is cut off when the process goes on. That is the one gap.)
//! * *A new start of the same instance* takes over at once what the last one held, because it creates no worker before it has removed
//!   the last one's.
//! * *Nobody's permits return right after the ledger itself was away* (it started again, stood still, or its clock jumped): first
//!   everybody has the time of a lease to be heard. And after a start nobody gets more before all have been heard, because a ledger
//!   that kept its last second in memory only may not know what it had granted. Whoever was granted something that it does not know
//!   of says so, and then nobody gets more for the time of a lease: it may have forgotten even who was there. So that this is noticed,
//!   everybody has to ask again when somebody new comes, and knows more from then on than a ledger that has not heard of it.
//! * *The account's limit is the sum of its parts*: what is reserved for each function, what is provisioned, and the rest for all others.
//!   A call needs a permit of one part, and of its function's own limit if it has one beside. The parts that all processes hold together
//!   are never more than the account's limit, also while one of them knows of a reservation that another does not.
//! * *Asks are numbered*, so that one that was given up as lost and arrives late changes nothing.
//!
//! **The guarantee**: what is reserved for a function is there, wherever it is called. Nobody else is ever granted a permit of that part; of the
//! processes each has what it needs, and what nobody uses is divided. So a call finds a permit here, or others have them idle: the ledger
//! says that they are *coming*, tells those others, and the call waits until they have given them back, or have said that they need them.
//! What a process holds that is not heard any more is nobody's until it returns: calls wait for it while its lease lasts, and are refused
//! after that.
//!
//! **When Redis is away.** A Redis that ended has closed our connection and cannot be reached: nobody is granted anything until it is
//! back and has heard us, so what is held stays valid for as long as that lasts, and warm calls go on. A Redis that is only silent may
//! well speak to others: then the lease runs out, and calls are refused (503, `permits_lost`) until it answers.

pub mod ledger;
#[cfg(test)]
pub mod suite;

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

/// What a process says and wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Its name, the same after a restart.
    pub process: String,
    /// This run of it.
    pub incarnation: String,
    /// One more with every ask since the first was answered; that is 1 and takes over from the last run.
    pub sequence: u64,
    /// The last one that was granted; 0 if none was.
    pub answered: u64,
    /// Zero gives everything back: the process ends.
    pub lease: Duration,
    /// For how long code may still run after the last permit was spent.
    pub tail: Duration,
    /// Its lease lasts as far as it knows, so what it says it holds it really may be spending.
    pub holds: bool,
    /// All its scopes are named: others are given up.
    pub whole: bool,
    /// The account's limit over all processes: what is held of the scopes that are its parts is never more.
    pub account: u32,
    pub claims: Vec<Claim>,
}

/// A process's part of one limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub scope: String,
    /// The limit over all processes.
    pub limit: u32,
    /// It is a part of the account's limit.
    pub counted: bool,
    pub held: u32,
    /// Permits in use, and calls that wait for one.
    pub need: u32,
    /// The most it needed lately: what nobody needs now is better here than elsewhere.
    pub lately: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    pub held: u32,
    /// What is held above this goes back as soon as it is idle.
    pub keep: u32,
    /// Of what it lacks, so many may be on their way: idle elsewhere and this process's, or held by those who have not said for a moment
    /// whether they still need them.
    pub coming: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// In the order of the claims. The lease begins anew.
    Granted(Vec<Grant>),
    /// The ledger does not know the process (any more), and nothing was granted: it has to say everything.
    Unknown,
    /// Another process has taken over under this one's name.
    Superseded,
    /// A later ask came first. Nobody waits for this answer any more.
    Late,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nobody at its address, or it is just starting.
    #[error("the ledger of permits is away")]
    Away(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer, or one that says nothing about whether others are served.
    #[error("the ledger of permits does not answer")]
    Silent(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A ledger of permits.
pub trait Permits: Send + Sync + fmt::Debug {
    fn exchange<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<Answer, Error>>;
    /// Says whenever the process should ask again, because others need what it has or have given back what it needs. Ends when the
    /// ledger closes the connection. Listening is also what shows that the process lives.
    fn listen<'a>(
        &'a self,
        process: &'a str,
    ) -> BoxFuture<'a, Result<BoxStream<'static, ()>, Error>>;
}
