//! The blocking client: it drives its socket in the caller's thread.

mod connection;
mod parts;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::fork::Origin;
use crate::message::Message;
use crate::options::{ClientOptions, RequestOptions};
use crate::proto::client::ReplyMode;
use crate::transport::Waker;
use crate::turn::Turn;
use crate::wait::{Check, keep_waiting};

use connection::{Closing, Connection, Progress};
pub use parts::Parts;

/// Asks services through a broker. One call at a time: another thread waits its turn.
///
/// ```
/// # use majordomo::{Broker, Client, Worker};
/// # fn main() -> majordomo::Result<()> {
/// # let broker = Broker::start("tcp://127.0.0.1:0")?;
/// # let worker = Worker::connect(broker.endpoint(), "echo")?;
/// # let serving = std::thread::spawn(move || worker.recv().and_then(|request| request.reply(request.body().clone())));
/// # let endpoint = broker.endpoint();
/// let client = Client::connect(endpoint)?;
/// let reply = client.request("echo", "hello")?;
/// assert_eq!(&reply[0], b"hello");
/// # serving.join().ok();
/// # Ok(())
/// # }
/// ```
pub struct Client {
    options: Mutex<ClientOptions>,
    turn: Turn,
    /// The connection of the last request that ended well, for the next one. Boxed: it is large, and moved for each request.
    spare: Mutex<Option<Box<Connection>>>,
    closing: Closing,
}

impl Client {
    /// A client of the broker at `endpoints`; several, separated by commas, are tried in turn. The connection is made
    /// when the first request needs it.
    ///
    /// # Errors
    /// As [`Client::with_options`].
    pub fn connect(endpoints: &str) -> Result<Client> {
        Client::with_options(ClientOptions::new(endpoints))
    }

    /// A client with these options.
    ///
    /// # Errors
    /// `InvalidArgument` for options that cannot be, `BrokerUnreachable` where the operating system gives no descriptors.
    pub fn with_options(options: ClientOptions) -> Result<Client> {
        options.validate()?;
        Ok(Client {
            options: Mutex::new(options),
            turn: Turn::default(),
            spare: Mutex::new(None),
            closing: Closing { origin: Origin::here(), closed: AtomicBool::new(false), waker: Waker::new()? },
        })
    }

    /// Sends a request and waits for the reply; a reply in parts is given as one message, its frames joined in order.
    ///
    /// # Errors
    /// `Timeout` without a reply in time, `BrokerUnreachable` where no attempt found a broker, `ServiceError` where the
    /// handler failed, `InvalidArgument` or `TooLarge` for a request that cannot be sent, `Closed` after
    /// [`Client::close`] or in a forked child.
    pub fn request(&self, service: &str, body: impl Into<Message>) -> Result<Message> {
        self.request_with(service, body.into(), &RequestOptions::default(), &mut keep_waiting)
    }

    /// Sends a request as [`Client::request`] does, with options of its own, asking `check` while it waits.
    ///
    /// # Errors
    /// `Cancelled` where `check` ends the call; otherwise as [`Client::request`].
    pub fn request_with(
        &self,
        service: &str,
        body: Message,
        options: &RequestOptions,
        check: Check<'_>,
    ) -> Result<Message> {
        self.closing.check()?;
        let Some(_turn) = self.turn.take(None, check)? else {
            return Err(Error::new(ErrorKind::Internal, "a wait without end has ended"));
        };
        let mut connection = self.start(service, body, options, ReplyMode::Whole)?;
        loop {
            if let Progress::Done(outcome) = connection.drive(&self.closing, check) {
                self.put_back(connection);
                return outcome;
            }
        }
    }

    /// Sends a request whose reply may come in parts (MDP/0.2), and gives them as they come.
    ///
    /// # Errors
    /// `InvalidArgument` or `TooLarge` for a request that cannot be sent, `Closed` as in [`Client::request`]. What goes
    /// wrong later is an item of the iterator.
    pub fn stream(&self, service: &str, body: impl Into<Message>) -> Result<Parts<'_>> {
        self.stream_with(service, body.into(), &RequestOptions::default())
    }

    /// Sends a request as [`Client::stream`] does, with options of its own. A timeout bounds the wait for each part.
    ///
    /// # Errors
    /// As [`Client::stream`].
    pub fn stream_with(&self, service: &str, body: Message, options: &RequestOptions) -> Result<Parts<'_>> {
        self.closing.check()?;
        Ok(Parts::new(self, self.start(service, body, options, ReplyMode::Parts)?))
    }

    /// The options as they are now.
    pub fn options(&self) -> ClientOptions {
        self.options.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets how long one attempt may take, from the next request on.
    ///
    /// # Errors
    /// `InvalidArgument` below 1 ms or above 7 days, `Closed` in a forked child.
    pub fn set_timeout(&self, timeout: Duration) -> Result<()> {
        self.configure(|options| options.timeout = timeout)
    }

    /// Sets how often a request is sent at most, from the next request on.
    ///
    /// # Errors
    /// `InvalidArgument` for 0, `Closed` in a forked child.
    pub fn set_retries(&self, retries: u32) -> Result<()> {
        self.configure(|options| options.retries = retries)
    }

    /// Whether another thread is in a call.
    pub fn is_busy(&self) -> bool {
        self.closing.origin.is_here() && self.turn.is_taken()
    }

    /// Closes the connection. Calls of other threads end at once with `Closed`, and later ones too. Closing twice is as
    /// good as once.
    pub fn close(&self) {
        if self.closing.origin.is_here() {
            self.closing.closed.store(true, Ordering::Release);
            self.closing.waker.wake();
            *self.spare() = None;
        }
    }

    fn configure(&self, change: impl FnOnce(&mut ClientOptions)) -> Result<()> {
        self.closing.origin.check("client")?;
        let mut options = self.options.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = options.clone();
        change(&mut changed);
        changed.validate()?;
        *options = changed;
        Ok(())
    }

    /// Starts a request on the connection of the last one, if that is still good, or on a fresh one.
    fn start(
        &self,
        service: &str,
        body: Message,
        options: &RequestOptions,
        mode: ReplyMode,
    ) -> Result<Box<Connection>> {
        let spare = self.spare().take().and_then(|mut spare| spare.is_reusable().then_some(spare));
        let settings = self.options.lock().unwrap_or_else(PoisonError::into_inner);
        // A spare connection was made under the options of its time.
        let options = RequestOptions {
            timeout: options.timeout.or(Some(settings.timeout)),
            retries: options.retries.or(Some(settings.retries)),
            deadline: options.deadline.or(settings.deadline),
            ..options.clone()
        };
        let mut connection = match spare {
            Some(connection) => connection,
            None => Box::new(Connection::new(&settings)?),
        };
        drop(settings);
        match connection.start(service, body, &options, mode) {
            Ok(()) => Ok(connection),
            Err(error) => {
                self.put_back(connection);
                Err(error)
            }
        }
    }

    /// Keeps a connection for the next request, unless there is one or the client is closed.
    fn put_back(&self, connection: Box<Connection>) {
        if !self.closing.origin.is_here() {
            return;
        }
        let mut spare = self.spare();
        // Looked at under the lock: a close that comes later finds the connection here.
        if spare.is_none() && !self.closing.closed.load(Ordering::Acquire) {
            *spare = Some(connection);
        }
    }

    fn spare(&self) -> MutexGuard<'_, Option<Box<Connection>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
