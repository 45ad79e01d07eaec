//! A broker of MDP/0.1 and 0.2 that keeps every rule but the one that it is told to break.
//!
//! It is as plain as a broker can be and bounds nothing. What would break many rules at once it breaks for the services of one
//! rule only, which it knows by their names.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

type Id = Vec<u8>;
type Frames = Vec<Vec<u8>>;

/// libzmq's option that tells of closed connections in their name.
const ZMQ_DISCONNECT_MSG: i32 = 111;
const GONE: &[u8] = b"gone";
const TICK_MS: i64 = 5;

pub(crate) struct Times {
    pub(crate) heartbeat: Duration,
    pub(crate) lease: Duration,
    pub(crate) ttl: Duration,
}

/// A running poor broker.
pub(crate) struct Running {
    pub(crate) endpoint: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn start(defect: &'static str, times: Times) -> Running {
        let context = zmq::Context::new();
        let mut socket = context.socket(zmq::ROUTER).unwrap();
        socket.set_linger(0).unwrap();
        socket.set_router_mandatory(true).unwrap();
        socket.set_sndhwm(100).unwrap();
        // SAFETY: the socket is live and the value has the length that it is said to have.
        let set = unsafe {
            zmq_sys::zmq_setsockopt(socket.as_mut_ptr(), ZMQ_DISCONNECT_MSG, GONE.as_ptr().cast(), GONE.len())
        };
        assert_eq!(set, 0, "this libzmq tells of closed connections");
        socket.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = socket.get_last_endpoint().unwrap().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let mut broker = Broker {
            defect,
            times,
            socket,
            workers: HashMap::new(),
            order: Vec::new(),
            services: HashMap::new(),
            in_hand: HashMap::new(),
            outboxes: HashMap::new(),
            gone: HashSet::new(),
            ghosts: HashSet::new(),
            parts: Vec::new(),
            last: 0,
        };
        let ends = stop.clone();
        let thread = std::thread::spawn(move || while !ends.load(Ordering::Relaxed) && broker.turn().is_some() {});
        Running { endpoint, stop, thread: Some(thread) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))), "the poor broker panicked");
    }
}

/// What one version writes.
struct Version {
    lead: bool,
    client: &'static [u8],
    worker: &'static [u8],
    /// READY, REQUEST, PARTIAL, REPLY, HEARTBEAT, DISCONNECT.
    bytes: [u8; 6],
}

const READY: usize = 0;
const REQUEST: usize = 1;
const PARTIAL: usize = 2;
const REPLY: usize = 3;
const HEARTBEAT: usize = 4;
const DISCONNECT: usize = 5;

static V01: Version = Version { lead: true, client: b"MDPC01", worker: b"MDPW01", bytes: [1, 2, 0xfe, 3, 4, 5] };
static V02: Version = Version { lead: false, client: b"MDPC02", worker: b"MDPW02", bytes: [1, 2, 3, 4, 5, 6] };

impl Version {
    fn header(&self, role: &[u8]) -> Frames {
        self.lead.then(Vec::new).into_iter().chain([role.to_vec()]).collect()
    }
}

struct Worker {
    version: &'static Version,
    service: Vec<u8>,
    /// The delivery in its hands.
    holds: Option<u64>,
    heard: Instant,
    sent: Instant,
}

#[derive(Clone)]
struct Request {
    client: Id,
    version: &'static Version,
    service: Vec<u8>,
    body: Frames,
    came: Instant,
}

#[derive(Default)]
struct Service {
    returned: VecDeque<Request>,
    /// One line per client, the next in turn first.
    lines: VecDeque<(Id, VecDeque<Request>)>,
    idle: VecDeque<Id>,
}

struct Broker {
    defect: &'static str,
    times: Times,
    socket: zmq::Socket,
    workers: HashMap<Id, Worker>,
    /// Workers by their registration.
    order: Vec<Id>,
    services: HashMap<Vec<u8>, Service>,
    in_hand: HashMap<u64, Request>,
    outboxes: HashMap<Id, VecDeque<Frames>>,
    gone: HashSet<Id>,
    /// Services whose workers are dead and still count, for a broker that does not notice.
    ghosts: HashSet<Vec<u8>>,
    /// Parts that are held back.
    parts: Vec<(Id, Frames)>,
    last: u64,
}

impl Broker {
    /// Some messages, then time. `None` where the broker goes down.
    fn turn(&mut self) -> Option<()> {
        if self.socket.poll(zmq::POLLIN, TICK_MS).unwrap() > 0 {
            for _ in 0..100 {
                let Ok(mut frames) = self.socket.recv_multipart(zmq::DONTWAIT) else { break };
                let peer = frames.remove(0);
                self.message(&peer, frames)?;
            }
        }
        self.time();
        Some(())
    }

