//! Clients in both styles.

use futures::executor::block_on;
use futures::future::{AbortHandle, AbortRegistration, Abortable};
use futures::stream::{self, StreamExt};
use majordomo::{Client, ClientOptions, Error, ErrorKind, Message, RequestOptions, Wake, aio};
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::command::{Command, Named, Problem, made_frame};
use crate::event::{Closing, connection_hook, describe, emit, ok};

#[derive(Clone)]
enum Either {
    Blocking(Arc<Client>),
    Async(aio::Client),
}

#[derive(Default)]
pub(crate) struct Clients {
    named: Named<Either>,
    /// The requests and streams in progress, by the numbers of their commands; `None` for those of blocking clients.
    in_progress: Named<Option<AbortHandle>>,
}

/// How a request or a stream in progress is cancelled: by dropping its future.
pub(crate) struct Cancellable(AbortRegistration);

impl Clients {
    pub(crate) fn open(&self, command: &Command) -> Result<Closing, Problem> {
        let options = client_options(command)?;
        let client = if command.is_async() {
            Either::Async(aio::Client::with_options(options)?)
        } else {
            Either::Blocking(Arc::new(Client::with_options(options)?))
        };
        self.named.put(command.text("client")?, client);
        Ok(ok())
    }

    pub(crate) fn close(&self, command: &Command) -> Result<Closing, Problem> {
        shut(&self.named.take(command.text("client")?)?);
        Ok(ok())
    }

    pub(crate) fn close_all(&self) {
        self.named.take_all().iter().for_each(shut);
    }

    /// Notes a request or a stream, so that it can be cancelled from the next command on.
    pub(crate) fn begin(&self, command: &Command) -> Cancellable {
        let (handle, registration) = AbortHandle::new_pair();
        let client = command.text("client").and_then(|name| self.named.get(name));
        let is_blocking = matches!(client, Ok(Either::Blocking(_)));
        self.in_progress.put(&command.id().to_string(), (!is_blocking).then_some(handle));
        Cancellable(registration)
    }

    /// The command has come to its end.
    pub(crate) fn end(&self, command: &Command) {
        // One that was never noted is as good as one that has ended.
        let _ = self.in_progress.take(&command.id().to_string());
    }

    pub(crate) fn cancel(&self, command: &Command) -> Result<Closing, Problem> {
        let request = command.number("request").unwrap_or_default();
        let handle = self.in_progress.get(&request.to_string())?;
        handle.ok_or_else(|| Problem::Failed("unsupported".to_owned()))?.abort();
        Ok(ok())
    }

    pub(crate) fn request(&self, command: &Command, cancellable: Cancellable) -> Result<Closing, Problem> {
        let (service, options, body) = (command.text("service")?, request_options(command), command.body()?);
        let reply = match self.named.get(command.text("client")?)? {
            Either::Blocking(client) => client.request_with(service, body, &options, &mut never)?,
            Either::Async(client) => {
                let asked = client.request_with(service, body, &options);
                block_on(Abortable::new(asked, cancellable.0)).map_err(|_| cancelled())??
            }
        };
        Ok(describe(json!({ "event": "reply" }), &reply))
    }

    pub(crate) fn stream(&self, command: &Command, cancellable: Cancellable) -> Result<Closing, Problem> {
        let (service, options, body) = (command.text("service")?, request_options(command), command.body()?);
        let mut parts = 0;
        // Whether the caller leaves the stream with this part.
        let mut part = |body: &Message| {
            parts += 1;
            emit(&describe(json!({ "event": "part", "id": command.id() }), body));
            command.number("leave_after") == Some(parts)
        };
        match self.named.get(command.text("client")?)? {
            Either::Blocking(client) => {
                for found in client.stream_with(service, body, &options)? {
                    if part(&found?) {
                        break;
                    }
                }
            }
            Either::Async(client) => {
                let mut stream = Abortable::new(client.stream_with(service, body, &options), cancellable.0);
                while let Some(found) = block_on(stream.next()) {
                    if part(&found?) {
                        break;
                    }
                }
                if stream.is_aborted() {
                    return Err(cancelled().into());
                }
            }
        }
        Ok(json!({ "event": "end", "parts": parts }))
    }

