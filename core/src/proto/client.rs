//! The client's machine: one connection, one request at a time.
//!
//! A reply of 0.1 or 0.2 does not say which request it answers. So a connection carries one request until it is answered;
//! a request that is given up takes its connection with it, and every further attempt starts on a fresh one. An answer
//! can then never reach the wrong caller.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::options::{ClientOptions, RequestOptions, service_name};

use super::failure;
use super::mdp::{self, Part, Version};

/// What of [`ClientOptions`] the machine needs.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// What is spoken.
    pub version: Version,
    /// The brokers' endpoints, for the words of errors; outputs name them by index.
    pub endpoints: Vec<String>,
    /// Limit of one attempt.
    pub timeout: Duration,
    /// Attempts at most.
    pub retries: u32,
    /// Limit of the whole call; `timeout` × `retries` where `None`.
    pub deadline: Option<Duration>,
    /// Largest request in bytes.
    pub max_message_bytes: usize,
}

impl From<&ClientOptions> for ClientConfig {
    fn from(options: &ClientOptions) -> Self {
        ClientConfig {
            version: Version::of(options.protocol),
            endpoints: options.endpoints.clone(),
            timeout: options.timeout,
            retries: options.retries,
            deadline: options.deadline,
            max_message_bytes: options.max_message_bytes,
        }
    }
}

/// How the caller wants the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyMode {
    /// As one message: the frames of all parts joined in order.
    Whole,
    /// Each part as it comes.
    Parts,
}

/// What the machine wants done.
#[derive(Debug)]
pub enum ClientOutput {
    /// Open a fresh connection to the endpoint of this index and close any old one, pending sends included.
    Connect {
        /// Index into the options' endpoints.
        endpoint: usize,
    },
    /// Send these frames as soon as the connection is up, then call [`Client::handle_sent`]. A `Connect` or `Close`
    /// that comes first takes them back.
    Send(Vec<Bytes>),
    /// Close the connection, pending sends included.
    Close,
    /// A part of the reply that is followed by more ([`ReplyMode::Parts`] only).
    Partial(Message),
    /// The call's one outcome: the reply or its last part, or the failure.
    Done(Result<Message>),
}

/// The machine of one connection.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    /// Index of the endpoint in use.
    endpoint: usize,
    /// Whether a connection is open that no abandoned request has touched.
    open: bool,
    /// Whom the last request asked. Most ask the same: the name is checked and copied once.
    service: Bytes,
    call: Option<Call>,
    outputs: VecDeque<ClientOutput>,
    /// Messages that answered nothing.
    strays: u64,
}

/// The request under way.
#[derive(Debug)]
struct Call {
    body: Message,
    mode: ReplyMode,
    timeout: Duration,
    retries: u32,
    /// End of the whole call.
    deadline: Instant,
    /// Whether the caller set the deadline; an implied one moves on with each part of a stream.
    deadline_is_explicit: bool,
    /// Number of the attempt under way, from 1.
    attempt: u32,
    /// End of the attempt under way.
    attempt_ends: Instant,
    /// Whether the attempt's request has gone out.
    sent: bool,
    /// Whether any attempt's request has gone out.
    reached: bool,
    /// Frames of partial replies that wait for the final one ([`ReplyMode::Whole`]).
    joined: Vec<Bytes>,
    /// How much memory they take, about.
    joined_cost: usize,
    /// Whether the caller has already been given a part.
    delivered: bool,
}

impl Client {
    /// A machine without a connection yet.
    pub fn new(config: ClientConfig) -> Self {
        let (service, outputs) = (Bytes::new(), VecDeque::new());
        Client { config, endpoint: 0, open: false, service, call: None, outputs, strays: 0 }
    }

    /// The configuration; changes apply from the next call on.
    pub fn config_mut(&mut self) -> &mut ClientConfig {
        &mut self.config
    }

    /// Whether no request is under way.
    pub fn is_idle(&self) -> bool {
        self.call.is_none()
    }

    /// How many messages came that answered nothing; they were dropped.
    pub fn strays(&self) -> u64 {
        self.strays
    }