    fn is(&self, defect: &str) -> bool {
        self.defect == defect
    }

    fn message(&mut self, peer: &Id, frames: Frames) -> Option<()> {
        if frames == [GONE.to_vec()] {
            self.leave(peer);
            return Some(());
        }
        if self.is("odd-header") && frames.len() == 1 && !frames[0].starts_with(b"MDP") {
            return None;
        }
        for version in [&V01, &V02] {
            if let Some(rest) = frames.strip_prefix(&version.header(version.client)[..]) {
                return self.on_client(peer, version, rest);
            } else if let Some(rest) = frames.strip_prefix(&version.header(version.worker)[..]) {
                return self.on_worker(peer, version, rest);
            }
        }
        Some(())
    }

    fn on_client(&mut self, peer: &Id, version: &'static Version, rest: &[Vec<u8>]) -> Option<()> {
        let rest = match rest {
            [byte, rest @ ..] if !version.lead && byte[..] == [1] => rest,
            _ if !version.lead => &[],
            rest => rest,
        };
        let Some((service, body)) = rest.split_first().filter(|(service, _)| is_name(service)) else {
            return (!self.is("odd-client")).then_some(());
        };
        if service.starts_with(b"mmi.") {
            if self.is("mmi-odd-question") && body.is_empty() {
                return None;
            }
            let status = self.manage(service, body.first().map_or(b"", |name| name));
            self.tell_client(peer, version, REPLY, service, &[status.to_vec()]);
            return Some(());
        }
        if self.is("request-waits") && says(service, "-waits") && !self.is_served(service) {
            return Some(());
        }
        let request = Request {
            client: peer.clone(),
            version,
            service: service.clone(),
            body: body.to_vec(),
            came: Instant::now(),
        };
        let everybody = self.is("fair-clients");
        let line = self.services.entry(service.clone()).or_default();
        match line.lines.iter_mut().find(|(client, _)| everybody || client == peer) {
            Some((_, waiting)) => waiting.push_back(request),
            None => line.lines.push_back((peer.clone(), VecDeque::from([request]))),
        }
        self.dispatch_all();
        Some(())
    }

    fn is_served(&self, service: &[u8]) -> bool {
        self.workers.values().any(|worker| worker.service == service)
    }

