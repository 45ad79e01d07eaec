//! `majordomo-bench`: the programs of `cargo xtask bench` in Rust, one subcommand each.
//!
//! They print lines of JSON: where they listen, that they are ready, or what they measured. Their peers in the other
//! languages take the same options and print the same lines.

#[path = "../../cli/tests/floods/attack.rs"]
#[allow(dead_code, clippy::expect_used, reason = "it is written for tests, which look at what a flood has led to")]
mod attack;
mod flood;
mod hostile;
mod idle;
mod majordomo_peers;
mod measure;
mod process;
mod raw;
mod report;
mod spin;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser, Debug)]
#[command(name = "majordomo-bench")]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand, Debug)]
enum Role {
    /// Keep every core awake with threads that run only where nothing else does
    Spin,
    /// Print the protocol versions that this build speaks
    Protocols,
    /// Raw relay: `zmq_proxy` between a ROUTER and a DEALER
    RawProxy,
    /// Raw relay: DEALERs that send every message back
    RawWorker(raw::WorkerArguments),
    /// Raw relay: DEALERs that keep requests outstanding; with one outstanding, it measures round trips
    RawClient(raw::ClientArguments),
    /// An embedded broker
    Broker(majordomo_peers::BrokerArguments),
    /// Workers that send every request back
    Worker(majordomo_peers::WorkerArguments),
    /// Asynchronous clients that keep requests outstanding
    Client(majordomo_peers::ClientArguments),
    /// A blocking client that measures round trips
    RoundTrip(majordomo_peers::RoundTripArguments),
    /// Connections of workers that have nothing to do
    IdleWorkers(idle::Arguments),
    /// Print what a process takes of processor and memory
    Watch(process::Arguments),
    /// A client that sends everything before it reads the first reply
    Flood(flood::Arguments),
    /// A peer that floods a broker until it is ended
    Hostile(hostile::Arguments),
}

fn main() -> ExitCode {
    match run(Arguments::parse().role) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("majordomo-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(role: Role) -> Result<()> {
    process::allow_many_connections()?;
    match role {
        Role::Spin => spin::run(),
        Role::Protocols => majordomo_peers::protocols(),
        Role::RawProxy => raw::proxy(),
        Role::RawWorker(arguments) => raw::workers(&arguments),
        Role::RawClient(arguments) => raw::clients(&arguments),
        Role::Broker(arguments) => majordomo_peers::broker(&arguments),
        Role::Worker(arguments) => majordomo_peers::workers(&arguments),
        Role::Client(arguments) => majordomo_peers::clients(&arguments),
        Role::RoundTrip(arguments) => majordomo_peers::round_trips(&arguments),
        Role::IdleWorkers(arguments) => idle::run(&arguments),
        Role::Watch(arguments) => process::watch(&arguments),
        Role::Flood(arguments) => flood::run(&arguments),
        Role::Hostile(arguments) => hostile::run(&arguments),
    }
}
