//! Clients of MDPX driven as their driver would drive them, and the account of their outcomes.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use majordomo::proto::client::{Client, ClientConfig, ReplyMode};
use majordomo::proto::session::{Asked, Identity, Session, SessionConfig, SessionOutput};
use majordomo::{ClientOptions, Error, ErrorKind, Message, Properties, Protocol, RequestOptions};

use crate::clients::ClientPeer;
use crate::network::{Link, Plan, Random};
use crate::world::{KEEPER, NOBODY, Owner, SERVICES, World};

/// A client with its connection, its requests and their outcomes.
pub(crate) struct SessionPeer {
    pub(crate) machine: Session,
    pub(crate) options: ClientOptions,
    pub(crate) link: Option<Link>,
    /// Whether the machine has asked for a connection.
    wants_link: bool,
    /// What waits for a broker to take it.
    unsent: VecDeque<Vec<Bytes>>,
    pub(crate) requests: BTreeMap<u64, Asking>,
}

/// A request, from its caller's side.
pub(crate) struct Asking {
    pub(crate) text: String,
    /// Whether it may run once at most.
    pub(crate) once: bool,
    fail_fast: bool,
    /// Whether its time may well be too short.
    hurried: bool,
    /// Whether no worker serves what it asks.
    unserved: bool,
    pub(crate) cancelled: bool,
    /// Whether it was asked over an older protocol at last.
    pub(crate) older: bool,
    parts: Vec<Bytes>,
    pub(crate) outcomes: Vec<Fate>,
}

/// How a request has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// With the service's answer, its own failure included.
    Answered,
    /// In the middle of a stream, which cannot be begun again.
    Broken,
    /// As its caller has brought about: given up, in too little time, at once or not at all.
    AsAsked,
    /// By something that went wrong.
    Failed,
}

impl SessionPeer {
    pub(crate) fn new(random: &mut Random, now: std::time::Instant) -> SessionPeer {
        let options = ClientOptions::new("tcp://broker:1")
            .protocol(if random.chance(70) { Protocol::X1 } else { Protocol::Auto })
            .timeout(Duration::from_secs(4))
            .retries(30)
            .max_in_flight(1 + random.below(8) as usize)
            .deadline(Duration::from_secs(90));
        let mut session = [0; 16];
        session[..8].copy_from_slice(&random.next().to_be_bytes());
        let identity = Identity { session, secret: [7; 16] };
        SessionPeer {
            machine: Session::new(SessionConfig::from(&options), identity, now),
            options,
            link: None,
            wants_link: false,
            unsent: VecDeque::new(),
            requests: BTreeMap::new(),
        }
    }
}

impl World {
    pub(crate) fn ask_session(&mut self, index: usize) {
        let now = self.clock.instant(self.now);
        let impatient = self.faults.impatient;
        let random = &mut self.random;
        let peer = &mut self.sessions[index];
        let number = peer.requests.len() as u64 + 1;
        let (kind, mut service) = match random.below(10) {
            0 => ("fail", format!("s{}", random.below(SERVICES))),
            1 if impatient => ("retry", format!("s{}", random.below(SERVICES))),
            2 | 3 => ("keep", KEEPER.to_owned()),
            _ => ("echo", format!("s{}", random.below(SERVICES))),
        };
        let mut some = |percent: u64| impatient && random.chance(percent);
        let (once, fail_fast, hurried, unserved) = (self.faults.once || some(20), some(10), some(20), some(3));
        if unserved {
            service = NOBODY.to_owned();
        }
        let cancels = some(15);
        let options = RequestOptions {
            max_attempts: once.then_some(1),
            fail_fast,
            deadline: hurried.then(|| random.millis(1, 1500)),
            ..RequestOptions::default()
        };
        let mode = if random.chance(50) { ReplyMode::Whole } else { ReplyMode::Parts };
        let text = format!("{kind} x{index}/{number}");
        let mut body = Message::from(&*text);
        if random.chance(30) {
            let mut properties = Properties::new();
            properties.set(Properties::IDEMPOTENCY_KEY, &text).expect("a short property");
            body = body.with_properties(properties);
        }
        if cancels {
            let at = self.now + random.millis(0, 300);
            self.network.plan(at, Plan::Cancel(index, number));
        }
        let asking = Asking {
            text,
            once,
            fail_fast,
            hurried,
            unserved,
            cancelled: false,
            older: false,
            parts: Vec::new(),
            outcomes: Vec::new(),
        };
        peer.requests.insert(number, asking);
        peer.machine.start(now, number, Asked { service: service.into(), body, options, mode, submitted: now });
        self.drive_session(index);
    }

    pub(crate) fn cancel(&mut self, index: usize, number: u64) {
        let now = self.clock.instant(self.now);
        let peer = &mut self.sessions[index];
        let Some(asking) = peer.requests.get_mut(&number).filter(|asking| !asking.older) else { return };
        asking.cancelled |= asking.outcomes.is_empty();
        peer.machine.cancel(now, number, Error::new(ErrorKind::Cancelled, "given up"));
        self.drive_session(index);
    }

