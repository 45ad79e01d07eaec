//! Workers in both styles, each on a thread of its own.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::executor::block_on;
use majordomo::{ErrorKind, Message, Request, ServiceError, Worker, WorkerOptions, aio};
use serde_json::json;

use crate::command::{Command, Named, Problem};
use crate::event::{Closing, connection_hook, emit, error_fields, flat, ok};

#[derive(Default)]
pub(crate) struct Workers(Named<Arc<Running>>);

/// A worker, its thread, and what its handler does.
struct Running {
    handle: Either,
    handler: Arc<Handler>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

enum Either {
    Blocking(Arc<Worker>),
    Async(aio::Worker),
}

impl Workers {
    pub(crate) fn start(&self, command: &Command) -> Result<Closing, Problem> {
        let options = worker_options(command)?;
        let handler = Arc::new(Handler::new(command)?);
        let (thread, handle) = if command.is_async() {
            let concurrency = options.concurrency;
            let worker = aio::Worker::with_options(options)?;
            (spawn_async(&worker, &handler, concurrency), Either::Async(worker))
        } else {
            let worker = Arc::new(Worker::with_options(options)?);
            (spawn_blocking(&worker, &handler), Either::Blocking(worker))
        };
        let running = Running { handle, handler, thread: Mutex::new(Some(thread)) };
        self.0.put(command.text("worker")?, Arc::new(running));
        Ok(ok())
    }

    pub(crate) fn release(&self, command: &Command) -> Result<Closing, Problem> {
        self.0.get(command.text("worker")?)?.handler.gate.open();
        Ok(ok())
    }

    pub(crate) fn stats(&self, command: &Command) -> Result<Closing, Problem> {
        Ok(self.0.get(command.text("worker")?)?.handler.handled_event())
    }

    pub(crate) fn stop(&self, command: &Command) -> Result<Closing, Problem> {
        let running = self.0.get(command.text("worker")?)?;
        running.stop();
        // Only now, so that a held request can still be released while the worker drains.
        self.0.take(command.text("worker")?)?;
        Ok(running.handler.handled_event())
    }

    pub(crate) fn close_all(&self) {
        for running in self.0.take_all() {
            running.handler.gate.open();
            running.stop();
        }
    }
}

impl Running {
    fn stop(&self) {
        match &self.handle {
            Either::Blocking(worker) => worker.drain(),
            // A drain that ran out of its time has closed the worker all the same.
            Either::Async(worker) => drop(block_on(worker.drain())),
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A handler that panicked has already been reported by its request.
        let _ = thread.map(JoinHandle::join);
    }
}

fn spawn_blocking(worker: &Arc<Worker>, handler: &Arc<Handler>) -> JoinHandle<()> {
    let (worker, handler) = (Arc::clone(worker), Arc::clone(handler));
    thread::spawn(move || {
        loop {
            match worker.recv() {
                Ok(request) => handler.handle(&request),
                Err(error) => return handler.ended(&error),
            }
        }
    })
}

fn spawn_async(worker: &aio::Worker, handler: &Arc<Handler>, concurrency: usize) -> JoinHandle<()> {
    let (worker, handler) = (worker.clone(), Arc::clone(handler));
    thread::spawn(move || {
        let serve = worker.requests().for_each_concurrent(concurrency, |request| {
            let handler = &handler;
            async move { handler.handle(&request) }
        });
        block_on(serve);
    })
}

/// What the worker does with a request.
struct Handler {
    worker: String,
    behaviour: Behaviour,
    handled: AtomicU64,
    gate: Gate,
}

enum Behaviour {
    Echo,
    Reverse,
    Name,
    Stream,
    Fail { code: u32, text: String },
    Hold,
    Spin(Duration),
    Describe,
    WaitCancel { part_first: bool },
    Retry { succeed_at: u32 },
    Witness { pause: Duration },
}

impl Handler {
    fn new(command: &Command) -> Result<Self, Problem> {
        let text = || command.text("text").map(str::to_owned);
        let behaviour = match command.text("behaviour")? {
            "echo" => Behaviour::Echo,
            "reverse" => Behaviour::Reverse,
            "name" => Behaviour::Name,
            "stream" => Behaviour::Stream,
            "fail" => Behaviour::Fail { code: command.count("code").unwrap_or(0), text: text()? },
            // An `Err` of a handler is how Rust fails; 500 is what it is answered with.
            "raise" => Behaviour::Fail { code: 500, text: text()? },
            "hold" => Behaviour::Hold,
            "spin" => Behaviour::Spin(command.millis("spin_ms").unwrap_or_default()),
            "describe" => Behaviour::Describe,
            "wait_cancel" => Behaviour::WaitCancel { part_first: command.flag("part_first") },
            "retry" => Behaviour::Retry { succeed_at: command.count("succeed_at").unwrap_or(2) },
            "witness" => Behaviour::Witness { pause: command.millis("pause_ms").unwrap_or_default() },
            other => return Err(Problem::Failed(format!("no behaviour {other:?}"))),
        };
        let worker = command.text("worker")?.to_owned();
        Ok(Self { worker, behaviour, handled: AtomicU64::new(0), gate: Gate::default() })
    }

