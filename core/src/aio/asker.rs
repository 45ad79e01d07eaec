//! The I/O side of a client: one connection for all requests over MDPX, or a pool of them for older protocols.
//!
//! What a turn asks and what has arrived is handed to the machine first; what that leads to is done once at the end of the
//! turn, see [`Asker::settle`]. So messages go out and callers are woken in batches.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::event::ConnectionEvent;
use crate::identity::{identity, renew};
use crate::message::Message;
use crate::options::{ClientOptions, Protocol};
use crate::proto::Window;
use crate::proto::mdp::Version;
use crate::proto::session::{Asked, Session, SessionConfig, SessionOutput};
use crate::transport::{Dealer, DealerOptions, Received};

use super::command::Call;
use super::engine::Io;
use super::link::Link;
use super::outcome::{Caller, Load};
use super::pool::Pool;
use super::timers::Owner;
use super::watch::Watch;

/// How many messages are read before what they lead to is done: few, since each may be a batch, and callers and broker work
/// on what they get meanwhile.
const BATCH: usize = 16;
/// How long the last messages of a closed connection, CANCEL and DISCONNECT among them, may take to go out.
const LINGER: Duration = Duration::from_secs(1);

pub(super) struct Asker {
    id: u64,
    options: Arc<ClientOptions>,
    load: Arc<Load>,
    /// MDPX, or finding out what is spoken; `None` where an older protocol is fixed.
    talk: Option<Talk>,
    /// Connections to a broker of an older protocol, once there was one.
    pool: Option<Pool>,
    /// Whoever is to hear an outcome in this turn. Empty between turns, and kept for its memory.
    ended: Vec<(Caller, Result<Message>)>,
}

/// A session, its connection, and who waits for what.
struct Talk {
    session: Session,
    link: Link,
    dealer: DealerOptions,
    callers: Window<Caller>,
    /// Whether requests go to the pool, as long as that is not stale.
    found_older: bool,
    /// Whether the end of the turn sees to this client.
    unsettled: bool,
    timer: Option<Instant>,
}

impl Asker {
    pub(super) fn new(io: &Io, id: u64, options: Arc<ClientOptions>, load: Arc<Load>) -> Self {
        let mut asker = Asker { id, options, load, talk: None, pool: None, ended: Vec::new() };
        match asker.options.protocol {
            Protocol::V01 => asker.use_pool(Version::V01, 0),
            Protocol::V02 => asker.use_pool(Version::V02, 0),
            Protocol::Auto | Protocol::X1 => asker.talk = Talk::new(io, &asker.options),
        }
        asker
    }

    /// Takes a request in.
    pub(super) fn call(&mut self, io: &mut Io, id: u64, call: Call) {
        match (&mut self.talk, &mut self.pool) {
            (Some(talk), Some(pool)) if talk.found_older => {
                if pool.is_stale(io) {
                    talk.session.set_endpoint(pool.preferred());
                    talk.start(io, self.id, &self.load, id, call);
                } else {
                    pool.call(io, id, call);
                }
            }
            (Some(talk), _) => talk.start(io, self.id, &self.load, id, call),
            (None, Some(pool)) => pool.call(io, id, call),
            (None, None) => {
                let error = Error::new(ErrorKind::Internal, "the operating system gave no random bytes");
                call.caller.done(Err(error), &self.load, &mut io.wakes);
            }
        }
    }

    /// Whether a request goes out at once over a session that stands.
    pub(super) fn is_clear(&self) -> bool {
        self.talk.as_ref().is_some_and(|talk| !talk.found_older && talk.session.is_ready() && talk.link.is_clear())
    }

    /// Whether the session stands as before and there is nothing to do but wait for messages.
    pub(super) fn is_calm(&self) -> bool {
        self.talk.as_ref().is_some_and(|talk| talk.session.is_ready() && talk.link.is_calm())
    }

    /// An event loop looks after the connection while one request at a time goes over it.
    pub(super) fn set_watch(&mut self, io: &mut Io, watch: Arc<Watch>) {
        if let Some(talk) = &mut self.talk {
            talk.link.set_watch(watch);
            talk.touch(io, self.id);
        }
    }

    /// Whether the event loop is told of messages, and the I/O thread is not.
    pub(super) fn is_lent(&self) -> bool {
        self.talk.as_ref().is_some_and(|talk| talk.link.is_lent())
    }

