//! What is to be told of connections to brokers of MDP/0.1 and 0.2, whose machine does not say it itself.

use crate::event::ConnectionEvent;
use crate::options::ClientOptions;
use crate::proto::mdp::Version;

/// Finds the events of one client: each change once, however many connections see it.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    /// Index of the endpoint that answered last, while its connections are of use.
    connected: Option<usize>,
    /// Whether a connection was of no use since something was last heard.
    trying: bool,
}

impl Notices {
    /// A connection is being made.
    pub(crate) fn connecting(&self, options: &ClientOptions, endpoint: usize) -> Option<ConnectionEvent> {
        self.trying.then(|| ConnectionEvent::Reconnecting { endpoint: name(options, endpoint) })
    }

    /// The broker has answered.
    pub(crate) fn answered(
        &mut self,
        options: &ClientOptions,
        endpoint: usize,
        version: Version,
    ) -> Option<ConnectionEvent> {
        self.trying = false;
        let before = self.connected.replace(endpoint);
        (before != Some(endpoint))
            .then(|| ConnectionEvent::Connected { endpoint: name(options, endpoint), protocol: version.into() })
    }

    /// A connection is of no use any more.
    pub(crate) fn lost(&mut self, options: &ClientOptions, endpoint: usize, reason: &str) -> Option<ConnectionEvent> {
        self.trying = true;
        self.connected.take_if(|connected| *connected == endpoint)?;
        Some(ConnectionEvent::Disconnected { endpoint: name(options, endpoint), reason: reason.to_owned() })
    }
}

fn name(options: &ClientOptions, endpoint: usize) -> String {
    options.endpoints.get(endpoint).cloned().unwrap_or_default()
}
