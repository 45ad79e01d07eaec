//! What the operating system knows about processes.

use std::fs;
use std::io;

use anyhow::{Context, Result};

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

/// Processor time of a process and all its threads so far, in seconds.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The second field, the program's name, may contain anything and ends with the last `)`.
    let (_, rest) = stat.rsplit_once(')').with_context(|| format!("{path} is not as expected"))?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |index: usize| -> Result<f64> {
        let field = fields.get(index).with_context(|| format!("{path} is too short"))?;
        Ok(field.parse::<u64>()? as f64)
    };
    // SAFETY: no preconditions.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    // utime and stime are the 14th and the 15th field; `rest` begins with the third.
    Ok((ticks(11)? + ticks(12)?) / per_second as f64)
}
