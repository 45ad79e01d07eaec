//! majordomo-node.
