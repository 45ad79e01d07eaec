//! One JavaScript environment (the main thread, or one of `worker_threads`): where finished things wait to be taken.

use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use majordomo::aio::{self, ClientEvent, Inbox, Watch, WorkerEvent};
use majordomo::{ConnectionEvent, EventHook, ServiceError};
use napi::bindgen_prelude::{Buffer, Function, FunctionRef, JsValue, JsValuesTupleIntoVec, Unknown};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Status, sys};
use napi_derive::napi;

use crate::error::{Result, engine};
use crate::message::{Body, Frames, Scratch, with_properties};
use crate::poll::{self, Readable, in_scope};
use crate::told::{Happened, STRIDE, Told};
use crate::worker::Requests;

/// Calls JavaScript's `take`; does not keep the process alive unless asked to.
type Wake = ThreadsafeFunction<(), Unknown<'static>, Batch, Status, false, true>;

/// So many things are told by one call at most: arguments need room on the stack.
const MAX_TOLD: usize = 64;

/// Where everything that belongs to one JavaScript environment reports to.
#[napi]
pub struct Environment {
    inboxes: Rc<Inboxes>,
    /// Of its event loop, where that can watch.
    watch: Option<Arc<Watch>>,
}

/// What waits to be told.
struct Inboxes {
    bell: Arc<Bell>,
    clients: Arc<Inbox<ClientEvent>>,
    workers: Arc<Inbox<WorkerEvent>>,
    tasks: Arc<Inbox<TaskEvent>>,
    connections: Arc<Inbox<(u64, ConnectionEvent)>>,
    taken: RefCell<Taken>,
    scratch: RefCell<Scratch>,
    shared: Arc<Shared>,
}

/// What has been taken out of the inboxes, and memory that is used again.
#[derive(Default)]
struct Taken {
    clients: Vec<ClientEvent>,
    workers: Vec<WorkerEvent>,
    tasks: Vec<TaskEvent>,
    connections: Vec<(u64, ConnectionEvent)>,
    rest: VecDeque<Happened>,
}

/// What workers of an environment leave there.
pub(crate) struct Shared {
    /// Workers that are open, to be closed before the environment goes away.
    pub(crate) open: Mutex<HashMap<u64, aio::Worker>>,
    /// What they have in hand.
    pub(crate) requests: Requests,
    began: Instant,
}

/// Something for JavaScript to go on with: the outcome of a call that was made on a thread of its own because it may block, or
/// the moment to ask again.
pub(crate) struct TaskEvent {
    pub(crate) token: u64,
    pub(crate) outcome: majordomo::Result<Option<String>>,
}

/// Has the event loop call JavaScript.
struct Bell {
    wake: Wake,
    /// Whether what is put into the inboxes is going to be told anyway.
    silent: AtomicBool,
}

/// Reads messages on the event loop's thread and tells JavaScript of them.
struct Lookout {
    watch: Arc<Watch>,
    /// `None` after the end.
    take: RefCell<Option<FunctionRef<(), Unknown<'static>>>>,
    inboxes: Rc<Inboxes>,
}

/// The arguments of a call: whatever waits when it is made.
struct Batch(Option<Rc<Inboxes>>);

#[napi]
impl Environment {
    /// `take` is called with six arguments for each thing that happened, of several in turn: the token; the frames of a reply
    /// or a request, a buffer or a list of them, or the length of one whose bytes are in `scratch`, behind those of the call's
    /// earlier ones; number, attempt and deadline (see `remaining`) of a worker's request; and an `Event` where there is more
    /// to say. Without one, a reply is the last thing for its token.
    #[napi(constructor, catch_unwind)]
    pub fn new(
        env: Env,
        #[napi(ts_arg_type = "(...told: Array<any>) => void")] take: Function<'_, (), Unknown<'static>>,
        scratch: Buffer,
    ) -> Result<Self> {
        // Weak: the inboxes hold the function that this belongs to.
        let inboxes = Rc::new(OnceCell::<Weak<Inboxes>>::new());
        let told = inboxes.clone();
        let told_here = take.create_ref().map_err(|error| engine(&error))?;
        let wake = take
            .build_threadsafe_function::<()>()
            .weak::<true>()
            .build_callback(move |_| Ok(Batch(told.get().and_then(Weak::upgrade))))
            .map_err(|error| engine(&error))?;
        let wake = Arc::new(Bell { wake, silent: AtomicBool::new(false) });
        let shared = Arc::new(Shared::new());
        let watch = Watch::new().ok();
        // Runs before the finalizers of this environment's objects: a request that is dropped there must find its
        // worker closed, so that the broker gives it to another one instead of getting an error for it.
        env.add_env_cleanup_hook(shared.clone(), |shared: Arc<Shared>| {
            for (_, worker) in lock(&shared.open).drain() {
                worker.close();
            }
        })
        .map_err(|error| engine(&error))?;
        let all = Rc::new(Inboxes {
            clients: inbox(&wake),
            workers: inbox(&wake),
            tasks: inbox(&wake),
            connections: inbox(&wake),
            shared,
            taken: RefCell::default(),
            scratch: RefCell::new(Scratch::new(scratch)),
            bell: wake,
        });
        let _ = inboxes.set(Rc::downgrade(&all));
        let watch = watch.filter(|watch| {
            let fd = watch.as_fd().as_raw_fd();
            let lookout = Lookout { watch: watch.clone(), take: RefCell::new(Some(told_here)), inboxes: all.clone() };
            poll::start(env, fd, Box::new(lookout))
        });
        Ok(Environment { inboxes: all, watch })
    }

