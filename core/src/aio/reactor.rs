//! What runs on the I/O thread: it waits for commands, sockets and moments, and never for anything else.

use std::collections::HashMap;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use foldhash::fast::FixedState;

use crate::error::Result;
use crate::transport::{Context, Interest, Poller, Woken};

use super::asker::Asker;
use super::command::Command;
use super::crew::Crew;
use super::runtime::Queue;
use super::timers::{Owner, Timers};
use super::wakes::Wakes;

/// So many commands at a time are carried out before what they lead to goes out: others work on it meanwhile. But where they
/// are for many handles, so many for each: what goes out in small pieces costs all who handle it.
const CHUNK: usize = 128;
const CHUNK_FOR_EACH: usize = 64;

pub(super) struct Reactor {
    queue: Arc<Queue>,
    askers: HashMap<u64, Asker, FixedState>,
    crews: HashMap<u64, Crew, FixedState>,
    io: Io,
    poller: Poller,
    /// Memory that is used again in each turn.
    commands: Vec<Command>,
    watched: Vec<Owner>,
    owners: Vec<Owner>,
    /// Kept to the end: were there no sockets for a moment, the context would otherwise end and begin again, and its end
    /// waits.
    _context: Arc<Context>,
}

/// What clients and workers share on the I/O thread.
pub(super) struct Io {
    /// The moment of this turn.
    pub(super) now: Instant,
    pub(super) timers: Timers,
    pub(super) wakes: Wakes,
    /// Clients whose machines want something done at the end of the turn.
    pub(super) unsettled: Vec<u64>,
    /// Workers' sessions that have something to send at the end of the turn.
    pub(super) unsent: Vec<(u64, usize)>,
}

impl Io {
    pub(super) fn new() -> Io {
        Io {
            now: Instant::now(),
            timers: Timers::default(),
            wakes: Wakes::default(),
            unsettled: Vec::new(),
            unsent: Vec::new(),
        }
    }
}

impl Reactor {
    pub(super) fn new(queue: Arc<Queue>) -> Result<Reactor> {
        Ok(Reactor {
            queue,
            askers: HashMap::default(),
            crews: HashMap::default(),
            io: Io::new(),
            poller: Poller::default(),
            commands: Vec::new(),
            watched: Vec::new(),
            owners: Vec::new(),
            _context: Context::shared()?,
        })
    }

