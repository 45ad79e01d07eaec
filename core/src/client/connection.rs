//! A client's machine with its socket, driven by whoever calls.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::event::ConnectionEvent;
use crate::fork::Origin;
use crate::identity::{identity, renew};
use crate::message::Message;
use crate::notices::Notices;
use crate::options::{ClientOptions, Protocol, RequestOptions};
use crate::proto::client::{Client as Older, ClientConfig, ClientOutput, ReplyMode, check_body};
use crate::proto::mdp::Version;
use crate::proto::session::{Asked, Session, SessionConfig, SessionOutput, Terms};
use crate::transport::{Dealer, DealerOptions, Interest, Poller, Received, Waker, Woken};
use crate::wait::{Check, SLICE, Wake};

/// How long the last messages of a closed MDPX connection, CANCEL and DISCONNECT among them, may take to go out.
const LINGER: Duration = Duration::from_secs(1);

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
    origin: Origin,
    options: ClientOptions,
    machine: Machine,
    /// Number of the request under way, or of the last one.
    number: u64,
    dealer: Option<Dealer>,
    /// Index of the endpoint that the dealer is connected to.
    endpoint: usize,
    /// What the connection has not taken yet: it does not stand, or has no room.
    unsent: VecDeque<Vec<Bytes>>,
    /// Whether a message may be there.
    readable: bool,
    poller: Poller,
    notices: Notices,
    /// When the last request ended.
    last_used: Instant,
    /// The moment of the last look at the clock: close enough to now wherever nothing has waited in between.
    now: Instant,
}

/// What leads the conversation.
enum Machine {
    /// MDPX, or still to be found out.
    Session(Box<Session>),
    /// An older protocol, and the index of the endpoint that the machine calls the first.
    Older(Box<Older>, Version, usize),
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
    ///
    /// # Errors
    /// `Internal` where the operating system gives no random bytes.
    pub(super) fn new(options: &ClientOptions) -> Result<Connection> {
        let now = Instant::now();
        Ok(Connection {
            origin: Origin::here(),
            machine: machine(options, 0)?,
            options: options.clone(),
            number: 0,
            dealer: None,
            endpoint: 0,
            unsent: VecDeque::new(),
            readable: false,
            poller: Poller::default(),
            notices: Notices::default(),
            last_used: now,
            now,
        })
    }

    /// Prepares for another request; whether that can be. What came for earlier ones answers nothing, and is dropped.
    pub(super) fn is_reusable(&mut self) -> bool {
        self.look_at_clock();
        let Machine::Older(machine, _, _) = &mut self.machine else { return self.is_session_reusable() };
        if let Some(dealer) = &self.dealer {
            loop {
                match dealer.try_recv() {
                    Ok(Received::Nothing) => return machine.is_idle(),
                    Ok(Received::Message(frames)) => machine.handle_message(self.now, frames),
                    Ok(Received::Disconnected) | Err(_) => break,
                }
            }
            self.tell_lost("the connection was lost");
            self.dealer = None;
        } else if self.options.protocol != Protocol::Auto {
            return machine.is_idle();
        }
        self.begin_anew()
    }

    /// Answers to earlier requests do no harm: they say what they answer. But after a while the connection may be gone.
    fn is_session_reusable(&mut self) -> bool {
        if self.now.saturating_duration_since(self.last_used) >= SLICE.min(self.options.reconnect_min) {
            while self.receive().unwrap_or(false) {
                // What is wanted done is done before the next message: it may be a fresh connection.
                self.act();
            }
        }
        true
    }

    /// The caller has gone on meanwhile.
    pub(super) fn look_at_clock(&mut self) {
        self.now = Instant::now();
    }

    /// Starts a request, on a connection that is fresh or was just found to be reusable.
    pub(super) fn start(
        &mut self,
        service: &str,
        body: Message,
        options: &RequestOptions,
        mode: ReplyMode,
    ) -> Result<()> {
        let now = self.now;
        match &mut self.machine {
            Machine::Older(machine, _, _) => machine.start(now, service, body, options, mode),
            Machine::Session(session) => {
                let terms = Terms::new(service, options)?;
                check_body(self.options.max_message_bytes, &body)?;
                self.number += 1;
                let asked = Asked { terms, body, mode, submitted: now };
                session.start(now, self.number, asked);
                Ok(())
            }
        }
    }

    /// Drives the request until a part of its reply has come, or its end.
    pub(super) fn drive(&mut self, closing: &Closing, check: Check<'_>) -> Progress {
        let mut last_check = self.now;
        loop {
            if let Some(progress) = self.act() {
                return progress;
            }
            if let Err(error) = closing.check() {
                self.cancel(error);
                continue;
            }
            let woken =
                match self.exchange().and_then(|busy| if busy { Ok(None) } else { self.wait(closing).map(Some) }) {
                    Ok(None) => {
                        if let Some(progress) = self.act() {
                            return progress;
                        }
                        // Where much comes, none of it waits.
                        self.look_at_clock();
                        continue;
                    }
                    Ok(Some(woken)) => woken,
                    Err(error) => {
                        self.cancel(error);
                        continue;
                    }
                };
            let wake = if woken == Woken::Interrupted { Wake::Interrupted } else { Wake::Tick };
            // A stream of small parts must not keep the caller from being asked, nor ask it for each of them.
            if wake == Wake::Interrupted || self.now.saturating_duration_since(last_check) >= SLICE / 2 {
                let answer = check(wake);
                self.look_at_clock();
                last_check = self.now;
                if answer == ControlFlow::Break(()) {
                    self.cancel(Error::new(ErrorKind::Cancelled, "the call was interrupted"));
                }
            }
        }
    }

