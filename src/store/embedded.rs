//! The store in the state directory, for one node: definitions and keys in `hearth.redb`, code packages as files beside it.
//!
//! One thread owns the database. Requests reach it over a bounded queue; all writes that queued up while a commit ran
//! are committed together, so that one fsync is shared by everybody who waits, and are answered after it. Because the same
//! thread also moves packages into place and removes them, no order of requests can lose a package somebody was told is kept.
//!
//! ```text
//! caller ──▶ queue ──▶ writer thread: apply each ─▶ commit (fsync) ─▶ remove unused packages ─▶ answer each
//! ```
//!
//! After a failed write (the disk is full, say) the database is opened again for the next request: redb refuses to go on
//! with a handle that has seen an error.

mod answers;
mod dead_letters;
mod events;
mod layers;
mod lock;
mod mappings;
mod packages;
mod permits;
mod signing;
mod tables;
mod versions;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use redb::{Database, WriteTransaction};
use tokio::sync::{mpsc, oneshot};

use crate::clock;
use crate::domain::function::Function;
use crate::domain::id::FunctionId;
use crate::domain::key::KeyRecord;
use crate::domain::layer;
use crate::domain::signing::{Config, Id as SigningId};
use crate::domain::version::Edit;
use crate::store::change::{Changes, Teller};
use crate::store::embedded::packages::{Packages, Staged};
use crate::store::embedded::permits::Granted;
use crate::store::embedded::tables::Tables;
use crate::store::{Content, Error, Store, record};
use crate::task;
use crate::telemetry::metrics;

/// Requests that may wait for the writer. More are refused: by then a disk is stuck, and waiting longer helps nobody.
const QUEUE_MAX: usize = 1024;
/// Writes one commit takes along.
const BATCH_MAX: usize = 256;
/// The database is small; the default cache of a gigabyte would be a promise to grow.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

const DATABASE: &str = "hearth.redb";
const LOCK: &str = "hearth.lock";

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("cannot {action} {path}")]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is in use by another process{by}")]
    InUse { path: PathBuf, by: String },
    #[error("{path} cannot be used as a store")]
    Open {
        path: PathBuf,
        #[source]
        source: redb::Error,
    },
    #[error(
        "{path} was written by a newer version (format {found}, this version knows up to {known})"
    )]
    Newer {
        path: PathBuf,
        found: u64,
        known: u64,
    },
    #[error(
        "{path} is missing or empty, while there is code that it had: put it back, or remove packages/ beside it to begin with nothing"
    )]
    Lost { path: PathBuf },
    #[error("the database failed")]
    Database(#[source] redb::Error),
    #[error(transparent)]
    Record(#[from] record::Fault),
    #[error("the code package {0} is damaged: its content does not have this hash")]
    Damaged(String),
    #[error("{0:?} is not a SHA-256 in lower-case hex")]
    NoHash(String),
    #[error("{QUEUE_MAX} requests are waiting for it already")]
    QueueFull,
    #[error("its writer stopped")]
    Stopped,
}

impl Fault {
    fn is_full_disk(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        let source = match self {
            Fault::File { source, .. }
            | Fault::Database(redb::Error::Io(source))
            | Fault::Open {
                source: redb::Error::Io(source),
                ..
            } => source,
            _ => return false,
        };
        matches!(source.kind(), StorageFull | QuotaExceeded)
    }

    fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Fault::File {
            action,
            path,
            source,
        }
    }
}

fn unavailable(operation: &'static str) -> impl Fn(Fault) -> Error {
    move |fault| told(operation, &Arc::new(fault))
}

/// A fault as one of those who wait for it is told.
fn told(operation: &'static str, fault: &Arc<Fault>) -> Error {
    let source = Box::new(fault.clone());
    if fault.is_full_disk() {
        Error::DiskFull { operation, source }
    } else {
        Error::Unavailable { operation, source }
    }
}

/// A write, in the order of the queue.
#[derive(Debug)]
enum Change {
    Put {
        function: Box<Function>,
        from: Option<u64>,
    },
    Delete(FunctionId),
    Edit(Box<Edit>),
    EditLayer(Box<layer::Edit>),
    PutSigning {
        config: Box<Config>,
        from: Option<u64>,
    },
    DeleteSigning(SigningId),
    PutCode(Staged),
    PutKey(KeyRecord),
    DeleteKey(String),
    Work(Work),
}

