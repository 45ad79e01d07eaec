//! What the operating system knows about processes.

use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::report;

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[arg(long)]
    pid: u32,
    /// How long to watch, in seconds
    #[arg(long, default_value_t = 0.0)]
    seconds: f64,
}

/// What a process takes.
#[derive(Debug, Serialize)]
struct Watched {
    /// How much of one core it took while it was watched: 1 is all of it.
    cores: f64,
    /// Its resident memory now, in bytes.
    resident: u64,
    /// The most that it ever was.
    peak: u64,
}

/// Watches a process and prints what it takes.
pub(crate) fn watch(arguments: &Arguments) -> Result<()> {
    let (begin, before) = (Instant::now(), cpu_seconds(arguments.pid)?);
    thread::sleep(Duration::from_secs_f64(arguments.seconds));
    let cores = (cpu_seconds(arguments.pid)? - before) / begin.elapsed().as_secs_f64().max(0.001);
    let (resident, peak) = (memory(arguments.pid, "VmRSS:")?, memory(arguments.pid, "VmHWM:")?);
    report::print(&Watched { cores, resident, peak })
}

/// A line of a process's status that tells kilobytes, in bytes.
fn memory(pid: u32, name: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes =
        line.and_then(|line| line.split_whitespace().next()).with_context(|| format!("{path} has no {name}"))?;
    Ok(kilobytes.parse::<u64>()? * 1024)
}

/// Raises the limit of open files as far as it goes: ten thousand workers have ten thousand connections.
pub(crate) fn allow_many_connections() -> Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error()).context("cannot read the limit of open files");
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: as above.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error()).context("cannot raise the limit of open files");
    }
    Ok(())
}

/// Processor time of a process's threads so far, in seconds. To the nanosecond: the ticks of `/proc/PID/stat` count a
/// process whole that timers wake whenever a tick falls.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/task");
    let threads = fs::read_dir(&path).with_context(|| format!("cannot read {path}"))?;
    let mut nanoseconds = 0;
    for thread in threads {
        let path = thread?.path().join("schedstat");
        // A thread may have ended meanwhile.
        let Ok(schedstat) = fs::read_to_string(&path) else { continue };
        let ran = schedstat.split_whitespace().next().with_context(|| format!("{} is empty", path.display()))?;
        nanoseconds += ran.parse::<u64>()?;
    }
    Ok(nanoseconds as f64 / 1e9)
}
