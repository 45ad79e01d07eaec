//! All rules, in the order in which they are judged: those that have brought brokers down stand last.

use super::judge::{Judge, Judged};
use super::wire::Version;
use super::{dialog, heartbeats, hostile, lost, management};

/// Where a rule comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A section of the version's own specification.
    Mdp(&'static str),
    /// A section of 8/MMI.
    Mmi(&'static str),
}

impl Source {
    pub(super) fn name(self, version: &Version) -> String {
        match self {
            Source::Mdp(section) => format!("{} {section}", version.rfc),
            Source::Mmi(section) => format!("8/MMI {section}"),
        }
    }
}

/// Which versions have the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applies {
    Both,
    /// Only the version that has partial replies.
    Partials,
}

/// One rule.
pub(super) struct Rule {
    /// A word to call it by.
    pub(super) name: &'static str,
    pub(super) source: Source,
    /// The number in the list of defects that earlier brokers had, where it is one of these.
    pub(super) defect: Option<u8>,
    pub(super) applies: Applies,
    /// Whether a machine that stood still for a moment can make a broker look guilty: it is looked at again then.
    pub(super) timed: bool,
    /// How it is judged, or why it cannot be over the wire.
    pub(super) judge: Result<Check, &'static str>,
}

type Check = fn(&Judge, &'static Version) -> Judged;

const fn rule(name: &'static str, source: Source, defect: Option<u8>, judge: Check) -> Rule {
    Rule { name, source, defect, applies: Applies::Both, timed: false, judge: Ok(judge) }
}

/// A rule that stands in the list so that nobody takes it for forgotten.
const fn unjudged(name: &'static str, source: Source, defect: Option<u8>, why: &'static str) -> Rule {
    Rule { name, source, defect, applies: Applies::Both, timed: false, judge: Err(why) }
}

const fn timed(name: &'static str, source: Source, defect: Option<u8>, judge: Check) -> Rule {
    Rule { timed: true, ..rule(name, source, defect, judge) }
}

const fn of_partials(name: &'static str, source: Source, defect: Option<u8>, judge: Check) -> Rule {
    Rule { applies: Applies::Partials, ..rule(name, source, defect, judge) }
}

const CLIENT: Source = Source::Mdp("MDP/Client");
const WORKER: Source = Source::Mdp("MDP/Worker");
const TOPOLOGY: Source = Source::Mdp("Overall Topology");
const CONNECTION: Source = Source::Mdp("Opening and Closing a Connection");
const PROCESSING: Source = Source::Mdp("Request and Reply Processing");
const HEARTBEATING: Source = Source::Mdp("Heartbeating");
const RELIABILITY: Source = Source::Mdp("Reliability");
const NAMESPACE: Source = Source::Mmi("Namespace");
const SERVICES: Source = Source::Mmi("Default services");

pub(super) static RULES: &[Rule] = &[
    rule("reply-format", CLIENT, None, dialog::reply_format),
    rule("request-format", PROCESSING, None, dialog::request_format),
    rule("own-reply", CLIENT, None, dialog::own_reply),
    rule("request-waits", CLIENT, None, dialog::request_waits),
    rule("fair-clients", TOPOLOGY, None, dialog::fair_clients),
    rule("ready-unanswered", CONNECTION, None, dialog::ready_unanswered),
    rule("one-at-a-time", TOPOLOGY, None, dialog::one_at_a_time),
    timed("next-at-once", WORKER, Some(10), dialog::next_at_once),
    of_partials("partials", WORKER, None, dialog::partials),
    of_partials("partial-keeps-busy", WORKER, Some(11), dialog::partial_keeps_busy),
    rule("mmi-service", SERVICES, None, management::service),
    rule("mmi-unserved", SERVICES, Some(3), management::unserved),
    rule("mmi-dead-idle", SERVICES, Some(3), management::dead_idle),
    rule("mmi-dead-busy", SERVICES, Some(3), management::dead_busy),
    rule("mmi-unknown", SERVICES, None, management::unknown),
    timed("mmi-reserved", NAMESPACE, Some(4), management::reserved),
    timed("heartbeats", HEARTBEATING, None, heartbeats::broker_beats),
    timed("silence", HEARTBEATING, Some(2), heartbeats::silence),
    timed("any-command-beats", HEARTBEATING, Some(16), heartbeats::any_command),
    unjudged("wall-clock", HEARTBEATING, Some(12), "cannot be judged over the wire: the broker's clock cannot be set"),
    timed("request-expires", CLIENT, Some(8), lost::request_expires),
    timed("client-gone", RELIABILITY, Some(9), lost::client_gone),
    rule("reply-to-nobody", RELIABILITY, Some(13), lost::reply_to_nobody),
    rule("slow-reader", RELIABILITY, Some(13), lost::slow_reader),
    rule("worker-dies-busy", RELIABILITY, Some(1), lost::worker_dies_busy),
    rule("early-disconnect", CONNECTION, None, hostile::early_disconnect),
    rule("disconnect-obeyed", CONNECTION, None, hostile::disconnect_obeyed),
    timed("unexpected-heartbeat", CONNECTION, None, hostile::unexpected_heartbeat),
    timed("unexpected-reply", CONNECTION, None, hostile::unexpected_reply),
    rule("disconnect-is-last", CONNECTION, None, hostile::disconnect_is_last),
    rule("forged-reply", PROCESSING, Some(7), hostile::forged_reply),
    rule("unasked-reply", PROCESSING, Some(7), hostile::unasked_reply),
    rule("wrong-address", PROCESSING, Some(7), hostile::wrong_address),
    timed("second-ready", CONNECTION, Some(6), hostile::second_ready),
    rule("second-ready-busy", CONNECTION, Some(6), hostile::second_ready_busy),
    rule("disconnect-busy", CONNECTION, Some(6), hostile::disconnect_busy),
    rule("mmi-odd-question", SERVICES, Some(5), hostile::odd_question),
    rule("odd-header", CONNECTION, Some(5), hostile::odd_header),
    rule("odd-worker", CONNECTION, Some(5), hostile::odd_worker),
    rule("odd-client", CONNECTION, Some(5), hostile::odd_client),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_defect_of_brokers_has_a_rule_and_no_name_stands_twice() {
        for number in 1..=13 {
            assert!(RULES.iter().any(|rule| rule.defect == Some(number)), "defect {number}");
        }
        let names: std::collections::BTreeSet<_> = RULES.iter().map(|rule| rule.name).collect();
        assert_eq!(names.len(), RULES.len());
    }

    #[test]
    fn all_rules_but_that_of_the_clock_are_judged() {
        let unjudged: Vec<_> = RULES.iter().filter(|rule| rule.judge.is_err()).map(|rule| rule.name).collect();
        assert_eq!((unjudged, RULES.len()), (vec!["wall-clock"], 40));
    }
}
