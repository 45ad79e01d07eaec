//! A worker of MDP/0.1 or 0.2: one request at a time.

use std::time::Instant;

use bytes::Bytes;

use crate::error::Result;
use crate::message::Message;
use crate::proto::failure;
use crate::proto::mdp::{self, Part, ToBroker, ToWorker, Version};

use super::hand::{Held, ReplyTo};
use super::{Answer, Worker, WorkerOutput, too_large};

impl Worker {
    pub(super) fn handle_older(&mut self, now: Instant, version: Version, frames: Vec<Bytes>) {
        let message = match mdp::read_to_worker(version, frames) {
            Ok(message) => message,
            Err(malformed) => return self.dropped(malformed.reason),
        };
        match message {
            ToWorker::Request { address, body } if self.running.is_empty() => {
                self.connected();
                self.alive(now);
                self.last_number += 1;
                let number = self.last_number;
                let reply_to = ReplyTo::Older { address, joined: Vec::new(), joined_bytes: 0 };
                self.running.insert(number, Held::new(reply_to));
                let body = Message::from_frames(body);
                self.outputs.push(WorkerOutput::Request { number, body, attempt: 1, deadline: None, key: None });
            }
            ToWorker::Request { .. } => {
                // Dropping the second request would lose it. Leaving gives both back to the broker.
                log::warn!("{}: the broker sent a request to a busy worker; reconnecting", self.config.service);
                let message = ToBroker::Disconnect { version };
                self.outputs.say(mdp::write_to_broker(message));
                self.detach(now, "the broker sent a request to a busy worker");
            }
            ToWorker::Heartbeat => {
                self.connected();
                self.failures = 0;
                if self.heartbeat.beat_heard(now) {
                    self.send_older(now, ToBroker::Heartbeat { version });
                }
            }
            ToWorker::Disconnect => {
                log::info!("{}: the broker ended the connection", self.config.service);
                self.detach(now, "the broker ended the connection");
            }
        }
    }

    pub(super) fn answer_older(&mut self, now: Instant, number: u64, answer: Answer) -> Result<()> {
        let spoken_01 = self.is_v01();
        let Some(held) = self.running.get_mut(&number) else { return Ok(()) };
        let ReplyTo::Older { address, joined, joined_bytes } = &mut held.reply_to else { return Ok(()) };
        let (part, mut body, limit) = match answer {
            Answer::Partial(body) => (Part::Partial, body, self.limit),
            Answer::Final(body) => (Part::Final, body, self.limit),
            Answer::Failure(failure) => {
                // A failure replaces what 0.1 kept for a joined reply.
                joined.clear();
                *joined_bytes = 0;
                // Its text is bounded on its own: a failure can always be said.
                (Part::Final, failure::encode(&failure), usize::MAX)
            }
            // Nobody is told of cancellations in these protocols, so there is none to speak of.
            Answer::Cancelled => return self.answer_older(now, number, Answer::Failure(super::cancelled())),
        };
        let bytes = *joined_bytes + body.byte_len();
        if bytes > limit {
            return Err(too_large(bytes, limit));
        }
        if part == Part::Partial && spoken_01 {
            *joined_bytes = bytes;
            joined.extend(body);
            return Ok(());
        }
        if !joined.is_empty() {
            let mut frames = std::mem::take(joined);
            frames.extend(body);
            body = Message::from_frames(frames);
        }
        // The last part is the last that needs it.
        let address = if part == Part::Final { std::mem::take(address) } else { address.clone() };
        let current = held.current;
        match self.version() {
            Some(version) if current => {
                self.heartbeat.sent(now);
                self.outputs.say(mdp::answer(version, address, part, body));
            }
            _ => {
                log::warn!("{}: dropped the answer to a request that was lost with its connection", self.config.service)
            }
        }
        if part == Part::Final {
            self.release(number);
            self.finish(now);
        }
        Ok(())
    }

    pub(super) fn send_older(&mut self, now: Instant, message: ToBroker<Bytes>) {
        self.heartbeat.sent(now);
        self.outputs.say(mdp::write_to_broker(message));
    }

    /// The version of an older protocol that is spoken on this connection.
    pub(super) fn version(&self) -> Option<Version> {
        match self.spoken {
            Some(crate::proto::discovery::Spoken::Mdp(version)) => Some(version),
            _ => None,
        }
    }

    fn is_v01(&self) -> bool {
        self.version() == Some(Version::V01)
    }
}
