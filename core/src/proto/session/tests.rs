//! The session's promises, one by one; the broker is played with the codec.
