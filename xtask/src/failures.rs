//! What a suite says about its failed tests, kept for the end of the report: above it are thousands of lines of others.

use crate::tally::Runner;

/// How much of one suite is repeated at the end.
const MAX_LINES: usize = 200;

/// The lines that name what failed and say why.
#[derive(Debug)]
pub(crate) struct Failures {
    runner: Runner,
    /// Whether the last line was inside a passage about failures.
    inside: bool,
    lines: Vec<String>,
}

impl Failures {
    pub(crate) fn new(runner: Runner) -> Self {
        Self { runner, inside: false, lines: Vec::new() }
    }

    /// Takes the next line of the runner's output.
    pub(crate) fn read(&mut self, line: &str) {
        if self.begins(line) {
            self.inside = true;
        } else if self.ends(line) {
            self.inside = false;
        }
        if (self.inside || self.is_one(line)) && !line.trim().is_empty() && self.lines.len() < MAX_LINES {
            self.lines.push(line.to_owned());
        }
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines
    }

    /// Whether a passage begins here.
    fn begins(&self, line: &str) -> bool {
        match self.runner {
            Runner::Cargo => line == "failures:",
            Runner::Node => line.ends_with("failing tests:"),
            Runner::Pytest | Runner::C => false,
        }
    }

    /// Whether a passage is over here; Node's is the last of its output.
    fn ends(&self, line: &str) -> bool {
        self.runner == Runner::Cargo && line.starts_with("test result: ")
    }

    /// Whether a line says it all by itself.
    fn is_one(&self, line: &str) -> bool {
        match self.runner {
            Runner::Pytest => line.starts_with("FAILED ") || line.starts_with("ERROR "),
            Runner::C => line.contains(" does not hold") || line.starts_with("FAILED: "),
            Runner::Cargo | Runner::Node => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Failures;
    use crate::tally::Runner;

    fn read(runner: Runner, output: &str) -> Vec<String> {
        let mut failures = Failures::new(runner);
        output.lines().for_each(|line| failures.read(line));
        failures.into_lines()
    }

    #[test]
    fn what_every_runner_says_of_a_failed_test_is_kept_and_nothing_else() {
        let cargo = "running 2 tests\ntest a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\n\
             it is 5\n\nfailures:\n    b\n\ntest result: FAILED. 1 passed; 1 failed\n\nrunning 1 test\ntest c ... ok\n";
        assert_eq!(read(Runner::Cargo, cargo), ["failures:", "---- b stdout ----", "it is 5", "failures:", "    b"]);
        let pytest =
            "..F.\n=== FAILURES ===\nE assert 1 == 2\nFAILED tests/test_a.py::test_b - assert 1 == 2\n1 failed";
        assert_eq!(read(Runner::Pytest, pytest), ["FAILED tests/test_a.py::test_b - assert 1 == 2"]);
        let node = "✔ a\n✖ b\nℹ fail 1\n\n✖ failing tests:\n\ntest at b.mjs:3\n✖ b\n  AssertionError\n";
        assert_eq!(read(Runner::Node, node), ["✖ failing tests:", "test at b.mjs:3", "✖ b", "  AssertionError"]);
        let c = "ok a\ntest.c:3: x == 1 does not hold (0: none)\nFAILED: b\n1 passed, 1 failed\n";
        assert_eq!(read(Runner::C, c), ["test.c:3: x == 1 does not hold (0: none)", "FAILED: b"]);
    }

    #[test]
    fn a_suite_in_which_everything_fails_is_not_repeated_whole() {
        let output = "FAILED: x\n".repeat(1000);
        assert_eq!(read(Runner::C, &output).len(), super::MAX_LINES);
    }
}
