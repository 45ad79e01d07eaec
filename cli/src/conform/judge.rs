//! What the rules have in common: the broker under judgement, times, names, and what a judgement is.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::peer::{Client, Worker};
use super::wire::Version;

/// Why a rule has not passed.
#[derive(Debug)]
pub(super) enum Miss {
    /// The broker broke it.
    Fail(String),
    /// It could not be judged.
    Skip(String),
}

/// What was seen of a rule that was kept, or why it was not.
pub(super) type Judged = Result<String, Miss>;

impl From<zmq::Error> for Miss {
    fn from(error: zmq::Error) -> Miss {
        Miss::Skip(format!("this machine does not let me: {error}"))
    }
}

/// The broker broke the rule.
pub(super) fn fail<T>(what: impl Into<String>) -> Result<T, Miss> {
    Err(Miss::Fail(what.into()))
}

/// The broker under judgement, and how long to wait for it.
pub(super) struct Judge {
    pub(super) context: zmq::Context,
    pub(super) endpoint: String,
    /// The broker's interval between heartbeats.
    pub(super) heartbeat: Duration,
    /// After so many silent intervals a worker is gone for it.
    pub(super) liveness: u32,
    /// How long a request may wait for a worker with it, if that is known.
    pub(super) request_ttl: Option<Duration>,
    /// How long to wait for what must come.
    pub(super) patience: Duration,
    /// How long to wait for what must not come.
    pub(super) quiet: Duration,
    /// Makes the names of this run its own.
    pub(super) run: u32,
    pub(super) names: Cell<u32>,
}

impl Judge {
    /// The name of a service that nobody else uses.
    pub(super) fn service(&self, what: &str) -> String {
        self.names.set(self.names.get() + 1);
        format!("conform-{}-{}-{what}", self.run, self.names.get())
    }

    /// How long after its last word a worker must be gone for the broker, with some air.
    pub(super) fn lease(&self) -> Duration {
        self.heartbeat * (self.liveness + 2)
    }

    /// How long to wait until the broker must have found out that a peer is gone.
    pub(super) fn discovery(&self) -> Duration {
        self.lease() + self.patience
    }

    /// Whether the broker serves: a request of a fresh client reaches a fresh worker and its reply comes back.
    pub(super) fn serves(&self, version: &'static Version) -> Result<(), Miss> {
        let service = self.service("serves");
        let worker = Worker::new(self, version, &service)?;
        worker.ready()?;
        let client = Client::new(self, version)?;
        client.send(&service, &[b"there?".to_vec()])?;
        worker.echo()?;
        client.expect(&service, &[b"there?".to_vec()])
    }

    /// Asks `mmi.service` until it says so, for as long as a dead worker may take to be found out.
    pub(super) fn wait_for_status(&self, client: &Client<'_>, service: &str, wanted: &[u8]) -> Result<(), Miss> {
        let deadline = Instant::now() + self.discovery();
        loop {
            let body = client.ask("mmi.service", &[service.as_bytes().to_vec()])?;
            if body.as_deref() == Some(&[wanted.to_vec()]) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let said = body.map_or("nothing".to_owned(), |body| super::wire::show(&body));
                return fail(format!("mmi.service still says {said} after {:?}", self.discovery()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