    /// Runs until the last handle is gone.
    pub(super) fn run(mut self) {
        let queue = self.queue.clone();
        loop {
            // This thread serves every handle of the process. What fails here is a bug, and hurts one of them.
            match catch_unwind(AssertUnwindSafe(|| self.turn())) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => log::error!("the asynchronous I/O thread panicked and goes on; this is a bug"),
            }
        }
        let rest = queue.close();
        let farewell = catch_unwind(AssertUnwindSafe(|| {
            drop(rest);
            self.finish();
            drop(self);
        }));
        if farewell.is_err() {
            log::error!("the asynchronous I/O thread panicked at its end; this is a bug");
        }
        queue.end();
    }

    /// Waits once and does what is to be done; whether to go on.
    fn turn(&mut self) -> bool {
        self.wait();
        self.io.now = Instant::now();
        let mut go_on = true;
        if self.poller.readiness(0).readable {
            go_on = self.obey();
        }
        let mut owners = mem::take(&mut self.owners);
        owners.clear();
        owners.extend(self.watched.iter().enumerate().filter_map(|(index, owner)| {
            let readiness = self.poller.readiness(index + 1);
            (readiness.readable || readiness.writable).then_some(*owner)
        }));
        for owner in owners.drain(..) {
            match owner {
                Owner::Client(client) => self.with_asker(client, Asker::ready),
                Owner::Connection(client, index) => {
                    self.with_asker(client, |asker, io| asker.connection_ready(io, index));
                }
                Owner::Session(worker, index) => self.with_crew(worker, |crew, io| crew.ready(io, index)),
                Owner::Waiting(_) => {}
            }
        }
        self.io.timers.due(self.io.now, &mut owners);
        for owner in owners.drain(..) {
            match owner {
                Owner::Client(client) => self.with_asker(client, Asker::due),
                Owner::Connection(client, index) => {
                    self.with_asker(client, |asker, io| asker.connection_due(io, index));
                }
                Owner::Waiting(client) => self.with_asker(client, Asker::waiting_due),
                Owner::Session(worker, index) => self.with_crew(worker, |crew, io| crew.session_due(io, index)),
            }
        }
        self.owners = owners;
        self.settle();
        self.io.wakes.flush();
        go_on
    }

    fn wait(&mut self) {
        let Reactor { queue, askers, crews, io, poller, watched, .. } = self;
        watched.clear();
        let sockets = askers.values().flat_map(Asker::interests).chain(crews.values().flat_map(Crew::interests));
        let interests = sockets.map(|(owner, dealer, writable)| {
            watched.push(owner);
            Interest::dealer(dealer, writable)
        });
        let timeout = io.timers.next().map(|due| due.saturating_duration_since(Instant::now()));
        let interests: Vec<_> = std::iter::once(Interest::waker(queue.waker())).chain(interests).collect();
        match poller.poll(&interests, timeout) {
            Ok(Woken::Ready(_) | Woken::Timeout | Woken::Interrupted) => {}
            Err(error) => {
                log::error!("the asynchronous I/O thread: {error}");
                // No reason for this is known. Timers and commands go on, and the processor stays free.
                thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Does what handles have asked for; whether to go on.
    fn obey(&mut self) -> bool {
        let mut commands = mem::take(&mut self.commands);
        self.queue.take(&mut commands);
        let mut go_on = true;
        let mut unsettled = 0;
        for command in commands.drain(..) {
            let handles = self.io.unsettled.len() + self.io.unsent.len();
            if unsettled >= CHUNK.max(CHUNK_FOR_EACH * handles) {
                self.settle();
                unsettled = 0;
            }
            unsettled += 1;
            go_on &= self.execute(command);
        }
        self.commands = commands;
        go_on
    }

    fn execute(&mut self, command: Command) -> bool {
        match command {
            Command::OpenClient { client, options, load } => {
                self.askers.insert(client, Asker::new(&self.io, client, options, load));
            }
            Command::CloseClient { client } => {
                if let Some(asker) = self.askers.remove(&client) {
                    asker.close(&mut self.io);
                }
            }
            // Where the client is closed, dropping the call tells its caller.
            Command::Call { client, id, call } => self.with_asker(client, |asker, io| asker.call(io, id, call)),
            Command::Cancel { client, id } => self.with_asker(client, |asker, io| asker.cancel(io, id)),
            Command::Resume { client, id } => self.with_asker(client, |asker, io| asker.resume(io, id)),
            Command::Refuse { caller, error } => caller.done(Err(error), &mut self.io.wakes),
            Command::OpenWorker { worker, options, desk } => {
                let crew = Crew::new(&mut self.io, worker, options, desk);
                self.crews.insert(worker, crew);
                self.with_crew(worker, |crew, io| crew.open(io));
            }
            Command::DrainWorker { worker } => self.with_crew(worker, |crew, io| crew.drain(io)),
            Command::CloseWorker { worker } => self.with_crew(worker, |crew, io| crew.close(io)),
            Command::Answer { worker, id, answer } => self.with_crew(worker, |crew, io| crew.answer(io, id, answer)),
            Command::Stop => return false,
        }
        true
    }

    fn finish(&mut self) {
        self.io.now = Instant::now();
        for (_, asker) in mem::take(&mut self.askers) {
            asker.close(&mut self.io);
        }
        for (_, mut crew) in mem::take(&mut self.crews) {
            crew.close(&mut self.io);
        }
        self.io.wakes.flush();
    }

    fn with_asker(&mut self, client: u64, act: impl FnOnce(&mut Asker, &mut Io)) {
        if let Some(asker) = self.askers.get_mut(&client) {
            act(asker, &mut self.io);
        }
    }

    /// Does what the turn has led to: once for all that was asked and answered in it.
    fn settle(&mut self) {
        while let Some(client) = self.io.unsettled.pop() {
            self.with_asker(client, Asker::settle);
        }
        while let Some((worker, session)) = self.io.unsent.pop() {
            self.with_crew(worker, |crew, io| crew.flush(io, session));
        }
    }

    /// A worker whose last session has ended is forgotten.
    fn with_crew(&mut self, worker: u64, act: impl FnOnce(&mut Crew, &mut Io)) {
        if let Some(crew) = self.crews.get_mut(&worker) {
            act(crew, &mut self.io);
            if crew.has_ended() {
                self.crews.remove(&worker);
            }
        }
    }
}
