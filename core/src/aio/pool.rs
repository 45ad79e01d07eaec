//! The I/O side of a client of MDP/0.1 or 0.2: a bounded pool of connections, and the requests that wait for one.
//!
//! Replies of 0.1 and 0.2 do not say which request they answer, so a connection belongs to one request until that is
//! answered or given up.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::notices::Notices;
use crate::options::ClientOptions;
use crate::proto::client::{Client as Machine, ClientConfig, ClientOutput, call_limit};
use crate::proto::mdp::Version;
use crate::transport::{Dealer, DealerOptions, Received};

use super::command::Call;
use super::engine::Io;
use super::link::Link;
use super::outcome::{Caller, Load};
use super::timers::Owner;

/// A connection that nobody has used for this long is closed: idle clients keep no descriptors.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
/// How many messages of one connection are read before the others have their turn.
const BATCH: usize = 64;
/// More connections than this serve nobody better, and cost the broker's host descriptors.
pub(super) const MAX_CONNECTIONS: usize = 64;

pub(super) struct Pool {
    id: u64,
    options: Arc<ClientOptions>,
    load: Arc<Load>,
    dealer: DealerOptions,
    connections: Vec<Connection>,
    /// Indices of connections without a request; the one used last is used first, so that the others can end.
    idle: Vec<usize>,
    /// Connections by the request that they carry.
    running: HashMap<u64, usize>,
    /// Requests without a connection, by their numbers: first come, first served.
    waiting: BTreeMap<u64, Call>,
    /// When the waiting requests' time is over.
    waiting_ends: BTreeSet<(Instant, u64)>,
    timer: Option<Instant>,
    /// The endpoint that answered last, where new connections begin.
    preferred: usize,
    /// What new connections speak.
    version: Version,
    /// Whether something has happened after which the broker may be another one.
    stale: bool,
    notices: Notices,
}

struct Connection {
    machine: Machine,
    link: Link,
    version: Version,
    call: Option<(u64, Caller)>,
    /// The first of the pool's endpoints in this machine's order.
    first_endpoint: usize,
    /// The one of the pool's endpoints that it is connected to.
    endpoint: usize,
    /// Whether it is not read, because its caller has too many parts already.
    paused: bool,
    timer: Option<Instant>,
}

impl Pool {
    /// A pool of connections that speak `version`, beginning with the endpoint of index `preferred`.
    pub(super) fn new(
        id: u64,
        options: Arc<ClientOptions>,
        load: Arc<Load>,
        version: Version,
        preferred: usize,
    ) -> Self {
        let dealer = DealerOptions {
            linger: Duration::ZERO,
            reconnect_min: options.reconnect_min,
            reconnect_max: options.reconnect_max,
            max_message_bytes: options.max_message_bytes,
        };
        Pool {
            id,
            options,
            load,
            dealer,
            connections: Vec::new(),
            idle: Vec::new(),
            running: HashMap::new(),
            waiting: BTreeMap::new(),
            waiting_ends: BTreeSet::new(),
            timer: None,
            preferred,
            version,
            stale: false,
            notices: Notices::default(),
        }
    }

    /// How many requests are under way at once.
    pub(super) fn limit(options: &ClientOptions) -> usize {
        options.max_in_flight.min(MAX_CONNECTIONS)
    }

    /// The broker at this endpoint was asked what it speaks.
    pub(super) fn confirm(&mut self, version: Version, endpoint: usize) {
        (self.version, self.preferred, self.stale) = (version, endpoint, false);
    }

    /// Whether it is time to ask again what the broker speaks: also where the connection that would be used next broke
    /// while nobody looked at it.
    pub(super) fn is_stale(&mut self, io: &mut Io) -> bool {
        if !self.stale
            && let Some(index) = self.idle.last().copied()
        {
            let connection = &mut self.connections[index];
            if connection.link.is_open() && connection.use_again(&self.options, self.version, self.preferred) {
                self.stale = true;
                let event = self.notices.lost(&self.options, self.preferred, "the connection was lost");
                io.wakes.event(self.options.on_event.as_ref(), event);
                io.timers.set(Owner::Connection(self.id, index), &mut connection.timer, None);
            }
        }
        self.stale
    }

    /// Index of the endpoint where new connections begin.
    pub(super) fn preferred(&self) -> usize {
        self.preferred
    }

    /// Takes a request in: it is started, or waits for its turn.
    pub(super) fn call(&mut self, io: &mut Io, id: u64, call: Call) {
        self.waiting_ends.insert((self.due(&call), id));
        self.waiting.insert(id, call);
        self.start_waiting(io);
        self.set_timer(io);
    }