    fn cancel(&mut self, error: Error) {
        match &mut self.machine {
            Machine::Session(session) => session.cancel(self.now, self.number, error),
            Machine::Older(machine, _, _) => machine.cancel(self.now, error),
        }
    }

    /// Does what the machine wants done.
    fn act(&mut self) -> Option<Progress> {
        loop {
            let progress = match &mut self.machine {
                Machine::Session(session) => {
                    let output = session.poll_output()?;
                    self.do_session(output)
                }
                Machine::Older(machine, version, first) => {
                    let (version, first) = (*version, *first);
                    let output = machine.poll_output()?;
                    self.do_older(output, version, first)
                }
            };
            if progress.is_some() {
                return progress;
            }
        }
    }

    fn do_session(&mut self, output: SessionOutput) -> Option<Progress> {
        match output {
            SessionOutput::Connect { endpoint } => {
                if let Err(error) = self.connect(endpoint, LINGER)
                    && let Machine::Session(session) = &mut self.machine
                {
                    session.handle_refused(&error);
                }
            }
            SessionOutput::Send(frames) => self.unsent.push_back(frames),
            SessionOutput::Close => {
                let _ = self.flush();
                self.disconnect();
            }
            SessionOutput::Partial { number, part } if number == self.number => return Some(Progress::Partial(part)),
            SessionOutput::Done { number, outcome } if number == self.number => {
                // A CANCEL goes out before the caller goes on.
                let _ = self.flush();
                self.last_used = self.now;
                return Some(Progress::Done(outcome));
            }
            SessionOutput::Partial { .. } | SessionOutput::Done { .. } => {}
            SessionOutput::Identify => {
                if let Machine::Session(session) = &mut self.machine {
                    renew(session);
                }
            }
            SessionOutput::Event(event) => self.tell(Some(event)),
            SessionOutput::Older { version, endpoint, requests } => {
                self.machine = older(&self.options, version, endpoint);
                for (_, asked) in requests {
                    if let Err(error) = self.ask_older(asked) {
                        return Some(Progress::Done(Err(error)));
                    }
                }
            }
        }
        None
    }

