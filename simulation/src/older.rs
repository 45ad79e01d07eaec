//! Clients of MDP driven as their drivers would drive them, and what concerns clients of every kind.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use majordomo::proto::client::{Client, ClientConfig, ClientOutput, ReplyMode};
use majordomo::proto::mdp::Version;
use majordomo::{ClientOptions, Error, Message, Protocol, RequestOptions};

use super::asks::{Asking, Fate};
use super::network::{Event, Link, MS, Moment, Owner};
use super::plan::NOBODY;
use super::random::Random;
use super::script::{Act, Ask, ClientSetting, Speaks};
use super::sessions::SessionPeer;
use super::world::World;

/// A client with its connection and its request.
pub(super) struct OlderPeer {
    pub(super) machine: Client,
    pub(super) version: Version,
    /// Index among the script's clients.
    pub(super) client: usize,
    /// The session whose request this is, where the connection was made for a single one.
    owner: Option<usize>,
    pub(super) link: Option<Link>,
    /// Frames that wait for a broker to take them.
    unsent: Option<Vec<Bytes>>,
    /// The request under way.
    pub(super) current: Option<usize>,
    /// Requests that wait for their turn.
    pub(super) waiting: VecDeque<usize>,
    pub(super) due: Moment,
    pub(super) thaw: Moment,
    is_dead: bool,
}

pub(super) fn options(setting: &ClientSetting) -> ClientOptions {
    let protocol = match setting.speaks {
        Speaks::V01 => Protocol::V01,
        Speaks::V02 => Protocol::V02,
        Speaks::X1 => Protocol::X1,
        Speaks::Auto => Protocol::Auto,
    };
    ClientOptions::new("tcp://broker:1")
        .protocol(protocol)
        .timeout(Duration::from_millis(setting.timeout))
        .retries(setting.retries)
        .max_in_flight(setting.max_in_flight)
        .deadline(Duration::from_millis(setting.deadline))
}

impl Asking<'_> {
    pub(super) fn options(&self) -> RequestOptions {
        RequestOptions {
            max_attempts: self.ask.once.then_some(1),
            fail_fast: self.ask.fail_fast,
            deadline: self.ask.hurry.map(Duration::from_millis),
            ..RequestOptions::default()
        }
    }

    pub(super) fn mode(&self) -> ReplyMode {
        if self.ask.parts { ReplyMode::Parts } else { ReplyMode::Whole }
    }
}

impl OlderPeer {
    pub(super) fn new(client: usize, setting: &ClientSetting) -> OlderPeer {
        OlderPeer::with(client, ClientConfig::from(&options(setting)), None)
    }

    pub(super) fn with(client: usize, config: ClientConfig, owner: Option<usize>) -> OlderPeer {
        OlderPeer {
            version: config.version,
            machine: Client::new(config),
            client,
            owner,
            link: None,
            unsent: None,
            current: None,
            waiting: VecDeque::new(),
            due: Moment::MAX,
            thaw: 0,
            is_dead: false,
        }
    }

    /// The session whose request this is, where the connection was made for a single one.
    pub(super) fn owner(&self) -> Option<usize> {
        self.owner
    }
}