    /// Keeps the process alive (`true`) or lets it end when nothing else is to be done (`false`).
    #[napi(catch_unwind)]
    pub fn hold(&self, env: Env, alive: bool) {
        let (env, wake) = (env.raw(), self.inboxes.bell.wake.raw());
        // SAFETY: both pointers are live: this runs on the environment's own thread, and the function is released
        // only when `self` and the inboxes are gone.
        unsafe {
            if alive {
                sys::napi_ref_threadsafe_function(env, wake);
            } else {
                sys::napi_unref_threadsafe_function(env, wake);
            }
        }
    }

    /// A hook that brings connection events here, under `token`.
    pub(crate) fn hook(&self, token: u64) -> EventHook {
        let inbox = self.inboxes.connections.clone();
        EventHook::new(move |event| Inbox::push(&inbox, (token, event.clone())))
    }

    /// Milliseconds until a deadline that a worker's request was told with.
    #[napi(catch_unwind)]
    pub fn remaining(&self, deadline: f64) -> f64 {
        (deadline - self.inboxes.shared.moment(Instant::now())).max(0.0)
    }

    /// Whether nobody waits any more for the answer to the request with this number of the worker known by `token`.
    #[napi(catch_unwind)]
    pub fn is_cancelled(&self, token: i64, number: i64) -> bool {
        self.inboxes.shared.requests.is_cancelled(token, number)
    }

    /// Sends the reply to a request, the last part of a streaming one.
    #[napi(catch_unwind)]
    pub fn reply(
        &self,
        token: i64,
        number: i64,
        #[napi(ts_arg_type = "Uint8Array | Array<Uint8Array>")] body: Body<'_>,
        names: Option<Vec<String>>,
        #[napi(ts_arg_type = "Array<Uint8Array>")] values: Option<Frames<'_>>,
    ) -> Result<()> {
        let body = with_properties(&body, names, values)?;
        self.inboxes.shared.requests.answer(token, number, |request| request.reply(body))
    }

    /// Sends a part of the reply; more will follow.
    #[napi(catch_unwind)]
    pub fn partial(
        &self,
        token: i64,
        number: i64,
        #[napi(ts_arg_type = "Uint8Array | Array<Uint8Array>")] body: Body<'_>,
        names: Option<Vec<String>>,
        #[napi(ts_arg_type = "Array<Uint8Array>")] values: Option<Frames<'_>>,
    ) -> Result<()> {
        let body = with_properties(&body, names, values)?;
        self.inboxes.shared.requests.partial(token, number, body)
    }

    /// Answers with a failure; where it is `retryable`, another worker gets the request while it has attempts left.
    #[napi(catch_unwind)]
    pub fn fail(&self, token: i64, number: i64, code: u32, text: String, retryable: bool) -> Result<()> {
        let failure = ServiceError::new(code, text).retryable(retryable);
        self.inboxes.shared.requests.answer(token, number, |request| request.fail_with(failure))
    }

    /// The request was collected: if it is unanswered, it is answered with an error.
    #[napi(catch_unwind)]
    pub fn abandon(&self, token: i64, number: i64) {
        self.inboxes.shared.requests.abandon(token, number);
    }
}

impl Environment {
    pub(crate) fn clients(&self) -> &Arc<Inbox<ClientEvent>> {
        &self.inboxes.clients
    }