    /// Gives a request up, wherever it is.
    pub(super) fn cancel(&mut self, io: &mut Io, id: u64) {
        let error = Error::new(ErrorKind::Cancelled, "the request was cancelled");
        if let Some(call) = self.take_waiting(id) {
            call.caller.done(Err(error), &self.load, &mut io.wakes);
        } else if let Some(index) = self.running.get(&id).copied() {
            self.connections[index].machine.cancel(io.now, error);
            self.settle(io, index);
            self.start_waiting(io);
        }
        self.set_timer(io);
    }

    /// The caller of a stream has room again.
    pub(super) fn resume(&mut self, io: &mut Io, id: u64) {
        if let Some(index) = self.running.get(&id).copied() {
            self.connections[index].paused = false;
            self.ready(io, index);
        }
    }

    /// Ends everything: each request fails with `Closed`.
    pub(super) fn close(mut self, io: &mut Io) {
        for (_, call) in std::mem::take(&mut self.waiting) {
            call.caller.done(Err(Error::closed("client")), &self.load, &mut io.wakes);
        }
        self.waiting_ends.clear();
        self.set_timer(io);
        for index in 0..self.connections.len() {
            self.connections[index].machine.cancel(io.now, Error::closed("client"));
            self.settle(io, index);
            self.connections[index].link.close();
            io.timers.set(Owner::Connection(self.id, index), &mut self.connections[index].timer, None);
        }
    }

    /// The connections to wait for. Idle ones are looked at when they are used again.
    pub(super) fn interests(&self) -> impl Iterator<Item = (Owner, &Dealer, bool)> {
        self.connections.iter().enumerate().filter(|(_, connection)| connection.is_watched()).filter_map(
            |(index, connection)| {
                let (dealer, writable) = connection.link.interest()?;
                Some((Owner::Connection(self.id, index), dealer, writable))
            },
        )
    }

    /// A connection is readable or writable.
    pub(super) fn ready(&mut self, io: &mut Io, index: usize) {
        if let Some(connection) = self.connections.get_mut(index) {
            connection.flush(io.now);
            self.read(io, index);
            self.start_waiting(io);
            self.set_timer(io);
        }
    }

