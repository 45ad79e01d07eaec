//! Programs that xtask starts: each in a process group of its own, and none of them outlives xtask.
//!
//! Three nets, one below the other: a [`Program`] that is dropped ends its group; a signal ends all groups before xtask
//! exits; and the kernel kills direct children should xtask itself be killed (`PR_SET_PDEATHSIG`). Orphaned grandchildren
//! are handed to xtask (`PR_SET_CHILD_SUBREAPER`), which ends them last of all.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getpid, getppid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// How long a program may take to end after SIGTERM before it is killed; a worker finishes its request for up to 5 s.
const GRACE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 8 });

#[derive(Default)]
struct Groups {
    running: BTreeSet<i32>,
    /// Set once by the first signal; from then on nothing is started any more.
    stopping: bool,
}

static GROUPS: Mutex<Groups> = Mutex::new(Groups { running: BTreeSet::new(), stopping: false });
static WATCHING: OnceLock<()> = OnceLock::new();

fn groups() -> MutexGuard<'static, Groups> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes SIGINT, SIGTERM and SIGHUP end everything that was started and then xtask, with status 128 + signal.
pub(crate) fn end_everything_on_signals() -> Result<()> {
    if WATCHING.set(()).is_err() {
        return Ok(());
    }
    prctl::set_child_subreaper(true).context("cannot become the reaper of orphans")?;
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let running: Vec<i32> = {
                let mut groups = groups();
                groups.stopping = true;
                groups.running.iter().copied().collect()
            };
            end_groups(&running);
            end_orphans();
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Waits for the end that a signal has begun, if one has; otherwise returns at once.
pub(crate) fn stay_out_of_the_way_of_a_signal() {
    while groups().stopping {
        std::thread::park_timeout(Duration::from_secs(1));
    }
}

/// Ends the given groups: SIGTERM to all, then SIGKILL to what is left after the grace time.
fn end_groups(leaders: &[i32]) {
    for &leader in leaders {
        let _ = killpg(Pid::from_raw(leader), Signal::SIGTERM);
    }
    let deadline = Instant::now() + GRACE;
    let mut left: Vec<i32> = leaders.to_vec();
    while !left.is_empty() && Instant::now() < deadline {
        left.retain(|&leader| !is_over(leader));
        std::thread::sleep(Duration::from_millis(10));
    }
    // Also where the leader ended in time: a group may hold more than its leader.
    for &leader in leaders {
        let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
    }
    for &leader in &left {
        let _ = waitpid(Pid::from_raw(leader), None);
    }
}

/// Whether a child has ended; takes its status if nobody else has.
fn is_over(pid: i32) -> bool {
    match waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)) {
        Ok(status) => status.pid().is_some(),
        Err(error) => error != Errno::EINTR,
    }
}

/// Kills what the ended programs left behind. Children of killed children become children of xtask, so this repeats.
pub(crate) fn end_orphans() {
    for _ in 0..100 {
        let orphans = children_of(getpid().as_raw());
        if orphans.is_empty() {
            return;
        }
        for pid in orphans {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            let _ = waitpid(Pid::from_raw(pid), None);
        }
    }
}

fn children_of(parent: i32) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| parent_of(*pid) == Some(parent))
        .collect()
}

/// The fourth field of `/proc/<pid>/stat`; the second, the program's name, may contain anything and ends with the last `)`.
fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// A command to be run to its end, or started as a [`Program`].
#[derive(Debug)]
pub(crate) struct Run {
    command: Command,
}