    /// Starts a request. The driver first hands over whatever the connection has received until now.
    ///
    /// # Errors
    /// `InvalidArgument` or `TooLarge`, or `Busy` while another request is under way: nothing was started.
    pub fn start(
        &mut self,
        now: Instant,
        service: &str,
        body: Message,
        options: &RequestOptions,
        mode: ReplyMode,
    ) -> Result<()> {
        if self.call.is_some() {
            return Err(Error::new(ErrorKind::Busy, "this connection carries another request"));
        }
        options.validate()?;
        if self.service.is_empty() || self.service != service {
            service_name(service)?;
            self.service = Bytes::copy_from_slice(service.as_bytes());
        }
        check_body(self.config.max_message_bytes, &body)?;
        let timeout = options.timeout.unwrap_or(self.config.timeout);
        // These protocols cannot say how often a request may run, so a request of one attempt is sent once.
        let once = options.max_attempts == Some(1);
        let retries = if once { 1 } else { options.retries.unwrap_or(self.config.retries) };
        let explicit = options.deadline.or(self.config.deadline);
        let (limit, deadline_is_explicit) = call_limit(timeout, retries, explicit);
        let deadline = now + limit;
        self.call = Some(Call {
            body,
            mode,
            timeout,
            retries,
            deadline,
            deadline_is_explicit,
            attempt: 1,
            attempt_ends: deadline.min(now + timeout),
            sent: false,
            reached: false,
            joined: Vec::new(),
            joined_cost: 0,
            delivered: false,
        });
        if !self.open {
            self.connect();
        }
        self.send();
        Ok(())
    }

    /// The request just started has waited this long for its turn: its deadline counts from its submission.
    pub fn count_wait(&mut self, waited: Duration) {
        if let Some(call) = &mut self.call {
            call.deadline = call.deadline.checked_sub(waited).unwrap_or(call.deadline);
            call.attempt_ends = call.attempt_ends.min(call.deadline);
        }
    }

    /// A live connection has taken the request.
    pub fn handle_sent(&mut self, _now: Instant) {
        if let Some(call) = &mut self.call {
            call.sent = true;
            call.reached = true;
        }
    }

    /// A message came.
    pub fn handle_message(&mut self, now: Instant, frames: Vec<Bytes>) {
        let reply = mdp::read_to_client(self.config.version, frames).ok();
        let Some((call, reply)) =
            self.call.as_mut().zip(reply).filter(|(call, reply)| call.sent && reply.service == self.service)
        else {
            self.strays += 1;
            return;
        };
        let body = Message::from_frames(reply.body);
        match (reply.part, call.mode) {
            (Part::Partial, ReplyMode::Parts) => {
                call.delivered = true;
                call.renew(now);
                self.outputs.push_back(ClientOutput::Partial(body));
            }
            (Part::Partial, ReplyMode::Whole) => {
                call.renew(now);
                call.joined_cost += body.cost();
                call.joined.extend(body);
                if call.joined_cost > self.config.max_message_bytes {
                    let error = Error::new(
                        ErrorKind::TooLarge,
                        format!("the parts of {:?}'s reply exceed max_message_bytes when joined", text(&self.service)),
                    );
                    self.cancel(now, error);
                }
            }
            (Part::Final, _) => {
                let mut joined = std::mem::take(&mut call.joined);
                self.call = None;
                let outcome = match failure::decode(body.frames()) {
                    Some(failure) => Err(failure.into()),
                    None if joined.is_empty() => Ok(body),
                    None => {
                        joined.extend(body);
                        Ok(Message::from_frames(joined))
                    }
                };
                self.outputs.push_back(ClientOutput::Done(outcome));
            }
        }
    }

    /// The connection broke. What it carried is lost, so the request is sent again if it may be.
    pub fn handle_disconnected(&mut self, now: Instant) {
        if self.call.as_ref().is_some_and(|call| call.sent) {
            self.end_attempt(now, "the connection to the broker was lost");
        }
    }

