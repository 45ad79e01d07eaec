//! A broker of one's own, as a process, at an endpoint that the system picks.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::{Event, Program, Run};
use crate::project::Project;

/// How long a program may take until it says that it is ready.
const START: Duration = Duration::from_secs(30);

/// A running `mdbroker`. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Hub {
    broker: Program,
    pub(crate) endpoint: String,
    events: Receiver<((), Event)>,
}

impl Hub {
    pub(crate) fn start(project: &Project) -> Result<Self> {
        let (sender, events) = channel();
        let broker = Run::new(project.binary("mdbroker"))
            .args(["--bind", "tcp://127.0.0.1:0"])
            .follow(Vec::new(), (), &sender)
            .context("the broker does not start")?;
        let line = first_line(&events).context("the broker does not say where it listens")?;
        let Some(endpoint) = line.strip_prefix("listening on ") else {
            bail!("the broker begins with {line:?} instead of saying where it listens");
        };
        Ok(Hub { broker, endpoint: endpoint.trim().to_owned(), events })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.broker.pid()
    }

    /// Fails if the broker is no longer there.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.broker.ended()? {
            None => Ok(()),
            Some(status) => bail!("the broker ended by itself with {status}"),
        }
    }

    /// Ends it as an operator would; anything but a clean end is an error.
    pub(crate) fn stop(self) -> Result<()> {
        let status = self.broker.end().context("the broker does not end")?;
        drop(self.events);
        if !status.success() {
            bail!("the broker ended with {status}");
        }
        Ok(())
    }
}

fn first_line(events: &Receiver<((), Event)>) -> Result<String> {
    match events.recv_timeout(START) {
        Ok(((), Event::Line(line))) => Ok(line),
        Ok(((), Event::End)) => bail!("it closed its output"),
        Err(_) => bail!("nothing within {} s", START.as_secs()),
    }
}

/// Runs a program to its end, at most for `limit`, and returns what it printed; an unsuccessful end is an error.
pub(crate) fn output_within(run: Run, limit: Duration) -> Result<String> {
    let (sender, events): (Sender<((), Event)>, _) = channel();
    let words = run.words();
    let mut program = run.follow(Vec::new(), (), &sender)?;
    let deadline = Instant::now() + limit;
    let mut output = String::new();
    loop {
        match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(((), Event::Line(line))) => {
                output.push_str(&line);
                output.push('\n');
            }
            Ok(((), Event::End)) => break,
            Err(_) => bail!("`{words}` has not ended after {} s; it printed:\n{output}", limit.as_secs()),
        }
    }
    // It may close its output and go on.
    loop {
        match program.ended()? {
            Some(status) if status.success() => return Ok(output),
            Some(status) => bail!("`{words}` ended with {status}; it printed:\n{output}"),
            None if Instant::now() >= deadline => bail!("`{words}` has not ended after {} s", limit.as_secs()),
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}