    pub(crate) fn request_many(&self, command: &Command) -> Result<Closing, Problem> {
        let count = command.number("count").unwrap_or(0);
        let size = command.count("size").unwrap_or(0);
        let bodies = (0..count).map(|i| Message::from_frames(vec![i.to_string().into(), made_frame(size, i, 0)]));
        let (service, options) = (command.text("service")?, request_options(command));
        let mut tally = Tally::default();
        match self.named.get(command.text("client")?)? {
            Either::Blocking(client) => {
                for body in bodies {
                    let outcome = client.request_with(service, body.clone(), &options, &mut never);
                    tally.add(&body, outcome);
                }
            }
            Either::Async(client) => {
                let concurrency = command.count("concurrency").unwrap_or(1);
                let calls = bodies.map(|body| {
                    let call = client.request_with(service, body.clone(), &options);
                    async move { (body, call.await) }
                });
                block_on(stream::iter(calls).buffer_unordered(concurrency).for_each(|(body, outcome)| {
                    tally.add(&body, outcome);
                    std::future::ready(())
                }));
            }
        }
        Ok(tally.event())
    }
}

#[derive(Default)]
struct Tally {
    ok: u64,
    mismatched: u64,
    errors: u64,
    first_error: Option<&'static str>,
}

impl Tally {
    fn add(&mut self, body: &Message, outcome: majordomo::Result<Message>) {
        match outcome {
            Ok(reply) if reply == *body => self.ok += 1,
            Ok(_) => self.mismatched += 1,
            Err(error) => {
                self.errors += 1;
                self.first_error.get_or_insert(error.kind().name());
            }
        }
    }

    fn event(&self) -> Value {
        let mut event = json!({ "event": "many", "ok": self.ok, "mismatched": self.mismatched, "errors": self.errors });
        if let Some(kind) = self.first_error {
            event["first_error"] = kind.into();
        }
        event
    }
}

fn shut(client: &Either) {
    match client {
        Either::Blocking(client) => client.close(),
        Either::Async(client) => client.close(),
    }
}

/// What the caller of a dropped future knows without being told.
fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "the caller has given the request up")
}

/// The driver ends a call by its deadline, never by a signal.
fn never(_: Wake) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn request_options(command: &Command) -> RequestOptions {
    RequestOptions {
        timeout: command.millis("timeout_ms"),
        retries: command.count("retries"),
        deadline: command.millis("deadline_ms"),
        max_attempts: command.count("max_attempts"),
        fail_fast: command.flag("fail_fast"),
    }
}

fn client_options(command: &Command) -> Result<ClientOptions, Problem> {
    let mut options = ClientOptions::new(command.text("endpoint")?).protocol(command.parsed("protocol")?);
    let of = |key| command.millis(key);
    options.timeout = of("timeout_ms").unwrap_or(options.timeout);
    options.retries = command.count("retries").unwrap_or(options.retries);
    options.deadline = of("deadline_ms").or(options.deadline);
    options.max_in_flight = command.count("max_in_flight").unwrap_or(options.max_in_flight);
    options.max_waiting = command.count("max_waiting").unwrap_or(options.max_waiting);
    options.max_message_bytes = command.count("max_message_bytes").unwrap_or(options.max_message_bytes);
    options.reconnect_min = of("reconnect_min_ms").unwrap_or(options.reconnect_min);
    options.reconnect_max = of("reconnect_max_ms").unwrap_or(options.reconnect_max);
    if command.flag("events") {
        options.on_event = Some(connection_hook("client", command.text("client")?));
    }
    Ok(options)
}