    fn handle(&self, request: &Request) {
        let handled = self.handled.fetch_add(1, Ordering::Relaxed) + 1;
        if let Err(error) = self.answer(request, handled) {
            self.ended(&error);
        }
    }

    fn answer(&self, request: &Request, handled: u64) -> majordomo::Result<()> {
        let body = request.body();
        match &self.behaviour {
            Behaviour::Echo => request.reply(body.clone()),
            Behaviour::Reverse => request.reply(body.frames().iter().rev().cloned().collect::<Message>()),
            Behaviour::Name => request.reply(self.worker.as_str()),
            Behaviour::Stream => {
                let part = |body: Message| body.with_properties(request.properties().clone());
                for frame in body.frames() {
                    request.partial(part(frame.clone().into()))?;
                }
                request.reply(part("END".into()))
            }
            Behaviour::Fail { code, text } => request.fail(*code, text),
            Behaviour::Hold => {
                emit(&json!({ "event": "holding", "worker": self.worker, "handled": handled }));
                self.gate.wait();
                request.reply(body.clone())
            }
            Behaviour::Spin(time) => {
                let start = Instant::now();
                while start.elapsed() < *time {
                    spin_loop();
                }
                request.reply(body.clone())
            }
            Behaviour::Describe => {
                let remaining = request.remaining().map_or(-1, |left| left.as_millis() as i64);
                let properties = request.properties();
                let text = json!({
                    "attempt": request.attempt(), "remaining_ms": remaining, "properties": flat(properties),
                });
                request.reply(Message::from(text.to_string()).with_properties(properties.clone()))
            }
            Behaviour::WaitCancel { part_first } => {
                if *part_first {
                    request.partial(body.clone())?;
                }
                emit(&json!({ "event": "holding", "worker": self.worker, "handled": handled }));
                let token = request.cancel_token();
                // The gate opens when the agent ends.
                while !token.wait_timeout(Duration::from_millis(20)) && !self.gate.is_open() {}
                if token.is_cancelled() {
                    emit(&json!({ "event": "cancelled", "worker": self.worker }));
                }
                request.reply("cancelled")
            }
            Behaviour::Retry { succeed_at } if request.attempt() < *succeed_at => {
                request.fail_with(ServiceError::new(503, "not yet").retryable(true))
            }
            Behaviour::Retry { .. } => request.reply(body.clone()),
            Behaviour::Witness { pause } => {
                let number =
                    body.frames().first().and_then(|frame| std::str::from_utf8(frame).ok()?.parse::<u64>().ok());
                emit(&json!({ "event": "running", "worker": self.worker, "request": number }));
                if request.attempt() == 1 {
                    thread::sleep(*pause);
                }
                request.reply(body.clone())
            }
        }
    }

    fn ended(&self, error: &majordomo::Error) {
        // `Closed` is how a stopped worker's loop ends.
        if error.kind() != ErrorKind::Closed {
            emit(&error_fields(json!({ "event": "worker_ended", "worker": self.worker }), error));
        }
    }

    fn handled_event(&self) -> Closing {
        json!({ "event": "ok", "handled": self.handled.load(Ordering::Relaxed) })
    }
}

/// Closed at first, open for ever once opened.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn open(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.1.notify_all();
    }

    fn is_open(&self) -> bool {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self) {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.1.wait_while(open, |open| !*open));
    }
}

fn worker_options(command: &Command) -> Result<WorkerOptions, Problem> {
    let mut options = WorkerOptions::new(command.text("endpoint")?, command.text("service")?);
    options.protocol = command.parsed("protocol")?;
    options.heartbeat = command.millis("heartbeat_ms").unwrap_or(options.heartbeat);
    options.liveness = command.count("liveness").unwrap_or(options.liveness);
    options.reconnect = command.millis("reconnect_ms").unwrap_or(options.reconnect);
    options.concurrency = command.count("concurrency").unwrap_or(options.concurrency);
    options.max_message_bytes = command.count("max_message_bytes").unwrap_or(options.max_message_bytes);
    options.prefetch = command.count("prefetch").unwrap_or(options.prefetch);
    options.keep_outcomes = command.count("keep_outcomes").unwrap_or(options.keep_outcomes);
    if command.flag("events") {
        options.on_event = Some(connection_hook("worker", command.text("worker")?));
    }
    options.drain_timeout = command.millis("drain_timeout_ms").unwrap_or(options.drain_timeout);
    Ok(options)
}