impl World<'_> {
    pub(super) fn ask(&mut self, ask: &Ask) {
        let setting = &self.script.setting.clients[ask.client];
        match self.clients[ask.client] {
            Owner::Session(index) if self.sessions[index].is_dead => return,
            Owner::Session(index) if setting.blocking => self.sessions[index].waiting.push_back(ask.id),
            Owner::Session(index) => return self.start_session_request(index, ask.id),
            Owner::Older(index) if self.olders[index].is_dead => return,
            Owner::Older(index) | Owner::Worker(index) => self.olders[index].waiting.push_back(ask.id),
        }
        self.ask_next(ask.client);
    }

    /// Lets a client that has one request at a time go on with the next.
    pub(super) fn ask_next(&mut self, client: usize) {
        match self.clients[client] {
            Owner::Session(index) => self.wake_for_next(index),
            Owner::Older(index) | Owner::Worker(index) => {
                if self.olders[index].machine.is_idle()
                    && self.olders[index].current.is_none()
                    && let Some(id) = self.olders[index].waiting.pop_front()
                {
                    self.start_older(index, id, Duration::ZERO);
                }
            }
        }
    }

    /// Has an older client ask. It was asked to that long ago.
    pub(super) fn start_older(&mut self, index: usize, id: usize, waited: Duration) {
        let now = self.clocks.client(self.now);
        let deadline = self.script.setting.clients[self.olders[index].client].deadline;
        let moment = self.now;
        let Some(asking) = self.ledger.asking(id) else { return };
        let is_new = !std::mem::replace(&mut asking.is_asked, true);
        let limit = asking.limit(moment, deadline);
        let peer = &mut self.olders[index];
        peer.current = Some(id);
        let (options, mode) = (asking.options(), asking.mode());
        let result = peer.machine.start(now, asking.target(), asking.body(), &options, mode);
        peer.machine.count_wait(waited);
        self.ledger.hold(result.is_ok(), "what may be asked is taken", || format!("{id}: {result:?}"));
        if is_new {
            self.limit(limit, id);
        }
        self.drive_older(index);
    }

    pub(super) fn at_older(&mut self, index: usize, link: Link, frames: Vec<Bytes>) {
        if self.olders[index].link == Some(link) {
            self.olders[index].machine.handle_message(self.clocks.client(self.now), frames);
            self.drive_older(index);
        }
    }

    pub(super) fn older_sees_close(&mut self, index: usize, link: Link) {
        if self.olders[index].link == Some(link) {
            self.olders[index].link = None;
            self.olders[index].machine.handle_disconnected(self.clocks.client(self.now));
            self.drive_older(index);
        }
    }

    pub(super) fn drive_older(&mut self, index: usize) {
        while let Some(output) = self.olders[index].machine.poll_output() {
            match output {
                ClientOutput::Connect { .. } | ClientOutput::Close => {
                    if let Some(link) = self.olders[index].link.take() {
                        self.network.close(self.now, link, false);
                    }
                    self.olders[index].unsent = None;
                }
                ClientOutput::Send(frames) => self.olders[index].unsent = Some(frames),
                ClientOutput::Partial(body) => {
                    if let Some(asking) = self.olders[index].current.and_then(|id| self.ledger.asking(id)) {
                        asking.parts.extend(body);
                    }
                }
                ClientOutput::Done(outcome) => {
                    if let Some(id) = self.olders[index].current.take() {
                        self.on_outcome(id, &outcome);
                    }
                }
            }
        }
        self.flush_older(index);
        let peer = &mut self.olders[index];
        peer.due = self.clocks.client_due(peer.machine.poll_timeout());
    }

    /// A connection comes up as soon as there is a broker, and takes what waits for it.
    pub(super) fn flush_older(&mut self, index: usize) {
        let peer = &mut self.olders[index];
        if self.broker.is_none() || peer.unsent.is_none() {
            return;
        }
        let link = *peer.link.get_or_insert_with(|| self.network.open(Owner::Older(index)));
        if let Some(frames) = peer.unsent.take() {
            self.network.send_to_broker(self.now, link, frames);
            peer.machine.handle_sent(self.clocks.client(self.now));
        }
    }

    /// A request's outcome has come.
    pub(super) fn on_outcome(&mut self, id: usize, outcome: &Result<Message, Error>) {
        let max_attempts = self.script.setting.broker.max_attempts;
        let allowed = self.ledger.allowed;
        let (seed, now) = (self.script.setting.seed, self.now);
        let Some(asking) = self.ledger.asking(id) else { return };
        let client = asking.ask.client;
        // Requests that nobody serves last, and may be all that a client may have outstanding.
        let is_fresh = asking.arrivals == 0 || asking.arrived + 1000 * MS > now;
        let acts = self.script.acts.iter().map(|planned| &planned.act);
        let unserved = acts.filter(|act| matches!(act, Act::Ask(ask) if ask.client == client && ask.service == NOBODY));
        let in_line = is_fresh && unserved.count() >= self.script.setting.clients[client].max_in_flight;
        let (is_first, judged) = (asking.outcome.is_none(), asking.judge(outcome, allowed, max_attempts, in_line));
        asking.outcome = Some(*judged.as_ref().unwrap_or(&Fate::Failed));
        self.ledger.hold(is_first, "every request has one outcome", || format!("{id}: another one: {outcome:?}"));
        if let Err(failure) = judged {
            self.ledger.hold(false, failure.promise, || failure.detail);
        }
        let pause = Random::of(seed, 3, id as u64).below(20 * MS);
        self.network.plan(now + pause, Event::AskAgain(client));
    }

    /// The caller gives a request up.
    pub(super) fn cancel(&mut self, id: usize) {
        let now = self.clocks.client(self.now);
        let Some(asking) = self.ledger.asking(id).filter(|asking| asking.is_asked && !asking.older) else { return };
        let Owner::Session(index) = self.clients[asking.ask.client] else { return };
        asking.cancelled |= asking.outcome.is_none() && !asking.is_orphan;
        if self.sessions[index].ids.get(asking.number as usize - 1) == Some(&id) && !self.sessions[index].sleeps() {
            self.sessions[index].machine.cancel(now, asking.number, super::sessions::given_up());
            self.drive_session(index);
        }
    }

    /// A client process dies; nobody waits for what it has asked any more.
    pub(super) fn kill_client(&mut self, client: usize) {
        for asking in self.ledger.asks.iter_mut().flatten() {
            asking.is_orphan |= asking.ask.client == client && asking.is_asked && asking.outcome.is_none();
        }
        let owner = self.clients[client];
        for index in 0..self.olders.len() {
            let peer = &mut self.olders[index];
            if peer.client == client && !peer.is_dead {
                let config = peer.machine.config_mut().clone();
                let link = peer.link.take();
                *peer = OlderPeer { is_dead: true, ..OlderPeer::with(client, config, peer.owner) };
                link.into_iter().for_each(|link| self.network.close(self.now, link, false));
            }
        }
        if let Owner::Session(index) = owner {
            self.kill_session(index);
        }
    }

    /// The client is started again: another process.
    pub(super) fn start_client(&mut self, client: usize) {
        match self.clients[client] {
            Owner::Older(index) | Owner::Worker(index) => self.olders[index].is_dead = false,
            Owner::Session(index) if !self.sessions[index].is_dead => {}
            Owner::Session(index) => {
                let life = self.sessions[index].life + 1;
                let setting = &self.script.setting.clients[client];
                let seed = Random::of(self.script.setting.seed, 4, life).next();
                let now = self.clocks.client(self.now);
                let first_link = self.network.count();
                let mut peer = SessionPeer::new(client, setting, seed, now);
                (peer.life, peer.first_link) = (life, first_link);
                self.sessions[index] = peer;
            }
        }
    }
}