    /// The descriptor of the connection, which may be lent, has stirred.
    pub(super) fn read_lent(&mut self, io: &mut Io) {
        if self.talk.as_ref().is_some_and(|talk| talk.link.is_lent_and_readable()) {
            self.ready(io);
        }
    }

    /// Takes the connection back if more has come than the event loop was told of.
    pub(super) fn calm_lent(&mut self) {
        if let Some(talk) = self.talk.as_mut().filter(|talk| talk.link.is_lent() && !talk.link.is_calm()) {
            talk.link.take_back();
        }
    }

    /// Gives a request up, wherever it is.
    pub(super) fn cancel(&mut self, io: &mut Io, id: u64) {
        if let Some(talk) = &mut self.talk
            && talk.callers.get(id).is_some()
        {
            let error = Error::new(ErrorKind::Cancelled, "the request was cancelled");
            talk.session.cancel(io.now, id, error);
            talk.touch(io, self.id);
        } else if let Some(pool) = &mut self.pool {
            pool.cancel(io, id);
        }
    }

    /// The caller of a stream has room again.
    pub(super) fn resume(&mut self, io: &mut Io, id: u64) {
        if let Some(pool) = &mut self.pool {
            pool.resume(io, id);
        }
    }

    /// Ends everything: each request fails with `Closed`.
    pub(super) fn close(mut self, io: &mut Io) {
        if let Some(talk) = &mut self.talk {
            talk.session.close(&Error::closed("client"));
        }
        self.settle(io);
        if let Some(talk) = &mut self.talk {
            io.timers.set(Owner::Client(self.id), &mut talk.timer, None);
        }
        if let Some(pool) = self.pool.take() {
            pool.close(io);
        }
    }

    /// The connections to wait for.
    pub(super) fn interests(&self) -> impl Iterator<Item = (Owner, &Dealer, bool)> {
        let talk = self.talk.as_ref().and_then(|talk| talk.link.interest());
        let talk = talk.map(|(dealer, writable)| (Owner::Client(self.id), dealer, writable));
        talk.into_iter().chain(self.pool.iter().flat_map(Pool::interests))
    }

    /// The MDPX connection is readable or writable.
    pub(super) fn ready(&mut self, io: &mut Io) {
        for _ in 0..BATCH {
            let Some(talk) = &mut self.talk else { return };
            talk.touch(io, self.id);
            match talk.link.recv() {
                Ok(Received::Nothing) => return,
                Ok(Received::Message(frames)) => talk.session.handle_message(io.now, frames),
                Ok(Received::Disconnected) => talk.session.handle_disconnected(io.now),
                Err(error) => talk.session.handle_refused(&error),
            }
            if !talk.session.is_ready() {
                // It may want another connection: the rest of this one is nobody's then.
                self.settle(io);
            } else if talk.session.is_idle() {
                // That was the last answer. Whoever waits for it hears of it before it is asked whether there is more.
                return;
            }
        }
    }

    /// The session's moment has come.
    pub(super) fn due(&mut self, io: &mut Io) {
        // The reply may be there already: only what is missing after this is late.
        self.ready(io);
        if let Some(talk) = &mut self.talk {
            if talk.session.poll_timeout().is_some_and(|due| due <= io.now) {
                talk.session.handle_timeout(io.now);
            }
            talk.touch(io, self.id);
        }
    }

    pub(super) fn connection_ready(&mut self, io: &mut Io, index: usize) {
        if let Some(pool) = &mut self.pool {
            pool.ready(io, index);
        }
    }

    pub(super) fn connection_due(&mut self, io: &mut Io, index: usize) {
        if let Some(pool) = &mut self.pool {
            pool.connection_due(io, index);
        }
    }

    pub(super) fn waiting_due(&mut self, io: &mut Io) {
        if let Some(pool) = &mut self.pool {
            pool.waiting_due(io);
        }
    }

