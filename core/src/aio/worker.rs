//! The asynchronous worker.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::error::{Error, Result};
use crate::options::WorkerOptions;
use crate::worker::{Cancellations, Request};

use super::command::Command;
use super::desk::{Desk, Place, WorkerEvent};
use super::inbox::Inbox;
use super::runtime::Runtime;
use super::serve;
use super::watch::Watch;

/// An asynchronous worker of one service.
///
/// It works on up to `concurrency` requests at once: over MDPX by one connection to the broker, over MDP/0.1 and 0.2 each by
/// one of its own. Heartbeats go out from the I/O thread, whatever the handlers do. Clones are the same worker; any thread may call any method and answer
/// any request. Answering never waits: where the broker takes parts more slowly than a handler gives them, `partial` fails
/// with `QueueFull` once `max_message_bytes` of them wait. When the last clone and all its futures are gone, the worker says DISCONNECT and closes.
///
/// ```no_run
/// # async fn work() -> majordomo::Result<()> {
/// let worker = majordomo::aio::Worker::connect("tcp://127.0.0.1:5555", "echo")?;
/// loop {
///     let request = worker.recv().await?;
///     request.reply(request.body().clone())?;
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct Worker {
    core: Arc<Core>,
}

struct Core {
    runtime: Runtime,
    id: u64,
    options: Arc<WorkerOptions>,
    desk: Arc<Desk>,
    has_inbox: bool,
}

impl Worker {
    /// A worker of `service` at the broker at `endpoints`, several separated by commas.
    ///
    /// # Errors
    /// `InvalidArgument`; `Internal` where the operating system gives no thread, `BrokerUnreachable` where it gives no
    /// descriptors.
    pub fn connect(endpoints: &str, service: &str) -> Result<Worker> {
        Worker::with_options(WorkerOptions::new(endpoints, service))
    }

    /// A worker with these options. It registers at once; requests wait to be received.
    ///
    /// # Errors
    /// As [`Worker::connect`].
    pub fn with_options(options: WorkerOptions) -> Result<Worker> {
        Worker::open(options, None)
    }

    /// A worker for a foreign event loop: requests, and its end, go to `inbox` under `token`, as long as the caller keeps it.
    ///
    /// # Errors
    /// As [`Worker::connect`].
    pub fn with_inbox(options: WorkerOptions, inbox: &Arc<Inbox<WorkerEvent>>, token: u64) -> Result<Worker> {
        Worker::open(options, Some((inbox.clone(), token)))
    }

    fn open(options: WorkerOptions, inbox: Option<(Arc<Inbox<WorkerEvent>>, u64)>) -> Result<Worker> {
        options.validate()?;
        let runtime = Runtime::shared()?;
        let queue = runtime.queue().clone();
        let id = queue.next_id();
        let options = Arc::new(options);
        let has_inbox = inbox.is_some();
        let desk = Desk::new(id, queue.clone(), options.clone(), inbox);
        queue.push(Command::OpenWorker { worker: id, options: options.clone(), desk: desk.clone() });
        Ok(Worker { core: Arc::new(Core { runtime, id, options, desk, has_inbox }) })
    }

    /// Lets an event loop read the worker's messages on its own thread where that is sooner.
    pub fn watched_by(&self, watch: &Arc<Watch>) {
        let queue = self.core.runtime.queue();
        watch.begin(queue);
        queue.push(Command::Watch { handle: self.core.id, watch: watch.clone() });
    }

    /// The next request. Of several tasks that wait, one gets it.
    ///
    /// # Errors
    /// `Closed` after the worker was closed or drained, or the reason why it had to end; `InvalidArgument` where the
    /// requests go to an inbox.
    ///
    /// # Cancel safety
    /// Dropping the future loses no request.
    pub fn recv(&self) -> Recv {
        Recv { core: self.core.clone(), place: Place::default() }
    }

    /// The requests as a stream, which ends with the worker.
    pub fn requests(&self) -> Requests {
        Requests { recv: self.recv() }
    }

    /// Gives every request to `handler`, up to `concurrency` at once, until the worker ends; then waits for the handlers
    /// that still run. A handler that panics, or drops its request, answers it with a failure. The handler of a request that
    /// is cancelled is dropped.
    ///
    /// # Errors
    /// The reason why the worker had to end, unless it was closed or drained.
    ///
    /// # Cancel safety
    /// Dropping the future drops the running handlers, whose requests are then answered with a failure. The worker stays
    /// open.
    pub async fn serve<H, F>(&self, handler: H) -> Result<()>
    where
        H: Fn(Request) -> F,
        F: Future<Output = ()>,
    {
        serve::serve(self.recv(), handler).await
    }

    /// Takes no new requests; ends when those in hand are answered, or `drain_timeout` is over. The drain goes on whether
    /// the future is polled or not.
    ///
    /// # Errors
    /// Of the future: the reason why the worker had to end before.
    pub fn drain(&self) -> Drain {
        self.core.runtime.queue().push(Command::DrainWorker { worker: self.core.id });
        Drain { core: self.core.clone(), place: Place::default() }
    }

    /// Says DISCONNECT and closes, for all clones. The broker gives requests in hand to other workers.
    pub fn close(&self) {
        self.core.runtime.queue().push(Command::CloseWorker { worker: self.core.id });
    }

    /// The worker's options.
    pub fn options(&self) -> &WorkerOptions {
        &self.core.options
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.runtime.queue().push(Command::CloseWorker { worker: self.id });
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("service", &self.core.options.service).finish_non_exhaustive()
    }
}

/// The next request of a worker, to be awaited.
#[must_use = "futures do nothing unless polled"]
pub struct Recv {
    core: Arc<Core>,
    place: Place,
}

impl Recv {
    pub(super) fn cancellations(&self) -> &Cancellations {
        self.core.desk.cancellations()
    }
}

impl Future for Recv {
    type Output = Result<Request>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Recv { core, place } = self.get_mut();
        if core.has_inbox {
            return Poll::Ready(Err(Error::invalid("the requests of this worker go to its inbox")));
        }
        core.desk.poll_request(context, place)
    }
}

impl Drop for Recv {
    fn drop(&mut self) {
        self.core.desk.leave(&mut self.place);
    }
}

/// The requests of a worker.
#[must_use = "streams do nothing unless polled"]
pub struct Requests {
    recv: Recv,
}

impl Stream for Requests {
    type Item = Request;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Request>> {
        Pin::new(&mut self.get_mut().recv).poll(context).map(Result::ok)
    }
}

/// The end of a worker that drains.
#[must_use = "the drain goes on by itself; await this to know when it is over"]
pub struct Drain {
    core: Arc<Core>,
    place: Place,
}

impl Future for Drain {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Drain { core, place } = self.get_mut();
        core.desk.poll_end(context, place)
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.core.desk.leave(&mut self.place);
    }
}

impl fmt::Debug for Recv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recv").finish_non_exhaustive()
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").finish_non_exhaustive()
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain").finish_non_exhaustive()
    }
}
