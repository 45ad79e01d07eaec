//! What the Guide's `verbose` asks for: the core's log on standard error.

use std::ffi::c_int;
use std::io::Write;

use log::{LevelFilter, Log, Metadata, Record};

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // One write per line, so that lines of two threads do not mix; a closed standard error is no reason to fail.
        let line = format!("{} {}\n", record.level().as_str().chars().next().unwrap_or(' '), record.args());
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

/// Starts logging if `verbose` is not 0. Once on, it is on for the process.
pub(crate) fn set_verbose(verbose: c_int) {
    if verbose != 0 && log::set_logger(&Stderr).is_ok() {
        log::set_max_level(LevelFilter::Debug);
    }
}
