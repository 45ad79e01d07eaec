//! A client's machine with its socket, driven by whoever calls.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::fork::Origin;
use crate::message::Message;
use crate::options::{ClientOptions, RequestOptions};
use crate::proto::client::{Client as Machine, ClientConfig, ClientOutput, ReplyMode};
use crate::transport::{Dealer, DealerOptions, Interest, Poller, Received, Waker, Woken};
use crate::wait::{Check, SLICE, Wake};

/// What ends a call from outside.
pub(super) struct Closing {
    /// Where the client was made: a fork in the middle of a call ends the call in the child.
    pub(super) origin: Origin,
    pub(super) closed: AtomicBool,
    /// Woken once, when the client is closed, and never cleared: every wait ends at once from then on.
    pub(super) waker: Waker,
}

/// One connection and the request that it carries.
pub(super) struct Connection {
    machine: Machine,
    endpoints: Vec<String>,
    connecting: DealerOptions,
    dealer: Option<Dealer>,
    /// The request, until the connection is up and takes it.
    unsent: Option<Vec<Bytes>>,
    poller: Poller,
}

/// What a call has come to.
pub(super) enum Progress {
    /// A part of the reply; more follow.
    Partial(Message),
    /// The call has ended.
    Done(Result<Message>),
}

impl Closing {
    /// # Errors
    /// `Closed` once the client is closed, or in a child of the process that made it.
    pub(super) fn check(&self) -> Result<()> {
        self.origin.check("client")?;
        if self.closed.load(Ordering::Acquire) { Err(Error::closed("client")) } else { Ok(()) }
    }
}

impl Connection {
    /// A connection that is made when the first request needs it.
    pub(super) fn new(options: &ClientOptions) -> Connection {
        Connection {
            machine: Machine::new(ClientConfig::from(options)),
            endpoints: options.endpoints.clone(),
            connecting: DealerOptions {
                // Whoever gives a request up does not want it sent afterwards.
                linger: Duration::ZERO,
                reconnect_min: options.reconnect_min,
                reconnect_max: options.reconnect_max,
                max_message_bytes: options.max_message_bytes,
            },
            dealer: None,
            unsent: None,
            poller: Poller::default(),
        }
    }

    /// Whether another request can use the connection. What came since the last one answers nothing, and is dropped.
    pub(super) fn is_reusable(&mut self) -> bool {
        let Some(dealer) = &self.dealer else { return self.machine.is_idle() };
        loop {
            match dealer.try_recv() {
                Ok(Received::Nothing) => return self.machine.is_idle(),
                Ok(Received::Message(frames)) => self.machine.handle_message(Instant::now(), frames),
                Ok(Received::Disconnected) | Err(_) => return false,
            }
        }
    }

    /// Starts a request.
    pub(super) fn start(
        &mut self,
        service: &str,
        body: Message,
        options: &RequestOptions,
        mode: ReplyMode,
    ) -> Result<()> {
        self.machine.start(Instant::now(), service, body, options, mode)
    }

    /// Drives the request until a part of its reply has come, or its end.
    pub(super) fn drive(&mut self, closing: &Closing, check: Check<'_>) -> Progress {
        let mut last_check = Instant::now();
        loop {
            if let Some(progress) = self.act() {
                return progress;
            }
            if let Err(error) = closing.check() {
                self.machine.cancel(Instant::now(), error);
                continue;
            }
            let woken =
                match self.exchange().and_then(|busy| if busy { Ok(None) } else { self.wait(closing).map(Some) }) {
                    Ok(None) => continue,
                    Ok(Some(woken)) => woken,
                    Err(error) => {
                        self.machine.cancel(Instant::now(), error);
                        continue;
                    }
                };
            let wake = if woken == Woken::Interrupted { Wake::Interrupted } else { Wake::Tick };
            // A stream of small parts must not keep the caller from being asked, nor ask it for each of them.
            if wake == Wake::Interrupted || last_check.elapsed() >= SLICE / 2 {
                last_check = Instant::now();
                if check(wake) == ControlFlow::Break(()) {
                    let error = Error::new(ErrorKind::Cancelled, "the call was interrupted");
                    self.machine.cancel(Instant::now(), error);
                }
            }
        }
    }

    /// Does what the machine wants done.
    fn act(&mut self) -> Option<Progress> {
        while let Some(output) = self.machine.poll_output() {
            match output {
                ClientOutput::Connect { endpoint } => {
                    self.unsent = None;
                    // The old one goes first: its descriptors may be what the new one needs.
                    self.dealer = None;
                    let endpoint = self.endpoints.get(endpoint).map_or("", String::as_str);
                    match Dealer::connect(endpoint, &self.connecting) {
                        Ok(dealer) => self.dealer = Some(dealer),
                        Err(error) => self.machine.cancel(Instant::now(), error),
                    }
                }
                ClientOutput::Send(frames) => self.unsent = Some(frames),
                ClientOutput::Close => {
                    self.unsent = None;
                    self.dealer = None;
                }
                ClientOutput::Partial(part) => return Some(Progress::Partial(part)),
                ClientOutput::Done(outcome) => return Some(Progress::Done(outcome)),
            }
        }
        None
    }

    /// Sends what is unsent, hands a message over, does what is due; whether there was any of it.
    fn exchange(&mut self) -> Result<bool> {
        let mut busy = false;
        if let Some(dealer) = &self.dealer {
            if let Some(frames) = &self.unsent
                && dealer.try_send(frames)?
            {
                self.unsent = None;
                self.machine.handle_sent(Instant::now());
                busy = true;
            }
            match dealer.try_recv()? {
                Received::Nothing => {}
                Received::Message(frames) => {
                    self.machine.handle_message(Instant::now(), frames);
                    busy = true;
                }
                Received::Disconnected => {
                    self.machine.handle_disconnected(Instant::now());
                    busy = true;
                }
            }
        }
        let now = Instant::now();
        if !busy && self.machine.poll_timeout().is_some_and(|due| due <= now) {
            self.machine.handle_timeout(now);
            busy = true;
        }
        Ok(busy)
    }

    fn wait(&mut self, closing: &Closing) -> Result<Woken> {
        let due = self.machine.poll_timeout().map(|due| due.saturating_duration_since(Instant::now()));
        let timeout = due.map_or(SLICE, |due| due.min(SLICE));
        let dealer = self.dealer.as_ref().map(|dealer| Interest::dealer(dealer, self.unsent.is_some()));
        self.poller.poll(dealer.into_iter().chain([Interest::waker(&closing.waker)]), Some(timeout))
    }
}
