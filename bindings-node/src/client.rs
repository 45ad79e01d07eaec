//! The client: requests go out here, their outcomes come back through the environment.

#![allow(clippy::too_many_arguments, reason = "one call across the boundary for each request")]

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use futures_core::Stream;
use majordomo::aio::{self, ClientEvent, Inbox};
use napi::Env;
use napi_derive::napi;

use crate::environment::{Environment, TaskEvent};
use crate::error::{Result, thrown};
use crate::message::{Body, Frames, with_properties};
use crate::options::{ClientOptions, RequestOptions};
use crate::told::{Event, part_event};

/// A client of one or several brokers.
#[napi]
pub struct NativeClient {
    client: aio::Client,
    inbox: Arc<Inbox<ClientEvent>>,
}

#[napi]
impl NativeClient {
    /// Makes a client; connections are made when they are needed. What happens to them comes through `environment` under
    /// `token`.
    #[napi(constructor, catch_unwind)]
    pub fn new(environment: &Environment, token: i64, options: ClientOptions) -> Result<Self> {
        let options = options.to_core()?.on_event(environment.hook(token.cast_unsigned()));
        let client = aio::Client::with_options(options).map_err(|error| thrown(&error))?;
        if let Some(watch) = environment.watch() {
            client.watched_by(watch);
        }
        Ok(NativeClient { client, inbox: environment.clients().clone() })
    }

    /// Sends a request. Its outcome comes through the client's environment under `token`, the parts of a streamed reply
    /// joined. Returns its number, for `cancel`.
    #[napi(catch_unwind)]
    pub fn submit(
        &self,
        token: i64,
        service: String,
        #[napi(ts_arg_type = "Uint8Array | Array<Uint8Array>")] body: Body<'_>,
        options: Option<RequestOptions>,
        names: Option<Vec<String>>,
        #[napi(ts_arg_type = "Array<Uint8Array>")] values: Option<Frames<'_>>,
    ) -> Result<i64> {
        let (body, options) = (with_properties(&body, names, values)?, to_core(options.as_ref())?);
        let number = self.client.submit_whole(&service, body, &options, &self.inbox, token.cast_unsigned());
        Ok(number.cast_signed())
    }

    /// Gives up the request of this number; nothing happens if it is already answered.
    #[napi(catch_unwind)]
    pub fn cancel(&self, number: i64) {
        self.client.cancel(number.cast_unsigned());
    }

    /// Sends a request for a reply in parts.
    #[napi(catch_unwind)]
    pub fn stream(
        &self,
        service: String,
        #[napi(ts_arg_type = "Uint8Array | Array<Uint8Array>")] body: Body<'_>,
        options: Option<RequestOptions>,
        names: Option<Vec<String>>,
        #[napi(ts_arg_type = "Array<Uint8Array>")] values: Option<Frames<'_>>,
    ) -> Result<NativeParts> {
        let (body, options) = (with_properties(&body, names, values)?, to_core(options.as_ref())?);
        Ok(NativeParts { parts: RefCell::new(Some(self.client.stream_with(&service, body, &options))) })
    }

    /// Ends the client; requests under way fail with `Closed`.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.client.close();
    }
}

fn to_core(options: Option<&RequestOptions>) -> Result<majordomo::RequestOptions> {
    options.map_or_else(|| Ok(majordomo::RequestOptions::default()), RequestOptions::to_core)
}

/// The parts of a streamed reply. They are taken one by one, when JavaScript asks: of a reply that is not read at most
/// `maxMessageBytes` wait in memory, and no other request is held up. One that is collected gives its request up.
#[napi]
pub struct NativeParts {
    parts: RefCell<Option<aio::Parts>>,
}

#[napi]
impl NativeParts {
    /// The next part, whose `last` says whether it is the final one; a failure; or neither frames nor failure after the
    /// end. If it is not there yet: nothing, and an event for `token` through `environment` when it is time to ask again.
    #[napi(catch_unwind)]
    pub fn poll<'env>(&self, env: &'env Env, environment: &Environment, token: i64) -> Option<Event<'env>> {
        let mut slot = self.parts.borrow_mut();
        let Some(parts) = slot.as_mut() else { return Some(Event { last: true, ..Event::default() }) };
        let alarm = Alarm { inbox: environment.tasks().clone(), token: token.cast_unsigned() };
        let waker = Waker::from(Arc::new(alarm));
        match Pin::new(&mut *parts).poll_next(&mut Context::from_waker(&waker)) {
            Poll::Pending => None,
            Poll::Ready(item) => {
                let event = part_event(env, item, parts.is_final());
                if event.last {
                    *slot = None;
                }
                Some(event)
            }
        }
    }

    /// Gives the request up.
    #[napi(catch_unwind)]
    pub fn cancel(&self) {
        let parts = self.parts.borrow_mut().take();
        drop(parts);
    }
}

/// Tells JavaScript that it is time to ask again.
struct Alarm {
    inbox: Arc<Inbox<TaskEvent>>,
    token: u64,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.inbox.push(TaskEvent { token: self.token, outcome: Ok(None) });
    }
}
