//! What peers of MDP/0.1 and 0.2 say.

use std::time::Instant;

use log::Level;

use crate::proto::frame::{Frame, Frames, RoutingId};
use crate::proto::mdp::{self, Part, ToBroker, ToClient, Version};
use crate::proto::mmi;

use super::outcome::Answer;
use super::request::{Body, Client, Held};
use super::worker::Wire;
use super::{Broker, Registration, hex, read_address};

impl<F: Frame> Broker<F> {
    pub(super) fn handle_older(&mut self, now: Instant, peer: &[u8], frames: Vec<F>) {
        match mdp::read_to_broker(frames) {
            Ok(ToBroker::Request { version, service, body }) => self.on_request(now, peer, version, service, body),
            Ok(ToBroker::Ready { version, service }) => self.on_ready(now, peer, version, &service),
            Ok(ToBroker::Answer { version, address, part, body }) => {
                if let Some(worker) = self.known_worker(now, peer, Wire::Mdp(version)) {
                    let delivery = read_address(self.incarnation, address.as_ref());
                    let body = Body::of_frames(body);
                    let answer = match part {
                        Part::Partial => Answer::Partial(body),
                        Part::Final => Answer::Final(body),
                    };
                    self.on_answer(now, worker, delivery, answer);
                } else {
                    self.counters.stray_replies += 1;
                }
            }
            Ok(ToBroker::Heartbeat { version }) => {
                if let Some(worker) = self.known_worker(now, peer, Wire::Mdp(version)) {
                    self.on_beat(now, worker);
                }
            }
            Ok(ToBroker::Disconnect { .. }) => {
                self.remove_worker(now, peer);
            }
            Err(malformed) => {
                self.counters.malformed += 1;
                if self.complaints.may_say(Level::Debug, now, peer) {
                    log::debug!("dropped a message of peer {}: {}", hex(peer), malformed.reason);
                }
                if let Some(version) = malformed.worker {
                    self.expel(now, peer, Wire::Mdp(version), malformed.reason);
                }
            }
        }
    }

    fn on_request(&mut self, now: Instant, peer: &[u8], version: Version, service: F, body: Vec<F>) {
        if mmi::is_reserved(service.as_ref()) {
            let body = self.manage(now, service.as_ref(), body.first().map(AsRef::as_ref));
            let frames = mdp::write_to_client(version, ToClient { service, part: Part::Final, body });
            self.say(peer.into(), Frames::from_vec(frames));
            return;
        }
        let body = Held::of_frames(body);
        let known = self.service_key(service.as_ref());
        let client = Client::Mdp { peer: RoutingId::from(peer), version };
        match self.admit(&client, known, &body) {
            Ok(()) => {
                let service = self.service_for(known, service.as_ref());
                let request = self.request(now, client, service, body);
                self.accept(now, request);
            }
            // Its protocol has no word for it.
            Err((_, limit)) => {
                self.counters.refused += 1;
                // Somebody must hear of it: the client cannot.
                if self.complaints.may_say(Level::Warn, now, peer) {
                    let service = String::from_utf8_lossy(service.as_ref());
                    log::warn!("refused a request of peer {} for {service:?}: {limit}", hex(peer));
                }
            }
        }
    }

    fn on_ready(&mut self, now: Instant, peer: &[u8], version: Version, service: &F) {
        let wire = Wire::Mdp(version);
        if self.workers.key(peer).is_some() {
            if self.complaints.may_say(Level::Info, now, peer) {
                log::info!("worker {} said READY twice", hex(peer));
            }
            self.expel(now, peer, wire, "READY was said twice");
            return;
        }
        let registration =
            Registration { wire, service: service.as_ref(), capacity: 1, heartbeat: self.config.heartbeat };
        match self.register(now, peer, registration) {
            Ok(worker) => self.settle_worker(now, worker),
            Err(why) => {
                if self.complaints.may_say(Level::Warn, now, peer) {
                    log::warn!("refused worker {}: {why}", hex(peer));
                }
                self.say_disconnect(peer.into(), wire, why);
            }
        }
    }
}
