//! What runs on the I/O thread: it waits for commands, sockets and moments, and never for anything else.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::transport::{Context, Interest, Poller};

use super::asker::Asker;
use super::command::Command;
use super::engine::Engine;
use super::runtime::Queue;
use super::timers::Owner;
use super::wakes::Wakes;

/// So many commands at a time are carried out before what they lead to goes out: others work on it meanwhile. But where they
/// are for many handles, so many for each: what goes out in small pieces costs all who handle it.
const CHUNK: usize = 128;
const CHUNK_FOR_EACH: usize = 64;

pub(super) struct Reactor {
    queue: Arc<Queue>,
    poller: Poller,
    /// Memory that is used again in each turn.
    commands: Vec<Command>,
    watched: Vec<Owner>,
    owners: Vec<Owner>,
    wakes: Wakes,
    /// Kept to the end: were there no sockets for a moment, the context would otherwise end and begin again, and its end
    /// waits.
    _context: Arc<Context>,
}

impl Reactor {
    pub(super) fn new(queue: Arc<Queue>) -> Result<Reactor> {
        Ok(Reactor {
            queue,
            poller: Poller::default(),
            commands: Vec::new(),
            watched: Vec::new(),
            owners: Vec::new(),
            wakes: Wakes::default(),
            _context: Context::shared()?,
        })
    }

    /// Runs until the last handle is gone.
    pub(super) fn run(mut self) {
        let queue = self.queue.clone();
        loop {
            // This thread serves every handle of the process. What fails here is a bug, and hurts one of them.
            match catch_unwind(AssertUnwindSafe(|| self.turn(&queue))) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => log::error!("the asynchronous I/O thread panicked and goes on; this is a bug"),
            }
        }
        let rest = queue.close();
        let farewell = catch_unwind(AssertUnwindSafe(|| {
            drop(rest);
            let mut engine = queue.engine();
            engine.finish();
            mem::swap(&mut self.wakes, &mut engine.io.wakes);
            drop(engine);
            self.wakes.flush();
            drop(self);
        }));
        if farewell.is_err() {
            log::error!("the asynchronous I/O thread panicked at its end; this is a bug");
        }
        queue.end();
    }

    /// Waits once and does what is to be done; whether to go on.
    fn turn(&mut self, queue: &Queue) -> bool {
        let mut engine = self.wait(queue);
        engine.io.now = Instant::now();
        let mut go_on = true;
        if self.poller.readiness(0).readable {
            go_on = self.obey(&mut engine);
        }
        let mut owners = mem::take(&mut self.owners);
        owners.clear();
        owners.extend(self.watched.iter().enumerate().filter_map(|(index, owner)| {
            let readiness = self.poller.readiness(index + 1);
            (readiness.readable || readiness.writable).then_some(*owner)
        }));
        for owner in owners.drain(..) {
            match owner {
                Owner::Client(client) => engine.with_asker(client, Asker::ready),
                Owner::Connection(client, index) => {
                    engine.with_asker(client, |asker, io| asker.connection_ready(io, index));
                }
                Owner::Session(worker, index) => engine.with_crew(worker, |crew, io| crew.ready(io, index)),
                Owner::Waiting(_) => {}
            }
        }
        engine.io.timers.due(engine.io.now, &mut owners);
        for owner in owners.drain(..) {
            match owner {
                Owner::Client(client) => engine.with_asker(client, Asker::due),
                Owner::Connection(client, index) => {
                    engine.with_asker(client, |asker, io| asker.connection_due(io, index));
                }
                Owner::Waiting(client) => engine.with_asker(client, Asker::waiting_due),
                Owner::Session(worker, index) => engine.with_crew(worker, |crew, io| crew.session_due(io, index)),
            }
        }
        self.owners = owners;
        engine.settle();
        mem::swap(&mut self.wakes, &mut engine.io.wakes);
        drop(engine);
        self.wakes.flush();
        go_on
    }

    /// Waits, and lets go of the engine meanwhile.
    fn wait<'a>(&mut self, queue: &'a Queue) -> MutexGuard<'a, Engine> {
        let mut engine = queue.engine();
        match self.look(queue, &engine, Poller::look) {
            Ok(0) => {}
            Ok(_) => return engine,
            Err(error) => return troubled(queue, engine, &error),
        }
        engine.planned = engine.io.timers.next();
        let timeout = engine.planned.map(|due| due.saturating_duration_since(Instant::now()));
        drop(engine);
        let slept = self.poller.sleep(Some(queue.waker()), timeout);
        let engine = queue.engine();
        // Connections may have come and gone in the meantime.
        match slept.and_then(|_| self.look(queue, &engine, Poller::look_again)) {
            Ok(_) => engine,
            Err(error) => troubled(queue, engine, &error),
        }
    }

    /// Looks at the waker and at every connection.
    fn look(
        &mut self,
        queue: &Queue,
        engine: &Engine,
        look: impl FnOnce(&mut Poller, &[Interest<'_>]) -> Result<usize>,
    ) -> Result<usize> {
        let Reactor { poller, watched, .. } = self;
        watched.clear();
        let interests = engine.interests().map(|(owner, dealer, writable)| {
            watched.push(owner);
            Interest::dealer(dealer, writable)
        });
        let interests: Vec<_> = std::iter::once(Interest::waker(queue.waker())).chain(interests).collect();
        look(poller, &interests)
    }

    /// Does what handles have asked for; whether to go on.
    fn obey(&mut self, engine: &mut Engine) -> bool {
        let mut commands = mem::take(&mut self.commands);
        self.queue.take(&mut commands);
        let mut go_on = true;
        let mut unsettled = 0;
        for command in commands.drain(..) {
            let handles = engine.io.unsettled.len() + engine.io.unsent.len();
            if unsettled >= CHUNK.max(CHUNK_FOR_EACH * handles) {
                engine.settle();
                unsettled = 0;
            }
            unsettled += 1;
            go_on &= engine.execute(command);
        }
        self.commands = commands;
        go_on
    }
}

/// No reason for this is known. Timers and commands go on, and the processor stays free.
fn troubled<'a>(queue: &'a Queue, engine: MutexGuard<'a, Engine>, error: &Error) -> MutexGuard<'a, Engine> {
    drop(engine);
    log::error!("the asynchronous I/O thread: {error}");
    thread::sleep(Duration::from_millis(20));
    queue.engine()
}
