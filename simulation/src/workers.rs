//! Workers driven as their drivers would drive them, and their handlers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use majordomo::proto::mdp::Version;
use majordomo::proto::worker::{Answer, Worker, WorkerConfig, WorkerOutput};
use majordomo::{ConnectionEvent, Message, Protocol, ServiceError, WorkerOptions};

use super::asks::number_of;
use super::ledger::split;
use super::network::{Deed, Event, Link, MS, Moment, Owner};
use super::random::Random;
use super::script::{Kind, Speaks, WorkerSetting};
use super::world::World;

/// A worker with its connection and what its handlers have.
pub(super) struct WorkerPeer {
    pub(super) machine: Option<Worker>,
    pub(super) version: Version,
    options: WorkerOptions,
    /// How many handlers may run.
    hands: usize,
    keeps: bool,
    pub(super) link: Option<Link>,
    /// Rises with each restart: a handler of an earlier life must not answer for a later one.
    life: u64,
    bodies: BTreeMap<u64, (usize, Message, u32)>,
    /// When it comes back after it has left.
    pub(super) back_after: Moment,
    pub(super) due: Moment,
    pub(super) thaw: Moment,
}

impl WorkerPeer {
    pub(super) fn new(setting: &WorkerSetting) -> WorkerPeer {
        let protocol = match setting.speaks {
            Speaks::V01 => Protocol::V01,
            Speaks::V02 => Protocol::V02,
            Speaks::X1 => Protocol::X1,
            Speaks::Auto => Protocol::Auto,
        };
        let options = WorkerOptions::new("tcp://broker:1", &setting.service)
            .protocol(protocol)
            .heartbeat(Duration::from_millis(setting.heartbeat))
            .liveness(3)
            .concurrency(setting.concurrency)
            .prefetch(setting.prefetch)
            .keep_outcomes(if setting.keeps { 1000 } else { 0 })
            .keep_outcomes_age(Duration::from_secs(3600));
        let older = matches!(setting.speaks, Speaks::V01 | Speaks::V02);
        WorkerPeer {
            machine: None,
            version: if setting.speaks == Speaks::V01 { Version::V01 } else { Version::V02 },
            options,
            hands: if older { 1 } else { setting.concurrency },
            keeps: setting.keeps,
            link: None,
            life: 0,
            bodies: BTreeMap::new(),
            back_after: 0,
            due: Moment::MAX,
            thaw: 0,
        }
    }
}