type ToDo = Box<dyn FnOnce(&WriteTransaction) -> Result<(), Fault> + Send>;

/// What another part of the store has to do within the transaction.
struct Work {
    operation: &'static str,
    todo: ToDo,
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Work").field(&self.operation).finish()
    }
}

impl Change {
    fn operation(&self) -> &'static str {
        match self {
            Change::Put { .. } => "write the function",
            Change::Delete(_) => "delete the function",
            Change::Edit(_) => "write versions and aliases",
            Change::EditLayer(_) => "write the layer",
            Change::PutSigning { .. } => "write the code signing configuration",
            Change::DeleteSigning(_) => "delete the code signing configuration",
            Change::PutCode(_) => KEEP_CODE,
            Change::PutKey(_) => "write the key",
            Change::DeleteKey(_) => "delete the key",
            Change::Work(work) => work.operation,
        }
    }
}

const KEEP_CODE: &str = "keep the code package";
const READ_CODE: &str = "read the code package";
const LIST_FUNCTIONS: &str = "list the functions";
const READ_FUNCTION: &str = "read the function";
const LIST_KEYS: &str = "list the keys";

type Answer<T> = oneshot::Sender<Result<T, Error>>;

#[derive(Debug)]
enum Request {
    /// Answered with whether anything was there to change.
    Write(Change, Answer<bool>),
    Functions(Answer<Vec<Function>>),
    Function(FunctionId, Answer<Option<Function>>),
    Keys(Answer<Vec<KeyRecord>>),
    Look(Look, Answer<()>),
    /// Stands for a bug in here.
    #[cfg(test)]
    Panic(Answer<()>),
}

type Looking = Box<dyn FnOnce(&Database) -> Result<(), Fault> + Send>;

/// What another part of the store wants to know.
struct Look {
    operation: &'static str,
    look: Looking,
}

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Look").field(&self.operation).finish()
    }
}

/// The handle. Dropping the last one waits for the writer to finish what it has begun, and closes the file.
#[derive(Debug)]
pub struct Embedded {
    /// `None` only while it is dropped.
    queue: Option<mpsc::Sender<Request>>,
    packages: Arc<Packages>,
    /// `None` only while it is dropped.
    writer: Option<JoinHandle<()>>,
    /// Held also while the database is closed after a fault, and given up when the writer has ended.
    lock: File,
    /// Never sent to: the lock on the file keeps everybody else away.
    changes: Teller,
    granted: Granted,
}

impl Embedded {
    /// Opens the store in `dir`, or makes it. Refuses a store another process has open, one that is damaged and one that a
    /// newer version wrote. Blocks: reads the whole database.
    pub fn open(dir: &Path) -> Result<Arc<Self>, Error> {
        Self::try_open(dir).map_err(unavailable("open"))
    }

    /// Takes the state directory of a process whose store is elsewhere, for as long as what comes back is kept.
    pub fn hold(dir: &Path) -> Result<File, Error> {
        lock::lock(&dir.join(LOCK)).map_err(unavailable("hold"))
    }

    /// The same of this store: others are kept out for as long as it is there or what comes back is kept.
    pub fn held(&self) -> std::io::Result<File> {
        self.lock.try_clone()
    }

    fn try_open(dir: &Path) -> Result<Arc<Self>, Fault> {
        std::fs::create_dir_all(dir).map_err(Fault::file("create", dir))?;
        let lock = lock::lock(&dir.join(LOCK))?;
        let (path, packages) = (dir.join(DATABASE), Packages::open(&dir.join("packages"))?);
        // Its emptiness is nobody's wish, and would cost the code as well.
        let size = match std::fs::metadata(&path) {
            Ok(file) => file.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(Fault::file("look at", &path)(error)),
        };
        if size == 0 && packages.are_some()? {
            return Err(Fault::Lost { path });
        }
        let database = open_database(&path)?;
        let packages = Arc::new(packages);
        events::open(&database).map_err(Fault::Database)?;
        answers::open(&database).map_err(Fault::Database)?;
        tables::open_versions(&database).map_err(Fault::Database)?;
        tables::open_layers(&database).map_err(Fault::Database)?;
        tables::open_signing(&database).map_err(Fault::Database)?;
        mappings::open(&database).map_err(Fault::Database)?;
        let kept = tables::kept_code(&database).map_err(Fault::Database)?;
        packages.collect(|sha256| kept.contains(sha256))?;
        sync_dir(dir)?;

        let (queue, requests) = mpsc::channel(QUEUE_MAX);
        let writer = Writer {
            path: dir.join(DATABASE),
            database: Some(database),
            packages: packages.clone(),
        };
        let thread = task::thread("store", move || writer.run(requests))
            .map_err(Fault::file("start a thread for", dir))?;
        Ok(Arc::new(Self {
            queue: Some(queue),
            packages,
            writer: Some(thread),
            lock,
            changes: Teller::default(),
            granted: Granted::default(),
        }))
    }

