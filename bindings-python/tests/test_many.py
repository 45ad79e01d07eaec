"""Handles are opened and closed by the thousand, and everything that they held is given back."""

from __future__ import annotations

import ast
from typing import Callable

import pytest

import majordomo
from scene import Script

# In each of the four spans of a measurement.
ROUNDS = {"client": 500, "forgotten_client": 250, "worker": 500, "broker": 100, "aio": 500, "several": 300}


@pytest.mark.parametrize("kind", ROUNDS)
def test_what_handles_hold_is_given_back(
    broker: majordomo.Broker, echoing: majordomo.Worker, script: Callable[..., Script], kind: str
) -> None:
    rounds = ROUNDS[kind]
    program = script("import opening, sys; opening.main(*sys.argv[1:])", kind, broker.endpoint, str(rounds))
    more = ast.literal_eval(program.line())
    assert program.end() == (0, "", "")
    # The threads and descriptors of the last handle are gone when it is closed; nothing is left for later.
    assert (more["descriptors"], more["threads"]) == (0, 0), more
    # Of memory, nothing that each handle could have left behind.
    assert more["objects"] < 50, more
    assert more["native"] < 50 * rounds, more
