//! The broker's thread: between the machine and the socket.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::options::BrokerOptions;
use crate::proto::broker::{Broker as Machine, BrokerConfig, Transmit};
use crate::proto::{Frames, RoutingId};
use crate::transport::{Frame, Incoming, Interest, Poller, Router, Sent, give_back_memory, seed};

use super::{Shared, State};

/// How many messages are read before what they caused is sent, at most.
const BATCH: usize = 256;
/// After so many messages the clock is looked at, and once they have taken this long what they caused is sent: others shall
/// not wait for a batch of costly ones. More than this many were found to gather no better.
const LOOK: usize = 16;
const LONGEST_BATCH: Duration = Duration::from_micros(20);
/// Timers wait until everything received is read, because a heartbeat may be among it; but under a flood no longer than
/// this many batches. libzmq reads from its peers in turns, so by then each has been heard.
const BATCHES_BEFORE_TIMERS: usize = 64;
/// How long a broker that ends tries to hand slow peers what it still has for them.
const LAST_FLUSH: Duration = Duration::from_secs(1);

/// So many requests at once leave memory behind that is worth giving back.
const FLOOD: usize = 8192;

pub(super) struct Driver {
    router: Router,
    machine: Machine<Frame>,
    shared: Arc<Shared>,
    poller: Poller,
    /// When the present batch was begun. Reading, sending and timers go by it: none of them takes long.
    now: Instant,
    /// The most requests that were held since memory was last given back.
    most_held: usize,
}

impl Driver {
    pub(super) fn new(options: &BrokerOptions, router: Router, shared: Arc<Shared>) -> Driver {
        let now = Instant::now();
        let machine = Machine::new(BrokerConfig::from(options), now, seed());
        Driver { router, machine, shared, poller: Poller::default(), now, most_held: 0 }
    }

    /// Runs until it is told to stop, then closes the socket, and only then says how it ended.
    pub(super) fn run(mut self) {
        let shared = self.shared.clone();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let outcome = self.serve();
            drop(self);
            outcome
        }))
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "the broker's thread panicked; this is a bug")));
        if let Err(error) = &outcome {
            log::error!("the broker has ended: {error}");
        }
        let mut state = shared.lock();
        state.outcome = Some(outcome);
        // Whoever still waits for numbers learns that there are none.
        state.asking.clear();
        shared.ended.notify_all();
    }

    fn serve(&mut self) -> Result<()> {
        let mut batches = 0;
        loop {
            let drained = self.receive()?;
            self.transmit()?;
            batches += 1;
            if drained || batches >= BATCHES_BEFORE_TIMERS {
                batches = 0;
                if self.machine.poll_timeout().is_some_and(|due| due <= self.now) {
                    self.machine.handle_timeout(self.now);
                    self.transmit()?;
                }
                self.flush()?;
                if self.obey() {
                    return self.finish();
                }
            }
            self.most_held = self.most_held.max(self.machine.held());
            if drained {
                self.relax();
                self.wait()?;
            }
        }
    }

    /// Gives the memory of a flood back once it is over and there is nothing else to do.
    fn relax(&mut self) {
        if self.most_held >= FLOOD && self.machine.held() == 0 {
            self.most_held = 0;
            give_back_memory();
        }
    }

    /// Reads a batch; whether nothing more is there.
    fn receive(&mut self) -> Result<bool> {
        self.now = Instant::now();
        let now = self.now;
        for number in 1..=BATCH {
            if number % LOOK == 0 && now.elapsed() > LONGEST_BATCH {
                break;
            }
            // Messages that come alone are not to wait for a look whether there are more.
            if number == 2 && !self.router.knows_more()? {
                return Ok(true);
            }
            match self.router.try_recv()? {
                Incoming::Nothing => return Ok(true),
                Incoming::Message { peer, frames } => self.machine.handle_message(now, peer.as_ref(), frames),
                Incoming::Gone { peer } => {
                    let lost = self.router.forget(peer.as_ref());
                    self.lose(now, peer.as_ref().into(), lost);
                    self.machine.handle_gone(now, peer.as_ref());
                }
                Incoming::TooLarge { peer } => self.machine.handle_too_large(now, peer.as_ref()),
            }
            while let Some(Transmit { to, frames }) = self.machine.poll_full() {
                if let Sent::Lost(lost) = self.router.send(&to, frames)? {
                    self.lose(Instant::now(), to, lost);
                }
            }
        }
        Ok(false)
    }

    /// Sends what the machine has to send.
    fn transmit(&mut self) -> Result<()> {
        while let Some(Transmit { to, frames }) = self.machine.poll_transmit() {
            if let Sent::Lost(lost) = self.router.send(&to, frames)? {
                self.lose(Instant::now(), to, lost);
            }
        }
        let backlog = self.router.backlog();
        self.machine.set_backlog(backlog.messages, backlog.bytes);
        Ok(())
    }

    /// Tries again what slow peers did not take.
    fn flush(&mut self) -> Result<()> {
        if self.router.retry_after().is_none() {
            return Ok(());
        }
        for (peer, lost) in self.router.flush()? {
            self.lose(Instant::now(), peer, lost);
        }
        self.transmit()
    }

    fn lose(&mut self, now: Instant, peer: RoutingId, lost: Vec<Frames<Frame>>) {
        for frames in lost {
            self.machine.handle_undeliverable(now, Transmit { to: peer.clone(), frames });
        }
    }

    /// Does what the handle asked for; whether to stop.
    fn obey(&mut self) -> bool {
        self.shared.waker.clear();
        let State { asking, stop, .. } = &mut *self.shared.lock();
        if !asking.is_empty() {
            let stats = self.machine.stats(Instant::now());
            for sender in asking.drain(..) {
                // Whoever asked may have given up.
                let _ = sender.send(stats.clone());
            }
        }
        *stop
    }

    fn wait(&mut self) -> Result<()> {
        let due = self.machine.poll_timeout().map(|due| due.saturating_duration_since(self.now));
        let timeout = due.into_iter().chain(self.router.retry_after()).min();
        let interests = [Interest::router(&self.router), Interest::waker(&self.shared.waker)];
        // A signal or the end of the time only means: look again.
        self.poller.poll(&interests, timeout)?;
        Ok(())
    }

    /// Says DISCONNECT to the workers and hands out what slow peers still take.
    fn finish(&mut self) -> Result<()> {
        self.machine.shutdown(Instant::now());
        self.transmit()?;
        let ends = Instant::now() + LAST_FLUSH;
        while let Some(pause) = self.router.retry_after() {
            if Instant::now() >= ends {
                log::warn!("{} messages were left that their peers did not read", self.router.backlog().messages);
                break;
            }
            self.poller.poll(&[], Some(pause))?;
            self.flush()?;
        }
        Ok(())
    }
}