impl World<'_> {
    pub(super) fn start_worker(&mut self, index: usize) {
        let now = self.clocks.worker(self.now);
        let peer = &mut self.workers[index];
        peer.life += 1;
        let seed = Random::of(self.script.setting.seed, 7, (index as u64) << 32 | peer.life).next();
        peer.machine = Some(Worker::new(WorkerConfig::from(&peer.options), now, seed));
        self.drive_worker(index);
    }

    pub(super) fn kill_worker(&mut self, index: usize) {
        let peer = &mut self.workers[index];
        (peer.machine, peer.due, peer.thaw) = (None, Moment::MAX, 0);
        peer.bodies.clear();
        self.close_worker_link(index);
    }

    /// The worker leaves with whatever it has.
    pub(super) fn leave(&mut self, index: usize) {
        let Some(machine) = &mut self.workers[index].machine else { return };
        machine.close(self.clocks.worker(self.now));
        let link = self.workers[index].link;
        self.drive_worker(index);
        let fine = !link.is_some_and(|link| self.ledger.left_silently(link));
        self.ledger.hold(fine, "a worker that leaves says so", || format!("worker {index} on {link:?}"));
    }

    pub(super) fn at_worker(&mut self, index: usize, link: Link, frames: Vec<Bytes>) {
        if self.workers[index].link == Some(link)
            && let Some(machine) = &mut self.workers[index].machine
        {
            split(&frames).iter().for_each(|frames| self.ledger.at_worker(link, frames));
            machine.handle_message(self.clocks.worker(self.now), frames);
            self.drive_worker(index);
        }
    }

    pub(super) fn worker_sees_close(&mut self, index: usize, link: Link) {
        let peer = &mut self.workers[index];
        if peer.link == Some(link)
            && let Some(machine) = &mut peer.machine
        {
            peer.link = None;
            machine.handle_disconnected(self.clocks.worker(self.now));
            self.drive_worker(index);
        }
    }

    pub(super) fn drive_worker(&mut self, index: usize) {
        while let Some(output) = self.workers[index].machine.as_mut().and_then(Worker::poll_output) {
            match output {
                WorkerOutput::Connect { .. } => {
                    self.close_worker_link(index);
                    // While there is no broker the connection stays down and what is sent on it waits; the machine
                    // notices by silence and tries again, so that losing it here is the harder case.
                    if self.broker.is_some() {
                        self.workers[index].link = Some(self.network.open(Owner::Worker(index)));
                    }
                }
                WorkerOutput::Send(frames) => {
                    let now = self.clocks.worker(self.now);
                    if let Some(link) = self.workers[index].link {
                        split(&frames).iter().for_each(|frames| self.ledger.by_worker(link, frames));
                        self.network.send_to_broker(self.now, link, frames);
                        if let Some(machine) = &mut self.workers[index].machine {
                            machine.handle_sent(now);
                        }
                    }
                }
                WorkerOutput::Close => self.close_worker_link(index),
                WorkerOutput::Request { number, body, attempt, deadline, .. } => {
                    self.on_work(index, number, body, attempt, deadline);
                }
                WorkerOutput::Cancelled { number } => {
                    let (worker, life) = (index, self.workers[index].life);
                    let mut random = Random::of(self.script.setting.seed, 8 + ((index as u64) << 8), number);
                    // Some handlers stop when they are told, some do not listen.
                    if !self.workers[index].keeps && random.chance(50) {
                        let at = self.now + random.below(20 * MS);
                        self.network.plan(at, Event::Handler { worker, life, number, deed: Deed::Stop });
                    }
                }
                WorkerOutput::Closed => {
                    self.workers[index].machine = None;
                    self.workers[index].bodies.clear();
                    if !self.is_ending {
                        let back = self.now + self.workers[index].back_after;
                        self.network.plan(back, Event::WorkerBack(index));
                    }
                }
                WorkerOutput::Event(ConnectionEvent::Disconnected { reason, .. }) => {
                    self.judge_silence(self.workers[index].link, &reason);
                }
                WorkerOutput::Event(_) => {}
            }
        }
        let peer = &mut self.workers[index];
        peer.due = self.clocks.worker_due(peer.machine.as_ref().and_then(Worker::poll_timeout));
    }

    fn on_work(&mut self, index: usize, number: u64, body: Message, attempt: u32, deadline: Option<Instant>) {
        let setting = &self.script.setting;
        let is_late = deadline.is_some_and(|deadline| self.clocks.worker(self.now) >= deadline);
        let peer = &mut self.workers[index];
        let Some(id) = body.first().and_then(number_of) else { return };
        peer.bodies.insert(number, (id, body, attempt));
        let (running, hands, life, keeps) = (peer.bodies.len(), peer.hands, peer.life, peer.keeps);
        self.ledger.hold(running <= hands, "handlers at once are bounded", || format!("{running} of {hands}"));
        self.ledger.hold(!is_late, "no work is started whose time is over", || format!("request {id}"));
        let Some(asking) = self.ledger.asking(id) else { return };
        asking.runs += 1;
        let client = &setting.clients[asking.ask.client];
        let once = (!asking.is_older() && (asking.ask.once || keeps))
            || (setting.broker.max_attempts == 1 && client.retries == 1);
        let runs = asking.runs;
        self.ledger
            .hold(!once || runs == 1, "what must not run twice does not", || format!("request {id}: {runs} runs"));
        let mut random = Random::of(setting.seed, 9 + ((id as u64) << 8), u64::from(runs));
        let time = if random.chance(setting.slow) { random.between(600, 2_500) * MS } else { random.below(100 * MS) };
        // Parts come at moments of their own, so that faults fall between them and the end.
        let parts = if keeps { 0 } else { random.below(3) };
        for _ in 0..parts {
            let at = self.now + random.below(time);
            self.network.plan(at, Event::Handler { worker: index, life, number, deed: Deed::Part });
        }
        self.network.plan(self.now + time, Event::Handler { worker: index, life, number, deed: Deed::Finish });
    }

    /// A handler does something.
    pub(super) fn on_handler(&mut self, index: usize, life: u64, number: u64, deed: Deed) {
        let now = self.clocks.worker(self.now);
        let peer = &mut self.workers[index];
        let (Some(machine), true) = (&mut peer.machine, peer.life == life) else { return };
        let answer = if deed == Deed::Part {
            let Some((id, ..)) = peer.bodies.get(&number) else { return };
            if let Some(asking) = self.ledger.asking(*id) {
                asking.parted = true;
            }
            Answer::Partial(Message::from("part"))
        } else {
            let Some((id, body, attempt)) = peer.bodies.remove(&number) else { return };
            let kind = self.ledger.asking(id).map_or(Kind::Echo, |asking| asking.ask.kind);
            let text = body.first().map(|frame| String::from_utf8_lossy(frame).into_owned()).unwrap_or_default();
            match kind {
                _ if deed == Deed::Stop => Answer::Cancelled,
                Kind::Fail => Answer::Failure(ServiceError::new(418, text)),
                Kind::Retry if attempt < 3 => Answer::Failure(ServiceError::new(503, text).retryable(true)),
                _ => Answer::Final(body),
            }
        };
        let result = machine.answer(now, number, answer);
        self.ledger.hold(result.is_ok(), "what may be answered is taken", || format!("{result:?}"));
        self.drive_worker(index);
    }

    fn close_worker_link(&mut self, index: usize) {
        if let Some(link) = self.workers[index].link.take() {
            self.network.close(self.now, link, false);
        }
    }
}
