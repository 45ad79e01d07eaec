//! How a handler's failure travels where the protocol has no word for it.
//!
//! MDP/0.1 and 0.2 oblige a worker to answer and know no failures. So a failure is a final reply of three readable
//! frames. A client of this library turns them back into an error; anybody else's sees text.

use bytes::Bytes;

use crate::error::ServiceError;
use crate::message::Message;

const MARK: &[u8] = b"MAJORDOMO-ERROR";
/// A failure's text is for people; what does not fit here is cut.
const MAX_TEXT: usize = 64 << 10;

/// The reply that says this failure.
pub(super) fn encode(failure: &ServiceError) -> Message {
    let mut end = failure.text.len().min(MAX_TEXT);
    while !failure.text.is_char_boundary(end) {
        end -= 1;
    }
    Message::from_frames(vec![
        Bytes::from_static(MARK),
        Bytes::from(failure.code.to_string()),
        Bytes::copy_from_slice(&failure.text.as_bytes()[..end]),
    ])
}

/// The failure that this reply says, if it says one.
pub(super) fn decode<F: AsRef<[u8]>>(reply: &[F]) -> Option<ServiceError> {
    let [mark, code, text] = reply else { return None };
    let (mark, code, text) = (mark.as_ref(), code.as_ref(), text.as_ref());
    if mark != MARK {
        return None;
    }
    let code = std::str::from_utf8(code).ok()?.parse().ok()?;
    Some(ServiceError::new(code, String::from_utf8_lossy(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_the_wire_and_ordinary_replies_are_left_alone() {
        let failure = ServiceError::new(404, "no such page: é");
        assert_eq!(decode(encode(&failure).frames()), Some(failure));
        assert_eq!(decode(&["MAJORDOMO-ERROR", "x", "y"]), None);
        assert_eq!(decode(&["MAJORDOMO-ERROR", "500"]), None);
        assert_eq!(decode(&["MAJORDOMO-ERROR"]), None);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let reply = encode(&ServiceError::new(500, "é".repeat(MAX_TEXT)));
        let text = decode(reply.frames()).map(|failure| failure.text).unwrap_or_default();
        assert!(text.len() <= MAX_TEXT && text.chars().all(|c| c == 'é'));
    }
}
