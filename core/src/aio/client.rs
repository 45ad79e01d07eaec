//! The asynchronous client.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use futures_core::Stream;

use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::options::{ClientOptions, RequestOptions};
use crate::proto::client::check_body;
use crate::proto::mdpx::Gathered;
use crate::proto::session::{Asked, Terms};

use super::command::{Call, Command};
use super::inbox::Inbox;
use super::outcome::{Buffer, Caller, ClientEvent, Load, Reply, To};
use super::runtime::{Queue, Runtime};
use super::unread::InboxStream;
use super::watch::Watch;

/// An asynchronous client of one or several brokers.
///
/// Clones share its connections; any thread may call any method, under any runtime or none. `max_in_flight` requests are
/// with the broker at once: over MDPX on one connection, within the broker's credit; with MDP/0.1 and 0.2 each has a
/// connection of its own until it is answered, 64 at most. `max_waiting` further requests wait for their turn, and one more
/// fails with `QueueFull` at once. When the last clone and the last future are gone, the client closes.
///
/// ```no_run
/// # async fn ask() -> majordomo::Result<()> {
/// let client = majordomo::aio::Client::connect("tcp://127.0.0.1:5555")?;
/// let (one, two) = (client.request("echo", "1"), client.request("echo", "2"));
/// println!("{:?} {:?}", one.await?, two.await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    core: Arc<Core>,
}

struct Core {
    runtime: Runtime,
    id: u64,
    options: Arc<ClientOptions>,
    load: Arc<Load>,
    closed: AtomicBool,
    /// The number of the last request.
    last_request: AtomicU64,
    /// Those of the last request.
    terms: Mutex<Option<Arc<Terms>>>,
}

impl Client {
    /// A client of the broker at `endpoints`, several separated by commas. Connections are made when they are needed.
    ///
    /// # Errors
    /// `InvalidArgument`; `Internal` where the operating system gives no thread, `BrokerUnreachable` where it gives no
    /// descriptors.
    pub fn connect(endpoints: &str) -> Result<Client> {
        Client::with_options(ClientOptions::new(endpoints))
    }