    fn manage(&self, service: &[u8], name: &[u8]) -> &'static [u8] {
        if service != b"mmi.service" {
            return if self.is("mmi-unknown") { b"404" } else { b"501" };
        }
        let waits = self.services.get(name).is_some_and(|service| !service.lines.is_empty());
        let idle = self.workers.values().any(|worker| worker.service == name && worker.holds.is_none());
        let served = if self.is("mmi-service") { idle } else { self.is_served(name) };
        let found = served || self.ghosts.contains(name) || (self.is("mmi-unserved") && waits);
        if found { b"200" } else { b"404" }
    }

    fn on_worker(&mut self, peer: &Id, version: &'static Version, rest: &[Vec<u8>]) -> Option<()> {
        let command = rest.first().and_then(|command| version.bytes.iter().position(|byte| command[..] == [*byte]));
        let known = self.workers.contains_key(peer);
        match (command, &rest[rest.len().min(1)..]) {
            (Some(READY), [service]) if is_name(service) => self.on_ready(peer, version, service),
            (Some(kind @ (PARTIAL | REPLY)), [address, delimiter, body @ ..]) if delimiter.is_empty() => {
                self.on_reply(peer, version, kind, address, body);
            }
            (Some(HEARTBEAT), []) if known => self.heard(peer),
            (Some(HEARTBEAT), []) if self.is("unexpected-heartbeat") => {}
            (Some(HEARTBEAT), []) => self.expel(peer, version),
            (Some(DISCONNECT), []) if known => self.on_disconnect(peer),
            (Some(DISCONNECT), []) if self.is("early-disconnect") => self.expel(peer, version),
            (Some(DISCONNECT), []) => {}
            _ if self.is("odd-worker") => return None,
            _ => self.expel(peer, version),
        }
        self.dispatch_all_but_after(command == Some(REPLY));
        Some(())
    }

    fn on_ready(&mut self, peer: &Id, version: &'static Version, service: &[u8]) {
        let holds = self.workers.get(peer).map(|worker| worker.holds);
        match holds {
            Some(None) if self.is("second-ready") => return,
            Some(None) if self.is("disconnect-is-last") => return self.tell_worker(peer, version, DISCONNECT, &[]),
            Some(Some(delivery)) if self.is("second-ready-busy") => {
                self.in_hand.remove(&delivery);
                return self.expel(peer, version);
            }
            Some(_) => return self.expel(peer, version),
            None => {}
        }
        if service.starts_with(b"mmi.") && !self.is("mmi-reserved") {
            return self.expel(peer, version);
        }
        let now = Instant::now();
        let worker = Worker { version, service: service.to_owned(), holds: None, heard: now, sent: now };
        self.workers.insert(peer.clone(), worker);
        self.order.push(peer.clone());
        self.services.entry(service.to_owned()).or_default().idle.push_back(peer.clone());
        if self.is("ready-unanswered") {
            self.tell_worker(peer, version, READY, &[]);
        }
    }

    fn on_disconnect(&mut self, peer: &Id) {
        let holds = self.workers.get(peer).and_then(|worker| worker.holds);
        match holds {
            None if self.is("disconnect-obeyed") => return,
            Some(delivery) if self.is("disconnect-busy") => {
                self.in_hand.remove(&delivery);
            }
            _ => {}
        }
        self.remove(peer);
    }

    fn on_reply(&mut self, peer: &Id, version: &'static Version, kind: usize, address: &[u8], body: &[Vec<u8>]) {
        let Some(worker) = self.workers.get(peer) else {
            if !self.is("unexpected-reply") {
                self.expel(peer, version);
            }
            return;
        };
        let (service, holds) = (worker.service.clone(), worker.holds);
        if !(self.is("any-command-beats") && says(&service, "replies-only")) {
            self.heard(peer);
        }
        let delivery = holds.filter(|delivery| delivery.to_be_bytes()[..] == *address);
        let Some(delivery) = delivery else {
            let misled = if holds.is_some() { self.is("wrong-address") } else { self.is("forged-reply") };
            if misled {
                self.tell_client(&address.to_vec(), version, kind, &service, body);
            }
            if holds.is_none() && self.is("unasked-reply") {
                self.services.entry(service).or_default().idle.push_back(peer.clone());
            }
            return;
        };
        let Some(request) = self.in_hand.get(&delivery).cloned() else { return };
        if kind == PARTIAL {
            if self.is("partials") {
                self.parts.push((request.client, body.to_vec()));
            } else {
                self.tell_client(&request.client, request.version, PARTIAL, &service, body);
            }
            if self.is("partial-keeps-busy") {
                self.services.entry(service).or_default().idle.push_back(peer.clone());
            }
            return;
        }
        let mut client = request.client.clone();
        if self.is("own-reply") {
            let other = self.in_hand.values().find(|other| other.service == service && other.client != client);
            client = other.map_or(client, |other| other.client.clone());
        }
        for (to, part) in std::mem::take(&mut self.parts) {
            self.tell_client(&to, request.version, PARTIAL, &service, &part);
        }
        if self.is("reply-to-nobody") && self.gone.contains(&client) {
            return;
        }
        self.in_hand.remove(&delivery);
        let body: Frames =
            body.iter().filter(|frame| !(self.is("reply-format") && frame.is_empty())).cloned().collect();
        self.tell_client(&client, request.version, REPLY, &service, &body);
        if let Some(worker) = self.workers.get_mut(peer) {
            worker.holds = None;
            self.services.entry(service).or_default().idle.push_back(peer.clone());
        }
    }

    fn heard(&mut self, peer: &Id) {
        if let Some(worker) = self.workers.get_mut(peer) {
            worker.heard = Instant::now();
        }
    }

    fn expel(&mut self, peer: &Id, version: &'static Version) {
        self.remove(peer);
        self.tell_worker(peer, version, DISCONNECT, &[]);
    }

    /// The worker is no worker any more; its request goes back.
    fn remove(&mut self, peer: &Id) {
        let Some(worker) = self.workers.remove(peer) else { return };
        self.order.retain(|other| other != peer);
        let service = self.services.entry(worker.service).or_default();
        service.idle.retain(|other| other != peer);
        if let Some(request) = worker.holds.and_then(|delivery| self.in_hand.remove(&delivery)) {
            service.returned.push_back(request);
        }
    }

    /// The connection is closed.
    fn leave(&mut self, peer: &Id) {
        self.gone.insert(peer.clone());
        self.outboxes.remove(peer);
        if let Some(worker) = self.workers.get(peer) {
            let (service, holds) = (worker.service.clone(), worker.holds);
            let unnoticed = if holds.is_some() { "mmi-dead-busy" } else { "mmi-dead-idle" };
            if self.is(unnoticed) {
                self.ghosts.insert(service);
            }
            if let Some(delivery) = holds.filter(|_| self.is("worker-dies-busy")) {
                self.in_hand.remove(&delivery);
            }
            self.remove(peer);
        }
        if !self.is("client-gone") {
            for service in self.services.values_mut() {
                service.lines.retain(|(client, _)| client != peer);
            }
        }
        self.dispatch_all();
    }

    fn dispatch_all_but_after(&mut self, reply: bool) {
        if !(reply && self.is("next-at-once")) {
            self.dispatch_all();
        }
    }

    fn dispatch_all(&mut self) {
        let names: Vec<_> = self.services.keys().cloned().collect();
        for name in names {
            while let Some((worker, request)) = self.next(&name) {
                self.hand(&worker, request);
            }
        }
    }

    fn next(&mut self, name: &[u8]) -> Option<(Id, Request)> {
        let twice = self.is("one-at-a-time") && says(name, "-single");
        let workers = &self.workers;
        let service = self.services.get_mut(name)?;
        let busy = || workers.iter().find(|(_, worker)| worker.service == name).map(|(id, _)| id.clone());
        let worker = service.idle.front().cloned().or_else(|| busy().filter(|_| twice))?;
        let request = match service.returned.pop_front() {
            Some(request) => request,
            None => {
                let (client, mut line) = service.lines.pop_front()?;
                let request = line.pop_front()?;
                if !line.is_empty() {
                    service.lines.push_back((client, line));
                }
                request
            }
        };
        service.idle.pop_front();
        Some((worker, request))
    }

    fn hand(&mut self, to: &Id, request: Request) {
        self.last += 1;
        let delivery = self.last;
        let mut body = request.body.clone();
        if self.is("request-format") && body.first().is_some_and(Vec::is_empty) {
            body.remove(0);
        }
        self.in_hand.insert(delivery, request);
        let Some(worker) = self.workers.get_mut(to) else { return };
        worker.holds = Some(delivery);
        let version = worker.version;
        let envelope = [delivery.to_be_bytes().to_vec(), Vec::new()];
        self.tell_worker(to, version, REQUEST, &[&envelope[..], &body].concat());
    }

    fn time(&mut self) {
        let now = Instant::now();
        if !self.is("request-expires") {
            let ttl = self.times.ttl;
            for service in self.services.values_mut() {
                for (_, line) in &mut service.lines {
                    line.retain(|request| now < request.came + ttl);
                }
                service.lines.retain(|(_, line)| !line.is_empty());
            }
        }
        for id in self.order.clone() {
            let Some(worker) = self.workers.get(&id) else { continue };
            // A worker that does not beat while it is busy is not to be expired then.
            if worker.holds.is_none() && now > worker.heard + self.times.lease {
                let version = worker.version;
                self.expel(&id, version);
            } else if self.is("silence") {
                break;
            }
        }
        for (id, worker) in &mut self.workers {
            if now >= worker.sent + self.times.heartbeat && self.defect != "heartbeats" {
                worker.sent = now;
                let mut frames = worker.version.header(worker.version.worker);
                frames.push(vec![worker.version.bytes[HEARTBEAT]]);
                // A beat that does not get through is one that is missing.
                let _ = self.socket.send_multipart([std::slice::from_ref(id), &frames].concat(), zmq::DONTWAIT);
            }
        }
        let waiting: Vec<_> = self.outboxes.keys().cloned().collect();
        for id in waiting {
            while let Some(frames) = self.outboxes.get_mut(&id).and_then(VecDeque::pop_front) {
                if self.try_send(&id, &frames) == Err(zmq::Error::EAGAIN) {
                    self.outboxes.entry(id).or_default().push_front(frames);
                    break;
                }
            }
        }
        self.outboxes.retain(|_, waiting| !waiting.is_empty());
    }

    fn tell_worker(&mut self, to: &Id, version: &Version, command: usize, rest: &[Vec<u8>]) {
        let mut frames = version.header(version.worker);
        frames.push(vec![version.bytes[command]]);
        frames.extend_from_slice(rest);
        self.send(to, frames);
    }

    fn tell_client(&mut self, to: &Id, version: &Version, kind: usize, service: &[u8], body: &[Vec<u8>]) {
        let mut frames = version.header(version.client);
        if !version.lead {
            frames.push(vec![if kind == PARTIAL { 2 } else { 3 }]);
        }
        frames.push(service.to_vec());
        frames.extend_from_slice(body);
        self.send(to, frames);
    }

    fn send(&mut self, to: &Id, frames: Frames) {
        let full = self.outboxes.contains_key(to) || self.try_send(to, &frames) == Err(zmq::Error::EAGAIN);
        if full && !self.is("slow-reader") {
            self.outboxes.entry(to.clone()).or_default().push_back(frames);
        }
    }

    fn try_send(&self, to: &Id, frames: &[Vec<u8>]) -> Result<(), zmq::Error> {
        self.socket.send_multipart([std::slice::from_ref(to), frames].concat(), zmq::DONTWAIT)
    }
}

fn is_name(service: &[u8]) -> bool {
    !service.is_empty() && std::str::from_utf8(service).is_ok_and(|name| !name.contains(char::is_control))
}

fn says(service: &[u8], word: &str) -> bool {
    String::from_utf8_lossy(service).contains(word)
}