    /// A connection's moment has come.
    pub(super) fn connection_due(&mut self, io: &mut Io, index: usize) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        if connection.call.is_none() {
            // Long enough for the broker to have become another one.
            self.stale = true;
            connection.renew(&self.options, self.version, self.preferred);
            io.timers.set(Owner::Connection(self.id, index), &mut connection.timer, None);
            return;
        }
        // The reply may be there already: only what is missing after this is late.
        self.ready(io, index);
        let connection = &mut self.connections[index];
        if connection.machine.poll_timeout().is_some_and(|due| due <= io.now) {
            connection.machine.handle_timeout(io.now);
            self.settle(io, index);
            self.start_waiting(io);
        }
    }

    /// The time of waiting requests is over.
    pub(super) fn waiting_due(&mut self, io: &mut Io) {
        while let Some((due, id)) = self.waiting_ends.first().copied()
            && due <= io.now
        {
            self.waiting_ends.remove(&(due, id));
            if let Some(call) = self.waiting.remove(&id) {
                let (waited, busy) = (io.now.saturating_duration_since(call.asked.submitted), self.connections.len());
                let error = Error::new(
                    ErrorKind::Timeout,
                    format!(
                        "the request to {:?} waited {waited:?} for its turn: all of {busy} connections were busy",
                        call.asked.terms.service
                    ),
                );
                call.caller.done(Err(error), &self.load, &mut io.wakes);
            }
        }
        self.set_timer(io);
    }

    /// Reads what has arrived, up to a batch, unless the caller has enough for now.
    fn read(&mut self, io: &mut Io, index: usize) {
        for _ in 0..BATCH {
            let connection = &mut self.connections[index];
            if connection.paused || connection.call.is_none() {
                break;
            }
            match connection.link.recv() {
                Ok(Received::Nothing) => break,
                Ok(Received::Message(frames)) => connection.machine.handle_message(io.now, frames),
                Ok(Received::Disconnected) => {
                    let event = self.notices.lost(&self.options, connection.endpoint, "the connection was lost");
                    io.wakes.event(self.options.on_event.as_ref(), event);
                    self.stale = true;
                    connection.machine.handle_disconnected(io.now);
                }
                Err(error) => connection.machine.cancel(io.now, error),
            }
            self.settle(io, index);
        }
        self.settle(io, index);
    }

    /// Does what a connection's machine wants done, and sets its timer.
    fn settle(&mut self, io: &mut Io, index: usize) {
        let connection = &mut self.connections[index];
        let hook = self.options.on_event.as_ref();
        while let Some(output) = connection.machine.poll_output() {
            match output {
                ClientOutput::Connect { endpoint } => {
                    if connection.link.is_open() {
                        // The attempt before got no reply.
                        io.wakes.event(hook, self.notices.lost(&self.options, connection.endpoint, "no reply came"));
                    }
                    let count = self.options.endpoints.len().max(1);
                    connection.endpoint = (connection.first_endpoint + endpoint) % count;
                    io.wakes.event(hook, self.notices.connecting(&self.options, connection.endpoint));
                    let endpoint = self.options.endpoints.get(connection.endpoint).map_or("", String::as_str);
                    if let Err(error) = connection.link.connect(endpoint, &self.dealer) {
                        connection.machine.cancel(io.now, error);
                    }
                }
                ClientOutput::Send(frames) => {
                    connection.link.send(frames);
                    connection.flush(io.now);
                }
                ClientOutput::Close => connection.link.close(),
                ClientOutput::Partial(part) => {
                    if let Some((id, caller)) = &connection.call {
                        connection.paused |= !caller.partial(*id, part, &mut io.wakes);
                    }
                }
                ClientOutput::Done(outcome) => {
                    connection.paused = false;
                    if let Some((id, caller)) = connection.call.take() {
                        match &outcome {
                            Ok(_) => {
                                self.stale |= self.preferred != connection.endpoint;
                                self.preferred = connection.endpoint;
                                let event =
                                    self.notices.answered(&self.options, connection.endpoint, connection.version);
                                io.wakes.event(hook, event);
                            }
                            Err(error) if is_silence(error) => {
                                self.stale = true;
                                // Without attempts left this request did not try the next broker; the next request does.
                                if self.preferred == connection.endpoint {
                                    self.preferred = (connection.endpoint + 1) % self.options.endpoints.len().max(1);
                                }
                                let event = self.notices.lost(&self.options, connection.endpoint, "no reply came");
                                io.wakes.event(hook, event);
                            }
                            Err(_) => {}
                        }
                        self.running.remove(&id);
                        self.idle.push(index);
                        caller.done(outcome, &self.load, &mut io.wakes);
                    }
                }
            }
        }
        let due = match &connection.call {
            // What arrives while the caller has too many parts is not read, so its absence says nothing.
            Some(_) if connection.paused => None,
            Some(_) => connection.machine.poll_timeout(),
            None => connection.link.is_open().then(|| io.now + IDLE_LIMIT),
        };
        io.timers.set(Owner::Connection(self.id, index), &mut connection.timer, due);
    }

    /// Gives connections to the requests that have waited longest, as long as there are any.
    fn start_waiting(&mut self, io: &mut Io) {
        while let Some((id, _)) = self.waiting.first_key_value()
            && let id = *id
            && let Some(index) = self.free_connection()
            && let Some(call) = self.take_waiting(id)
        {
            let connection = &mut self.connections[index];
            if connection.use_again(&self.options, self.version, self.preferred) {
                self.stale = true;
            }
            let asked = call.asked;
            let started =
                connection.machine.start(io.now, &asked.terms.service, asked.body, &asked.terms.options, asked.mode);
            if let Err(error) = started {
                self.idle.push(index);
                call.caller.done(Err(error), &self.load, &mut io.wakes);
                continue;
            }
            connection.machine.count_wait(io.now.saturating_duration_since(asked.submitted));
            connection.call = Some((id, call.caller));
            self.running.insert(id, index);
            self.settle(io, index);
        }
    }

    fn free_connection(&mut self) -> Option<usize> {
        if let Some(index) = self.idle.pop() {
            return Some(index);
        }
        if self.connections.len() >= Pool::limit(&self.options) {
            return None;
        }
        self.connections.push(Connection {
            machine: machine(&self.options, self.version, self.preferred),
            version: self.version,
            link: Link::default(),
            call: None,
            first_endpoint: self.preferred,
            endpoint: self.preferred,
            paused: false,
            timer: None,
        });
        Some(self.connections.len() - 1)
    }

    fn take_waiting(&mut self, id: u64) -> Option<Call> {
        let call = self.waiting.remove(&id)?;
        self.waiting_ends.remove(&(self.due(&call), id));
        Some(call)
    }

    /// When a waiting request's time is over.
    fn due(&self, call: &Call) -> Instant {
        let (asked, options) = (&call.asked.terms.options, &self.options);
        let timeout = asked.timeout.unwrap_or(options.timeout);
        let retries = asked.retries.unwrap_or(options.retries);
        call.asked.submitted + call_limit(timeout, retries, asked.deadline.or(options.deadline)).0
    }

    fn set_timer(&mut self, io: &mut Io) {
        let due = self.waiting_ends.first().map(|(due, _)| *due);
        io.timers.set(Owner::Waiting(self.id), &mut self.timer, due);
    }
}

impl Connection {
    fn is_watched(&self) -> bool {
        self.call.is_some() && !self.paused
    }

    /// Sends what waits, and tells the machine when its request has gone out.
    fn flush(&mut self, now: Instant) {
        match self.link.flush() {
            Ok(0) => {}
            Ok(_) => self.machine.handle_sent(now),
            Err(error) => self.machine.cancel(now, error),
        }
    }