    /// A client with these options.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn with_options(options: ClientOptions) -> Result<Client> {
        options.validate()?;
        let runtime = Runtime::shared()?;
        let id = runtime.queue().next_id();
        let options = Arc::new(options);
        let load = Load::new(options.max_in_flight.saturating_add(options.max_waiting));
        runtime.queue().push(Command::OpenClient { client: id, options: options.clone(), load: load.clone() });
        let core = Core {
            runtime,
            id,
            load,
            options,
            closed: AtomicBool::new(false),
            last_request: AtomicU64::new(0),
            terms: Mutex::default(),
        };
        Ok(Client { core: Arc::new(core) })
    }

    /// Lets an event loop read the client's messages on its own thread where that is sooner.
    pub fn watched_by(&self, watch: &Arc<Watch>) {
        watch.begin(self.core.queue());
        self.core.queue().push(Command::Watch { handle: self.core.id, watch: watch.clone() });
    }

    /// Asks `service`. The request goes out at once, whether the future is polled or not.
    ///
    /// # Errors
    /// Of the future: any kind but `Busy`.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the request: its answer is never seen. Over MDPX the broker and the worker are told;
    /// otherwise the worker may work on it all the same.
    pub fn request(&self, service: &str, body: impl Into<Message>) -> Response {
        self.request_with(service, body.into(), &RequestOptions::default())
    }

    /// As [`Client::request`], with limits of its own.
    pub fn request_with(&self, service: &str, body: Message, options: &RequestOptions) -> Response {
        let reply = Arc::new(Reply::default());
        let begun = self.core.begin(service, body, options, To::Future(reply.clone()));
        Response { waiting: Waiting::new(&self.core, begun, reply) }
    }

    /// Asks `service` for a reply in parts (MDPX or MDP/0.2): a stream of the parts, the final one last.
    ///
    /// # Errors
    /// Of the stream's items: any kind but `Busy`; an error is the last item.
    ///
    /// # Cancel safety
    /// Dropping the stream cancels the request. Dropping a future of [`Parts::next_part`] loses nothing.
    pub fn stream(&self, service: &str, body: impl Into<Message>) -> Parts {
        self.stream_with(service, body.into(), &RequestOptions::default())
    }

    /// As [`Client::stream`], with limits of its own. A stream that is not read holds up no other request: over MDPX it
    /// fails with `QueueFull` when more than `max_message_bytes` wait in it, with MDP/0.2 its connection is not read.
    pub fn stream_with(&self, service: &str, body: Message, options: &RequestOptions) -> Parts {
        let buffer = Buffer::new(self.core.options.max_message_bytes);
        let begun = self.core.begin(service, body, options, To::Stream(buffer.clone()));
        Parts { waiting: Waiting::new(&self.core, begun, buffer), is_final: false }
    }

    /// Asks `service` on behalf of a foreign event loop: every part of the outcome goes to `inbox` under `token`, and
    /// exactly one [`Part::Done`](super::Part::Done), whatever happens. Never waits and never calls back on this thread.
    /// Of parts that are not taken out of their events no more wait than of a [stream](Client::stream_with), and what happens
    /// then is the same.
    ///
    /// The result is the request's number, for [`Client::cancel`]. A client and its clones number what is submitted from 1 on,
    /// in order, what is refused included.
    pub fn submit(
        &self,
        service: &str,
        body: Message,
        options: &RequestOptions,
        inbox: &Arc<Inbox<ClientEvent>>,
        token: u64,
    ) -> u64 {
        let (queue, max) = (self.core.queue().clone(), self.core.options.max_message_bytes);
        let stream = InboxStream::new(inbox.clone(), token, queue, self.core.id, max);
        self.submit_to(To::InboxStream(Box::new(stream)), service, body, options)
    }

    /// As [`Client::submit`], for a reply in one piece: the parts of a streamed one are joined.
    pub fn submit_whole(
        &self,
        service: &str,
        body: Message,
        options: &RequestOptions,
        inbox: &Arc<Inbox<ClientEvent>>,
        token: u64,
    ) -> u64 {
        self.submit_to(To::Inbox(inbox.clone(), token), service, body, options)
    }

    /// Gives up the request of this number: it ends with `Cancelled`, unless it has ended already. Nothing happens where there
    /// is none.
    pub fn cancel(&self, number: u64) {
        self.core.queue().push(Command::Cancel { client: self.core.id, id: number });
    }

    /// The client's options.
    pub fn options(&self) -> &ClientOptions {
        &self.core.options
    }

    /// Closes the connections of all clones; every unanswered request fails with `Closed`, and so does every later one.
    pub fn close(&self) {
        if self.core.queue().origin().is_here() && !self.core.closed.swap(true, Ordering::AcqRel) {
            self.core.queue().push(Command::CloseClient { client: self.core.id });
        }
    }

    fn submit_to(&self, to: To, service: &str, body: Message, options: &RequestOptions) -> u64 {
        let queue = self.core.queue();
        self.core.begin(service, body, options, to).unwrap_or_else(|(to, error)| {
            let caller = Caller::new(to);
            if queue.origin().is_here() {
                queue.push(Command::Refuse { caller, error });
            } else {
                // There is no I/O thread for this client in a child of fork().
                caller.refuse_here(error);
            }
            self.core.next_number()
        })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoints", &self.core.options.endpoints).finish_non_exhaustive()
    }
}

impl Core {
    fn queue(&self) -> &Arc<Queue> {
        self.runtime.queue()
    }

    /// Hands a request to the I/O thread; its number there. A refusal gives back who asked.
    fn begin(
        &self,
        service: &str,
        body: Message,
        options: &RequestOptions,
        to: To,
    ) -> std::result::Result<u64, (To, Error)> {
        let terms = match self.admit(service, &body, options) {
            Ok(terms) => terms,
            Err(error) => return Err((to, error)),
        };
        let caller = Caller::new(to);
        // Large ones are not gathered, so they need not wait for others.
        let goes_alone = self.load.is_single() || !Gathered::fits(&body);
        let asked = Asked { terms, body, mode: caller.mode(), submitted: Instant::now() };
        let call = Call { asked, caller };
        let mut number = 0;
        let command = || {
            number = self.next_number();
            Command::Call { client: self.id, id: number, call }
        };
        match goes_alone {
            true => self.queue().push_alone(command),
            false => self.queue().push_in_order(command),
        }
        Ok(number)
    }

