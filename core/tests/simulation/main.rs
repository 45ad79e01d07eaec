//! One broker, many workers and many clients over a network that delays, loses connections, cuts them silently and lets old
//! ones linger, in virtual time. Every run is a function of its seed; a failing seed is printed and can be run alone:
//! `SIMULATION_SEED=17 cargo test --test simulation`. `SIMULATION_SEEDS=100000` runs more of them.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod clients;
mod ledger;
mod network;
mod promises;
mod sessions;
mod world;

use world::{Faults, World};

/// Seeds of the ordinary run of each test.
const SEEDS: u64 = 400;

fn seeds() -> Box<dyn Iterator<Item = u64>> {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse().expect("a number"));
    match number("SIMULATION_SEED") {
        Some(seed) => Box::new(std::iter::once(seed)),
        None => Box::new(0..number("SIMULATION_SEEDS").unwrap_or(SEEDS)),
    }
}

fn run(name: &str, faults: Faults, check: impl Fn(&World)) {
    let mut answered = 0;
    for seed in seeds() {
        // The seed is printed before whatever goes wrong with it; the harness shows the output of failing tests only.
        println!("{name}: SIMULATION_SEED={seed}");
        let mut world = World::new(seed, faults);
        world.run();
        world.check_promises();
        check(&world);
        world.wind_up();
        answered += world.answered();
    }
    assert!(answered > 0, "no seed had a single request answered");
}

#[test]
fn without_faults_every_request_is_answered_and_runs_once() {
    run("calm", Faults::none(), |world| {
        assert_eq!(world.answered(), world.asked(), "every request is answered");
        assert_eq!(world.most_runs_of_one_request(), 1, "no request runs twice");
    });
}

#[test]
fn workers_that_die_idle_or_busy_cost_no_request_while_others_live() {
    run("dying workers", Faults { kill_workers: true, ..Faults::none() }, |world| {
        world.check_all_answered();
        world.check_nobody_asked_twice();
    });
}

#[test]
fn silent_cuts_and_a_lossy_network_never_give_two_outcomes_or_a_wrong_answer() {
    run(
        "cuts",
        Faults { kill_workers: true, cut: true, silent_cut: true, slow_handlers: true, ..Faults::none() },
        |_| {},
    );
}

#[test]
fn a_broker_that_dies_and_comes_back_finds_everybody_again() {
    run("broker restarts", Faults { restart_broker: true, ..Faults::none() }, |world| {
        world.check_all_answered();
        world.check_reruns();
    });
}

#[test]
fn everything_at_once_keeps_every_promise_and_leaves_nothing_behind() {
    run("everything", Faults::all(), |_| {});
}

#[test]
fn requests_that_must_not_run_twice_do_not() {
    run("once", Faults { once: true, ..Faults::all() }, |world| {
        assert!(world.most_runs_of_one_request() <= 1, "max_attempts = 1 and retries = 1 mean one run at most");
    });
}

#[test]
fn connections_that_are_cut_and_noticed_late_on_either_side_cost_no_request() {
    run("late notice", Faults { cut: true, ..Faults::none() }, |world| {
        world.check_all_answered();
    });
}

#[test]
fn callers_who_give_up_or_have_no_time_get_one_outcome_and_leave_nothing_behind() {
    run("impatient", Faults { impatient: true, ..Faults::none() }, |_| {});
}

#[test]
fn workers_that_drain_lose_nothing_and_let_nothing_run_twice() {
    run("drain", Faults { drain: true, ..Faults::none() }, |world| {
        world.check_all_answered();
        assert_eq!(world.answered(), world.asked(), "every request is answered");
        assert_eq!(world.most_runs_of_one_request(), 1, "no request runs twice");
    });
}
