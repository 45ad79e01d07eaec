"""That `python -m chaos` sees what must not be: each of its findings, from made-up outcomes."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from agent_process import body_fields

from chaos.ledger import AFTERMATH_SECONDS, RUN_LOST, Ledger, body_of
from chaos.report import percentile


def begun(once: bool = False) -> tuple[Ledger, int]:
    ledger = Ledger()
    ledger.begin("another client", once=False)
    return ledger, ledger.begin("client", once)


def test_the_echo_of_a_request_is_its_answer_and_nothing_else_is() -> None:
    ledger, number = begun()
    ledger.answered(number, body_fields(body_of(number)))
    assert not ledger.findings
    right = body_of(number)
    for wrong in (body_of(number - 1), right[:2], right[::-1], [right[0], right[1] + b"!", right[2]], []):
        ledger, number = begun()
        ledger.answered(number, body_fields(wrong))
        assert dict(ledger.findings) == {"wrong": 1}


def test_a_second_run_is_found_where_there_may_be_one_only() -> None:
    for once in (False, True):
        ledger, number = begun(once)
        for worker in ("one worker", "another worker"):
            ledger.ran(number, worker)
        assert dict(ledger.findings) == ({"doubled": 1} if once else {})
        assert ledger.ran_again() == 1


@pytest.mark.parametrize("number", [None, -1, 2])
def test_a_run_of_a_request_that_nobody_made_is_found(number: int | None) -> None:
    ledger, _ = begun()
    ledger.ran(number, "worker")
    assert dict(ledger.findings) == {"wrong": 1}


def test_an_error_is_a_loss_unless_it_says_of_the_one_run_that_it_was_lost_or_descriptors_were_out() -> None:
    for once, kind, starved in ((False, "Timeout", False), (False, RUN_LOST, False), (True, "Timeout", False)):
        ledger, number = begun(once)
        ledger.failed(number, kind, "text", starved)
        assert dict(ledger.findings) == {"lost": 1}
    for once, kind, starved in ((True, RUN_LOST, False), (False, "BrokerUnreachable", True)):
        ledger, number = begun(once)
        ledger.ran(number, "worker")
        ledger.failed(number, kind, "text", starved)
        assert not ledger.findings


@pytest.mark.parametrize("when", ["never", "before", "during", "since"])
def test_a_run_that_nobody_has_told_of_can_be_lost_only_where_something_was_done_to_somebody(when: str) -> None:
    ledger, number = begun(once=True)
    if when == "before":
        ledger.calm_since = ledger.open[number].begun - AFTERMATH_SECONDS
    if when == "since":
        with ledger.disturbance():
            pass
    with ledger.disturbance() if when == "during" else nullcontext():
        ledger.failed(number, RUN_LOST, "text", starved=False)
    assert dict(ledger.findings) == ({"lost": 1} if when in ("never", "before") else {})


def test_a_request_without_an_outcome_hangs_unless_its_client_is_dead() -> None:
    ledger, number = begun()
    ledger.died(number)
    for _ in range(2):
        ledger.give_up([number - 1, number])
        assert dict(ledger.findings) == {"hung": 1}


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(value) for value in range(20, 0, -1)]
    assert [percentile(values, share) for share in (0.5, 0.95, 1)] == [10, 19, 20]
    assert percentile([7.0], 0.5) == 7
