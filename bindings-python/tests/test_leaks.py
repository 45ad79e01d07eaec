"""Requests, failures, cancellations and streams leave nothing behind.

MAJORDOMO_LEAK_REQUESTS says how many requests are made with each face: 10,000 if it is not set.
"""

from __future__ import annotations

import ast
import os
from typing import Callable

import pytest

from scene import Script

REQUESTS = os.environ.get("MAJORDOMO_LEAK_REQUESTS", "10000")

LIMITS = {
    "threads": 1,
    # There may be fewer, where connections were on their way out.
    "descriptors": 1,
    # Far below what one object, or a few bytes, for each of some thousand requests come to.
    "objects": 15,
    "traced": 10_000,
    "native": 50_000,
}
"""What more is too much."""


@pytest.mark.parametrize("face", ["blocking", "asyncio"])
def test_nothing_of_a_request_is_left_behind(script: Callable[..., Script], face: str) -> None:
    program = script("import leaks, sys; leaks.main(*sys.argv[1:])", face, REQUESTS)
    more = ast.literal_eval(program.line())
    assert program.end() == (0, "", "")
    print(more)  # shown by pytest -s, and when the test fails
    assert more["kept"] == "[]"
    too_much = {name: more[name] for name, limit in LIMITS.items() if more[name] >= limit}
    assert too_much == {}
