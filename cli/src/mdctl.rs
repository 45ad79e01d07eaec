//! `mdctl`: asks a broker, or a service behind it.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};
use majordomo::{Client, ClientOptions, Error, ErrorKind, Message, Properties, Protocol, RequestOptions, Wake};
use serde_json::{Value, json};

use crate::bench;
use crate::conform::{self, Audience, Finding, Verdict, Versions};
use crate::report;
use crate::table;

/// Asks a Majordomo broker, or a service behind it.
///
/// Exit status: 0 for an answer; 1 for a failure; 2 for wrong arguments; 3 when no broker could be reached or no answer
/// came in time; 4 when the service reported a failure of its own, which is printed. Of `conform`: 0 where every rule that
/// could be judged is kept, 1 where one is broken, 2 where nothing could be judged.
#[derive(Parser)]
#[command(name = "mdctl", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    connection: Connection,
    /// Print JSON instead of text for people
    #[arg(long, global = true)]
    json: bool,
    /// Log more; may be given several times
    #[arg(short, long, action = ArgAction::Count, global = true)]
    verbose: u8,
}

#[derive(Args)]
pub(crate) struct Connection {
    /// The broker's endpoint; several, separated by commas, are tried in turn
    #[arg(long, value_name = "ENDPOINT", default_value = "tcp://127.0.0.1:5555", global = true)]
    pub(crate) broker: String,
    /// How long one attempt may take, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 2500, global = true)]
    pub(crate) timeout_ms: u64,
    /// How often the request is sent at most
    #[arg(long, value_name = "N", default_value_t = 3, global = true)]
    pub(crate) retries: u32,
    /// Protocol: auto (the best that both sides know), 0.1, 0.2 or x1; of conform: 0.1, 0.2 or all
    #[arg(long, value_name = "VERSION", default_value = "auto", global = true)]
    protocol: Spoken,
}

/// What `--protocol` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    One(Protocol),
    All,
}

impl FromStr for Spoken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Spoken, Error> {
        if text == "all" { Ok(Spoken::All) } else { text.parse().map(Spoken::One) }
    }
}

#[derive(Subcommand)]
enum Command {
    /// Send a request to a service and print the reply, each frame on a line of its own
    Request {
        /// The service's name
        service: String,
        /// Frames of the request: text, @FILE for a file's content, - for standard input, @@TEXT for text that starts
        /// with one @
        body: Vec<OsString>,
        /// How often the request is handed to a worker at most, 1 for never twice; the broker's option unless given
        #[arg(long, value_name = "N")]
        max_attempts: Option<u32>,
        /// Fail at once where the service has no worker (MDPX only)
        #[arg(long)]
        fail_fast: bool,
        /// Property that travels beside the request (MDPX only); may be given several times. Properties of the reply are
        /// shown on stderr with --verbose, and with --json
        #[arg(long = "property", value_name = "NAME=VALUE")]
        properties: Vec<OsString>,
        /// Print the reply's bytes as they are, without line ends
        #[arg(long, conflicts_with = "json")]
        raw: bool,
    },
    /// List the services that the broker knows
    Services,
    /// List the workers that are registered
    Workers,
    /// Print the broker's counters
    Stats,
    /// Measure a running broker: as many answers as possible, with a fixed number of requests outstanding
    Bench(bench::Arguments),
    /// Judge any broker of MDP/0.1 and 0.2 by the specifications and by the defects that earlier brokers had, one line for
    /// each rule. The broker must be one that may be disturbed
    Conform(conform::Arguments),
}

/// What ends the program other than by success.
pub(crate) enum Failure {
    /// The arguments are wrong.
    Usage(String),
    /// A file or the standard streams.
    Io(String),
    Library(Error),
    /// So many measured requests failed.
    Requests(u64),
    /// A judged broker broke so many rules.
    Broken(usize),
    /// A broker could not be judged.
    Unjudged(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Library(error)
    }
}

