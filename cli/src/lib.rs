//! majordomo-cli.