    async fn ask<T>(
        &self,
        operation: &'static str,
        request: impl FnOnce(Answer<T>) -> Request,
    ) -> Result<T, Error> {
        let begun = clock::now();
        let (answer, answered) = oneshot::channel();
        let queue = self.queue.as_ref().expect("is there until it is dropped");
        queue.try_send(request(answer)).map_err(|e| {
            unavailable(operation)(match e {
                mpsc::error::TrySendError::Full(_) => Fault::QueueFull,
                mpsc::error::TrySendError::Closed(_) => Fault::Stopped,
            })
        })?;
        // No answer means the writer panicked over it; it says so in the log and goes on with the next.
        let answered = answered.await;
        let answer = answered.unwrap_or_else(|_gone| Err(unavailable(operation)(Fault::Stopped)));
        let broken = matches!(
            answer,
            Err(Error::Unavailable { .. } | Error::DiskFull { .. })
        );
        let took = clock::now().saturating_duration_since(begun);
        metrics::store_call("embedded", took, !broken);
        answer
    }

    /// Does something within the next transaction, and has its result once that is kept.
    async fn apply<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&WriteTransaction) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Error> {
        let result = Arc::new(Mutex::new(None));
        let filled = result.clone();
        let todo: ToDo = Box::new(move |transaction| {
            let done = work(transaction)?;
            *filled.lock() = Some(done);
            Ok(())
        });
        self.write(Change::Work(Work { operation, todo })).await?;
        let result = result.lock().take();
        Ok(result.expect("work that is done has a result"))
    }

    /// Looks at something.
    async fn look<T: Send + 'static>(
        &self,
        operation: &'static str,
        look: impl FnOnce(&Database) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Error> {
        let result = Arc::new(Mutex::new(None));
        let filled = result.clone();
        let look = Look {
            operation,
            look: Box::new(move |database| {
                let found = look(database)?;
                *filled.lock() = Some(found);
                Ok(())
            }),
        };
        self.ask(operation, |answer| Request::Look(look, answer))
            .await?;
        let result = result.lock().take();
        Ok(result.expect("what was looked at has a result"))
    }

    async fn write(&self, change: Change) -> Result<bool, Error> {
        let operation = change.operation();
        self.ask(operation, |answer| Request::Write(change, answer))
            .await
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // The writer ends when the queue is closed and empty. Waiting for it means that whoever dropped the store can open
        // it again; at most one commit is under way.
        self.queue = None;
        let ended = self.writer.take().map(JoinHandle::join);
        if let Some(Err(_panic)) = ended {
            tracing::error!("the store's writer ended with a panic");
        }
    }
}

