//! Five workers and five clients of `examples/textstats` over one broker, and what the clients have to say.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::Signal;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::hub::Hub;
use crate::process::{Event, Program};
use crate::project::{Language, Project};

/// How long a worker may take until it is ready.
const START: Duration = Duration::from_secs(60);

/// The longest silence of all clients together: their own limit is three tries of 120 s.
const SILENCE: Duration = Duration::from_secs(3 * 120 + 30);

/// One request and what became of it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Answer {
    pub(crate) client: Language,
    pub(crate) worker: Language,
    /// Position in the list of files.
    pub(crate) file: usize,
    pub(crate) milliseconds: f64,
    /// The reply as it came, or the name of the error.
    pub(crate) outcome: Result<String, String>,
}

/// What happened.
#[derive(Default, Debug)]
pub(crate) struct Exchange {
    pub(crate) answers: Vec<Answer>,
    /// What else went wrong, in words.
    pub(crate) troubles: Vec<String>,
}

/// Sends every file from the client of each language to the worker of each; `progress` sees each answer as it comes.
pub(crate) fn exchange(project: &Project, files: &[PathBuf], mut progress: impl FnMut(&Answer)) -> Result<Exchange> {
    let (sender, events) = channel();
    let mut hub = Hub::start(project)?;
    let mut workers = Vec::new();
    for language in Language::ALL {
        let worker = project.example(language, "textstats", "worker").arg(&hub.endpoint).arg(service(language));
        let worker = worker.follow(Vec::new(), Peer::Worker(language), &sender)?;
        workers.push((language, worker));
    }
    let mut waiting: Vec<Language> = Language::ALL.to_vec();
    let deadline = Instant::now() + START;
    while !waiting.is_empty() {
        match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok((Peer::Worker(language), Event::Line(line))) if line == "ready" => {
                waiting.retain(|other| *other != language)
            }
            Ok((Peer::Worker(language), Event::Line(line))) => bail!("the {} worker prints {line:?}", language.title()),
            Ok((Peer::Worker(language), Event::End)) => {
                bail!("the {} worker ended before it was ready", language.title())
            }
            Ok((Peer::Client(_), _)) => {}
            Err(_) => bail!("the {} worker is not ready after {} s", waiting[0].title(), START.as_secs()),
        }
    }

    let names: Vec<u8> = files.iter().flat_map(|file| file.as_os_str().as_bytes().iter().copied().chain([0])).collect();
    let mut clients = Vec::new();
    for (position, language) in Language::ALL.into_iter().enumerate() {
        // Each begins with another worker, so that they do not all queue for the same one.
        let services = (0..5).map(|step| service(Language::ALL[(position + step) % 5]));
        let client = project.example(language, "textstats", "client").arg(&hub.endpoint).args(services);
        clients.push((language, client.follow(names.clone(), Peer::Client(language), &sender)?));
    }

    let mut result = Exchange::default();
    let mut open = clients.len();
    let mut last = Instant::now();
    while open > 0 {
        match events.recv_timeout(Duration::from_millis(200)) {
            Ok((Peer::Client(client), Event::Line(line))) => {
                last = Instant::now();
                match read(client, &line, files.len()) {
                    Ok(answer) => {
                        progress(&answer);
                        result.answers.push(answer);
                    }
                    Err(error) => {
                        result.troubles.push(format!("the {} client prints {line:?}: {error}", client.title()))
                    }
                }
            }
            Ok((Peer::Client(_), Event::End)) => open -= 1,
            Ok((Peer::Worker(language), Event::Line(line))) => {
                result.troubles.push(format!("the {} worker prints {line:?}", language.title()));
            }
            Ok((Peer::Worker(language), Event::End)) => bail!("the {} worker ended before its time", language.title()),
            Err(RecvTimeoutError::Timeout) => {
                hub.check()?;
                if last.elapsed() > SILENCE {
                    bail!("no client has said anything for {} s", SILENCE.as_secs());
                }
            }
            Err(RecvTimeoutError::Disconnected) => bail!("all programs are gone"),
        }
    }

    for (language, mut client) in clients {
        let status = client.wait()?;
        // Status 1 says that some answer is missing; the answers themselves say which.
        if !matches!(status.code(), Some(0 | 1)) {
            result.troubles.push(format!("the {} client ended with {status}", language.title()));
        }
    }
    let signals = [Signal::SIGTERM, Signal::SIGINT].into_iter().cycle();
    let ends = workers.into_iter().zip(signals).map(|((language, worker), signal)| stop(language, worker, signal));
    result.troubles.extend(ends.filter_map(Result::err).map(|error| format!("{error:#}")));
    if let Err(error) = hub.stop() {
        result.troubles.push(format!("{error:#}"));
    }
    Ok(result)
}

/// Ends a worker as an operator does or as a person does: both are promised.
fn stop(language: Language, worker: Program, signal: Signal) -> Result<()> {
    let name = language.title();
    let status = worker.end_by(signal).with_context(|| format!("the {name} worker does not end on {signal}"))?;
    if !status.success() {
        bail!("the {name} worker ended with {status} on {signal}");
    }
    Ok(())
}

/// Interrupts the worker of each language in the middle of a request, which it has to answer before it ends. `folder` is for
/// the texts that are asked about.
pub(crate) fn interrupt(project: &Project, folder: &Path) -> Result<()> {
    let hub = Hub::start(project)?;
    for language in Language::ALL {
        // As many words as a worker needs to be found at work.
        let mut words = 100_000;
        while !interrupt_at(project, &hub, language, folder, words)? {
            if words > 10_000_000 {
                bail!("the {} worker is too fast to be interrupted", language.title());
            }
            words *= 2;
        }
    }
    hub.stop()
}