    fn do_older(&mut self, output: ClientOutput, version: Version, first: usize) -> Option<Progress> {
        match output {
            ClientOutput::Connect { endpoint } => {
                let endpoint = (first + endpoint) % self.options.endpoints.len().max(1);
                if self.dealer.is_some() {
                    self.tell_lost("no reply came");
                }
                self.tell(self.notices.connecting(&self.options, endpoint));
                // Whoever gives a request up does not want it sent afterwards.
                if let Err(error) = self.connect(endpoint, Duration::ZERO) {
                    self.cancel(error);
                }
            }
            ClientOutput::Send(frames) => self.unsent.push_back(frames),
            ClientOutput::Close => self.disconnect(),
            ClientOutput::Partial(part) => return Some(Progress::Partial(part)),
            ClientOutput::Done(outcome) => {
                match &outcome {
                    Err(error) if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::BrokerUnreachable) => {
                        self.tell_lost("no reply came");
                    }
                    // Given up: that says nothing about the broker.
                    Err(_) if self.dealer.is_none() => {}
                    _ => {
                        let event = self.notices.answered(&self.options, self.endpoint, version);
                        self.tell(event);
                    }
                }
                return Some(Progress::Done(outcome));
            }
        }
        None
    }

    fn tell_lost(&mut self, reason: &str) {
        let event = self.notices.lost(&self.options, self.endpoint, reason);
        self.tell(event);
    }

    fn tell(&self, event: Option<ConnectionEvent>) {
        if let Some((hook, event)) = self.options.on_event.as_ref().zip(event) {
            hook.call(&event);
        }
    }

    /// Asks a broker of an older protocol what was to be asked over MDPX.
    fn ask_older(&mut self, asked: Asked) -> Result<()> {
        let Machine::Older(machine, _, _) = &mut self.machine else { return Ok(()) };
        let now = self.now;
        machine.start(now, &asked.terms.service, asked.body, &asked.terms.options, asked.mode)?;
        machine.count_wait(now.saturating_duration_since(asked.submitted));
        Ok(())
    }

    /// Finds out again what the broker speaks: it may be another one by now.
    fn begin_anew(&mut self) -> bool {
        self.unsent.clear();
        machine(&self.options, self.endpoint).map(|machine| self.machine = machine).is_ok()
    }

    fn connect(&mut self, endpoint: usize, linger: Duration) -> Result<()> {
        // The old one goes first: its descriptors may be what the new one needs.
        self.disconnect();
        self.endpoint = endpoint;
        let name = self.options.endpoints.get(endpoint).map_or("", String::as_str);
        let options = DealerOptions {
            linger,
            reconnect_min: self.options.reconnect_min,
            reconnect_max: self.options.reconnect_max,
            max_message_bytes: self.options.max_message_bytes,
        };
        self.dealer = Some(Dealer::connect(name, &options)?);
        Ok(())
    }

    fn disconnect(&mut self) {
        self.unsent.clear();
        self.dealer = None;
        self.readable = false;
    }

    /// Sends what is unsent, hands a message over, does what is due; whether there is more to do before waiting.
    fn exchange(&mut self) -> Result<bool> {
        self.flush()?;
        if self.readable && self.receive()? {
            return Ok(true);
        }
        let now = self.now;
        if self.poll_timeout().is_some_and(|due| due <= now) {
            // What has arrived is looked at first: only what is missing after that is late.
            if self.receive()? {
                return Ok(true);
            }
            match &mut self.machine {
                Machine::Session(session) => session.handle_timeout(now),
                Machine::Older(machine, _, _) => machine.handle_timeout(now),
            }
            return Ok(true);
        }
        Ok(false)
    }

    fn flush(&mut self) -> Result<()> {
        // In a child of fork() the socket is the parent's.
        let Some(dealer) = self.dealer.as_ref().filter(|_| self.origin.is_here()) else { return Ok(()) };
        let before = self.unsent.len();
        while let Some(frames) = self.unsent.front() {
            if !dealer.try_send(frames)? {
                break;
            }
            self.unsent.pop_front();
        }
        if self.unsent.len() < before {
            match &mut self.machine {
                Machine::Session(session) => session.handle_sent(self.now),
                Machine::Older(machine, _, _) => machine.handle_sent(self.now),
            }
        }
        Ok(())
    }

    /// Hands over one message; whether there was one.
    fn receive(&mut self) -> Result<bool> {
        let received = self.dealer.as_ref().map_or(Ok(Received::Nothing), Dealer::try_recv)?;
        let now = self.now;
        match (received, &mut self.machine) {
            (Received::Nothing, _) => {
                self.readable = false;
                return Ok(false);
            }
            (Received::Message(frames), Machine::Session(session)) => session.handle_message(now, frames),
            (Received::Message(frames), Machine::Older(machine, _, _)) => machine.handle_message(now, frames),
            (Received::Disconnected, Machine::Session(session)) => session.handle_disconnected(now),
            (Received::Disconnected, Machine::Older(machine, _, _)) => {
                machine.handle_disconnected(now);
                self.tell_lost("the connection was lost");
            }
        }
        Ok(true)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match &self.machine {
            Machine::Session(session) => session.poll_timeout(),
            Machine::Older(machine, _, _) => machine.poll_timeout(),
        }
    }

    fn wait(&mut self, closing: &Closing) -> Result<Woken> {
        let due = self.poll_timeout().map(|due| due.saturating_duration_since(self.now));
        let timeout = due.map_or(SLICE, |due| due.min(SLICE));
        let closes = Interest::waker(&closing.waker);
        let woken = match &self.dealer {
            Some(dealer) => {
                let woken =
                    self.poller.poll(&[Interest::dealer(dealer, !self.unsent.is_empty()), closes], Some(timeout))?;
                self.readable = self.poller.readiness(0).readable;
                woken
            }
            None => self.poller.poll(&[closes], Some(timeout))?,
        };
        self.look_at_clock();
        Ok(woken)
    }
}

impl Drop for Connection {
    /// Tells an MDPX broker to forget the session. In a child of fork() the connection is the parent's.
    fn drop(&mut self) {
        if let Machine::Session(session) = &mut self.machine
            && self.origin.is_here()
        {
            session.close(&Error::closed("client"));
            while let Some(output) = session.poll_output() {
                if let SessionOutput::Send(frames) = output {
                    self.unsent.push_back(frames);
                }
            }
            let _ = self.flush();
        }
    }
}

/// The machine for what the options say, starting with the endpoint of this index.
fn machine(options: &ClientOptions, endpoint: usize) -> Result<Machine> {
    Ok(match options.protocol {
        Protocol::V01 => older(options, Version::V01, endpoint),
        Protocol::V02 => older(options, Version::V02, endpoint),
        Protocol::Auto | Protocol::X1 => {
            let mut session = Session::new(SessionConfig::from(options), identity()?, Instant::now());
            session.set_endpoint(endpoint);
            Machine::Session(Box::new(session))
        }
    })
}

fn older(options: &ClientOptions, version: Version, first: usize) -> Machine {
    let mut config = ClientConfig { version, ..ClientConfig::from(options) };
    let count = config.endpoints.len().max(1);
    config.endpoints.rotate_left(first % count);
    Machine::Older(Box::new(Older::new(config)), version, first)
}
