//! What goes into the machine and what comes out of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::Result;
use crate::event::ConnectionEvent;
use crate::message::Message;
use crate::options::{ClientOptions, Protocol, RequestOptions};

use super::super::client::{ReplyMode, check_terms};
use super::super::mdp::Version;
use super::super::mdpx::SessionId;
use super::super::outputs::Output;

/// What of [`ClientOptions`] the machine needs.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// The brokers' endpoints, for the words of errors and events; outputs name them by index.
    pub endpoints: Vec<String>,
    /// What to speak: MDPX/1, or whatever is found out.
    pub protocol: Protocol,
    /// A third of it is the interval between heartbeats; all of it is how long a connection may take to be made.
    pub timeout: Duration,
    /// `timeout` × `retries` is how long a call may take.
    pub retries: u32,
    /// Limit of a call in the place of `timeout` × `retries`.
    pub deadline: Option<Duration>,
    /// How many requests are outstanding at once, if the broker permits.
    pub max_in_flight: usize,
    /// Largest reply in bytes, all its parts joined.
    pub max_message_bytes: usize,
    /// First pause before a broken connection is made again for the second time.
    pub reconnect_min: Duration,
    /// Longest such pause.
    pub reconnect_max: Duration,
}

impl From<&ClientOptions> for SessionConfig {
    fn from(options: &ClientOptions) -> Self {
        SessionConfig {
            endpoints: options.endpoints.clone(),
            protocol: options.protocol,
            timeout: options.timeout,
            retries: options.retries,
            deadline: options.deadline,
            max_in_flight: options.max_in_flight,
            max_message_bytes: options.max_message_bytes,
            reconnect_min: options.reconnect_min,
            reconnect_max: options.reconnect_max,
        }
    }
}

/// Who the client is: random, and different for each machine.
#[derive(Clone, Copy)]
pub struct Identity {
    /// Names the session; workers see it.
    pub session: SessionId,
    /// Proves that the session is the client's; only brokers see it.
    pub secret: [u8; 16],
}

/// A request as its caller gives it. Its size was checked, see [`check_body`](super::super::client::check_body).
#[derive(Clone, Debug)]
pub struct Asked {
    /// Which service is asked, and how.
    pub terms: Arc<Terms>,
    /// The body.
    pub body: Message,
    /// How the reply is wanted.
    pub mode: ReplyMode,
    /// When it was submitted: its deadline counts from there.
    pub submitted: Instant,
}

/// What many requests of a client have in common; it was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    pub(crate) service: Box<str>,
    pub(crate) options: RequestOptions,
}

impl Terms {
    /// The service that is asked, and what is different from the client's options.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn new(service: &str, options: &RequestOptions) -> Result<Arc<Terms>> {
        check_terms(service, options)?;
        Ok(Arc::new(Terms { service: service.into(), options: options.clone() }))
    }
}

/// What the machine wants done.
#[derive(Debug)]
pub enum SessionOutput {
    /// Open a fresh connection to the endpoint of this index and close any old one.
    Connect {
        /// Index into the options' endpoints.
        endpoint: usize,
    },
    /// Send these frames as soon as the connection is up, in the order of the outputs, then call
    /// [`Session::handle_sent`], once for any number of them. A `Connect` that comes first takes them back.
    Send(Vec<Bytes>),
    /// Close the connection after what was sent.
    Close,
    /// A part of a reply that is followed by more ([`ReplyMode::Parts`] only).
    Partial {
        /// The request's number.
        number: u64,
        /// The part.
        part: Message,
    },
    /// A request's one outcome: the reply or its last part, or the failure.
    Done {
        /// The request's number.
        number: u64,
        /// What became of it.
        outcome: Result<Message>,
    },
    /// Give the machine an identity that it has not had, see [`Session::set_identity`](super::Session::set_identity): the
    /// broker has denied the present one.
    Identify,
    /// Something happened to the connection.
    Event(ConnectionEvent),
    /// The broker speaks an older protocol: the connection is closed, and these requests, in the order of their numbers,
    /// are to be asked over a [`Client`](super::super::client::Client).
    Older {
        /// What the broker speaks.
        version: Version,
        /// Index of its endpoint.
        endpoint: usize,
        /// All requests without an outcome.
        requests: Vec<(u64, Asked)>,
    },
}

impl Output for SessionOutput {
    fn send(frames: Vec<Bytes>) -> Self {
        SessionOutput::Send(frames)
    }

    fn follows_what_was_said(&self) -> bool {
        match self {
            SessionOutput::Connect { .. }
            | SessionOutput::Send(_)
            | SessionOutput::Close
            | SessionOutput::Older { .. } => true,
            SessionOutput::Partial { .. }
            | SessionOutput::Done { .. }
            | SessionOutput::Identify
            | SessionOutput::Event(_) => false,
        }
    }
}
