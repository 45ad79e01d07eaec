//! Idle virtual cores take long to wake, which makes round trips bimodal. Threads that spin under SCHED_IDLE keep them
//! awake and yield at once to everything else.

use std::hint;
use std::io;
use std::mem;
use std::thread;

use anyhow::{Context, Result};

use crate::report::{self, Ready};

/// Spins, one thread pinned to each core that this process may use, until the process is ended.
pub(crate) fn run() -> Result<()> {
    let mut threads = Vec::new();
    for core in cores()? {
        threads.push(thread::spawn(move || -> Result<()> {
            pin(core)?;
            be_idle()?;
            loop {
                hint::spin_loop();
            }
        }));
    }
    report::print(&Ready::NOW)?;
    for thread in threads {
        match thread.join() {
            Ok(outcome) => outcome?,
            Err(_) => anyhow::bail!("a spinning thread panicked"),
        }
    }
    Ok(())
}

/// The cores that this process may use.
fn cores() -> Result<Vec<usize>> {
    // SAFETY: all zeros are an empty set, a valid one.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the set is live and of the size that is told; 0 is this thread.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if result != 0 {
        return Err(io::Error::last_os_error()).context("cannot find out the cores");
    }
    let limit = usize::try_from(libc::CPU_SETSIZE)?;
    // SAFETY: the cores asked for are within the set.
    Ok((0..limit).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect())
}

fn pin(core: usize) -> Result<()> {
    // SAFETY: all zeros are an empty set, a valid one.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `core` is one of `cores`, within the set.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the set is live and of the size that is told; 0 is this thread.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    if result != 0 {
        return Err(io::Error::last_os_error()).with_context(|| format!("cannot pin a thread to core {core}"));
    }
    Ok(())
}

fn be_idle() -> Result<()> {
    // SAFETY: all zeros are a valid parameter.
    let parameter: libc::sched_param = unsafe { mem::zeroed() };
    // SAFETY: the parameter is live; 0 is this thread.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameter) } != 0 {
        return Err(io::Error::last_os_error()).context("cannot run a thread under SCHED_IDLE");
    }
    Ok(())
}
