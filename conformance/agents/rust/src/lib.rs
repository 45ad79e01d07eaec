//! majordomo-agent.
