//! What both programs tell people: usage, failures, logs.

use std::io::{self, Write};

use clap::Parser;
use log::LevelFilter;

/// All went well.
pub(crate) const SUCCESS: u8 = 0;
/// Something failed.
pub(crate) const FAILURE: u8 = 1;
/// The arguments were wrong.
pub(crate) const USAGE: u8 = 2;

/// Reads the arguments, or prints what clap has to say: help and version to stdout, mistakes to stderr.
pub(crate) fn parse<T: Parser>(args: impl Iterator<Item = std::ffi::OsString>) -> Result<T, u8> {
    T::try_parse_from(args).map_err(|message| {
        // Nobody is left to be told that the output is closed.
        let _ = message.print();
        if message.use_stderr() { USAGE } else { SUCCESS }
    })
}

/// Logs to stderr: warnings, with each `-v` one level more. `RUST_LOG` can say it in more detail.
pub(crate) fn log_to_stderr(verbosity: u8) {
    let level = match verbosity {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        2 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level).parse_default_env();
    // A host process may have a logger already.
    let _ = builder.try_init();
}

/// Says on stderr why the program ends.
pub(crate) fn complain(program: &str, what: &dyn std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{program}: {what}");
}
