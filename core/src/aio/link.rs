//! A connection of the I/O thread, and what waits to go out on it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::Result;
use crate::message::FRAME_COST;
use crate::transport::{Dealer, DealerOptions, Received};

use super::watch::Watch;

/// One connection, or the place of one.
#[derive(Default)]
pub(super) struct Link {
    dealer: Option<Dealer>,
    /// What the connection has not taken yet: it does not stand, or has no room.
    unsent: VecDeque<Vec<Bytes>>,
    /// How much memory that takes, about.
    unsent_cost: usize,
    /// Of the event loop that looks after the connection while it is lent.
    watch: Option<Arc<Watch>>,
    /// Whether it is: the loop is told of messages, and the I/O thread is not.
    lent: bool,
    /// How many times in a row that was wanted.
    wanted: u32,
}

/// So many times in a row it must be wanted that the connection is lent. To lend it and to take it back costs more than is
/// saved where requests come now alone and now together.
const OFTEN: u32 = 32;

impl Link {
    /// Opens a fresh connection in the place of the old one, whose unsent messages are dropped.
    pub(super) fn connect(&mut self, endpoint: &str, options: &DealerOptions) -> Result<()> {
        self.close();
        self.dealer = Some(Dealer::connect(endpoint, options)?);
        Ok(())
    }

    /// Closes; what libzmq has already taken may still go out for the linger time, without anybody waiting.
    pub(super) fn close(&mut self) {
        self.wanted = 0;
        self.take_back();
        self.dealer = None;
        self.unsent.clear();
        self.unsent_cost = 0;
    }

    pub(super) fn is_open(&self) -> bool {
        self.dealer.is_some()
    }

    /// Puts a message behind those that wait. Without a connection there is nobody to send it to.
    pub(super) fn send(&mut self, frames: Vec<Bytes>) {
        if self.is_open() {
            self.unsent_cost += cost(&frames);
            self.unsent.push_back(frames);
        }
    }

    /// Sends what the connection takes now; how many messages that was.
    pub(super) fn flush(&mut self) -> Result<usize> {
        let mut sent = 0;
        if let Some(dealer) = &self.dealer {
            while let Some(frames) = self.unsent.front() {
                if !dealer.try_send(frames)? {
                    break;
                }
                self.unsent_cost -= cost(frames);
                self.unsent.pop_front();
                sent += 1;
            }
        }
        Ok(sent)
    }

    pub(super) fn recv(&mut self) -> Result<Received> {
        self.dealer.as_ref().map_or(Ok(Received::Nothing), Dealer::try_recv)
    }

    /// Whether the connection is open and has taken all that there was to send.
    pub(super) fn is_clear(&self) -> bool {
        self.is_open() && self.unsent.is_empty()
    }

    /// Whether it also has nothing to read, so that its descriptor tells of whatever comes next.
    pub(super) fn is_calm(&self) -> bool {
        let reads_nothing = |dealer: &Dealer| dealer.is_drained() || !dealer.is_readable().unwrap_or(true);
        self.unsent.is_empty() && self.dealer.as_ref().is_some_and(reads_nothing)
    }

    /// An event loop looks after the connection from now on while it is [lent](Link::lend).
    pub(super) fn set_watch(&mut self, watch: Arc<Watch>) {
        self.take_back();
        self.watch = Some(watch);
    }

    /// Lends the connection to the event loop, if there is one, or takes it back. It is lent only where it has nothing to
    /// send and nothing to read, so that both are told of what comes next by its descriptor. `handle` is the number of the
    /// client or the worker that it belongs to.
    pub(super) fn lend(&mut self, handle: u64, wanted: bool) {
        let is_open = self.watch.as_ref().is_some_and(|watch| watch.is_open());
        if !wanted || !is_open || !self.unsent.is_empty() {
            self.wanted = 0;
            self.take_back();
        } else if self.wanted < OFTEN {
            self.wanted += 1;
        } else if let (Some(watch), false) = (&self.watch, self.lent)
            && self.is_calm()
        {
            self.lent = self.dealer.as_ref().is_some_and(|dealer| watch.add(dealer, handle));
        }
    }

    /// From now on the I/O thread is told of messages again. Whoever does this on another thread must wake it.
    pub(super) fn take_back(&mut self) {
        if let (Some(watch), Some(dealer), true) = (&self.watch, &self.dealer, self.lent) {
            watch.remove(dealer);
        }
        self.lent = false;
    }

    pub(super) fn is_lent(&self) -> bool {
        self.lent
    }

    /// Whether it is lent and, now that its descriptor has stirred, has something to read.
    pub(super) fn is_lent_and_readable(&self) -> bool {
        self.lent && self.dealer.as_ref().is_some_and(|dealer| dealer.is_readable().unwrap_or(true))
    }

    /// How much memory the unsent messages take, about.
    pub(super) fn unsent_cost(&self) -> usize {
        self.unsent_cost
    }

    /// The open connection, and whether messages wait for it to become writable; `None` where it is lent and tells the event
    /// loop of whatever comes.
    pub(super) fn interest(&self) -> Option<(&Dealer, bool)> {
        let dealer = self.dealer.as_ref()?;
        let is_told = self.lent && dealer.is_drained() && self.watch.as_ref().is_some_and(|watch| watch.is_open());
        (!is_told).then_some((dealer, !self.unsent.is_empty()))
    }
}

fn cost(frames: &[Bytes]) -> usize {
    frames.iter().map(|frame| frame.len() + FRAME_COST).sum()
}
