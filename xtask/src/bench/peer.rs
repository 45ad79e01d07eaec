//! A program of a measurement, which prints lines of JSON.

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::process::{Event, Program, Run};

/// How long a program may take until its next line.
const LIMIT: Duration = Duration::from_secs(180);

/// A running program. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Peer {
    words: String,
    program: Program,
    events: Receiver<((), Event)>,
    /// What it printed besides JSON, as a program under Valgrind does.
    pub(crate) remarks: Vec<String>,
}

/// Where a broker or a relay listens.
#[derive(Debug, Deserialize)]
pub(crate) struct Listening {
    /// For clients.
    pub(crate) endpoint: String,
    /// For workers.
    pub(crate) workers: String,
    pub(crate) pid: u32,
}

/// A program is ready.
#[derive(Debug, Deserialize)]
pub(crate) struct Ready {
    ready: bool,
}

impl Peer {
    pub(crate) fn start(run: Run) -> Result<Peer> {
        let words = run.words();
        let (sender, events) = channel();
        let program = run.follow(Vec::new(), (), &sender)?;
        Ok(Peer { words, program, events, remarks: Vec::new() })
    }

    /// Starts it on one core, counted from 0 and again from there where there are fewer.
    pub(crate) fn start_on(core: usize, run: Run) -> Result<Peer> {
        let this_thread = Pid::from_raw(0);
        let all = sched_getaffinity(this_thread).context("cannot ask for the permitted cores")?;
        let permitted: Vec<usize> = (0..CpuSet::count()).filter(|&core| all.is_set(core) == Ok(true)).collect();
        let core = permitted.get(core % permitted.len().max(1)).context("no core is permitted")?;
        let mut one = CpuSet::new();
        one.set(*core)?;
        // What is started takes it over.
        sched_setaffinity(this_thread, &one).context("cannot choose a core")?;
        let peer = Peer::start(run);
        sched_setaffinity(this_thread, &all).context("cannot go back to all cores")?;
        peer
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start_ready(run: Run) -> Result<Peer> {
        Peer::start(run)?.once_ready()
    }

    /// Waits until it is ready.
    pub(crate) fn once_ready(mut self) -> Result<Peer> {
        let Ready { ready } = self.line()?;
        if ready { Ok(self) } else { bail!("`{}` is not ready", self.words) }
    }

    /// Its next line of JSON.
    pub(crate) fn line<T: DeserializeOwned>(&mut self) -> Result<T> {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.next(deadline)? {
                Some(line) if line.starts_with(['{', '[']) => {
                    return serde_json::from_str(&line).with_context(|| format!("`{}` printed {line:?}", self.words));
                }
                Some(line) => self.remarks.push(line),
                None => bail!("`{}` ended before it was done", self.words),
            }
        }
    }

    /// Waits until it has ended by itself, and reads the rest of what it prints.
    pub(crate) fn wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        while let Some(line) = self.next(deadline)? {
            self.remarks.push(line);
        }
        let status = self.program.wait()?;
        if status.success() { Ok(()) } else { bail!("`{}` ended with {status}", self.words) }
    }

    /// Ends it and returns all that it printed besides JSON.
    pub(crate) fn end(self) -> Result<Vec<String>> {
        let Peer { program, events, mut remarks, .. } = self;
        program.end()?;
        while let Ok(((), Event::Line(line))) = events.recv_timeout(LIMIT) {
            remarks.push(line);
        }
        Ok(remarks)
    }

    /// Its next line; `None` at its end.
    fn next(&self, deadline: Instant) -> Result<Option<String>> {
        match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(((), Event::Line(line))) => Ok(Some(line)),
            Ok(((), Event::End)) => Ok(None),
            Err(_) => bail!("`{}` said nothing for {} s", self.words, LIMIT.as_secs()),
        }
    }
}
