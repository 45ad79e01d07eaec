//! A streamed reply.

use std::fmt;

use crate::error::Result;
use crate::message::Message;
use crate::wait::{Check, keep_waiting};

use super::Client;
use super::connection::{Connection, Progress};

/// The parts of a reply as they come, the final one last; an error is the last item too. Dropping it gives the request
/// up.
///
/// The stream has its connection to itself: the client can be used for other requests meanwhile.
pub struct Parts<'a> {
    client: &'a Client,
    /// Gone once the request has ended.
    connection: Option<Box<Connection>>,
    last_was_final: bool,
}

impl<'a> Parts<'a> {
    pub(super) fn new(client: &'a Client, connection: Box<Connection>) -> Parts<'a> {
        Parts { client, connection: Some(connection), last_was_final: false }
    }

    /// The next part, or `None` behind the final one or an error. `check` is asked while it waits.
    pub fn next_with(&mut self, check: Check<'_>) -> Option<Result<Message>> {
        let connection = self.connection.as_mut()?;
        connection.look_at_clock();
        match connection.drive(&self.client.closing, check) {
            Progress::Partial(part) => Some(Ok(part)),
            Progress::Done(outcome) => {
                self.last_was_final = outcome.is_ok();
                if let Some(connection) = self.connection.take() {
                    self.client.put_back(connection);
                }
                Some(outcome)
            }
        }
    }

    /// Whether the part given last was the final one.
    pub fn is_final(&self) -> bool {
        self.last_was_final
    }
}

impl Iterator for Parts<'_> {
    type Item = Result<Message>;

    fn next(&mut self) -> Option<Result<Message>> {
        self.next_with(&mut keep_waiting)
    }
}

impl fmt::Debug for Parts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("ended", &self.connection.is_none()).finish_non_exhaustive()
    }
}