    /// The moment of [`Client::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.call.as_ref().is_some_and(|call| now >= call.attempt_ends) {
            self.end_attempt(now, "no reply came");
        }
    }

    /// Abandons the request under way with `error` as its outcome. Without one, nothing happens.
    pub fn cancel(&mut self, _now: Instant, error: Error) {
        if self.call.take().is_some() {
            self.open = false;
            self.outputs.push_back(ClientOutput::Close);
            self.outputs.push_back(ClientOutput::Done(Err(error)));
        }
    }

    /// When [`Client::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.call.as_ref().map(|call| call.attempt_ends)
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<ClientOutput> {
        self.outputs.pop_front()
    }

    fn connect(&mut self) {
        self.open = true;
        self.outputs.push_back(ClientOutput::Connect { endpoint: self.endpoint });
    }

    fn send(&mut self) {
        if let Some(call) = &self.call {
            let body = call.body.frames().iter().cloned();
            let frames = mdp::request(self.config.version, self.service.clone(), body);
            self.outputs.push_back(ClientOutput::Send(frames));
        }
    }

    /// The attempt failed: the next one starts on a fresh connection to the next broker, or the call fails.
    fn end_attempt(&mut self, now: Instant, what: &str) {
        let Some(call) = &mut self.call else { return };
        if call.attempt < call.retries && now < call.deadline && !call.delivered {
            call.attempt += 1;
            call.attempt_ends = call.deadline.min(now + call.timeout);
            call.sent = false;
            call.joined.clear();
            call.joined_cost = 0;
            self.endpoint = (self.endpoint + 1) % self.config.endpoints.len().max(1);
            self.connect();
            self.send();
        } else {
            let error = call.failure(what, &text(&self.service), &self.config.endpoints);
            self.cancel(now, error);
        }
    }
}

/// Far enough to mean "no limit", near enough for arithmetic on instants.
const FAR_AWAY: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long a call may take, and whether its caller said so. Otherwise each part of a streamed reply gives it as much
/// time again.
pub(crate) fn call_limit(timeout: Duration, retries: u32, explicit: Option<Duration>) -> (Duration, bool) {
    let implied = || timeout.saturating_mul(retries).min(FAR_AWAY);
    (explicit.unwrap_or_else(implied), explicit.is_some())
}

/// Checks whom a caller asks, and how.
///
/// # Errors
/// `InvalidArgument`.
pub(crate) fn check_terms(service: &str, options: &RequestOptions) -> Result<()> {
    service_name(service)?;
    options.validate()
}

/// Checks what a caller asks.
///
/// # Errors
/// `TooLarge`.
pub fn check_body(max_message_bytes: usize, body: &Message) -> Result<()> {
    let bytes = body.byte_len();
    if bytes > max_message_bytes {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!("the request has {bytes} bytes; max_message_bytes is {max_message_bytes}"),
        ));
    }
    Ok(())
}

impl Call {
    /// A part came: the next one has as much time again.
    fn renew(&mut self, now: Instant) {
        if !self.deadline_is_explicit {
            self.deadline = now + self.timeout.saturating_mul(self.retries).min(FAR_AWAY);
        }
        self.attempt_ends = self.deadline.min(now + self.timeout);
    }

    fn failure(&self, what: &str, service: &str, endpoints: &[String]) -> Error {
        let (attempt, retries) = (self.attempt, self.retries);
        let brokers = endpoints.join(", ");
        if self.delivered {
            Error::new(ErrorKind::Timeout, format!("{what} after part of the reply of {service:?} had arrived"))
        } else if !self.reached {
            Error::new(
                ErrorKind::BrokerUnreachable,
                format!("no broker could be reached at {brokers} for {service:?} (attempt {attempt} of {retries})"),
            )
        } else if what == "no reply came" {
            Error::new(
                ErrorKind::Timeout,
                format!("no reply from {service:?} by {brokers} in time (attempt {attempt} of {retries})"),
            )
        } else {
            Error::new(
                ErrorKind::BrokerUnreachable,
                format!("{what} at {brokers} while {service:?} was asked (attempt {attempt} of {retries})"),
            )
        }
    }
}

/// A service's name in words.
fn text(service: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(service)
}

#[cfg(test)]
mod tests;
