"""What the documentation shows runs, and the stubs say what is there."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import majordomo
from majordomo import _serve, aio

PROJECT = Path(__file__).parent.parent
README = (PROJECT / "README.md").read_text()
# The programs behind "run:" need a broker: `cargo xtask test readme` runs them.
SNIPPETS = re.findall(r"(?<!-->\n)```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("module", [majordomo, aio, _serve], ids=lambda module: module.__name__)
def test_examples_in_docstrings_give_what_they_say(module: ModuleType) -> None:
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0


def test_examples_of_compiled_classes_give_what_they_say() -> None:
    tests = doctest.DocTestFinder().find(majordomo.Message, "Message")
    results = [doctest.DocTestRunner().run(test) for test in tests]
    assert sum(result.attempted for result in results) > 0
    assert sum(result.failed for result in results) == 0


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippets_of_the_readme_print_what_they_say(snippet: str) -> None:
    run = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == re.findall(r"print\(.*\)  # (.*)", snippet)


def test_the_types_are_strict() -> None:
    run = subprocess.run([sys.executable, "-m", "mypy"], cwd=PROJECT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_stubs_say_what_is_there() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "majordomo", "--mypy-config-file", "pyproject.toml"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