    fn next_number(&self) -> u64 {
        self.last_request.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The terms of a request, shared with the last one where they are the same: most clients ask few services in few ways,
    /// and memory of its own for each request would be taken on one thread and freed on another.
    fn terms(&self, service: &str, options: &RequestOptions) -> Result<Arc<Terms>> {
        let mut last = self.terms.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(terms) if *terms.service == *service && terms.options == *options => Ok(terms.clone()),
            _ => {
                let terms = Terms::new(service, options)?;
                *last = Some(terms.clone());
                Ok(terms)
            }
        }
    }

    fn admit(&self, service: &str, body: &Message, options: &RequestOptions) -> Result<Arc<Terms>> {
        self.queue().origin().check("client")?;
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::closed("client"));
        }
        let terms = self.terms(service, options)?;
        check_body(self.options.max_message_bytes, body)?;
        if self.load.admit() {
            return Ok(terms);
        }
        let (all, waiting) = (self.load.limit(), self.options.max_waiting);
        let flying = all.saturating_sub(waiting);
        Err(Error::new(
            ErrorKind::QueueFull,
            format!("this client has {flying} requests in flight and {waiting} waiting (max_waiting)"),
        ))
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if !*self.closed.get_mut() {
            self.queue().push(Command::CloseClient { client: self.id });
        }
    }
}

/// What a request's future holds: the client, which lives as long as anybody waits for it, and where the outcome arrives.
struct Waiting<T> {
    under_way: Option<UnderWay<T>>,
    /// Why the request never started.
    refusal: Option<Error>,
}

struct UnderWay<T> {
    core: Arc<Core>,
    id: u64,
    outcome: Arc<T>,
}

impl<T> Waiting<T> {
    fn new(core: &Arc<Core>, begun: std::result::Result<u64, (To, Error)>, outcome: Arc<T>) -> Self {
        match begun {
            Ok(id) => Waiting { under_way: Some(UnderWay { core: core.clone(), id, outcome }), refusal: None },
            Err((_, error)) => Waiting { under_way: None, refusal: Some(error) },
        }
    }

    /// What there is to poll, or what to say without polling.
    fn check(&mut self) -> std::result::Result<&UnderWay<T>, Option<Error>> {
        if let Some(under_way) = &self.under_way
            && let Err(error) = under_way.core.queue().origin().check("request")
        {
            // The outcome is the parent's.
            self.leave();
            return Err(Some(error));
        }
        self.under_way.as_ref().ok_or_else(|| self.refusal.take())
    }

    /// The outcome is complete: there is nothing to cancel any more.
    fn leave(&mut self) {
        self.under_way = None;
    }
}

impl<T> Drop for Waiting<T> {
    fn drop(&mut self) {
        if let Some(UnderWay { core, id, .. }) = &self.under_way {
            core.queue().push(Command::Cancel { client: core.id, id: *id });
        }
    }
}

/// The reply to a request, to be awaited. Dropping it cancels the request.
#[must_use = "dropping a response cancels its request"]
pub struct Response {
    waiting: Waiting<Reply>,
}

impl Future for Response {
    type Output = Result<Message>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        match this.waiting.check() {
            Ok(under_way) => {
                let outcome = std::task::ready!(under_way.outcome.poll(context));
                this.waiting.leave();
                Poll::Ready(outcome)
            }
            Err(Some(error)) => Poll::Ready(Err(error)),
            Err(None) => Poll::Ready(Err(Error::invalid("this response has already been taken"))),
        }
    }
}

/// The parts of a reply, in order, the final one last. Dropping it cancels the request.
#[must_use = "dropping a stream cancels its request"]
pub struct Parts {
    waiting: Waiting<Buffer>,
    is_final: bool,
}

impl Parts {
    /// The next part; `None` after the final part or an error.
    pub async fn next_part(&mut self) -> Option<Result<Message>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Whether the last item was the final part (or an error): nothing follows it.
    pub fn is_final(&self) -> bool {
        self.is_final
    }
}

impl Stream for Parts {
    type Item = Result<Message>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let taken = match this.waiting.check() {
            Ok(under_way) => std::task::ready!(under_way.outcome.poll(context)),
            Err(error) => {
                this.is_final = true;
                return Poll::Ready(error.map(Err));
            }
        };
        if taken.last {
            this.is_final = true;
            this.waiting.leave();
        } else if taken.resume
            && let Some(UnderWay { core, id, .. }) = &this.waiting.under_way
        {
            core.queue().push(Command::Resume { client: core.id, id: *id });
        }
        Poll::Ready(Some(taken.item))
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").finish_non_exhaustive()
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("is_final", &self.is_final).finish_non_exhaustive()
    }
}