/// Whether the worker had not answered yet when it was interrupted.
fn interrupt_at(project: &Project, hub: &Hub, language: Language, folder: &Path, words: usize) -> Result<bool> {
    let name = language.title();
    let short = folder.join("short.txt");
    let long = folder.join("long.txt");
    fs::write(&short, "one word more")?;
    fs::write(&long, (0..words).map(|number| format!("{number:07} ")).collect::<String>())?;

    let (sender, events) = channel();
    let next = |patience: Duration| match events.recv_timeout(patience) {
        Ok((_, Event::Line(line))) => Ok(Some(line)),
        Ok((peer, Event::End)) => bail!("the {name} {peer} ended before its time"),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => bail!("the {name} programs are gone"),
    };
    let worker = project.example(language, "textstats", "worker").arg(&hub.endpoint).arg(service(language));
    let worker = worker.follow(Vec::new(), "worker", &sender)?;
    if next(START)?.as_deref() != Some("ready") {
        bail!("the {name} worker is not ready");
    }
    let client = project.example(language, "textstats", "client").arg(&hub.endpoint).arg(service(language));
    let names = [short.as_os_str().as_bytes(), b"\0", long.as_os_str().as_bytes(), b"\0"].concat();
    let mut client = client.follow(names, "client", &sender)?;
    let answer = |line: &str| read(language, line, 2)?.outcome.map_err(|error| anyhow!("the {name} worker: {error}"));
    answer(&next(START)?.context("no first answer")?)?;

    // To receive the text takes far less than this.
    let at_work = ticks(worker.pid())? + 3;
    let deadline = Instant::now() + START;
    while ticks(worker.pid())? < at_work {
        if let Some(line) = next(Duration::from_millis(1))? {
            answer(&line)?;
            stop(language, worker, Signal::SIGINT)?;
            return Ok(false);
        }
        if Instant::now() > deadline {
            bail!("the {name} worker has not begun after {} s", START.as_secs());
        }
    }
    stop(language, worker, Signal::SIGINT)?;
    let line = loop {
        match events.recv_timeout(START) {
            Ok(("client", Event::Line(line))) => break line,
            Ok(("worker", _)) => {}
            _ => bail!("the interrupted {name} worker has left its request"),
        }
    };
    let told = answer(&line)?;
    if !told.contains(&format!("\"words\":{words},")) {
        bail!("the interrupted {name} worker answers {told}");
    }
    client.wait()?;
    Ok(true)
}

/// How much of the processor a process has used, in hundredths of a second.
fn ticks(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').skip(11).take(2));
    fields.context("no figures of a process")?.map(|ticks| Ok(ticks.parse::<u64>()?)).sum()
}

#[derive(Clone, Copy, Debug)]
enum Peer {
    Worker(Language),
    Client(Language),
}

fn service(language: Language) -> String {
    format!("textstats.{}", language.folder())
}

/// A line of a client, as examples/textstats/README.md describes it.
#[derive(Deserialize)]
struct Line<'a> {
    file: usize,
    service: String,
    ms: f64,
    ok: bool,
    #[serde(borrow)]
    reply: Option<&'a RawValue>,
    error: Option<String>,
}

fn read(client: Language, line: &str, files: usize) -> Result<Answer> {
    let line: Line<'_> = serde_json::from_str(line)?;
    let worker = Language::ALL.into_iter().find(|language| service(*language) == line.service);
    let worker = worker.context("an unknown service")?;
    if line.file >= files {
        bail!("an unknown file");
    }
    let outcome = match (line.ok, line.reply, line.error) {
        (true, Some(reply), None) => Ok(reply.get().to_owned()),
        (false, None, Some(error)) => Err(error),
        _ => bail!("it must have a reply if it is ok, and an error otherwise"),
    };
    Ok(Answer { client, worker, file: line.file, milliseconds: line.ms, outcome })
}

#[cfg(test)]
mod tests {
    use super::read;
    use crate::project::Language;

    #[test]
    fn a_reply_is_kept_byte_for_byte() {
        let line = r#"{"file":1,"service":"textstats.cpp","ms":1.250,"ok":true,"reply":{"lines":2, "words":0,"top":[["caf\u00c3",1]]}}"#;
        let answer = read(Language::Node, line, 2).expect("a good line");
        assert_eq!((answer.client, answer.worker, answer.file), (Language::Node, Language::Cpp, 1));
        assert_eq!(answer.outcome, Ok(r#"{"lines":2, "words":0,"top":[["caf\u00c3",1]]}"#.to_owned()));
    }

    #[test]
    fn a_failure_keeps_its_name() {
        let line = r#"{"file":0,"service":"textstats.c","ms":2500.017,"ok":false,"error":"MD_ETIMEOUT"}"#;
        assert_eq!(read(Language::C, line, 1).expect("a good line").outcome, Err("MD_ETIMEOUT".to_owned()));
    }

    #[test]
    fn a_line_that_makes_no_sense_is_an_error() {
        for line in [
            "",
            "ready",
            r#"{"file":5,"service":"textstats.c","ms":1.0,"ok":true,"reply":{}}"#,
            r#"{"file":0,"service":"textstats.go","ms":1.0,"ok":true,"reply":{}}"#,
            r#"{"file":0,"service":"textstats.c","ms":1.0,"ok":true,"error":"MD_ETIMEOUT"}"#,
            r#"{"file":0,"service":"textstats.c","ms":1.0,"ok":false,"reply":{}}"#,
            r#"{"file":0,"service":"textstats.c","ms":1.0,"ok":true,"reply":{}"#,
        ] {
            assert!(read(Language::Rust, line, 5).is_err(), "{line}");
        }
    }
}
