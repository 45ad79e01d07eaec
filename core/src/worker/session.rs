//! A worker's machine with its socket.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::Result;
use crate::options::{Protocol, WorkerOptions};
use crate::proto::earliest;
use crate::proto::worker::{Answer, Worker as Machine, WorkerConfig, WorkerOutput};
use crate::transport::{Dealer, DealerOptions, Interest, Poller, Received, Waker, Woken, seed};

use super::Inner;
use super::cancel::Cancellations;
use super::notices::Notices;
use super::request::Delivered;

/// How long what was sent may take to go out after the worker has closed.
const LINGER: Duration = Duration::from_secs(1);
/// First pause before libzmq tries again to connect.
const RECONNECT_MIN: Duration = Duration::from_millis(100);
/// Shortest and longest pause between looks at what came while nobody receives: short enough for any broker's patience,
/// long enough to cost nothing.
const LOOK_MIN: Duration = Duration::from_millis(5);
const LOOK_MAX: Duration = Duration::from_millis(50);
/// A handler that takes no longer is quick.
const QUICK: Duration = Duration::from_micros(50);
/// At most so many answers of quick handlers wait to go out together, and no longer than this.
const HELD_BACK: usize = 64;
const HELD_BACK_FOR: Duration = Duration::from_millis(5);
/// How many messages are read before timers and other threads get their turn.
const BATCH: usize = 64;

pub(super) struct Session {
    machine: Machine,
    endpoints: Vec<String>,
    connecting: DealerOptions,
    /// Pause between looks at what came while nobody receives.
    look: Duration,
    /// A connection that takes nothing for so long is given up.
    patience: Duration,
    dealer: Option<Dealer>,
    /// Whether the connection has ever taken a message.
    was_up: bool,
    /// What waits for the connection to come up or to have room: READY, and what the machine says until it gives a silent
    /// broker up. A handler that sends faster than the broker reads is held up, see [`Session::is_clear`].
    unsent: VecDeque<Vec<Bytes>>,
    /// Since when the first of these waits.
    stuck: Instant,
    /// How many answers wait in the machine for more that will come at once.
    held_back: usize,
    /// The request that the machine has given and nobody has taken yet.
    request: Option<Delivered>,
    cancellations: Arc<Cancellations>,
    notices: Arc<Notices>,
    /// The moment of the last look at the clock: close enough to now wherever nothing has waited in between.
    pub(super) now: Instant,
    /// When the machine wants to be called.
    machine_due: Option<Instant>,
    /// A `recv` is under way, which will be back at once.
    pub(super) receiving: bool,
    /// A `recv` waits for the handler to be done with its request.
    pub(super) receiver_waits: bool,
    poller: Poller,
}

impl Session {
    pub(super) fn new(
        options: &WorkerOptions,
        cancellations: Arc<Cancellations>,
        notices: Arc<Notices>,
    ) -> Result<Session> {
        let now = Instant::now();
        let mut session = Session {
            machine: Machine::new(WorkerConfig::from(options), now, seed()),
            endpoints: options.endpoints.clone(),
            connecting: DealerOptions {
                linger: LINGER,
                reconnect_min: RECONNECT_MIN.min(options.reconnect),
                reconnect_max: options.reconnect,
                max_message_bytes: options.max_message_bytes,
            },
            look: (options.heartbeat / 4).clamp(LOOK_MIN, LOOK_MAX),
            patience: options.heartbeat.saturating_mul(options.liveness),
            dealer: None,
            was_up: false,
            unsent: VecDeque::new(),
            stuck: now,
            held_back: 0,
            request: None,
            cancellations,
            notices,
            now,
            machine_due: None,
            receiving: false,
            receiver_waits: false,
            poller: Poller::default(),
        };
        // Options that cannot be show here. Later on, a failure to connect is one of the things that pass.
        while let Some(output) = session.machine.poll_output() {
            match output {
                WorkerOutput::Connect { endpoint } => session.connect(endpoint)?,
                WorkerOutput::Send(frames) => session.unsent.push_back(frames),
                _ => {}
            }
        }
        session.flush()?;
        session.machine_due = session.machine.poll_timeout();
        Ok(session)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.machine.is_busy()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.machine.is_closed()
    }