impl Store for Embedded {
    fn functions(&self) -> BoxFuture<'_, Result<Vec<Function>, Error>> {
        self.ask(LIST_FUNCTIONS, Request::Functions).boxed()
    }

    fn function<'a>(
        &'a self,
        id: &'a FunctionId,
    ) -> BoxFuture<'a, Result<Option<Function>, Error>> {
        let request = |answer| Request::Function(id.clone(), answer);
        self.ask(READ_FUNCTION, request).boxed()
    }

    fn put(&self, function: Function, from: Option<u64>) -> BoxFuture<'_, Result<(), Error>> {
        let function = Box::new(function);
        async move { self.write(Change::Put { function, from }).await.map(drop) }.boxed()
    }

    fn delete<'a>(&'a self, id: &'a FunctionId) -> BoxFuture<'a, Result<bool, Error>> {
        self.write(Change::Delete(id.clone())).boxed()
    }

    fn put_code<'a>(&'a self, sha256: &'a str, zip: Bytes) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            let (packages, sha256) = (self.packages.clone(), sha256.to_owned());
            // The slow part, writing the bytes, is not done by the writer: nobody else's commit waits for it.
            let staged = task::blocking("stage code", move || packages.stage(&sha256, &zip)).await;
            let staged = staged.map_err(unavailable(KEEP_CODE))?;
            self.write(Change::PutCode(staged)).await.map(drop)
        }
        .boxed()
    }

    fn code<'a>(&'a self, sha256: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, Error>> {
        async move {
            let (packages, sha256) = (self.packages.clone(), sha256.to_owned());
            let read = task::blocking("read code", move || packages.read(&sha256)).await;
            read.map_err(unavailable(READ_CODE))
        }
        .boxed()
    }

    fn code_size<'a>(&'a self, sha256: &'a str) -> BoxFuture<'a, Result<Option<u64>, Error>> {
        async move { self.packages.size(sha256).map_err(unavailable(READ_CODE)) }.boxed()
    }

    fn keys(&self) -> BoxFuture<'_, Result<Vec<KeyRecord>, Error>> {
        self.ask(LIST_KEYS, Request::Keys).boxed()
    }

    fn put_key(&self, key: KeyRecord) -> BoxFuture<'_, Result<(), Error>> {
        async move { self.write(Change::PutKey(key)).await.map(drop) }.boxed()
    }

    fn delete_key<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        self.write(Change::DeleteKey(id.into())).boxed()
    }

    fn changes(&self) -> Changes {
        self.changes.changes()
    }
}

/// What the thread owns.
#[derive(Debug)]
struct Writer {
    path: PathBuf,
    /// `None` after a fault: opened again for the next request.
    database: Option<Database>,
    packages: Arc<Packages>,
}

impl Writer {
    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut batch = Vec::new();
        while requests.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
            let batch = std::mem::take(&mut batch);
            // A panic costs the requests of one batch, not the store.
            let served = std::panic::catch_unwind(AssertUnwindSafe(|| self.serve(batch)));
            if served.is_err() {
                tracing::error!("the store's writer panicked; the database is opened again");
                self.database = None;
            }
        }
    }

    fn serve(&mut self, batch: Vec<Request>) {
        let (mut changes, mut answers, mut reads) = (Vec::new(), Vec::new(), Vec::new());
        for request in batch {
            match request {
                Request::Write(change, answer) => {
                    answers.push((change.operation(), answer));
                    changes.push(change);
                }
                read => reads.push(read),
            }
        }
        if !changes.is_empty() {
            match self.with_database(|database, packages| commit(database, packages, changes)) {
                Ok(results) => {
                    for ((_, answer), result) in answers.into_iter().zip(results) {
                        tell(answer, result);
                    }
                }
                Err(fault) => {
                    let fault = Arc::new(fault);
                    for (operation, answer) in answers {
                        tell(answer, Err(told(operation, &fault)));
                    }
                }
            }
        }
        for read in reads {
            match read {
                Request::Functions(answer) => {
                    let found = self.with_database(|database, _| tables::functions(database));
                    tell(answer, found.map_err(unavailable(LIST_FUNCTIONS)));
                }
                Request::Function(id, answer) => {
                    let found = self.with_database(|database, _| tables::function(database, &id));
                    tell(answer, found.map_err(unavailable(READ_FUNCTION)));
                }
                Request::Keys(answer) => {
                    let found = self.with_database(|database, _| tables::keys(database));
                    tell(answer, found.map_err(unavailable(LIST_KEYS)));
                }
                Request::Look(Look { operation, look }, answer) => {
                    let found = self.with_database(|database, _| look(database));
                    tell(answer, found.map_err(unavailable(operation)));
                }
                Request::Write(..) => unreachable!("writes were sorted out above"),
                #[cfg(test)]
                Request::Panic(answer) => unreachable!("as the test wants it: {answer:?}"),
            }
        }
    }

    fn with_database<T>(
        &mut self,
        work: impl FnOnce(&Database, &Packages) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let database = match self.database.take() {
            Some(open) => open,
            None => open_database(&self.path)?,
        };
        let done = work(&database, &self.packages);
        // After a fault the handle is dropped, which closes the file.
        if done.is_ok() {
            self.database = Some(database);
        }
        done
    }
}

/// Whoever asked may have gone; what was written stays written.
fn tell<T>(answer: Answer<T>, result: Result<T, Error>) {
    drop(answer.send(result));
}

