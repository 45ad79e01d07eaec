//! How many tests a suite ran, read from what its runner prints.

use std::ops::AddAssign;

/// Tests by their outcome.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// A test runner, by the way it says what it did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Runner {
    /// `test result: ok. 12 passed; 0 failed; 1 ignored; …`, once per test binary.
    Cargo,
    /// `== 1 failed, 12 passed, 2 skipped in 3.21s ==`, once at the end.
    Pytest,
    /// `# pass 12` and the like, once at the end (`ℹ` instead of `#` in the reporter for people).
    Node,
    /// `12 passed, 0 failed`, at the end of a line, once per test program.
    C,
}

impl Runner {
    /// What one line of the runner's output adds.
    pub(crate) fn read(self, line: &str) -> Tally {
        let words: Vec<&str> = line.split_whitespace().collect();
        match self {
            Runner::Cargo if line.starts_with("test result: ") => counts(&words, &[], &["ignored"]),
            Runner::Pytest if is_summary_of_pytest(&words) => {
                counts(&words, &["errors", "error", "xpassed"], &["skipped", "xfailed"])
            }
            Runner::Node => match words.as_slice() {
                ["#" | "ℹ", "pass", count] => Tally { passed: number(count), ..Tally::default() },
                ["#" | "ℹ", "fail" | "cancelled", count] => Tally { failed: number(count), ..Tally::default() },
                ["#" | "ℹ", "skipped" | "todo", count] => Tally { skipped: number(count), ..Tally::default() },
                _ => Tally::default(),
            },
            Runner::C => match words.as_slice() {
                [.., passed, "passed,", failed, "failed"] => {
                    Tally { passed: number(passed), failed: number(failed), skipped: 0 }
                }
                _ => Tally::default(),
            },
            _ => Tally::default(),
        }
    }
}

/// The last line has a duration: `… in 3.21s` or `… in 75.10s (0:01:15)`.
fn is_summary_of_pytest(words: &[&str]) -> bool {
    let is_duration = |word: &str| word.strip_suffix('s').is_some_and(|seconds| seconds.parse::<f64>().is_ok());
    words.windows(2).any(|pair| pair[0] == "in" && is_duration(pair[1]))
}

/// Numbers that stand before their word, as in `12 passed`.
fn counts(words: &[&str], also_failed: &[&str], skipped: &[&str]) -> Tally {
    let mut tally = Tally::default();
    for pair in words.windows(2) {
        let Ok(count) = pair[0].parse::<u64>() else { continue };
        let word = pair[1].trim_end_matches([',', ';']);
        if word == "passed" {
            tally.passed += count;
        } else if word == "failed" || also_failed.contains(&word) {
            tally.failed += count;
        } else if skipped.contains(&word) {
            tally.skipped += count;
        }
    }
    tally
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{Runner, Tally};

    fn read(runner: Runner, output: &str) -> Tally {
        let mut sum = Tally::default();
        output.lines().for_each(|line| sum += runner.read(line));
        sum
    }

    fn tally(passed: u64, failed: u64, skipped: u64) -> Tally {
        Tally { passed, failed, skipped }
    }

    #[test]
    fn results_of_all_cargo_test_binaries_are_added() {
        let output = "running 2 tests\ntest a ... ok\ntest 9 passed ... ok\n\
             test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
             test result: FAILED. 10 passed; 3 failed; 1 ignored; 0 measured; 4 filtered out; finished in 1.52s\n";
        assert_eq!(read(Runner::Cargo, output), tally(12, 3, 1));
    }

    #[test]
    fn pytest_summaries_are_read_in_all_their_shapes() {
        assert_eq!(read(Runner::Pytest, "================= 40 passed in 2.10s ================="), tally(40, 0, 0));
        assert_eq!(read(Runner::Pytest, "1 failed, 2 passed, 3 skipped, 1 error in 75.10s (0:01:15)"), tally(2, 2, 3));
        assert_eq!(read(Runner::Pytest, "== 2 passed, 1 xfailed, 1 xpassed, 4 warnings in 0.5s =="), tally(2, 1, 1));
        assert_eq!(read(Runner::Pytest, "=== no tests ran in 0.01s ==="), Tally::default());
        assert_eq!(read(Runner::Pytest, "collected 12 items\ntests/test_a.py ....   [ 5 passed ]"), Tally::default());
    }

    #[test]
    fn cancelled_node_tests_have_failed() {
        let output =
            "# tests 9\n# suites 2\n# pass 5\n# fail 1\n# cancelled 2\n# skipped 1\n# todo 0\n# duration_ms 12.5";
        assert_eq!(read(Runner::Node, output), tally(5, 3, 1));
        assert_eq!(read(Runner::Node, "ℹ tests 5\nℹ pass 5\nℹ fail 0"), tally(5, 0, 0));
    }

    #[test]
    fn results_of_all_c_test_programs_are_added() {
        assert_eq!(read(Runner::C, "ok a\ntest_message: 12 passed, 1 failed\n3 passed, 0 failed\n"), tally(15, 1, 0));
    }

    #[test]
    fn prose_about_results_is_not_a_result() {
        for runner in [Runner::Cargo, Runner::Pytest, Runner::Node, Runner::C] {
            assert_eq!(
                read(runner, "all 3 failed attempts passed on\npass 3\nthe test result: 3 passed"),
                Tally::default()
            );
        }
    }
}
