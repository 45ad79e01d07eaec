//! The connection: made, greeted, lost.

use std::time::{Duration, Instant};

use crate::error::ErrorKind;
use crate::event::ConnectionEvent;
use crate::options::Protocol;

use super::super::discovery::{self, Discovery, Spoken};
use super::super::mdp::Version;
use super::super::mdpx::{self, Command};
use super::request::milliseconds;
use super::{ACK_WITHIN, HEARTBEATS, LIVENESS, Session, SessionOutput, Stage, Trouble};

impl Session {
    pub(super) fn connect(&mut self, now: Instant) {
        if self.failures > 0 {
            let endpoint = self.endpoint_name();
            self.outputs.push(SessionOutput::Event(ConnectionEvent::Reconnecting { endpoint }));
        }
        self.connections += 1;
        self.outputs.push(SessionOutput::Connect { endpoint: self.endpoint });
        match Spoken::fixed(self.config.protocol) {
            None => {
                let connect_by = Some(now + self.config.timeout);
                self.stage = Stage::Asking { discovery: Discovery::new(now), connect_by };
                self.outputs.say(discovery::question());
            }
            Some(spoken) => self.speak(now, spoken),
        }
    }

    /// What the broker speaks is known.
    pub(super) fn speak(&mut self, now: Instant, spoken: Spoken) {
        match spoken {
            Spoken::X1 => {
                let heartbeat = (self.config.timeout / u32::from(LIVENESS)).clamp(HEARTBEATS.0, HEARTBEATS.1);
                let hello = mdpx::control(&Command::Hello {
                    session: self.identity.session,
                    secret: self.identity.secret,
                    heartbeat_ms: milliseconds(heartbeat),
                    liveness: LIVENESS,
                });
                self.stage = Stage::Greeting { until: now + self.config.timeout, is_out: false };
                self.outputs.say(hello);
                self.outputs.say(mdpx::control(&Command::Batch));
            }
            Spoken::Mdp(version) => self.hand_over(version),
        }
    }

    pub(super) fn hand_over(&mut self, version: Version) {
        self.outputs.push(SessionOutput::Close);
        let mut requests = Vec::with_capacity(self.requests.len());
        for number in self.take_numbers() {
            let Some(request) = self.drop_request(number) else { continue };
            match request.is_repeatable() {
                Ok(()) => requests.push((number, request.asked)),
                Err(error) => self.outputs.push(SessionOutput::Done { number, outcome: Err(error) }),
            }
        }
        self.outputs.push(SessionOutput::Older { version, endpoint: self.endpoint, requests });
        self.failures = 0;
        self.rest();
    }

    pub(super) fn welcome(&mut self, now: Instant, resumed: bool) {
        self.stage = Stage::Ready;
        self.trouble = Trouble::default();
        let (endpoint, protocol) = (self.endpoint_name(), Protocol::X1);
        self.outputs.push(SessionOutput::Event(ConnectionEvent::Connected { endpoint, protocol }));
        let given_up = std::mem::take(&mut self.given_up);
        if resumed {
            for number in given_up {
                self.cancelled.push_back(number);
                self.outputs.join(&Command::Cancel { number });
            }
            self.ack_due = Some(now + ACK_WITHIN);
        } else {
            self.begin_anew();
        }
        self.pump(now);
    }

    /// The broker has forgotten the session: what cannot be repeated fails, the rest begins anew.
    pub(super) fn begin_anew(&mut self) {
        self.acked = 0;
        self.requests.retain(|number, request| match request.is_repeatable() {
            Ok(()) => {
                request.joined = None;
                request.parts = 0;
                true
            }
            Err(error) => {
                self.outputs.push(SessionOutput::Done { number, outcome: Err(error) });
                false
            }
        });
    }

    /// The broker does not take the session. Asking again may help: a place gets free, or the next broker has one.
    pub(super) fn refused(&mut self, now: Instant, refusal: Option<ErrorKind>, reason: String) {
        if refusal == Some(ErrorKind::Denied) {
            // Under this name the broker knows somebody else. There is a pause in any case, so the next HELLO has the new one.
            self.outputs.push(SessionOutput::Identify);
            self.failures = self.failures.max(1);
        }
        self.lost(now, refusal, reason);
    }

    /// Remembers why the present connection is of no use. That a broker has refused the session says more than that another
    /// one is not there.
    pub(super) fn blame(&mut self, refusal: Option<ErrorKind>, text: String) {
        let endpoint = self.endpoint;
        if refusal.is_some() || self.trouble.refusal.is_none() || self.trouble.endpoint == endpoint {
            self.trouble = Trouble { refusal, text, endpoint };
        }
    }

    pub(super) fn lost(&mut self, now: Instant, refusal: Option<ErrorKind>, reason: String) {
        if matches!(self.stage, Stage::Ready) {
            let endpoint = self.endpoint_name();
            let event = ConnectionEvent::Disconnected { endpoint, reason: reason.clone() };
            self.outputs.push(SessionOutput::Event(event));
        }
        self.blame(refusal, reason);
        self.outputs.push(SessionOutput::Close);
        self.unsend();
        self.failures = self.failures.saturating_add(1);
        let pause = self.pause();
        if self.requests.is_empty() {
            self.stage = Stage::Idle;
        } else if pause.is_zero() {
            self.next_endpoint();
            self.connect(now);
        } else {
            self.stage = Stage::Pausing(now + pause);
        }
    }

    /// The present broker has had its time: the next one is tried.
    pub(super) fn give_way(&mut self, now: Instant) {
        self.outputs.push(SessionOutput::Close);
        self.unsend();
        self.failures = self.failures.saturating_add(1);
        self.reconnect(now);
    }

    pub(super) fn reconnect(&mut self, now: Instant) {
        self.next_endpoint();
        if self.requests.is_empty() {
            self.stage = Stage::Idle;
        } else {
            self.connect(now);
        }
    }

    pub(super) fn next_endpoint(&mut self) {
        self.endpoint = (self.endpoint + 1) % self.config.endpoints.len().max(1);
    }

    /// None the first time, then `reconnect_min` doubling up to `reconnect_max`, each somewhat shortened by chance.
    pub(super) fn pause(&mut self) -> Duration {
        let Some(doublings) = self.failures.checked_sub(2) else { return Duration::ZERO };
        let pause = self.config.reconnect_min.saturating_mul(1 << doublings.min(20)).min(self.config.reconnect_max);
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        pause / 2 + (pause / 2).mul_f64((self.random >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// What was sent is to be sent again on the next connection, before the rest.
    pub(super) fn unsend(&mut self) {
        let sent = std::mem::take(&mut self.sent);
        for number in sent.into_iter().rev() {
            if let Some(request) = self.requests.get_mut(number) {
                request.on_wire = false;
                self.queue.push_front(number);
            }
        }
        self.given_up.extend(self.cancelled.drain(..));
        self.outstanding = 0;
        // What was acknowledged last may be lost as well.
        self.acked = 0;
        self.silence_due = None;
        self.ack_due = None;
        self.unacked = 0;
    }

    /// Without requests and without a connection.
    pub(super) fn rest(&mut self) {
        self.unsend();
        self.queue.clear();
        self.deadlines.clear();
        self.stage = Stage::Idle;
    }

    pub(super) fn endpoint_name(&self) -> String {
        self.config.endpoints.get(self.endpoint).cloned().unwrap_or_default()
    }
}
