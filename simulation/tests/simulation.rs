//! Thousands of worlds for each of some mixes of faults, and of the mixes that seeds choose themselves. A failing seed is
//! printed with a short script that fails the same way; `cargo xtask simulate --script FILE` runs that again.
//! `SIMULATION_SEED=17` runs one seed, `SIMULATION_SEEDS=100000` more of them.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

use std::cell::Cell;

use simulation::plan::{self, Mix};
use simulation::script::Script;
use simulation::{Failure, Report, shrink};

/// Seeds of the ordinary run of each test.
const SEEDS: u64 = 1_000;

fn seeds(many: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse().expect("a number"));
    match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_SEEDS").unwrap_or(many),
    }
}

fn run(mix: Mix, check: impl Fn(&Report) -> bool) {
    run_with(SEEDS, |_| mix, simulation::run, check);
}

fn run_with(
    many: u64,
    mix: impl Fn(u64) -> Mix,
    live: fn(&Script) -> Result<Report, Failure>,
    check: impl Fn(&Report) -> bool,
) {
    let judged = |script: &Script| {
        let report = live(script)?;
        let detail = || format!("{report:?}");
        check(&report).then_some(report).ok_or_else(|| Failure { promise: "what the test says", detail: detail() })
    };
    let mut answered = 0;
    for seed in seeds(many) {
        let script = plan::script(seed, mix(seed));
        match judged(&script) {
            Ok(report) => answered += report.answered,
            Err(failure) => {
                let short = shrink::shrink(&script, &failure, judged).to_text();
                panic!("SIMULATION_SEED={seed}: {}: {}\n{short}", failure.promise, failure.detail);
            }
        }
    }
    assert!(answered > 0, "no seed had a single request answered");
}

/// Every request was answered, but for streams that broke.
fn all_answered(report: &Report) -> bool {
    report.answered + report.broken == report.asked
}

#[test]
fn without_faults_every_request_is_answered_and_runs_once() {
    run(Mix::default(), |report| report.answered == report.asked && report.most_runs <= 1);
}

#[test]
fn workers_that_die_idle_or_busy_cost_no_request_while_others_live() {
    run(Mix { restart_workers: true, ..Mix::default() }, |report| {
        // The broker itself hands a lost worker's request on: clients ask again only for streams that broke.
        let once = report.accepted + report.questions + report.broken as u64 == report.asked as u64 + report.exhausted;
        all_answered(report) && once
    });
}

#[test]
fn silent_cuts_and_stalls_never_give_two_outcomes_or_a_wrong_answer() {
    let mix = Mix { restart_workers: true, cut: true, silence: true, stall: true, slow: true, ..Mix::default() };
    run(mix, |_| true);
}

#[test]
fn a_broker_that_dies_and_comes_back_finds_everybody_again() {
    run(Mix { restart_broker: true, ..Mix::default() }, |report| all_answered(report) && report.reran_for_broker);
}

#[test]
fn clients_that_die_leave_nothing_behind() {
    run(Mix { restart_clients: true, ..Mix::default() }, |report| {
        report.answered + report.as_asked == report.asked && report.most_runs <= 1
    });
}

#[test]
fn everything_at_once_keeps_every_promise_and_leaves_nothing_behind() {
    run(Mix::all(), |_| true);
}

#[test]
fn requests_that_must_not_run_twice_do_not() {
    run(Mix { once: true, ..Mix::all() }, |report| report.most_runs <= 1);
}

#[test]
fn without_faults_every_request_that_must_not_run_twice_is_answered() {
    run(Mix { once: true, ..Mix::default() }, |report| report.answered == report.asked && report.most_runs <= 1);
}

#[test]
fn a_request_whose_permitted_attempts_were_all_lost_fails_and_no_other_does() {
    let failed = Cell::new(0);
    run(Mix { few: true, slow: true, restart_workers: true, ..Mix::default() }, |report| {
        failed.set(failed.get() + report.failed);
        report.answered + report.broken + report.failed == report.asked && report.failed as u64 <= report.exhausted
    });
    assert!(failed.get() > 0, "no seed had a request whose attempts were all lost");
}

#[test]
fn a_broker_that_ends_in_good_order_tells_everybody_and_finds_them_again() {
    run(Mix { end_broker: true, ..Mix::default() }, |report| all_answered(report) && report.reran_for_broker);
}

#[test]
fn connections_that_are_cut_and_noticed_late_on_either_side_cost_no_request() {
    run(Mix { cut: true, ..Mix::default() }, all_answered);
}

#[test]
fn callers_who_give_up_or_have_no_time_get_one_outcome_and_leave_nothing_behind() {
    run(Mix { impatient: true, ..Mix::default() }, |_| true);
}

#[test]
fn workers_that_drain_lose_nothing_and_let_nothing_run_twice() {
    run(Mix { drain: true, ..Mix::default() }, |report| report.answered == report.asked && report.most_runs <= 1);
}

#[test]
fn a_broker_at_its_limits_refuses_and_loses_nothing_that_was_taken_in() {
    run(Mix { tight: true, restart_workers: true, ..Mix::default() }, |_| true);
}

#[test]
fn hosts_whose_clocks_began_to_count_at_other_moments_say_the_same() {
    run_with(SEEDS, Mix::of, simulation::run_by_other_clocks, |_| true);
}

#[test]
fn each_seed_of_many_keeps_every_promise_under_faults_of_its_own() {
    run_with(20 * SEEDS, Mix::of, simulation::run, |_| true);
}

#[test]
fn a_script_is_read_as_it_was_written() {
    for seed in seeds(SEEDS) {
        let script = plan::script(seed, Mix::of(seed));
        assert_eq!(Script::from_text(&script.to_text()), Ok(script), "SIMULATION_SEED={seed}");
    }
    assert!(Script::from_text("{}").is_err());
}
