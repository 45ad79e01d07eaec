//! What must be true of anything that one of our machines says.

use bytes::Bytes;
use majordomo::proto::mdp::{self, Version};
use majordomo::proto::mdpx::{self, Command, Header};

/// The messages of MDPX in what was sent at once, each with its header frame first; none if it is of an older protocol.
///
/// # Panics
/// Where a message of MDPX is malformed, or joins what may not be joined.
pub fn messages_of_x1(frames: &[Bytes]) -> Vec<Vec<Bytes>> {
    let Some(header) = frames.first().filter(|header| mdpx::is_header(header)) else { return Vec::new() };
    match mdpx::read(header, frames.len() - 1) {
        Ok(Header { command: Command::Batch, layout }) => {
            let messages: Vec<_> = layout.messages(header).collect();
            for message in &messages {
                assert!(mdpx::may_join(&[message]), "a BATCH of something else than small messages");
                mdpx::read(message, 0).expect("a well-formed message in a BATCH");
            }
            assert!(header.len() <= mdpx::MAX_BATCH || messages.len() == 1, "a BATCH of {} bytes", header.len());
            messages.into_iter().map(|message| vec![message]).collect()
        }
        Ok(_) => vec![frames.to_vec()],
        Err(reason) => panic!("a malformed message: {reason}: {frames:?}"),
    }
}

/// Checks what a client or a worker says to a broker.
///
/// # Panics
/// Where it is malformed.
pub fn check_to_broker(frames: &[Bytes]) {
    if messages_of_x1(frames).is_empty() && !is_empty_batch(frames) {
        mdp::read_to_broker(frames.to_vec()).unwrap_or_else(|malformed| panic!("{malformed:?}: {frames:?}"));
    }
}

fn is_empty_batch(frames: &[Bytes]) -> bool {
    frames.first().is_some_and(|header| mdpx::is_header(header))
}

/// Checks what a broker says in an older protocol.
///
/// # Panics
/// Where no version knows it.
pub fn check_from_broker(frames: &[Bytes]) {
    let known = Version::ALL.iter().any(|version| {
        mdp::read_to_client(*version, frames.to_vec()).is_ok() || mdp::read_to_worker(*version, frames.to_vec()).is_ok()
    });
    assert!(known, "neither for a client nor for a worker: {frames:?}");
}
