//! majordomo-python.
