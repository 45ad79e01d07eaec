//! A peer that floods a broker, again and again, until it is ended.

use std::str::FromStr;

use anyhow::{Result, bail};

use crate::attack::{ALL, Flood};
use crate::report::{self, Ready};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[arg(long)]
    endpoint: String,
    /// What it does too much of
    #[arg(long)]
    kind: Flood,
    /// How often it does so before it begins anew
    #[arg(long)]
    count: usize,
}

impl FromStr for Flood {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Flood> {
        match ALL.into_iter().find(|flood| flood.name() == name) {
            Some(flood) => Ok(flood),
            None => bail!("there is no flood {name:?}"),
        }
    }
}

/// Floods once, says that it is ready, and goes on.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    // What is judged is the broker, not how the machine shares its cores out.
    // SAFETY: a plain system call without pointers.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
    drop(arguments.kind.run(&arguments.endpoint, arguments.count));
    report::print(&Ready::NOW)?;
    loop {
        drop(arguments.kind.run(&arguments.endpoint, arguments.count));
    }
}