/// Runs `mdctl` with these arguments, the program's name first, and returns its exit status.
pub fn mdctl(args: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Arguments = match report::parse(args) {
        Ok(arguments) => arguments,
        Err(status) => return status.into(),
    };
    report::log_to_stderr(arguments.verbose);
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

impl Failure {
    fn report(&self) -> ExitCode {
        match self {
            Failure::Usage(what) => {
                report::complain("mdctl", what);
                ExitCode::from(report::USAGE)
            }
            Failure::Io(what) => {
                report::complain("mdctl", what);
                ExitCode::FAILURE
            }
            Failure::Requests(count) => {
                report::complain("mdctl", &format!("{count} requests failed"));
                ExitCode::FAILURE
            }
            Failure::Broken(count) => {
                report::complain("mdctl", &format!("{count} rules are broken"));
                ExitCode::FAILURE
            }
            Failure::Unjudged(why) => {
                report::complain("mdctl", &format!("the broker could not be judged: {why}"));
                ExitCode::from(report::USAGE)
            }
            Failure::Library(error) => {
                report::complain("mdctl", error);
                ExitCode::from(match error.kind() {
                    ErrorKind::InvalidArgument => report::USAGE,
                    ErrorKind::Timeout | ErrorKind::BrokerUnreachable => 3,
                    ErrorKind::ServiceError => 4,
                    _ => 1,
                })
            }
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Bench(bench) => return bench::run(bench, &arguments.connection, arguments.json),
        Command::Conform(conform) => return judge(conform, &arguments.connection, arguments.json),
        _ => {}
    }
    let client = Client::with_options(arguments.connection.options(&arguments.connection.broker)?)?;
    match &arguments.command {
        Command::Request { service, body, max_attempts, fail_fast, properties, raw } => {
            let body = read_body(body)?.with_properties(read_properties(properties)?);
            let options =
                RequestOptions { max_attempts: *max_attempts, fail_fast: *fail_fast, ..RequestOptions::default() };
            show_reply(arguments, &ask(&client, service, body, &options)?, *raw)
        }
        Command::Services => show(arguments, &client, "mmi.services"),
        Command::Workers => show(arguments, &client, "mmi.workers"),
        Command::Stats => show(arguments, &client, "mmi.stats"),
        Command::Bench(_) | Command::Conform(_) => Ok(()),
    }
}

impl Connection {
    /// The options of a client of the broker at `endpoints`.
    pub(crate) fn options(&self, endpoints: &str) -> Result<ClientOptions, Failure> {
        let options = ClientOptions::new(endpoints).timeout(Duration::from_millis(self.timeout_ms));
        Ok(options.retries(self.retries).protocol(self.protocol()?))
    }

    /// The protocol that a client or worker is to speak.
    pub(crate) fn protocol(&self) -> Result<Protocol, Failure> {
        match self.protocol {
            Spoken::One(protocol) => Ok(protocol),
            Spoken::All => Err(Failure::Usage("--protocol all is for conform".into())),
        }
    }

    /// The versions to judge a broker by.
    fn versions(&self) -> Result<Versions, Failure> {
        match self.protocol {
            Spoken::All | Spoken::One(Protocol::Auto) => Ok(Versions::All),
            Spoken::One(Protocol::V01) => Ok(Versions::V01),
            Spoken::One(Protocol::V02) => Ok(Versions::V02),
            Spoken::One(_) => Err(Failure::Usage("conform judges 0.1 and 0.2".into())),
        }
    }
}

/// Judges a broker and tells what was found.
fn judge(arguments: &conform::Arguments, connection: &Connection, json: bool) -> Result<(), Failure> {
    struct Lines {
        silent: bool,
        failure: Option<Failure>,
    }
    impl Audience for Lines {
        fn tell(&mut self, finding: &Finding) {
            if !self.silent && self.failure.is_none() {
                self.failure = print(format!("{}\n", finding.line()).as_bytes()).err();
            }
        }
    }
    let mut lines = Lines { silent: json, failure: None };
    let patience = Duration::from_millis(connection.timeout_ms);
    let report = conform::run(arguments, connection.versions()?, patience, &mut lines);
    if let Some(failure) = lines.failure {
        return Err(failure);
    }
    if json {
        print_json(&report.to_json())?;
    } else {
        let [passed, failed, skipped] =
            [Verdict::Pass, Verdict::Fail, Verdict::Skip].map(|verdict| report.count(verdict));
        print(format!("{passed} passed, {failed} failed, {skipped} skipped\n").as_bytes())?;
    }
    match (report.unjudged, report.findings.iter().filter(|finding| finding.verdict == Verdict::Fail).count()) {
        (Some(why), _) => Err(Failure::Unjudged(why)),
        (None, 0) => Ok(()),
        (None, count) => Err(Failure::Broken(count)),
    }
}

fn show_reply(arguments: &Arguments, reply: &Message, raw: bool) -> Result<(), Failure> {
    if arguments.json {
        let mut told = json!({ "frames": reply.iter().map(frame).collect::<Vec<_>>() });
        if !reply.properties().is_empty() {
            told["properties"] =
                reply.properties().iter().map(|(name, value)| (name.to_owned(), frame(value))).collect();
        }
        return print_json(&told);
    }
    if arguments.verbose > 0 {
        for (name, value) in reply.properties().iter() {
            let value = String::from_utf8_lossy(value);
            // Nobody is left to be told that the output is closed.
            let _ = writeln!(io::stderr(), "{}: {}", table::printable(name), table::printable(&value));
        }
    }
    if raw {
        return print(&reply.iter().collect::<Vec<_>>().concat());
    }
    let lines: Vec<u8> = reply.iter().flat_map(|frame| [frame, b"\n"].concat()).collect();
    print(&lines)
}

/// Asks the broker itself and prints what it tells.
fn show(arguments: &Arguments, client: &Client, question: &str) -> Result<(), Failure> {
    let reply = ask(client, question, Message::new(), &RequestOptions::default())?;
    let told = match reply.get(0) {
        Some(b"200") => reply.get(1).and_then(|json| serde_json::from_slice::<Value>(json).ok()),
        _ => None,
    };
    let Some(told) = told else {
        let status = String::from_utf8_lossy(reply.first().unwrap_or_default()).into_owned();
        return Err(Failure::Library(Error::new(
            ErrorKind::Protocol,
            format!("this broker does not answer {question} (status {status:?}); it may not be mdbroker"),
        )));
    };
    if arguments.json { print_json(&told) } else { print(table::render(&told).as_bytes()) }
}

/// A signal ends the program by itself, so the wait needs no look at it.
fn ask(client: &Client, service: &str, body: Message, options: &RequestOptions) -> Result<Message, Failure> {
    let mut go_on = |_: Wake| ControlFlow::Continue(());
    Ok(client.request_with(service, body, options, &mut go_on)?)
}

fn read_properties(arguments: &[OsString]) -> Result<Properties, Failure> {
    use std::os::unix::ffi::OsStrExt;
    let mut properties = Properties::new();
    for argument in arguments {
        let bytes = argument.as_bytes();
        let parts = bytes.iter().position(|byte| *byte == b'=').map(|at| (&bytes[..at], &bytes[at + 1..]));
        let Some((Ok(name), value)) = parts.map(|(name, value)| (std::str::from_utf8(name), value)) else {
            return Err(Failure::Usage(format!("property {argument:?}: expected NAME=VALUE")));
        };
        properties.set(name, value)?;
    }
    Ok(properties)
}

fn read_body(arguments: &[OsString]) -> Result<Message, Failure> {
    if arguments.iter().filter(|argument| *argument == "-").count() > 1 {
        return Err(Failure::Usage("standard input (-) can be one frame only".into()));
    }
    let frames = arguments.iter().map(|argument| {
        use std::os::unix::ffi::OsStrExt;
        let bytes = argument.as_bytes();
        if bytes == b"-" {
            let mut content = Vec::new();
            io::stdin().read_to_end(&mut content).map_err(|error| Failure::Io(format!("standard input: {error}")))?;
            return Ok(content);
        }
        match bytes.strip_prefix(b"@") {
            Some(text) if text.starts_with(b"@") => Ok(text.to_vec()),
            Some(path) => {
                let path = std::path::Path::new(std::ffi::OsStr::from_bytes(path));
                std::fs::read(path).map_err(|error| Failure::Io(format!("{}: {error}", path.display())))
            }
            None => Ok(bytes.to_vec()),
        }
    });
    Ok(Message::from(frames.collect::<Result<Vec<Vec<u8>>, Failure>>()?))
}

/// A frame in JSON: text where it is text, otherwise an object with its bytes in hexadecimal.
fn frame(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() }),
    }
}

pub(crate) fn print_json(value: &Value) -> Result<(), Failure> {
    print(format!("{value:#}\n").as_bytes())
}

pub(crate) fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        // Who closes the pipe has read enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Io(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}
