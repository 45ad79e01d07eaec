//! majordomo.