impl Run {
    pub(crate) fn new(program: impl Into<OsString>) -> Self {
        let mut command = Command::new(program.into());
        command.stdin(Stdio::null());
        // What cargo says to xtask is not meant for the cargo that xtask runs.
        for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "CARGO_PKG_VERSION", "CARGO_MANIFEST_PATH"] {
            command.env_remove(name);
        }
        Run { command }
    }

    pub(crate) fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.command.arg(argument.into());
        self
    }

    pub(crate) fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments.into_iter().map(Into::into));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.command.env(name, value.into());
        self
    }

    pub(crate) fn dir(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Its name and arguments, as a person would type them.
    pub(crate) fn words(&self) -> String {
        let words: Vec<_> = std::iter::once(self.command.get_program())
            .chain(self.command.get_args())
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        words.join(" ")
    }

    /// Runs it to its end, with its output shown; an unsuccessful end is an error.
    pub(crate) fn run(self) -> Result<()> {
        let words = self.words();
        let status = self.start()?.wait()?;
        if !status.success() {
            bail!("`{words}` ended with {status}");
        }
        Ok(())
    }

    /// Runs it to its end and returns its standard output; an unsuccessful end is an error.
    pub(crate) fn read(mut self) -> Result<Vec<u8>> {
        let words = self.words();
        self.command.stdout(Stdio::piped());
        let mut program = self.start()?;
        let mut output = Vec::new();
        if let Some(mut stdout) = program.child.stdout.take() {
            std::io::Read::read_to_end(&mut stdout, &mut output)?;
        }
        let status = program.wait()?;
        if !status.success() {
            bail!("`{words}` ended with {status}");
        }
        Ok(output)
    }

    /// Runs it to its end; every line of its standard output is shown and given to `line`.
    pub(crate) fn watch(mut self, mut line: impl FnMut(&str)) -> Result<ExitStatus> {
        self.command.stdout(Stdio::piped());
        let mut program = self.start()?;
        if let Some(stdout) = program.child.stdout.take() {
            let mut reader = BufReader::new(stdout);
            let mut bytes = Vec::new();
            while reader.read_until(b'\n', &mut bytes)? > 0 {
                let mut shown = std::io::stdout().lock();
                shown.write_all(&bytes)?;
                shown.flush()?;
                line(String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']));
                bytes.clear();
            }
        }
        program.wait()
    }

    /// Starts it with `input` on its standard input; its lines, and then its end, go to `events` under `tag`.
    ///
    /// Must be called on the main thread: the kernel takes the death of the starting thread for that of xtask.
    pub(crate) fn follow<T: Clone + Send + 'static>(
        mut self,
        input: Vec<u8>,
        tag: T,
        events: &Sender<(T, Event)>,
    ) -> Result<Program> {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut program = self.start()?;
        if let Some(mut stdin) = program.child.stdin.take() {
            // A program that does not read its input must not hold up xtask. A broken pipe shows in what it prints.
            std::thread::spawn(move || stdin.write_all(&input));
        }
        program.tell_of_output(tag, events);
        Ok(program)
    }

    /// Starts it with a standard input that stays open; its lines, and then its end, go to `events` under `tag`. Must be
    /// called on the main thread, as [`Run::follow`].
    pub(crate) fn converse<T: Clone + Send + 'static>(
        mut self,
        tag: T,
        events: &Sender<(T, Event)>,
    ) -> Result<(Program, ChildStdin)> {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut program = self.start()?;
        let input = program.child.stdin.take().context("the program has no standard input")?;
        program.tell_of_output(tag, events);
        Ok((program, input))
    }

    fn start(mut self) -> Result<Program> {
        let parent = getpid();
        self.command.process_group(0);
        // SAFETY: between fork and exec the closure only makes the system calls prctl and getppid, which are async-signal-safe.
        unsafe {
            self.command.pre_exec(move || {
                prctl::set_pdeathsig(Signal::SIGKILL)?;
                // xtask may have died before the line above.
                if getppid() == parent { Ok(()) } else { Err(Errno::ECHILD.into()) }
            });
        }
        let words = self.words();
        // Under the lock, so that a signal finds either no program or one that it knows of.
        let mut groups = groups();
        if groups.stopping {
            bail!("interrupted");
        }
        let child = self.command.spawn().with_context(|| format!("cannot start `{words}`"))?;
        groups.running.insert(leader(&child));
        Ok(Program { child, ended: false })
    }
}

/// What a followed program does.
#[derive(Debug)]
pub(crate) enum Event {
    /// It printed a line, here without its line end.
    Line(String),
    /// It closed its standard output.
    End,
}

/// A running program. Dropping it ends its process group.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    ended: bool,
}