    /// Makes sure that the next request finds the connection clean: what came while it was idle is dropped, and one
    /// that broke meanwhile is left; whether it did.
    fn use_again(&mut self, options: &ClientOptions, version: Version, preferred: usize) -> bool {
        let broke = loop {
            match self.link.recv() {
                Ok(Received::Nothing) if self.link.is_open() && self.version == version => return false,
                Ok(Received::Message(_)) => {}
                Ok(Received::Nothing) => break false,
                Ok(Received::Disconnected) | Err(_) => break true,
            }
        };
        self.renew(options, version, preferred);
        broke
    }

    /// Closes, and begins anew with the endpoint that answered last.
    fn renew(&mut self, options: &ClientOptions, version: Version, preferred: usize) {
        self.link.close();
        self.machine = machine(options, version, preferred);
        self.version = version;
        self.first_endpoint = preferred;
    }
}

/// A machine that tries the endpoints from `first` on.
fn machine(options: &ClientOptions, version: Version, first: usize) -> Machine {
    let mut config = ClientConfig { version, ..ClientConfig::from(options) };
    let count = config.endpoints.len().max(1);
    config.endpoints.rotate_left(first % count);
    Machine::new(config)
}

/// Whether the broker was not there, or did not answer.
fn is_silence(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Timeout | ErrorKind::BrokerUnreachable)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::aio::outcome::{Reply, To};
    use crate::message::Message;
    use crate::options::RequestOptions;
    use crate::proto::RoutingId;
    use crate::proto::client::ReplyMode;
    use crate::proto::session::{Asked, Terms};
    use crate::transport::{Frame, Incoming, Interest, Poller, Router, Woken};

    use super::*;

    /// Has the pool ask, answers, and gives the connection's name.
    fn ask(router: &mut Router, pool: &mut Pool, io: &mut Io, id: u64) -> RoutingId {
        let options = RequestOptions { deadline: Some(Duration::from_secs(20)), ..RequestOptions::default() };
        let asked = Asked {
            terms: Terms::new("echo", &options).unwrap(),
            body: Message::from("hi"),
            mode: ReplyMode::Whole,
            submitted: io.now,
        };
        assert!(pool.load.admit());
        pool.call(io, id, Call { asked, caller: Caller::new(To::Future(Arc::new(Reply::default()))) });
        let mut asker = None;
        while pool.running.contains_key(&id) {
            pool.ready(io, 0);
            if let Incoming::Message { peer, .. } = router.try_recv().unwrap() {
                let peer: RoutingId = peer.as_ref().into();
                let reply = ["", "MDPC01", "echo", "hi"].map(|frame| Frame::from(Bytes::from(frame)));
                router.send(&peer, Vec::from(reply)).unwrap();
                asker = Some(peer);
            }
        }
        asker.unwrap()
    }

    #[test]
    fn a_connection_is_used_again_and_closed_when_it_has_been_idle_for_long() {
        let mut router = Router::bind(&["tcp://127.0.0.1:0".to_owned()], 1 << 20, 1 << 20).unwrap();
        let options = Arc::new(ClientOptions::new(&router.endpoints()[0]));
        let mut io = Io::new();
        let mut pool = Pool::new(1, options, Load::new(1), Version::V01, 0);
        let peers = [0, 1].map(|id| ask(&mut router, &mut pool, &mut io, id));
        assert_eq!(peers[0], peers[1], "one connection served both");
        assert!(!pool.is_stale(&mut io) && pool.connections[0].link.is_open());
        io.now += IDLE_LIMIT;
        let mut due = Vec::new();
        io.timers.due(io.now, &mut due);
        assert_eq!(due, [Owner::Connection(1, 0)]);
        pool.connection_due(&mut io, 0);
        assert!(!pool.connections[0].link.is_open() && io.timers.next().is_none());
    }

    #[test]
    fn an_idle_connection_that_broke_is_a_reason_to_ask_again_what_the_broker_speaks() {
        let mut router = Router::bind(&["tcp://127.0.0.1:0".to_owned()], 1 << 20, 1 << 20).unwrap();
        let options = Arc::new(ClientOptions::new(&router.endpoints()[0]));
        let mut io = Io::new();
        let mut pool = Pool::new(1, options, Load::new(1), Version::V01, 0);
        ask(&mut router, &mut pool, &mut io, 0);
        drop(router);
        let (dealer, _) = pool.connections[0].link.interest().unwrap();
        let woken = Poller::default().poll(&[Interest::dealer(dealer, false)], Some(Duration::from_secs(30))).unwrap();
        assert_ne!(woken, Woken::Timeout, "the break shows");
        assert!(pool.is_stale(&mut io) && !pool.connections[0].link.is_open() && io.timers.next().is_none());
    }
}
