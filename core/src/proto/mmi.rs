//! MMI (RFC 8): services under `mmi.` that the broker answers itself.

/// What the names of the broker's own services start with.
pub const PREFIX: &str = "mmi.";

/// The service exists, or the answer follows.
pub const OK: &str = "200";
/// The service has no worker.
pub const NOT_FOUND: &str = "404";
/// The broker does not know the question.
pub const NOT_IMPLEMENTED: &str = "501";

/// The questions that the broker answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// `mmi.service`: has the service named in the body at least one worker?
    Service,
    /// `mmi.protocols`: what does the broker speak?
    Protocols,
    /// `mmi.services`: every service, as JSON.
    Services,
    /// `mmi.workers`: every worker, as JSON.
    Workers,
    /// `mmi.stats`: counters and sizes, as JSON.
    Stats,
    /// Anything else: not implemented.
    Unknown,
}

/// Whether the name belongs to the broker.
pub fn is_reserved(service: &[u8]) -> bool {
    service.starts_with(PREFIX.as_bytes())
}

/// The question that is asked by this service name.
pub fn question(service: &[u8]) -> Question {
    match service {
        b"mmi.service" => Question::Service,
        b"mmi.protocols" => Question::Protocols,
        b"mmi.services" => Question::Services,
        b"mmi.workers" => Question::Workers,
        b"mmi.stats" => Question::Stats,
        _ => Question::Unknown,
    }
}
