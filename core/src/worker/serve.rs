//! Serving with a function: one thread and one registration for each request that is worked on at once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::error::{Error, ErrorKind, Result, ServiceError};
use crate::message::Message;
use crate::options::WorkerOptions;

use super::{Request, Worker};

/// Ends a [`serve`] from any thread. Clones are the same handle.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    stopped: bool,
    workers: Vec<Arc<Worker>>,
}

impl Stop {
    /// A handle that stops nothing yet.
    pub fn new() -> Stop {
        Stop::default()
    }

    /// Drains every worker that serves under this handle: it takes no new work, and [`serve`] returns when the requests in
    /// hand are answered. Those that start later end at once. Does not wait, so a handler may call it too.
    pub fn stop(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.stopped = true;
        let workers = std::mem::take(&mut state.workers);
        drop(state);
        drain(&workers);
    }

    /// Puts workers under this handle; whether it has not been stopped yet.
    fn add(&self, workers: &[Arc<Worker>]) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.stopped {
            state.workers.extend(workers.iter().cloned());
        }
        !state.stopped
    }

    /// These workers have ended.
    fn remove(&self, workers: &[Arc<Worker>]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.workers.retain(|present| !workers.iter().any(|worker| Arc::ptr_eq(present, worker)));
    }
}

/// Serves until `stop` is stopped: `concurrency` threads, each with a registration of its own, call the handler.
///
/// Each registration has `prefetch`, `keep_outcomes` and the limits of that to itself. So with `keep_outcomes` and more than
/// one thread, a repeat that comes to another thread than the first time runs the handler again; an asynchronous worker has
/// one registration and one set of kept outcomes, whatever its `concurrency`.
///
/// What the handler returns is the reply or the failure that the caller gets; a panic is a failure of code 500. A handler
/// may send parts itself by [`Request::partial`], or answer by [`Request::reply`], in which case what it returns is ignored.
///
/// # Errors
/// `InvalidArgument` for options that cannot be, `Internal` where no socket or thread can be had, or a socket fails.
pub fn serve(
    options: WorkerOptions,
    stop: &Stop,
    handler: impl Fn(&Request) -> std::result::Result<Message, ServiceError> + Sync,
) -> Result<()> {
    options.validate()?;
    let sessions = options.concurrency;
    let options = options.concurrency(1);
    let workers =
        (0..sessions).map(|_| Ok(Arc::new(Worker::with_options(options.clone())?))).collect::<Result<Vec<_>>>()?;
    if !stop.add(&workers) {
        return Ok(());
    }
    let result = serve_on(&workers, &handler);
    stop.remove(&workers);
    for worker in &workers {
        worker.close();
    }
    result
}

fn serve_on(
    workers: &[Arc<Worker>],
    handler: &(impl Fn(&Request) -> std::result::Result<Message, ServiceError> + Sync),
) -> Result<()> {
    thread::scope(|scope| {
        let mut result = Ok(());
        let mut threads = Vec::with_capacity(workers.len());
        for worker in workers {
            let serving = move || {
                // One that cannot go on ends the others as well: whoever called shall hear of it.
                work(worker, handler).inspect_err(|_| drain(workers))
            };
            match thread::Builder::new().name("majordomo-serve".to_owned()).spawn_scoped(scope, serving) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    result = Err(Error::new(ErrorKind::Internal, format!("no thread could be started: {error}")));
                    drain(workers);
                    break;
                }
            }
        }
        for thread in threads {
            let ended = thread.join().unwrap_or_else(|_| Err(panicked()));
            result = result.and(ended);
        }
        result
    })
}

fn drain(workers: &[Arc<Worker>]) {
    for worker in workers {
        worker.begin_drain();
    }
}

fn work(
    worker: &Worker,
    handler: &(impl Fn(&Request) -> std::result::Result<Message, ServiceError> + Sync),
) -> Result<()> {
    loop {
        let request = match worker.recv() {
            Ok(request) => request,
            Err(error) if error.kind() == ErrorKind::Closed => return Ok(()),
            Err(error) => return Err(error),
        };
        // The handler sees the request by reference only, and what it panicked over is its own.
        let outcome = catch_unwind(AssertUnwindSafe(|| handler(&request)))
            .unwrap_or_else(|_| Err(ServiceError::new(500, "the handler panicked")));
        if request.is_answered() {
            continue;
        }
        let answered = match outcome {
            Ok(reply) => request.reply(reply),
            Err(failure) => request.fail_with(failure),
        };
        if let Err(error) = answered {
            log::warn!("{}: {error}", worker.service());
            // The caller shall at least learn that there will be no reply.
            let _ = request.fail(500, &error.to_string());
        }
    }
}

fn panicked() -> Error {
    Error::new(ErrorKind::Internal, "a serving thread panicked; this is a bug")
}
