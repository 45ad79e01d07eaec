//! What a machine of a client or a worker wants done, in order.
//!
//! Small messages that follow each other are gathered and go out as one BATCH. Nothing waits for company: what was gathered
//! is the last of the outputs, and a driver that has nothing else to hand in takes it.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::message::Message;

use super::mdpx::{self, Command, Gathered};

/// A longer text goes alone.
const LONG_TEXT: usize = 255;

/// An output that may be one about the connection.
pub(super) trait Output {
    /// Sends these frames.
    fn send(frames: Vec<Bytes>) -> Self;

    /// Whether what was said before must have gone to the connection before this is done.
    fn follows_what_was_said(&self) -> bool;
}

#[derive(Debug)]
pub(super) struct Outputs<O> {
    queue: VecDeque<O>,
    gathered: Gathered,
}

impl<O> Default for Outputs<O> {
    fn default() -> Self {
        Outputs { queue: VecDeque::new(), gathered: Gathered::default() }
    }
}

impl<O: Output> Outputs<O> {
    pub(super) fn push(&mut self, output: O) {
        if output.follows_what_was_said()
            && let Some(said) = self.gathered.take()
        {
            self.queue.push_back(O::send(said));
        }
        self.queue.push_back(output);
    }

    /// Sends a message alone.
    pub(super) fn say(&mut self, frames: Vec<Bytes>) {
        self.push(O::send(frames));
    }

    /// Sends a message of MDPX with this body, small ones together with others.
    pub(super) fn say_with(&mut self, command: &Command<'_>, body: &Message) {
        if Gathered::fits(body) {
            self.queue.extend(self.gathered.add(command, Some(body)).map(O::send));
        } else {
            self.say(mdpx::message(command, body));
        }
    }

    /// Sends a command without a body, together with others if it is small.
    pub(super) fn join(&mut self, command: &Command<'_>) {
        if *command == Command::Batch || command.text().len() > LONG_TEXT {
            self.say(mdpx::control(command));
        } else {
            self.queue.extend(self.gathered.add(command, None).map(O::send));
        }
    }

    /// The next one that need not wait for the end of what is handed in at the moment.
    pub(super) fn pop_ready(&mut self) -> Option<O> {
        self.queue.pop_front()
    }

    /// The next one; in the end what was gathered.
    pub(super) fn pop(&mut self) -> Option<O> {
        self.queue.pop_front().or_else(|| self.gathered.take().map(O::send))
    }

    /// Whether there is something that [`Outputs::pop_ready`] does not give.
    pub(super) fn has_gathered(&self) -> bool {
        !self.gathered.is_empty()
    }
}
