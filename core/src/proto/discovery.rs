//! Finding out what a broker speaks: the question `mmi.protocols`, asked as a client of 0.1.
//!
//! Every broker of 0.1 answers a question under `mmi.`, if only by saying that it does not know it. So an answer says what
//! to speak, and silence means a broker of 0.2 alone.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::options::Protocol;

use super::mdp::{self, ToBroker, Version};

const SERVICE: &[u8] = b"mmi.protocols";
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often it is asked for.
const TRIES: u32 = 2;

/// What a conversation is to be led in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    /// MDP/0.1 or 0.2.
    Mdp(Version),
    /// MDPX/1.
    X1,
}

impl Spoken {
    /// The protocol that an option fixes; `None` where it is to be found out.
    pub(super) fn fixed(protocol: Protocol) -> Option<Spoken> {
        match protocol {
            Protocol::Auto => None,
            Protocol::V01 => Some(Spoken::Mdp(Version::V01)),
            Protocol::V02 => Some(Spoken::Mdp(Version::V02)),
            Protocol::X1 => Some(Spoken::X1),
        }
    }
}

impl From<Spoken> for Protocol {
    fn from(spoken: Spoken) -> Protocol {
        match spoken {
            Spoken::Mdp(Version::V01) => Protocol::V01,
            Spoken::Mdp(Version::V02) => Protocol::V02,
            Spoken::X1 => Protocol::X1,
        }
    }
}

/// The question on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Discovery {
    tries: u32,
    until: Instant,
}

impl Discovery {
    /// The question is asked now; [`question`] is to be sent.
    pub(super) fn new(now: Instant) -> Discovery {
        Discovery { tries: 1, until: now + PATIENCE }
    }

    /// The question has gone out only now: the connection has taken so long.
    pub(super) fn handle_sent(&mut self, now: Instant) {
        self.until = now + PATIENCE;
    }

    /// When to call [`Discovery::handle_timeout`].
    pub(super) fn due(&self) -> Instant {
        self.until
    }

    /// The time is over: what to speak, or `None` where the question is to be sent again.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Spoken> {
        if self.tries >= TRIES {
            return Some(Spoken::Mdp(Version::V02));
        }
        self.tries += 1;
        self.until = now + PATIENCE;
        None
    }
}

/// The frames of the question.
pub(super) fn question() -> Vec<Bytes> {
    let service = Bytes::from_static(SERVICE);
    mdp::write_to_broker(ToBroker::Request { version: Version::V01, service, body: vec![Bytes::new()] })
}

/// What to speak, if this is the answer.
pub(super) fn read_answer(frames: Vec<Bytes>) -> Option<Spoken> {
    let reply = mdp::read_to_client(Version::V01, frames).ok().filter(|reply| reply.service == SERVICE)?;
    let knows = |protocol: Protocol| reply.body.iter().skip(1).any(|name| name == protocol.name().as_bytes());
    Some(if knows(Protocol::X1) {
        Spoken::X1
    } else if knows(Protocol::V02) {
        Spoken::Mdp(Version::V02)
    } else {
        Spoken::Mdp(Version::V01)
    })
}
