//! The broker driven as its driver would drive it.

use std::time::Duration;

use bytes::Bytes;
use majordomo::BrokerOptions;
use majordomo::proto::broker::{Broker, BrokerConfig};
use majordomo::proto::mdp::Version;

use super::hands::farewell;
use super::ledger::split;
use super::network::{Link, Moment, Owner, State};
use super::world::World;

impl World<'_> {
    pub(super) fn start_broker(&mut self) {
        self.incarnation += 1;
        let setting = &self.script.setting.broker;
        let ms = Duration::from_millis;
        let options = BrokerOptions::new("tcp://broker:1")
            .heartbeat(ms(setting.heartbeat))
            .max_attempts(setting.max_attempts)
            .attempt_timeout(setting.attempt_timeout.map(ms))
            .request_ttl(Some(ms(setting.request_ttl)));
        let mut config = BrokerConfig::from(&options);
        config.credit = setting.credit;
        (config.max_queued, config.max_queued_per_service) = setting.max_queued;
        (config.max_queued_bytes, config.max_queued_bytes_per_service) = setting.max_queued_bytes;
        (config.max_services, config.max_workers) = (setting.max_services, setting.max_workers);
        config.max_sessions = setting.max_sessions;
        self.broker = Some(Broker::new(config, self.clocks.broker(self.now), self.incarnation));
        self.broker_due = Moment::MAX;
        self.first_link = self.network.count();
        self.known_to_broker.clear();
        for index in 0..self.sessions.len() {
            self.flush_session(index);
        }
        for index in 0..self.olders.len() {
            self.flush_older(index);
        }
    }

    /// The broker ends in good order: its peers are told, and their connections end behind that. Whether there was one.
    pub(super) fn end_broker(&mut self) -> bool {
        let Some(mut broker) = self.broker.take() else { return false };
        let mut owed = self.ledger.partners();
        broker.shutdown(self.clocks.broker(self.now));
        while let Some(transmit) = broker.poll_transmit() {
            let link = link_of(&transmit.to);
            let version = match self.network.owner(link) {
                Owner::Worker(index) => self.workers[index].version,
                Owner::Session(_) | Owner::Older(_) => Version::V02,
            };
            owed.retain(|partner| *partner != link || farewell(&transmit.frames, version).is_none());
            self.network.send_to_peer(self.now, link, transmit.frames.into_vec());
        }
        self.ledger.hold(owed.is_empty(), "a broker that ends says so", || format!("not on the connections {owed:?}"));
        self.ledger.begin_anew();
        self.network.end_all(self.now);
        true
    }

    pub(super) fn at_broker(&mut self, link: Link, frames: Vec<Bytes>) {
        let now = self.now;
        // What was on its way to a broker that has died is lost with it.
        let Some(broker) = self.broker.as_mut().filter(|_| link >= self.first_link) else { return };
        if self.known_to_broker.len() <= link {
            self.known_to_broker.resize(link + 1, false);
        }
        self.known_to_broker[link] = true;
        self.ledger.begin_input();
        let accepted = broker.stats(self.clocks.broker(now)).counters.accepted;
        let owner = self.network.owner(link);
        match owner {
            // Late words of a process that has died are of no account.
            Owner::Session(index) if link < self.sessions[index].first_link => {}
            Owner::Session(index) => {
                let ids = &self.sessions[index].ids;
                split(&frames).iter().for_each(|frames| self.ledger.of_session(now, index, link, frames, ids));
            }
            Owner::Worker(_) => split(&frames).iter().for_each(|frames| self.ledger.of_worker(now, link, frames)),
            Owner::Older(_) => self.ledger.of_older(now, &frames),
        }
        broker.handle_message(self.clocks.broker(now), &(link as u64).to_be_bytes(), frames);
        if matches!(owner, Owner::Older(_)) && broker.stats(self.clocks.broker(now)).counters.accepted > accepted {
            self.ledger.took_in(link);
        }
        self.drive_broker();
    }

    pub(super) fn drive_broker(&mut self) {
        let now = self.now;
        let Some(mut broker) = self.broker.take() else { return };
        // One by one, as the driver does: what becomes of one may take back the next.
        let mut said = Vec::new();
        while let Some(transmit) = broker.poll_transmit() {
            let link = link_of(&transmit.to);
            let is_there = self.network.state(link) != State::Closed;
            said.push((link, is_there, transmit.frames.to_vec()));
            if is_there {
                self.network.send_to_peer(now, link, transmit.frames.into_vec());
            } else {
                broker.handle_undeliverable(self.clocks.broker(now), transmit);
            }
        }
        for (link, _, frames) in &said {
            if let Owner::Worker(index) = self.network.owner(*link) {
                self.ledger.will_tell(*link, frames, self.workers[index].version);
            }
        }
        for (link, is_there, frames) in said {
            match self.network.owner(link) {
                _ if !is_there => self.ledger.gone(link),
                Owner::Session(index) => {
                    let ids = &self.sessions[index].ids;
                    split(&frames).iter().for_each(|frames| self.ledger.told_session(index, link, frames, ids));
                }
                Owner::Worker(index) => {
                    let (version, is_sound) = (self.workers[index].version, self.network.is_sound(link));
                    let told = |frames: &Vec<Bytes>| self.ledger.told_worker(now, link, frames, version, is_sound);
                    split(&frames).iter().for_each(told);
                }
                Owner::Older(index) => self.ledger.told_older(self.olders[index].version, link, &frames),
            }
        }
        self.ledger.end_output();
        self.broker_due = self.clocks.broker_due(broker.poll_timeout());
        self.broker = Some(broker);
        self.broker_acted = true;
    }
}

fn link_of(routing_id: &[u8]) -> Link {
    u64::from_be_bytes(routing_id.try_into().unwrap_or([0xff; 8])) as Link
}
