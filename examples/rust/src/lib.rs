//! majordomo-examples.
