//! Requests out, outcomes in.

use std::time::Instant;

use crate::error::{Error, ErrorKind};
use crate::message::Message;

use super::super::client::ReplyMode;
use super::super::mdpx::{self, Command};
use super::request::Request;
use super::{ACK_AFTER, ACK_WITHIN, CANCELS_REPEATED, Session, SessionOutput, Stage};

impl Session {
    /// Sends what waits, as far as the credit goes.
    pub(super) fn pump(&mut self, now: Instant) {
        if !matches!(self.stage, Stage::Ready) || self.queue.is_empty() {
            return;
        }
        let acked = self.arrived();
        let owed_nothing = self.outstanding == 0;
        while self.outstanding < self.credit
            && let Some(number) = self.queue.pop_front()
        {
            let Some(request) = self.requests.get_mut(number) else { continue };
            if request.asked.body.byte_len() as u64 > self.max_message {
                let error = Error::new(
                    ErrorKind::TooLarge,
                    format!("the broker takes requests of up to {} bytes", self.max_message),
                );
                self.requests.remove(number);
                self.outputs.push(SessionOutput::Done { number, outcome: Err(error) });
                continue;
            }
            request.say(now, number, acked, &mut self.outputs);
            request.on_wire = true;
            request.was_sent = true;
            self.sent.push_back(number);
            self.outstanding += 1;
            self.acked = acked;
            self.unacked = 0;
        }
        // Silence counts from here where the broker owed nothing before: it may have been quiet for long, and a driver that
        // sleeps between calls has not looked since.
        if self.outstanding > 0 && (owed_nothing || self.silence_due.is_none()) {
            self.heard = now;
            self.silence_due = Some(now + self.patience);
        }
    }

    /// All outcomes up to this number have arrived.
    pub(super) fn arrived(&mut self) -> u64 {
        for numbers in [&mut self.sent, &mut self.queue] {
            while let Some(number) = numbers.front() {
                if self.requests.get(*number).is_some() {
                    return number - 1;
                }
                numbers.pop_front();
            }
        }
        self.last
    }

    /// The broker was heard.
    pub(super) fn answered(&mut self, now: Instant) {
        self.heard = now;
        self.failures = 0;
    }

    /// Whether the request waits for exactly this part. A gap fails it: what was lost with a connection does not come.
    pub(super) fn is_next(&mut self, now: Instant, number: u64, sequence: u32) -> bool {
        match self.requests.get(number) {
            Some(request) if request.was_sent && request.parts == sequence => true,
            Some(request) if request.was_sent => {
                let error = Error::new(
                    ErrorKind::BrokerUnreachable,
                    format!(
                        "the connection was lost in the middle of {:?}'s streamed reply",
                        request.asked.terms.service
                    ),
                );
                self.cancel(now, number, error);
                false
            }
            _ => {
                self.strays += 1;
                false
            }
        }
    }

    pub(super) fn partial(&mut self, now: Instant, number: u64, part: Message) {
        let Some(request) = self.requests.get_mut(number) else { return };
        request.parts += 1;
        if let Some(renewal) = request.renewal {
            // The earlier moment stays among the deadlines, and is moved on when it comes.
            request.deadline = now + renewal;
        }
        if request.asked.mode == ReplyMode::Parts {
            return self.outputs.push(SessionOutput::Partial { number, part });
        }
        let joined = request.joined.get_or_insert_default();
        joined.cost += part.cost();
        joined.frames.extend(part);
        if joined.cost > self.config.max_message_bytes {
            let error = Error::new(
                ErrorKind::TooLarge,
                format!("the parts of {:?}'s reply exceed max_message_bytes when joined", request.asked.terms.service),
            );
            self.cancel(now, number, error);
        }
    }

    /// The request's outcome came.
    pub(super) fn finish(&mut self, now: Instant, number: u64, outcome: crate::error::Result<Message>) {
        let Some(request) = self.requests.remove(number) else { return };
        self.outstanding -= usize::from(request.on_wire);
        let outcome = match (outcome, request.joined) {
            (Ok(last), Some(joined)) => {
                let properties = last.properties().clone();
                let frames = joined.frames.into_iter().chain(last);
                Ok(frames.collect::<Message>().with_properties(properties))
            }
            (outcome, _) => outcome,
        };
        self.outputs.push(SessionOutput::Done { number, outcome });
        self.unacked += 1;
        if self.unacked >= ACK_AFTER {
            self.ack();
        } else if self.ack_due.is_none() {
            self.ack_due = Some(now + ACK_WITHIN);
        }
        self.pump(now);
    }

    pub(super) fn ack(&mut self) {
        self.unacked = 0;
        let number = self.arrived();
        if number > self.acked {
            self.acked = number;
            self.outputs.join(&Command::Ack { number });
        }
    }

    /// The broker need not work on a request that has ended here; it is told now or after the next WELCOME.
    pub(super) fn forget(&mut self, number: u64, request: &Request) {
        if request.on_wire {
            self.outstanding -= 1;
            if self.cancelled.len() >= CANCELS_REPEATED {
                self.cancelled.pop_front();
            }
            self.cancelled.push_back(number);
            // Before its outcome: whoever gives a request up may not come back to send it.
            self.outputs.say(mdpx::control(&Command::Cancel { number }));
        } else if request.was_sent {
            self.given_up.push(number);
        }
    }

    /// The session is done with a request that its broker may still have, should it be found again.
    pub(super) fn drop_request(&mut self, number: u64) -> Option<Request> {
        let request = self.requests.remove(number)?;
        if request.was_sent {
            self.given_up.push(number);
        }
        Some(request)
    }

    /// Every request's number, rising.
    pub(super) fn take_numbers(&self) -> Vec<u64> {
        self.requests.iter().map(|(number, _)| number).collect()
    }
}
