//! The client: requests go out here, their outcomes come back through the environment.

use majordomo::aio;
use napi_derive::napi;

use crate::environment::{Environment, lock};
use crate::error::{Result, thrown};
use crate::message::{Frames, message};
use crate::options::{ClientOptions, RequestOptions};

/// A client of one or several brokers.
#[napi]
pub struct NativeClient {
    client: aio::Client,
}

#[napi]
impl NativeClient {
    /// Makes a client; connections are made when they are needed.
    #[napi(constructor, catch_unwind)]
    pub fn new(options: ClientOptions) -> Result<Self> {
        let client = aio::Client::with_options(options.to_core()?).map_err(|error| thrown(&error))?;
        Ok(NativeClient { client })
    }

    /// Sends a request. Its parts, unless the `whole` reply is wanted in one piece, and exactly one last event come through
    /// `environment` under `token`.
    #[napi(catch_unwind)]
    pub fn submit(
        &self,
        environment: &Environment,
        token: i64,
        service: String,
        #[napi(ts_arg_type = "Array<Uint8Array>")] body: Frames<'_>,
        options: RequestOptions,
        whole: bool,
    ) -> Result<()> {
        let token = token.cast_unsigned();
        let (body, options) = (message(&body), options.to_core()?);
        let inbox = &environment.clients;
        let ticket = if whole {
            self.client.submit_whole(&service, body, &options, inbox, token)
        } else {
            self.client.submit(&service, body, &options, inbox, token)
        };
        lock(&environment.tickets).insert(token, ticket);
        Ok(())
    }

    /// Ends the client; requests under way fail with `Closed`.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.client.close();
    }
}
