//! What handles ask of the I/O thread.

use std::sync::Arc;

use crate::error::Error;
use crate::options::{ClientOptions, WorkerOptions};
use crate::proto::session::Asked;
use crate::proto::worker::Answer;

use super::desk::Desk;
use super::outcome::{Caller, Load};
use super::watch::Watch;

pub(super) enum Command {
    /// A client begins; its connections are made when they are needed.
    OpenClient { client: u64, options: Arc<ClientOptions>, load: Arc<Load> },
    /// A client ends: all its requests fail with `Closed`.
    CloseClient { client: u64 },
    /// A request.
    Call { client: u64, id: u64, call: Call },
    /// The caller has given a request up.
    Cancel { client: u64, id: u64 },
    /// The caller of a stream has room for more parts.
    Resume { client: u64, id: u64 },
    /// A request that was refused: its caller hears of it from the I/O thread, as of any other outcome.
    Refuse { caller: Caller, error: Error },
    /// An event loop looks after the connection of a client or a worker itself where it can.
    Watch { handle: u64, watch: Arc<Watch> },
    /// A worker begins, and registers.
    OpenWorker { worker: u64, options: Arc<WorkerOptions>, desk: Arc<Desk> },
    /// A worker takes no new work, and ends when what is in hand is answered.
    DrainWorker { worker: u64 },
    /// A worker ends.
    CloseWorker { worker: u64 },
    /// A handler's answer, or a part of it.
    Answer { worker: u64, id: u64, answer: Answer },
    /// The last handle is gone.
    Stop,
}

/// A request and its caller.
pub(super) struct Call {
    pub(super) asked: Asked,
    pub(super) caller: Caller,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_small_to_move_from_core_to_core() {
        assert!(size_of::<Command>() <= 128, "{} bytes", size_of::<Command>());
    }
}