    pub(super) fn has_request(&self) -> bool {
        self.request.is_some()
    }

    pub(super) fn take_request(&mut self) -> Option<Delivered> {
        self.request.take()
    }

    /// When the session must be looked after by somebody else than who lets go of it now: what the machine wants, another
    /// try to send, or a look at what came. A broker that beats faster than we do waits for answers to its beats.
    pub(super) fn due(&self) -> Option<Instant> {
        let look = (self.dealer.is_some() && !self.receiving).then(|| self.now + self.look);
        let retry = (!self.unsent.is_empty()).then(|| {
            let pause = self.now.saturating_duration_since(self.stuck) / 4;
            self.now + pause.clamp(Duration::from_millis(5), Duration::from_millis(100))
        });
        let held_back = self.machine.has_gathered().then(|| self.now + HELD_BACK_FOR);
        earliest([self.machine_due, retry, held_back, look])
    }

    /// Whether the connection has taken all there was to send. One that takes nothing for too long is given up.
    pub(super) fn is_clear(&mut self) -> Result<bool> {
        if self.unsent.is_empty() {
            return Ok(true);
        }
        self.now = Instant::now();
        self.pump()?;
        if !self.unsent.is_empty() && self.stuck.elapsed() > self.patience {
            self.machine.handle_disconnected(Instant::now());
            self.run()?;
        }
        Ok(self.unsent.is_empty())
    }

    /// Does what another thread asked of the worker.
    pub(super) fn obey(&mut self, inner: &Inner) {
        let closing = inner.closing.load(Ordering::Acquire);
        if !closing && !inner.draining.load(Ordering::Acquire) {
            return;
        }
        self.now = Instant::now();
        if closing {
            self.machine.close(self.now);
        } else if let Err(error) = self.drain() {
            log::error!("{}: {error}", inner.service);
        }
        if let Err(error) = self.run() {
            log::error!("{}: {error}", inner.service);
        }
        if self.machine.is_closed() {
            self.request = None;
        }
    }

    /// What nobody has taken yet is new work, which a drain leaves to another worker.
    fn drain(&mut self) -> Result<()> {
        let now = self.now;
        let spoken = self.machine.protocol();
        // Over MDPX more may have come than was read, and can be given back as what it is.
        while spoken == Some(Protocol::X1) && self.read()? {}
        self.machine.drain(now);
        if let Some(request) = self.request.take() {
            self.machine.take_back(now, request.id);
            self.cancellations.forget(request.id);
        }
        Ok(())
    }

    /// Reads one message and does what it leads to; whether there was one.
    fn read(&mut self) -> Result<bool> {
        let Some(dealer) = &self.dealer else { return Ok(false) };
        match dealer.try_recv()? {
            Received::Nothing => return Ok(false),
            Received::Message(frames) => self.machine.handle_message(self.now, frames),
            Received::Disconnected => self.machine.handle_disconnected(self.now),
        }
        self.run()?;
        Ok(true)
    }

    /// Reads what came, then does what is due, then sends. The caller has looked at the clock.
    pub(super) fn pump(&mut self) -> Result<()> {
        for _ in 0..BATCH {
            // Once there is a request it is the handler's turn; what else came can wait for the beater.
            if !self.read()? || self.request.is_some() {
                break;
            }
        }
        let is_due = self.machine_due.is_some_and(|due| due <= self.now);
        if is_due {
            self.machine.handle_timeout(self.now);
        }
        // What was read has been seen to; what it could not send, and what was held back, may wait still.
        if is_due || !self.unsent.is_empty() || self.machine.has_gathered() { self.run() } else { Ok(()) }
    }

    /// Waits for messages, for room where something is unsent, for the waker, or for what is due.
    pub(super) fn wait(&mut self, waker: &Waker, longest: Duration) -> Result<Woken> {
        let due = self.machine_due.map(|due| due.saturating_duration_since(self.now));
        let timeout = due.map_or(longest, |due| due.min(longest));
        let writable = !self.unsent.is_empty();
        let woken = match &self.dealer {
            Some(dealer) => {
                self.poller.poll(&[Interest::dealer(dealer, writable), Interest::waker(waker)], Some(timeout))
            }
            None => self.poller.poll(&[Interest::waker(waker)], Some(timeout)),
        };
        self.now = Instant::now();
        woken
    }

