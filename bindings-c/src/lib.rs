//! majordomo-c.