    pub(crate) fn workers(&self) -> &Arc<Inbox<WorkerEvent>> {
        &self.inboxes.workers
    }

    pub(crate) fn tasks(&self) -> &Arc<Inbox<TaskEvent>> {
        &self.inboxes.tasks
    }

    /// That of the event loop, where it can watch.
    pub(crate) fn watch(&self) -> Option<&Arc<Watch>> {
        self.watch.as_ref()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inboxes.shared
    }
}

impl Inboxes {
    /// What is told next.
    fn arguments(&self, env: &Env) -> napi::Result<Vec<sys::napi_value>> {
        let happened = self.next(MAX_TOLD);
        let mut scratch = self.scratch.borrow_mut();
        scratch.clear();
        let mut arguments = Vec::with_capacity(happened.len() * STRIDE);
        for happened in happened {
            if let Some(told) = Told::of(env, &self.shared, &mut scratch, happened) {
                told.put(env, &mut arguments)?;
            }
        }
        Ok(arguments)
    }

    /// The next things that happened, in order for each token.
    fn next(&self, count: usize) -> Vec<Happened> {
        let mut taken = self.taken.borrow_mut();
        let Taken { clients, workers, tasks, connections, rest } = &mut *taken;
        // Always: an inbox rings once, for all that it has when somebody looks.
        self.connections.drain(connections);
        self.clients.drain(clients);
        self.workers.drain(workers);
        self.tasks.drain(tasks);
        // First: the last event of a worker ends its token.
        rest.extend(connections.drain(..).map(Happened::Connection));
        rest.extend(clients.drain(..).map(Happened::Client));
        rest.extend(workers.drain(..).map(Happened::Worker));
        rest.extend(tasks.drain(..).map(Happened::Task));
        let count = rest.len().min(count);
        let next = rest.drain(..count).collect();
        if !rest.is_empty() {
            self.bell.ring();
        }
        next
    }
}

impl JsValuesTupleIntoVec for Batch {
    fn into_vec(self, env: sys::napi_env) -> napi::Result<Vec<sys::napi_value>> {
        self.0.map_or_else(|| Ok(Vec::new()), |inboxes| inboxes.arguments(&Env::from_raw(env)))
    }
}

impl Bell {
    fn ring(&self) {
        if !self.silent.load(Ordering::Relaxed) {
            // The status is of no interest: a closing environment takes nothing any more.
            self.wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }
}

impl Lookout {
    /// Tells JavaScript what is in the inboxes.
    fn tell(&self, env: Env) -> napi::Result<()> {
        let arguments = self.inboxes.arguments(&env)?;
        // Borrowed for a moment only: what JavaScript does may be the end.
        let take = self.take.borrow().as_ref().map(|take| take.borrow_back(&env)).transpose()?;
        let Some(take) = take.filter(|_| !arguments.is_empty()) else { return Ok(()) };
        let global = env.get_global()?;
        // SAFETY: this is the environment's thread, within a scope for handles; the arguments are live in it.
        let status = unsafe {
            let (count, first) = (arguments.len(), arguments.as_ptr());
            sys::napi_make_callback(env.raw(), ptr::null_mut(), global.raw(), take.raw(), count, first, ptr::null_mut())
        };
        match status {
            sys::Status::napi_ok => Ok(()),
            status => Err(napi::Error::new(Status::from(status), "JavaScript was not told")),
        }
    }
}

impl Readable for Lookout {
    fn readable(&self, env: Env) {
        let bell = &self.inboxes.bell;
        bell.silent.store(true, Ordering::Relaxed);
        self.watch.turn(|| {
            // Before the inboxes are looked at, whose locks make sure that whoever found it silent has put in what is found.
            bell.silent.store(false, Ordering::Relaxed);
            in_scope(env, || self.tell(env));
        });
    }

    fn end(&self) {
        self.watch.close();
        let take = self.take.borrow_mut().take();
        drop(take);
    }
}

impl Shared {
    fn new() -> Shared {
        Shared { open: Mutex::default(), requests: Requests::default(), began: Instant::now() }
    }

    /// A moment in milliseconds since this environment began.
    pub(crate) fn moment(&self, moment: Instant) -> f64 {
        moment.saturating_duration_since(self.began).as_secs_f64() * 1000.0
    }
}

fn inbox<T: Send + 'static>(bell: &Arc<Bell>) -> Arc<Inbox<T>> {
    let bell = bell.clone();
    Inbox::new(move || bell.ring())
}

/// A poisoned lock is taken all the same: what is inside are whole entries of a map.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
