//! Instructions per request, counted by callgrind: the same on a noisy machine.

use std::ffi::OsString;

use anyhow::{Context, Result, bail};

use super::contender::with_load;
use super::figures::{Quantity, Sample};
use super::peer::{Listening, Peer};
use super::stand::Stand;
use crate::process::Run;

/// Requests of the shorter of two runs; the longer one has twice as many, and the difference has no start in it.
const REQUESTS: u64 = 10_000;

/// The program that runs under callgrind; the others run free.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Broker,
    Client,
    Worker,
}

/// Counts for all three roles.
pub(crate) fn measure(stand: &Stand<'_>) -> Result<Sample> {
    Run::new("valgrind").arg("--version").read().context("SKIPPED: Valgrind is not installed")?;
    let roles = [
        (Role::Broker, Quantity::BrokerInstructions),
        (Role::Client, Quantity::ClientInstructions),
        (Role::Worker, Quantity::WorkerInstructions),
    ];
    let mut sample = Sample::new();
    for (role, quantity) in roles {
        let (once, twice) = (count(stand, role, REQUESTS)?, count(stand, role, 2 * REQUESTS)?);
        sample.insert(quantity, (twice - once) / REQUESTS as f64);
    }
    Ok(sample)
}

/// All instructions of one role for so many requests.
fn count(stand: &Stand<'_>, role: Role, requests: u64) -> Result<f64> {
    let run = |name: &str, is_counted| if is_counted { under_callgrind(stand, name) } else { stand.program(name) };
    let mut broker = Peer::start(run("broker", role == Role::Broker))?;
    let listening: Listening = broker.line()?;
    let protocol = ["--protocol", &stand.protocol];
    let worker = run("worker", role == Role::Worker).args(["--endpoint", &listening.workers]).args(protocol);
    let worker = Peer::start_ready(worker)?;
    let client = with_load(run("client", role == Role::Client), 11, 1000, 1).args(protocol);
    let mut client =
        Peer::start(client.args(["--endpoint", &listening.endpoint, "--requests", &requests.to_string()]))?;
    client.wait()?;
    let counted = match role {
        Role::Client => client.remarks,
        Role::Worker => worker.end()?,
        Role::Broker => broker.end()?,
    };
    collected(&counted)
}

fn under_callgrind(stand: &Stand<'_>, role: &str) -> Run {
    let options = ["--tool=callgrind", "--callgrind-out-file=/dev/null", "--log-fd=1"];
    Run::new("valgrind").args(options).arg(OsString::from(stand.binary())).arg(role)
}

/// The number in callgrind's line `==123== Collected : 456`.
fn collected(lines: &[String]) -> Result<f64> {
    let number = lines.iter().find_map(|line| line.split_once("Collected :"));
    match number {
        Some((_, number)) => Ok(number.trim().parse()?),
        None => bail!("callgrind counted nothing; it printed:\n{}", lines.join("\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::collected;

    #[test]
    fn the_count_is_found_in_what_callgrind_prints() {
        let lines = ["==7== Events    : Ir".to_owned(), "==7== Collected : 1234567".to_owned(), "==7== ".to_owned()];
        assert_eq!(collected(&lines).expect("a count"), 1_234_567.0);
        assert!(collected(&lines[..1]).is_err());
    }
}
