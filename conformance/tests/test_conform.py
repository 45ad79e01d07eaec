"""`mdctl conform` on a stranger's broker that follows the Guide's habits: it finds what is wrong there."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from broker_process import GUIDE_BROKER, TARGET, BrokerCommand, BrokerProcess

pytestmark = pytest.mark.ours

TIMES = {"heartbeat_ms": 250, "liveness": 3}
OPTIONS = ["--heartbeat-ms=250", "--liveness=3", "--request-ttl-ms=300", "--timeout-ms=1500", "--json"]

# What brokers of the Guide do wrong without dying of it.
WRONG = {
    "client-gone",
    "fair-clients",
    "forged-reply",
    "mmi-dead-busy",
    "mmi-reserved",
    "request-expires",
    "silence",
    "slow-reader",
    "unasked-reply",
    "worker-dies-busy",
    "wrong-address",
}
# What they die of.
DEADLY = ["second-ready-busy", "disconnect-busy", "odd-worker", "odd-client"]
RIGHT = {"reply-format", "request-format", "own-reply", "one-at-a-time", "next-at-once", "heartbeats", "mmi-unknown"}


def conform(protocol: str, *more: str) -> tuple[int, dict[str, Any]]:
    command = BrokerCommand(f"{GUIDE_BROKER} --protocol {protocol}")
    with BrokerProcess(command, **TIMES) as guide:
        arguments = [str(TARGET / "mdctl"), "conform", guide.endpoint, *OPTIONS, f"--protocol={protocol}", *more]
        run = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert run.stdout, run.stderr
    return run.returncode, json.loads(run.stdout)


def names(report: dict[str, Any], verdict: str) -> set[str]:
    return {rule["rule"] for rule in report["rules"] if rule["verdict"] == verdict}


def test_it_finds_what_a_broker_of_the_guide_does_wrong_and_nothing_else(protocol: str) -> None:
    wrong = WRONG | ({"partial-keeps-busy"} if protocol == "0.2" else set())
    more = [f"--rule={name}" for name in sorted(wrong | RIGHT)]
    status, report = conform(protocol, *more)
    assert status == 1
    assert (names(report, "fail"), names(report, "pass")) == (wrong, RIGHT)


@pytest.mark.parametrize("rule", DEADLY)
def test_a_broker_that_dies_of_a_rule_has_broken_it(protocol: str, rule: str) -> None:
    status, report = conform(protocol, f"--rule={rule}", "--rule=odd-client")
    assert (status, names(report, "fail")) == (1, {rule})
    assert names(report, "skip") == {"odd-client"} - {rule}, "what comes after it cannot be judged"
