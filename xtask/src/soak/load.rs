//! The load: each agent is a worker and an asynchronous client, and asks the service of the next one.

use std::collections::HashMap;
use std::io::Write;
use std::process::ChildStdin;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::process::{Event, Program, Run};
use crate::project::{Language, Project};

/// How long an agent may take over a command before it counts as hung.
const LIMIT: Duration = Duration::from_secs(60);

/// The running agents.
#[derive(Debug)]
pub(crate) struct Load {
    agents: Vec<Agent>,
    events: Receiver<(usize, Event)>,
    next_id: u64,
    /// When each request that has no outcome yet was given to its agent.
    pending: HashMap<u64, Instant>,
    /// When the next request is due.
    due: Instant,
    outcomes: Outcomes,
}

#[derive(Debug)]
struct Agent {
    language: Language,
    program: Program,
    input: ChildStdin,
}

/// What became of the requests.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Outcomes {
    pub(crate) asked: u64,
    pub(crate) answered: u64,
    pub(crate) failed: u64,
}

/// What an agent says; see conformance/AGENT.md.
#[derive(Debug, Deserialize)]
struct Said {
    event: String,
    #[serde(default)]
    id: u64,
    #[serde(default)]
    body: Option<Vec<String>>,
}

/// The body of every request, in base64: the agents' `echo` gives it back.
const BODY: &str = "YSByZXF1ZXN0IG9mIHRoZSBzb2Fr";

impl Load {
    pub(crate) fn start(project: &Project, endpoint: &str) -> Result<Load> {
        let (sender, events) = channel();
        let mut agents = Vec::new();
        for (index, language) in Language::ALL.into_iter().enumerate() {
            let (program, input) = agent(project, language).converse(index, &sender)?;
            agents.push(Agent { language, program, input });
        }
        let (pending, outcomes) = (HashMap::new(), Outcomes::default());
        let mut load = Load { agents, events, next_id: 1, pending, due: Instant::now(), outcomes };
        for agent in 0..load.agents.len() {
            let service = load.agents[agent].language.folder();
            load.order(agent, &format!(
                r#""cmd":"start_worker","worker":"w","endpoint":"{endpoint}","service":"{service}","protocol":"auto","style":"async","behaviour":"echo","concurrency":4"#
            ))?;
            load.order(agent, &format!(
                r#""cmd":"open_client","client":"c","endpoint":"{endpoint}","protocol":"auto","style":"async","timeout_ms":30000"#
            ))?;
        }
        load.due = Instant::now();
        Ok(load)
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.agents.iter().map(|agent| agent.program.pid()).collect()
    }

    /// Asks at a steady rate until then; how long each answer took.
    pub(crate) fn ask_until(&mut self, end: Instant, rate: u32) -> Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        let pause = Duration::from_secs(1) / rate / self.agents.len() as u32;
        while Instant::now() < end {
            while self.due <= Instant::now() {
                self.due += pause;
                self.ask()?;
            }
            self.hear(self.due.min(end), &mut latencies)?;
        }
        Ok(latencies)
    }

    /// Waits for the last answers and ends the agents.
    pub(crate) fn stop(mut self) -> Result<Outcomes> {
        let deadline = Instant::now() + LIMIT;
        while !self.pending.is_empty() && Instant::now() < deadline {
            self.hear(deadline, &mut Vec::new())?;
        }
        self.outcomes.failed += self.pending.len() as u64;
        for agent in 0..self.agents.len() {
            self.tell(agent, r#""cmd":"quit""#)?;
        }
        let mut left = self.agents.len();
        while left > 0 {
            match self.events.recv_timeout(LIMIT) {
                Ok((_, Event::End)) => left -= 1,
                Ok(_) => {}
                Err(_) => bail!("{left} agents have not ended {} s after they were told to", LIMIT.as_secs()),
            }
        }
        for mut agent in self.agents {
            let status = agent.program.wait()?;
            if !status.success() {
                bail!("the agent of {} ended with {status}", agent.language.title());
            }
        }
        Ok(self.outcomes)
    }

    /// Has the agents ask in turn, each the service of the next one, of the one after that, and so on.
    fn ask(&mut self) -> Result<()> {
        let count = self.agents.len();
        let number = self.outcomes.asked as usize;
        let (agent, distance) = (number % count, number / count % count);
        let service = self.agents[(agent + distance) % count].language.folder();
        let id =
            self.tell(agent, &format!(r#""cmd":"request","client":"c","service":"{service}","body":["{BODY}"]"#))?;
        self.pending.insert(id, Instant::now());
        self.outcomes.asked += 1;
        Ok(())
    }

    /// Takes one event, if one comes until then.
    fn hear(&mut self, until: Instant, latencies: &mut Vec<Duration>) -> Result<()> {
        let Some(said) = self.next(until)? else { return Ok(()) };
        let Some(begin) = self.pending.remove(&said.id) else { return Ok(()) };
        latencies.push(begin.elapsed());
        if said.event == "reply" && said.body.is_some_and(|body| body == [BODY]) {
            self.outcomes.answered += 1;
        } else {
            self.outcomes.failed += 1;
        }
        Ok(())
    }

    /// Gives a command and waits for its `ok`.
    fn order(&mut self, agent: usize, command: &str) -> Result<()> {
        let id = self.tell(agent, command)?;
        let deadline = Instant::now() + LIMIT;
        while let Some(said) = self.next(deadline)? {
            if said.id == id {
                if said.event == "ok" {
                    return Ok(());
                }
                break;
            }
        }
        bail!("the agent of {} has not done {{{command}}}", self.agents[agent].language.title());
    }

    fn tell(&mut self, agent: usize, command: &str) -> Result<u64> {
        let id = self.next_id;
        self.next_id += 1;
        let agent = &mut self.agents[agent];
        writeln!(agent.input, r#"{{"id":{id},{command}}}"#)
            .with_context(|| format!("the agent of {} reads no more", agent.language.title()))?;
        Ok(id)
    }

    fn next(&mut self, until: Instant) -> Result<Option<Said>> {
        let language = |agent: usize| self.agents[agent].language.title();
        match self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok((agent, Event::Line(line))) => serde_json::from_str(&line)
                .map(Some)
                .with_context(|| format!("the agent of {} said {line:?}", language(agent))),
            Ok((agent, Event::End)) if self.pending.is_empty() => bail!("the agent of {} has ended", language(agent)),
            Ok((agent, Event::End)) => bail!("the agent of {} ended with requests under way", language(agent)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("all agents have ended"),
        }
    }
}

/// The conformance agent of a language.
fn agent(project: &Project, language: Language) -> Run {
    let source = |file: &str| project.path("conformance/agents").join(language.folder()).join(file);
    match language {
        Language::Rust | Language::C | Language::Cpp => {
            Run::new(project.binary(&format!("agent-{}", language.folder())))
        }
        Language::Python => Run::new(project.venv("python")).arg(source("agent.py")),
        // V8 lets its young generation grow for the first 20,000 requests, from 1 MiB to three times 16, and leaves the old one
        // alone for many minutes; both would pass for a leak. So small, the one has grown to its end long before the warm-up is
        // over, and what is garbage in the other is collected every few seconds; a leak shows as it would.
        Language::Node => Run::new("node")
            .args(["--max-semi-space-size=1", "--expose-gc"])
            .arg("--import=data:text/javascript,setInterval(gc, 5000).unref()")
            .arg(source("agent.mjs")),
    }
}
