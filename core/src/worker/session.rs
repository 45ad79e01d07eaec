//! A worker's machine with its socket.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::Result;
use crate::message::Message;
use crate::options::WorkerOptions;
use crate::proto::worker::{Answer, Worker as Machine, WorkerConfig, WorkerOutput};
use crate::transport::{Dealer, DealerOptions, Interest, Poller, Received, Waker, Woken, seed};

use super::Inner;

/// How long what was sent may take to go out after the connection is given up.
const LINGER: Duration = Duration::from_secs(1);
/// First pause before libzmq tries again to connect.
const RECONNECT_MIN: Duration = Duration::from_millis(100);

pub(super) struct Session {
    machine: Machine,
    endpoints: Vec<String>,
    connecting: DealerOptions,
    dealer: Option<Dealer>,
    /// What waits for the connection to come up or to have room. The machine bounds it: it gives a silent broker up.
    unsent: VecDeque<Vec<Bytes>>,
    /// The request that the machine has given and nobody has taken yet.
    request: Option<(u64, Message)>,
    poller: Poller,
}

impl Session {
    pub(super) fn new(options: &WorkerOptions) -> Result<Session> {
        let mut session = Session {
            machine: Machine::new(WorkerConfig::from(options), Instant::now(), seed()),
            endpoints: options.endpoints.clone(),
            connecting: DealerOptions {
                linger: LINGER,
                reconnect_min: RECONNECT_MIN.min(options.reconnect),
                reconnect_max: options.reconnect,
                max_message_bytes: options.max_message_bytes,
            },
            dealer: None,
            unsent: VecDeque::new(),
            request: None,
            poller: Poller::default(),
        };
        session.run()?;
        Ok(session)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.machine.is_busy()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.machine.is_closed()
    }

    pub(super) fn take_request(&mut self) -> Option<(u64, Message)> {
        self.request.take()
    }

    /// When the machine wants to be called.
    pub(super) fn due(&self) -> Option<Instant> {
        self.machine.poll_timeout()
    }

    /// Does what another thread asked of the worker.
    pub(super) fn obey(&mut self, inner: &Inner) {
        let now = Instant::now();
        if inner.closing.load(Ordering::Acquire) {
            self.machine.close(now);
        } else if inner.draining.load(Ordering::Acquire) {
            self.give_back();
            self.machine.drain(now);
        } else {
            return;
        }
        self.run_or_log();
        if self.machine.is_closed() {
            self.request = None;
            inner.changed.notify_all();
        }
    }

    /// A request that nobody has taken yet is new work: a drain leaves it to another worker.
    fn give_back(&mut self) {
        if self.request.take().is_some() {
            self.machine.close(Instant::now());
        }
    }

    /// Reads what came, then does what is due, then sends.
    pub(super) fn pump(&mut self) -> Result<()> {
        while let Some(dealer) = &self.dealer {
            match dealer.try_recv()? {
                Received::Nothing => break,
                Received::Message(frames) => self.machine.handle_message(Instant::now(), frames),
                Received::Disconnected => self.machine.handle_disconnected(Instant::now()),
            }
            self.run()?;
            if self.request.is_some() {
                // It is the handler's turn; what else came can wait for the beater.
                return Ok(());
            }
        }
        let now = Instant::now();
        if self.machine.poll_timeout().is_some_and(|due| due <= now) {
            self.machine.handle_timeout(now);
        }
        self.run()
    }

    /// Waits for messages, for room where something is unsent, for the waker, or for what is due.
    pub(super) fn wait(&mut self, waker: &Waker, longest: Duration) -> Result<Woken> {
        let due = self.machine.poll_timeout().map(|due| due.saturating_duration_since(Instant::now()));
        let timeout = due.map_or(longest, |due| due.min(longest));
        let writable = !self.unsent.is_empty();
        let dealer = self.dealer.as_ref().map(|dealer| Interest::dealer(dealer, writable));
        self.poller.poll(dealer.into_iter().chain([Interest::waker(waker)]), Some(timeout))
    }

    pub(super) fn answer(&mut self, number: u64, answer: Answer) -> Result<()> {
        self.machine.answer(Instant::now(), number, answer)?;
        self.run()
    }

    fn run_or_log(&mut self) {
        if let Err(error) = self.run() {
            log::error!("{error}");
        }
    }

    /// Does what the machine wants done.
    fn run(&mut self) -> Result<()> {
        while let Some(output) = self.machine.poll_output() {
            match output {
                WorkerOutput::Connect { endpoint } => {
                    self.unsent.clear();
                    self.dealer = None;
                    if let Some(endpoint) = self.endpoints.get(endpoint) {
                        self.dealer = Some(Dealer::connect(endpoint, &self.connecting)?);
                    }
                }
                WorkerOutput::Send(frames) => self.unsent.push_back(frames),
                WorkerOutput::Close => {
                    self.flush()?;
                    self.unsent.clear();
                    self.dealer = None;
                }
                WorkerOutput::Request { number, body } => self.request = Some((number, body)),
                WorkerOutput::Closed => {}
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        let Some(dealer) = &self.dealer else { return Ok(()) };
        while let Some(frames) = self.unsent.front() {
            if !dealer.try_send(frames)? {
                break;
            }
            self.unsent.pop_front();
        }
        Ok(())
    }
}