impl Program {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends its lines, and then its end, to `events`.
    fn tell_of_output<T: Clone + Send + 'static>(&mut self, tag: T, events: &Sender<(T, Event)>) {
        let Some(stdout) = self.child.stdout.take() else { return };
        let events = events.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n') {
                let Ok(line) = line else { break };
                let _ = events.send((tag.clone(), Event::Line(String::from_utf8_lossy(&line).into_owned())));
            }
            let _ = events.send((tag, Event::End));
        });
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(&mut self) -> Result<ExitStatus> {
        let status = self.child.wait();
        // A signal's thread may have taken the status; then xtask is about to end.
        self.ended = true;
        groups().running.remove(&leader(&self.child));
        Ok(status?)
    }

    /// Its status, if it has ended by itself.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            self.ended = true;
            groups().running.remove(&leader(&self.child));
        }
        Ok(status)
    }

    /// Asks it to end, as an operator would, and waits; one that does not end in time is killed, which is an error.
    pub(crate) fn end(self) -> Result<ExitStatus> {
        self.end_by(Signal::SIGTERM)
    }

    /// As [`Program::end`], by a signal of choice.
    pub(crate) fn end_by(mut self, signal: Signal) -> Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        killpg(Pid::from_raw(leader(&self.child)), signal)?;
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("process {} did not end within {} s of {signal}", self.child.id(), GRACE.as_secs());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        end_groups(&[leader(&self.child)]);
        groups().running.remove(&leader(&self.child));
    }
}

fn leader(child: &Child) -> i32 {
    i32::try_from(child.id()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Event, Run};
    use std::sync::mpsc::channel;

    fn shell(script: &str) -> Run {
        Run::new("sh").args(["-c", script])
    }

    /// Whether the process is there and not merely waiting for somebody to take its status.
    fn is_alive(pid: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    }

    #[test]
    fn a_dropped_program_ends_with_everything_in_its_group() {
        let (sender, events) = channel();
        // The grandchild ignores SIGTERM, its parent does not.
        let program =
            shell("(trap '' TERM; while :; do sleep 0.01; done) & echo $!; wait").follow(Vec::new(), (), &sender);
        let program = program.expect("sh starts");
        let Ok(((), Event::Line(grandchild))) = events.recv() else { panic!("no line") };
        assert!(is_alive(&grandchild));
        drop(program);
        // Its output closes when the last of the group is gone.
        assert!(matches!(events.recv(), Ok(((), Event::End))));
    }

    #[test]
    fn input_reaches_a_followed_program_and_its_lines_come_back() {
        let (sender, events) = channel();
        let mut program = Run::new("cat").follow(b"one\ntwo".to_vec(), 7, &sender).expect("cat starts");
        assert!(matches!(events.recv(), Ok((7, Event::Line(line))) if line == "one"));
        assert!(matches!(events.recv(), Ok((7, Event::Line(line))) if line == "two"));
        assert!(matches!(events.recv(), Ok((7, Event::End))));
        assert!(program.wait().expect("a status").success());
    }

    #[test]
    fn an_unsuccessful_end_is_an_error() {
        assert!(shell("exit 3").run().is_err());
        assert!(shell("echo text; exit 3").read().is_err());
        assert_eq!(shell("echo text").read().expect("success"), b"text\n");
        assert!(Run::new("/no/such/program").run().is_err());
    }

    #[test]
    fn a_program_that_ignores_sigterm_is_killed_and_told() {
        let (sender, events) = channel();
        let script = "trap '' TERM; echo ready; while :; do sleep 0.01; done";
        let program = shell(script).follow(Vec::new(), (), &sender).expect("sh starts");
        assert!(matches!(events.recv(), Ok(((), Event::Line(_)))));
        assert!(program.end().is_err());
        assert!(matches!(events.recv(), Ok(((), Event::End))));
    }

    #[test]
    fn a_program_that_ends_on_sigterm_gives_its_status() {
        let (sender, events) = channel();
        let script = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done";
        let program = shell(script).follow(Vec::new(), (), &sender).expect("sh starts");
        assert!(matches!(events.recv(), Ok(((), Event::Line(_)))));
        assert!(program.end().expect("an end").success());
    }
}
