//! Clients, workers and their sockets: what the I/O thread works on, and a caller in its place where that is sooner.
//!
//! The I/O thread lets go of the engine while it waits. A caller who finds it free carries a command of his own out at once,
//! which saves waking the I/O thread and its way to the processor; see [`Engine::carry_out`]. Whatever that leads to beyond a
//! message that is sent is left to the I/O thread.

use std::collections::HashMap;
use std::mem;
use std::time::Instant;

use foldhash::fast::FixedState;

use crate::transport::Dealer;

use super::asker::Asker;
use super::command::Command;
use super::crew::Crew;
use super::timers::{Owner, Timers};
use super::wakes::Wakes;

pub(super) struct Engine {
    askers: HashMap<u64, Asker, FixedState>,
    crews: HashMap<u64, Crew, FixedState>,
    pub(super) io: Io,
    /// Until when the I/O thread waits, if it does; `None` where it waits as long as it takes.
    pub(super) planned: Option<Instant>,
}

/// What clients and workers share.
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

impl Engine {
    pub(super) fn new() -> Engine {
        Engine { askers: HashMap::default(), crews: HashMap::default(), io: Io::new(), planned: None }
    }

    /// Whether a caller may carry this out: the connection stands and has room, so that it leads to a message and no more.
    pub(super) fn is_ready_for(&self, command: &Command) -> bool {
        match command {
            Command::Call { client, .. } => self.askers.get(client).is_some_and(Asker::is_clear),
            Command::Answer { worker, id, .. } => self.crews.get(worker).is_some_and(|crew| crew.is_clear(*id)),
            _ => false,
        }
    }

    /// Carries out, in a caller's thread, what it [is ready for](Engine::is_ready_for). Whether the I/O thread must look
    /// after what this has led to: it wakes callers, reads what has come (its descriptor may have told of it just now, and
    /// will not again), waits for room, and must not sleep beyond what is due.
    pub(super) fn carry_out(&mut self, command: Command) -> bool {
        self.io.now = Instant::now();
        let owner = match &command {
            Command::Answer { worker, id, .. } => Err((*worker, *id)),
            Command::Call { client, .. } => Ok(*client),
            _ => return true,
        };
        let (Ok(handle) | Err((handle, _))) = owner;
        let was_lent = self.is_lent(handle);
        self.execute(command);
        self.settle();
        let is_calm = match owner {
            Ok(client) => self.askers.get(&client).is_some_and(Asker::is_calm),
            Err((worker, id)) => self.crews.get(&worker).is_some_and(|crew| crew.is_calm(id)),
        };
        let is_taken_back = was_lent && !self.is_lent(handle);
        !is_calm || is_taken_back || self.is_early() || !self.io.wakes.is_empty()
    }

    /// Does, in an event loop's thread, what there is to do for handles whose connections may be [lent](Engine::read_lent) to
    /// it. Whether the I/O thread must look after any of them from now on, or must not sleep beyond what is due.
    pub(super) fn look_after(&mut self, handles: &[u64], look: fn(&mut Engine, u64)) -> bool {
        self.io.now = Instant::now();
        for handle in handles {
            look(self, *handle);
        }
        self.settle();
        self.is_early() || !handles.iter().all(|handle| self.is_lent(*handle))
    }

    /// Reads the messages of a client or a worker whose connection is lent to an event loop.
    pub(super) fn read_lent(&mut self, handle: u64) {
        self.with_asker(handle, Asker::read_lent);
        self.with_crew(handle, Crew::read_lent);
    }

    /// Takes the connection of a client or a worker back if there is more to read than the event loop was told of.
    pub(super) fn calm_lent(&mut self, handle: u64) {
        self.with_asker(handle, |asker, _| asker.calm_lent());
        self.with_crew(handle, |crew, _| crew.calm_lent());
    }

    fn is_lent(&self, handle: u64) -> bool {
        self.askers.get(&handle).is_some_and(Asker::is_lent) || self.crews.get(&handle).is_some_and(Crew::is_lent)
    }

    /// Whether something is due before the I/O thread's sleep ends.
    fn is_early(&self) -> bool {
        self.io.timers.next().is_some_and(|due| self.planned.is_none_or(|planned| due < planned))
    }

    /// The connections to wait for.
    pub(super) fn interests(&self) -> impl Iterator<Item = (Owner, &Dealer, bool)> {
        self.askers.values().flat_map(Asker::interests).chain(self.crews.values().flat_map(Crew::interests))
    }

    /// Does what a handle has asked for; whether to go on.
    pub(super) fn execute(&mut self, command: Command) -> bool {
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
            Command::Refuse { caller, error } => caller.refuse(error, &mut self.io.wakes),
            Command::OpenWorker { worker, options, desk } => {
                let crew = Crew::new(&mut self.io, worker, options, desk);
                self.crews.insert(worker, crew);
                self.with_crew(worker, |crew, io| crew.open(io));
            }
            Command::Watch { handle, watch } => {
                self.with_asker(handle, |asker, io| asker.set_watch(io, watch.clone()));
                self.with_crew(handle, |crew, io| crew.set_watch(io, watch));
            }
            Command::DrainWorker { worker } => self.with_crew(worker, |crew, io| crew.drain(io)),
            Command::CloseWorker { worker } => self.with_crew(worker, |crew, io| crew.close(io)),
            Command::Answer { worker, id, answer } => self.with_crew(worker, |crew, io| crew.answer(io, id, answer)),
            Command::Stop => return false,
        }
        true
    }

    /// Closes everything.
    pub(super) fn finish(&mut self) {
        self.io.now = Instant::now();
        for (_, asker) in mem::take(&mut self.askers) {
            asker.close(&mut self.io);
        }
        for (_, mut crew) in mem::take(&mut self.crews) {
            crew.close(&mut self.io);
        }
    }

    pub(super) fn with_asker(&mut self, client: u64, act: impl FnOnce(&mut Asker, &mut Io)) {
        if let Some(asker) = self.askers.get_mut(&client) {
            act(asker, &mut self.io);
        }
    }

    /// Does what the turn has led to: once for all that was asked and answered in it.
    pub(super) fn settle(&mut self) {
        while let Some(client) = self.io.unsettled.pop() {
            self.with_asker(client, Asker::settle);
        }
        while let Some((worker, session)) = self.io.unsent.pop() {
            self.with_crew(worker, |crew, io| crew.flush(io, session));
        }
    }

    /// A worker whose last session has ended is forgotten.
    pub(super) fn with_crew(&mut self, worker: u64, act: impl FnOnce(&mut Crew, &mut Io)) {
        if let Some(crew) = self.crews.get_mut(&worker) {
            act(crew, &mut self.io);
            if crew.has_ended() {
                self.crews.remove(&worker);
            }
        }
    }
}
