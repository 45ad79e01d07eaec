//! The codec of MDP/0.1 and 0.2, in all directions: any frames are read or refused, and what is read is written so that it
//! is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use majordomo::proto::mdp::{self, Version};
use majordomo_fuzz::input::Input;

fuzz_target!(|data: &[u8]| {
    let frames = Input::new(data).frames();
    if let Ok(message) = mdp::read_to_broker(frames.clone()) {
        // Nothing of what a peer may say is said in two ways.
        assert_eq!(mdp::write_to_broker(message), frames);
    }
    for version in Version::ALL {
        if let Ok(message) = mdp::read_to_worker(*version, frames.clone()) {
            let again = mdp::write_to_worker(*version, message.clone());
            assert_eq!(mdp::read_to_worker(*version, again), Ok(message));
        }
        if let Ok(message) = mdp::read_to_client(*version, frames.clone()) {
            assert_eq!(mdp::write_to_client(*version, message), frames);
        }
    }
});