    /// Does what the session wants done, sends it, and sets the timer.
    pub(super) fn settle(&mut self, io: &mut Io) {
        loop {
            let Some(talk) = &mut self.talk else { return };
            let Some(output) = talk.session.poll_output() else { break };
            match output {
                SessionOutput::Connect { endpoint } => {
                    let endpoint = self.options.endpoints.get(endpoint).map_or("", String::as_str);
                    if let Err(error) = talk.link.connect(endpoint, &talk.dealer) {
                        talk.session.handle_refused(&error);
                    }
                }
                SessionOutput::Send(frames) => talk.link.send(frames),
                SessionOutput::Close => {
                    // What cannot go out now never does.
                    let _ = talk.link.flush();
                    talk.link.close();
                }
                SessionOutput::Partial { number, part } => talk.partial(io, &self.load, number, part),
                SessionOutput::Done { number, outcome } => {
                    self.ended.extend(talk.callers.remove(number).map(|caller| (caller, outcome)));
                }
                SessionOutput::Identify => renew(&mut talk.session),
                SessionOutput::Event(event) => {
                    if matches!(event, ConnectionEvent::Connected { .. }) {
                        talk.found_older = false;
                        self.load.set_limit(talk.session.limit().saturating_add(self.options.max_waiting));
                    }
                    io.wakes.event(self.options.on_event.as_ref(), event);
                }
                SessionOutput::Older { version, endpoint, requests } => {
                    self.go_on_older(io, version, endpoint, requests);
                }
            }
        }
        Caller::all_done(&mut self.ended, &self.load, &mut io.wakes);
        if let Some(talk) = &mut self.talk {
            talk.unsettled = false;
            match talk.link.flush() {
                Ok(0) => {}
                Ok(_) => talk.session.handle_sent(io.now),
                Err(error) => {
                    talk.session.handle_refused(&error);
                    talk.touch(io, self.id);
                }
            }
            talk.link.lend(self.id, talk.session.is_ready() && talk.session.has_one_at_most());
            io.timers.set(Owner::Client(self.id), &mut talk.timer, talk.session.poll_timeout());
        }
    }

    /// The broker speaks an older protocol: requests are asked over the pool, until there is reason to look again.
    fn go_on_older(&mut self, io: &mut Io, version: Version, endpoint: usize, requests: Vec<(u64, Asked)>) {
        self.use_pool(version, endpoint);
        let (Some(talk), Some(pool)) = (&mut self.talk, &mut self.pool) else { return };
        talk.found_older = true;
        for (id, asked) in requests {
            if let Some(caller) = talk.callers.remove(id) {
                pool.call(io, id, Call { asked, caller });
            }
        }
    }

    fn use_pool(&mut self, version: Version, endpoint: usize) {
        self.load.set_limit(Pool::limit(&self.options).saturating_add(self.options.max_waiting));
        let (id, options, load) = (self.id, &self.options, &self.load);
        self.pool
            .get_or_insert_with(|| Pool::new(id, options.clone(), load.clone(), version, endpoint))
            .confirm(version, endpoint);
    }
}

impl Talk {
    /// `None` where the operating system gives no random bytes.
    fn new(io: &Io, options: &ClientOptions) -> Option<Talk> {
        let identity = identity().inspect_err(|error| log::error!("{error}")).ok()?;
        Some(Talk {
            session: Session::new(SessionConfig::from(options), identity, io.now),
            link: Link::default(),
            dealer: DealerOptions {
                linger: LINGER,
                reconnect_min: options.reconnect_min,
                reconnect_max: options.reconnect_max,
                max_message_bytes: options.max_message_bytes,
            },
            callers: Window::default(),
            found_older: false,
            unsettled: false,
            timer: None,
        })
    }

    fn start(&mut self, io: &mut Io, client: u64, load: &Load, id: u64, call: Call) {
        if let Err(caller) = self.callers.push(id, call.caller) {
            let error = Error::new(ErrorKind::Internal, format!("request {id} comes after a later one"));
            return caller.done(Err(error), load, &mut io.wakes);
        }
        self.session.start(io.now, id, call.asked);
        self.touch(io, client);
    }

    /// Has the end of the turn see to this client.
    fn touch(&mut self, io: &mut Io, client: u64) {
        if !self.unsettled {
            self.unsettled = true;
            io.unsettled.push(client);
        }
    }

    /// Others share the connection, so a stream that is not read cannot stop it: it fails when too much waits in it.
    fn partial(&mut self, io: &mut Io, load: &Load, number: u64, part: Message) {
        let Some(caller) = self.callers.get(number) else { return };
        if caller.shared_partial(part, &mut io.wakes) {
            return;
        }
        let error = Error::new(
            ErrorKind::QueueFull,
            "the stream was not read: more than max_message_bytes of its parts were waiting",
        );
        self.session.cancel(io.now, number, error.clone());
        // At once: further parts may be on their way out of the machine, and one that fits would hide the gap before it.
        if let Some(caller) = self.callers.remove(number) {
            caller.done(Err(error), load, &mut io.wakes);
        }
    }
}