    pub(crate) fn drive_session(&mut self, index: usize) {
        while let Some(output) = self.sessions[index].machine.poll_output() {
            match output {
                SessionOutput::Connect { .. } => {
                    self.close_session_link(index);
                    self.sessions[index].wants_link = true;
                }
                SessionOutput::Send(frames) => self.sessions[index].unsent.push_back(frames),
                SessionOutput::Close => {
                    self.flush_session(index);
                    self.close_session_link(index);
                }
                SessionOutput::Partial { number, part } => {
                    let asking = self.sessions[index].requests.get_mut(&number).expect("a part belongs to a request");
                    assert!(asking.outcomes.is_empty(), "seed {}: no part comes after the outcome", self.seed);
                    asking.parts.extend(part);
                }
                SessionOutput::Done { number, outcome } => self.on_session_outcome(index, number, outcome),
                SessionOutput::Event(_) => {}
                SessionOutput::Older { version, requests, .. } => {
                    for (number, asked) in requests {
                        let options = self.sessions[index].options.clone();
                        let mut config = ClientConfig::from(&options);
                        config.version = version;
                        self.ask_older(index, number, asked, Client::new(config));
                    }
                }
            }
        }
        self.flush_session(index);
    }

    /// The broker seems to be an older one: the request is asked with a connection of its own.
    fn ask_older(&mut self, session: usize, number: u64, asked: Asked, machine: Client) {
        let asking = self.sessions[session].requests.get_mut(&number).expect("it was asked");
        asking.older = true;
        asking.parts.clear();
        let mut client = ClientPeer::new(machine, asked.mode);
        client.owner = Some((session, number));
        client.current = Some(asking.text.clone());
        let now = self.clock.instant(self.now);
        let result = client.machine.start(now, &asked.service, asked.body, &asked.options, asked.mode);
        assert!(result.is_ok(), "seed {}: {result:?}", self.seed);
        self.clients.push(client);
        self.drive_client(self.clients.len() - 1);
    }

    fn close_session_link(&mut self, index: usize) {
        let peer = &mut self.sessions[index];
        peer.unsent.clear();
        peer.wants_link = false;
        if let Some(link) = peer.link.take() {
            self.network.close(self.now, link, &mut self.random, false);
        }
    }

    /// A connection comes up as soon as there is a broker, and takes what waits for it.
    pub(crate) fn flush_session(&mut self, index: usize) {
        let peer = &mut self.sessions[index];
        if self.broker.is_none() || peer.unsent.is_empty() || !(peer.wants_link || peer.link.is_some()) {
            return;
        }
        let link = *peer.link.get_or_insert_with(|| self.network.open());
        self.owners.insert(link, Owner::Session(index));
        while let Some(frames) = peer.unsent.pop_front() {
            self.network.send_to_broker(self.now, link, frames, &mut self.random);
        }
        peer.machine.handle_sent(self.clock.instant(self.now));
    }

    pub(crate) fn on_session_outcome(&mut self, index: usize, number: u64, outcome: Result<Message, Error>) {
        let seed = self.seed;
        let faults = self.faults;
        let asking = self.sessions[index].requests.get_mut(&number).expect("an outcome belongs to a request");
        let (text, parted) = (asking.text.clone(), self.parted.contains(&asking.text));
        let fate = match outcome {
            Ok(last) => {
                let mut frames = std::mem::take(&mut asking.parts);
                frames.extend(last);
                assert_eq!(frames.last().map(|f| &f[..]), Some(text.as_bytes()), "seed {seed}: the right answer");
                assert!(frames.len() <= 3, "seed {seed}: one stream, not the pieces of two: {frames:?}");
                Fate::Answered
            }
            Err(error) => {
                let because = |fine: bool, fate: Fate| {
                    assert!(fine, "seed {seed}: {text} failed: {error:?}");
                    fate
                };
                let broken = error.to_string().contains("in the middle") || error.to_string().contains("first part");
                match error.kind() {
                    ErrorKind::ServiceError => {
                        let failure = error.service_error().expect("a service's failure has its words");
                        let code = if text.starts_with("retry") { 503 } else { 418 };
                        let own = !text.starts_with("echo") && !text.starts_with("keep");
                        because(own && failure.code == code && failure.text == text, Fate::Answered)
                    }
                    _ if broken => because(parted, Fate::Broken),
                    ErrorKind::Cancelled => because(asking.cancelled, Fate::AsAsked),
                    ErrorKind::NoWorker => because(asking.fail_fast, Fate::AsAsked),
                    ErrorKind::WorkerLost => because(asking.once, Fate::Failed),
                    ErrorKind::Timeout | ErrorKind::Expired if asking.hurried || asking.unserved => Fate::AsAsked,
                    ErrorKind::BrokerUnreachable if asking.hurried => Fate::AsAsked,
                    ErrorKind::Expired => {
                        let lost = error.to_string().contains("not kept any more");
                        because(!lost && faults.silent_cut, Fate::Failed)
                    }
                    ErrorKind::Timeout | ErrorKind::BrokerUnreachable => because(faults.silent_cut, Fate::Failed),
                    _ => because(false, Fate::Failed),
                }
            }
        };
        asking.outcomes.push(fate);
        self.broken_streams += usize::from(fate == Fate::Broken);
        self.ended.insert(text);
    }
}
