//! The Rust agent of the conformance suite: `conformance/AGENT.md` says what it reads and writes.

mod brokers;
mod clients;
mod command;
mod event;
mod workers;

use std::io::{BufRead, stdin};
use std::sync::Arc;
use std::thread;

use command::{Command, Problem};
use event::{close, emit};
use serde_json::json;

/// Everything that the test has opened and not yet closed.
#[derive(Default)]
struct Agent {
    clients: clients::Clients,
    workers: workers::Workers,
    brokers: brokers::Brokers,
}

impl Agent {
    fn perform(&self, command: &Command) -> Result<event::Closing, Problem> {
        match command.text("cmd")? {
            "open_client" => self.clients.open(command),
            "close_client" => self.clients.close(command),
            "cancel" => self.clients.cancel(command),
            "request_many" => self.clients.request_many(command),
            "start_worker" => self.workers.start(command),
            "release" => self.workers.release(command),
            "worker_stats" => self.workers.stats(command),
            "stop_worker" => self.workers.stop(command),
            "start_broker" => self.brokers.start(command),
            "stop_broker" => self.brokers.stop(command),
            "ping" => Ok(event::ok()),
            other => Err(Problem::Failed(format!("no command {other:?}"))),
        }
    }

    fn close(&self) {
        self.workers.close_all();
        self.clients.close_all();
        self.brokers.close_all();
    }
}

fn main() {
    let agent = Arc::new(Agent::default());
    emit(&json!({ "event": "hello", "language": "rust", "agent": 1 }));
    for line in stdin().lock().lines() {
        let Ok(line) = line else { break };
        let command = match Command::parse(&line) {
            Ok(command) => command,
            Err(text) => {
                emit(&json!({ "event": "failed", "id": 0, "text": text }));
                continue;
            }
        };
        if command.is("quit") {
            agent.close();
            close(command.id(), Ok(event::ok()));
            return;
        }
        if command.is("request") || command.is("stream") {
            let cancellable = agent.clients.begin(&command);
            let agent = Arc::clone(&agent);
            thread::spawn(move || {
                let outcome = match command.is("stream") {
                    true => agent.clients.stream(&command, cancellable),
                    false => agent.clients.request(&command, cancellable),
                };
                agent.clients.end(&command);
                close(command.id(), outcome);
            });
            continue;
        }
        let beside = ["request_many", "stop_worker", "close_client"];
        if beside.iter().any(|cmd| command.is(cmd)) {
            let agent = Arc::clone(&agent);
            thread::spawn(move || close(command.id(), agent.perform(&command)));
        } else {
            close(command.id(), agent.perform(&command));
        }
    }
    agent.close();
}
