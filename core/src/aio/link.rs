//! A connection of the I/O thread, and what waits to go out on it.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::error::Result;
use crate::message::FRAME_COST;
use crate::transport::{Dealer, DealerOptions, Received};

/// One connection, or the place of one.
#[derive(Default)]
pub(super) struct Link {
    dealer: Option<Dealer>,
    /// What the connection has not taken yet: it does not stand, or has no room.
    unsent: VecDeque<Vec<Bytes>>,
    /// How much memory that takes, about.
    unsent_cost: usize,
}

impl Link {
    /// Opens a fresh connection in the place of the old one, whose unsent messages are dropped.
    pub(super) fn connect(&mut self, endpoint: &str, options: &DealerOptions) -> Result<()> {
        self.close();
        self.dealer = Some(Dealer::connect(endpoint, options)?);
        Ok(())
    }

    /// Closes; what libzmq has already taken may still go out for the linger time, without anybody waiting.
    pub(super) fn close(&mut self) {
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
        self.unsent.is_empty() && self.dealer.as_ref().is_some_and(|dealer| !dealer.is_readable().unwrap_or(true))
    }

    /// How much memory the unsent messages take, about.
    pub(super) fn unsent_cost(&self) -> usize {
        self.unsent_cost
    }

    /// The open connection, and whether messages wait for it to become writable.
    pub(super) fn interest(&self) -> Option<(&Dealer, bool)> {
        self.dealer.as_ref().map(|dealer| (dealer, !self.unsent.is_empty()))
    }
}

fn cost(frames: &[Bytes]) -> usize {
    frames.iter().map(|frame| frame.len() + FRAME_COST).sum()
}
