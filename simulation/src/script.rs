//! A world's script: its settings, and everything that is going to happen in it, as data. It is written and read as lines of
//! JSON, the settings first.

use serde::{Deserialize, Serialize};

/// What a peer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Speaks {
    /// MDP/0.1.
    #[serde(rename = "0.1")]
    V01,
    /// MDP/0.2.
    #[serde(rename = "0.2")]
    V02,
    /// MDPX/1.
    #[serde(rename = "x1")]
    X1,
    /// What it finds out.
    #[serde(rename = "auto")]
    Auto,
}

/// A world before anything happens. All times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Decides delays, and how long handlers take.
    pub seed: u64,
    /// Longest way of a message.
    pub delay: u64,
    /// How many handlers of a hundred are slow.
    pub slow: u64,
    /// The broker.
    pub broker: BrokerSetting,
    /// The clients.
    pub clients: Vec<ClientSetting>,
    /// The workers.
    pub workers: Vec<WorkerSetting>,
}

/// The broker's options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerSetting {
    /// Interval between heartbeats.
    pub heartbeat: u64,
    /// Outstanding requests of an MDPX client at most.
    pub credit: u32,
    /// How often a request is handed out at most.
    pub max_attempts: u32,
    /// How long an attempt may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt_timeout: Option<u64>,
    /// How long a request may wait.
    pub request_ttl: u64,
    /// Requests that may wait in all, and for one service.
    pub max_queued: (usize, usize),
    /// Their bytes.
    pub max_queued_bytes: (usize, usize),
    /// Services at most.
    pub max_services: usize,
    /// Workers at most.
    pub max_workers: usize,
    /// Sessions at most.
    pub max_sessions: usize,
}

/// A client process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientSetting {
    /// What it speaks.
    pub speaks: Speaks,
    /// How long an attempt may take.
    pub timeout: u64,
    /// How often a request is sent at most.
    pub retries: u32,
    /// How long a call may take.
    pub deadline: u64,
    /// Requests at once (MDPX).
    pub max_in_flight: usize,
    /// Whether its driver sleeps between calls and makes one at a time.
    pub blocking: bool,
}

/// A worker process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerSetting {
    /// What it serves.
    pub service: String,
    /// What it speaks.
    pub speaks: Speaks,
    /// Interval between heartbeats.
    pub heartbeat: u64,
    /// Requests worked on at once.
    pub concurrency: usize,
    /// Further ones held ready.
    pub prefetch: usize,
    /// Whether it keeps outcomes, and so never runs a request twice.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps: bool,
}

/// Somebody who can be cut off, stand still, or die.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// The broker.
    Broker,
    /// The client of this index.
    Client(usize),
    /// The worker of this index.
    Worker(usize),
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// In good order; both sides learn of it at once.
    Closed,
    /// What is under way to the peer is lost, and each side learns of it at a time of its own. The peer may be back over a
    /// new connection before the broker sees the old one end, and what it said on that one may come later still.
    Severed,
    /// Nothing passes any more, and nobody learns of it.
    Silent,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Names it, and decides how its handlers behave.
    pub id: usize,
    /// The client that asks.
    pub client: usize,
    /// The service.
    pub service: String,
    /// What its handler does.
    pub kind: Kind,
    /// Whether the parts of its reply are wanted as they come.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub parts: bool,
    /// Whether it may run once at most.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
    /// Whether it fails where nobody serves it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fail_fast: bool,
    /// Whether it has an idempotency key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub key: bool,
    /// How long it may take, where that is short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hurry: Option<u64>,
    /// When its caller gives it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<u64>,
}

/// What a request's handler does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Answers with the request's body.
    Echo,
    /// Fails for good.
    Fail,
    /// Fails, so that another one may try, until the third attempt.
    Retry,
    /// Answers, and must not run twice: its worker keeps outcomes.
    Keep,
    /// Asks the broker whether the service has workers.
    Question,
}

/// Something that is going to happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// A client asks.
    Ask(Ask),
    /// A connection ends.
    Cut {
        /// Whose.
        whose: Party,
        /// How.
        how: Ending,
    },
    /// A connection stands still: what is sent on it arrives, in order, afterwards.
    Stall {
        /// Whose.
        whose: Party,
        /// For how long.
        ms: u64,
    },
    /// A process, or its host, stands still.
    Freeze {
        /// Which.
        who: Party,
        /// For how long.
        ms: u64,
    },
    /// A process dies and is started again.
    Restart {
        /// Which.
        who: Party,
        /// After how long.
        after: u64,
    },
    /// The broker ends in good order and is started again.
    EndBroker {
        /// After how long.
        after: u64,
    },
    /// A worker leaves in good order and comes back.
    Drain {
        /// Which.
        worker: usize,
        /// After how long.
        after: u64,
    },
    /// A worker leaves with whatever it holds, and says so, and comes back.
    Leave {
        /// Which.
        worker: usize,
        /// After how long.
        after: u64,
    },
}

/// An act and its moment, in microseconds since the world's beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// The moment.
    pub at: u64,
    /// What happens.
    #[serde(flatten)]
    pub act: Act,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// What there is.
    pub setting: Setting,
    /// What happens, by its moments.
    pub acts: Vec<Planned>,
}

impl Script {
    /// The script as lines of text.
    pub fn to_text(&self) -> String {
        let line = |line: serde_json::Result<String>| line.unwrap_or_default() + "\n";
        let acts = self.acts.iter().map(|act| line(serde_json::to_string(act)));
        std::iter::once(line(serde_json::to_string(&self.setting))).chain(acts).collect()
    }

    /// Reads what [`Script::to_text`] has written. Empty lines and those that begin with `#` are left out.
    ///
    /// # Errors
    /// Which line cannot be read, and why.
    pub fn from_text(text: &str) -> Result<Script, String> {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
        let told = |number: usize, error: &dyn std::fmt::Display| format!("line {}: {error}", number + 1);
        let (number, first) = lines.next().ok_or("the script is empty")?;
        let setting = serde_json::from_str(first).map_err(|error| told(number, &error))?;
        let acts = lines.map(|(number, line)| serde_json::from_str(line).map_err(|error| told(number, &error)));
        let script = Script { setting, acts: acts.collect::<Result<_, _>>()? };
        script.check().map(|()| script)
    }

    /// Whoever is named is there, and no request is asked twice.
    fn check(&self) -> Result<(), String> {
        let mut ids = std::collections::BTreeSet::new();
        let there = |party: &Party| match party {
            Party::Broker => true,
            Party::Client(index) => *index < self.setting.clients.len(),
            Party::Worker(index) => *index < self.setting.workers.len(),
        };
        for Planned { act, .. } in &self.acts {
            let named = match act {
                Act::Ask(ask) if ask.id > 1_000_000 || !ids.insert(ask.id) => {
                    return Err(format!("request {} is asked twice, or has too high a number", ask.id));
                }
                Act::Ask(ask) => Party::Client(ask.client),
                Act::EndBroker { .. } => Party::Broker,
                Act::Cut { whose, .. } | Act::Stall { whose, .. } => *whose,
                Act::Freeze { who, .. } | Act::Restart { who, .. } => *who,
                Act::Drain { worker, .. } | Act::Leave { worker, .. } => Party::Worker(*worker),
            };
            if !there(&named) {
                return Err(format!("{named:?} is not there"));
            }
        }
        Ok(())
    }
}