    pub(super) fn answer(&mut self, number: u64, answer: Answer) -> Result<()> {
        let last = !matches!(answer, Answer::Partial(_));
        let began = std::mem::replace(&mut self.now, Instant::now());
        self.machine.answer(self.now, number, answer)?;
        // The handler is quick, and has its next request already: the answers go out together. Should it be slow this time,
        // the helper thread sends what waits.
        let is_quick = last && self.now.saturating_duration_since(began) < QUICK;
        if is_quick && self.machine.has_waiting() && self.held_back < HELD_BACK {
            self.held_back += 1;
            self.act(Machine::poll_ready)
        } else {
            self.run()
        }
    }

    /// Does all that the machine wants done.
    fn run(&mut self) -> Result<()> {
        self.held_back = 0;
        self.act(Machine::poll_output)
    }

    fn act(&mut self, poll: fn(&mut Machine) -> Option<WorkerOutput>) -> Result<()> {
        while let Some(output) = poll(&mut self.machine) {
            match output {
                WorkerOutput::Connect { endpoint } => {
                    self.disconnect();
                    if let Err(error) = self.connect(endpoint) {
                        log::warn!("{error}");
                        // The machine tries again, with growing pauses.
                        self.machine.handle_disconnected(Instant::now());
                    }
                }
                WorkerOutput::Send(frames) => {
                    if self.unsent.is_empty() {
                        self.stuck = self.now;
                    }
                    self.unsent.push_back(frames);
                }
                WorkerOutput::Close => {
                    self.flush()?;
                    if self.machine.is_closed() {
                        self.settle()?;
                    }
                    self.disconnect();
                }
                WorkerOutput::Request { number, body, attempt, deadline, key: _ } => {
                    self.request = Some(Delivered { id: number, body, attempt, deadline });
                }
                WorkerOutput::Cancelled { number } => self.cancel(number)?,
                WorkerOutput::Event(event) => self.notices.event(event),
                WorkerOutput::Closed => {}
            }
        }
        self.flush()?;
        self.machine_due = self.machine.poll_timeout();
        Ok(())
    }

    /// Nobody waits for the answer to this request any more.
    fn cancel(&mut self, number: u64) -> Result<()> {
        if self.request.take_if(|request| request.id == number).is_some() {
            return self.machine.answer(self.now, number, Answer::Cancelled);
        }
        if let Some(token) = self.cancellations.mark(number) {
            self.notices.cancelled(token);
        }
        Ok(())
    }

    fn connect(&mut self, endpoint: usize) -> Result<()> {
        if let Some(endpoint) = self.endpoints.get(endpoint) {
            self.dealer = Some(Dealer::connect(endpoint, &self.connecting)?);
        }
        Ok(())
    }

    fn disconnect(&mut self) {
        self.unsent.clear();
        self.dealer = None;
        self.was_up = false;
        if let Some(request) = self.request.take() {
            // The broker has given it to another worker; no handler shall do it a second time.
            self.machine.take_back(self.now, request.id);
        }
    }

    /// The last answers and DISCONNECT go out even over a connection that is full, if it empties soon.
    fn settle(&mut self) -> Result<()> {
        let ends = Instant::now() + LINGER;
        while self.was_up && !self.unsent.is_empty() {
            let Some(dealer) = &self.dealer else { break };
            match dealer.try_recv()? {
                Received::Message(_) => continue,
                Received::Disconnected => break,
                Received::Nothing => {}
            }
            let left = ends.saturating_duration_since(Instant::now());
            if left.is_zero() {
                log::warn!("the broker did not take {} last messages", self.unsent.len());
                break;
            }
            self.poller.poll(&[Interest::dealer(dealer, true)], Some(left.min(Duration::from_millis(10))))?;
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let Some(dealer) = &self.dealer else { return Ok(()) };
        while let Some(frames) = self.unsent.front() {
            if !dealer.try_send(frames)? {
                break;
            }
            self.unsent.pop_front();
            self.was_up = true;
            self.machine.handle_sent(self.now);
            if !self.unsent.is_empty() {
                self.stuck = Instant::now();
            }
        }
        Ok(())
    }
}
