//! Signals that end a program in good order.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use majordomo::{Error, ErrorKind, Result};
use signal_hook::consts::{SIGINT, SIGTERM};

/// A flag that SIGINT and SIGTERM set. The second signal ends the process at once.
pub(crate) fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .map_err(|error| Error::new(ErrorKind::Internal, format!("signal {signal} cannot be handled: {error}")))?;
    }
    Ok(stop)
}