/// Applies the changes in order as one transaction. A change that is refused leaves no trace and the others go on.
fn commit(
    database: &Database,
    packages: &Packages,
    changes: Vec<Change>,
) -> Result<Vec<Result<bool, Error>>, Fault> {
    let transaction = database.begin_write().map_err(database_fault)?;
    let mut tables = Tables::open(&transaction)?;
    let mut results = Vec::with_capacity(changes.len());
    let mut moved = false;
    for change in changes {
        let operation = change.operation();
        results.push(match change {
            Change::Put { function, from } => tables
                .put(&function, from, |sha256| packages.has(sha256))?
                .map(|()| true),
            Change::Delete(id) => Ok(tables.delete(&id)?),
            Change::Edit(edit) => tables.edit(&edit)?.map(|()| true),
            Change::EditLayer(edit) => tables
                .edit_layer(&edit, |sha256| packages.has(sha256))?
                .map(|()| true),
            Change::PutSigning { config, from } => {
                tables.put_signing(&config, from)?.map(|()| true)
            }
            Change::DeleteSigning(id) => tables.delete_signing(&id)?,
            Change::PutKey(key) => tables.put_key(&key).map(|()| Ok(true))?,
            Change::DeleteKey(id) => Ok(tables.delete_key(&id)?),
            Change::Work(Work { todo, .. }) => todo(&transaction).map(|()| Ok(true))?,
            Change::PutCode(staged) => {
                let sha256 = staged.sha256().to_owned();
                match staged.keep() {
                    Ok(()) => {
                        moved = true;
                        tables.uploaded(&sha256)?;
                        Ok(true)
                    }
                    Err(fault) => Err(unavailable(operation)(fault)),
                }
            }
        });
    }
    let unused = tables.unused_code()?;
    drop(tables);
    if moved {
        // Before the commit: a function that is there must have its code there.
        packages.sync()?;
    }
    transaction.commit().map_err(database_fault)?;
    // After the commit: if it had failed, the code would still be needed. A crash in between leaves a file nobody
    // needs, which the next opening removes.
    for sha256 in unused {
        packages.remove(&sha256);
    }
    Ok(results)
}

/// Milliseconds of it, as times are kept.
fn whole(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Makes the names in a directory outlive a crash of the machine.
fn sync_dir(dir: &Path) -> Result<(), Fault> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(Fault::file("sync", dir))
}

fn database_fault(e: impl Into<redb::Error>) -> Fault {
    Fault::Database(e.into())
}

/// What the database in `dir` has, read without changing anything. None is there before the first start.
pub fn look(dir: &Path) -> Result<Content, Error> {
    let read = || {
        let path = dir.join(DATABASE);
        if !path.exists() {
            return Ok(Content::default());
        }
        let database = redb::ReadOnlyDatabase::open(path).map_err(database_fault)?;
        let mut content = Content {
            functions: tables::functions(&database)?,
            keys: tables::keys(&database)?,
            ..Content::default()
        };
        for function in &content.functions {
            match tables::published(&database, &function.id) {
                Ok(published) => {
                    let versions = published.into_iter().flat_map(|all| all.versions);
                    content
                        .versions
                        .extend(versions.map(|(_, version)| version));
                }
                // A version of this program wrote it that knew of none.
                Err(Fault::Database(redb::Error::TableDoesNotExist(_))) => break,
                Err(fault) => return Err(fault),
            }
        }
        Ok(content)
    };
    read().map_err(unavailable("look"))
}

fn open_database(path: &Path) -> Result<Database, Fault> {
    // Environments are in it, so it is for its owner only.
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(Fault::file("open", path))?;
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    // Without it, redb may panic over a file that something else has changed.
    builder.set_check_integrity_on_open(true);
    let refused = |source: redb::Error| match source {
        redb::Error::DatabaseAlreadyOpen => Fault::InUse {
            path: path.into(),
            by: String::new(),
        },
        source => Fault::Open {
            path: path.into(),
            source,
        },
    };
    let database = builder.create(path).map_err(|e| refused(e.into()))?;
    match tables::format(&database).map_err(refused)? {
        found if found > tables::FORMAT => Err(Fault::Newer {
            path: path.into(),
            found,
            known: tables::FORMAT,
        }),
        _ => Ok(database),
    }
}

#[cfg(test)]
mod tests;
