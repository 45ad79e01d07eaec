"""After fork: handles from before raise Closed in the child, new ones work, and the parent's go on."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from typing import Callable

import pytest

import majordomo
from scene import PATIENCE, Script, serving, until

PROGRAM = """
import asyncio, os, sys, warnings
import majordomo, majordomo.aio
warnings.simplefilter("ignore")  # newer Pythons warn of fork() in a process with threads

endpoint = sys.argv[1]
client, worker = majordomo.Client(endpoint), majordomo.Worker(endpoint, "parent")
async_client, broker = majordomo.aio.Client(endpoint), majordomo.Broker("tcp://127.0.0.1:0")

async def ask(client):
    return await client.request("echo", "hi")

assert client.request("echo", "hi") == [b"hi"]
assert asyncio.run(ask(async_client)) == [b"hi"]
child = os.fork()
if child == 0:
    status = 1
    try:
        waits = {
            "client": lambda: client.request("echo", b""),
            "stream": lambda: list(client.stream("echo", b"")),
            "worker": worker.recv,
            "iteration": lambda: next(worker),
            "async client": lambda: asyncio.run(ask(async_client)),
            "broker": broker.stats,
        }
        for name, wait in waits.items():
            try:
                wait()
            except majordomo.Closed:
                continue
            print(name, "did not raise Closed", flush=True)
            raise SystemExit
        with majordomo.Client(endpoint) as fresh:
            assert fresh.request("echo", "child") == [b"child"]
        assert asyncio.run(ask(majordomo.aio.Client(endpoint))) == [b"hi"]
        with majordomo.Broker("tcp://127.0.0.1:0") as fresh:
            assert fresh.stats()
        del client, worker, async_client, broker, fresh
        print("child is well", flush=True)
        status = 0
    finally:
        os._exit(status)
assert os.waitpid(child, 0)[1] == 0
assert client.request("echo", "parent") == [b"parent"]
assert asyncio.run(ask(async_client)) == [b"hi"]
assert broker.stats()
print("parent is well")
"""


def test_a_child_gets_closed_from_old_handles_and_answers_from_new_ones(
    broker: majordomo.Broker, echoing: majordomo.Worker, script: Callable[..., Script]
) -> None:
    status, output, errors = script(PROGRAM, broker.endpoint).end()
    assert (status, output) == (0, "child is well\nparent is well\n"), errors


def test_multiprocessing_children_make_their_own_handles(
    broker: majordomo.Broker, echoing: majordomo.Worker, script: Callable[..., Script]
) -> None:
    program = script(
        """
import multiprocessing, sys, warnings, majordomo
warnings.simplefilter("ignore")
def ask(text):
    with majordomo.Client(sys.argv[1]) as client:
        return client.request("echo", text)
with majordomo.Client(sys.argv[1]) as client:
    client.request("echo", "")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(pool.map(ask, ["a", "b", "c"]))
""",
        broker.endpoint,
    )
    status, output, errors = program.end()
    assert (status, output) == (0, "[Message([b'a']), Message([b'b']), Message([b'c'])]\n"), errors


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_children_of_every_start_method_take_all_roles_whether_made_before_or_after_the_parents_handles(
    broker: majordomo.Broker, echoing: majordomo.Worker, script: Callable[..., Script], method: str
) -> None:
    program = script("import starts, sys; starts.children(*sys.argv[1:])", method, broker.endpoint)
    status, output, errors = program.end()
    assert (status, output, errors) == (0, "", "")


def test_the_children_of_a_prefork_server_serve_with_handles_of_their_own(
    broker: majordomo.Broker, echoing: majordomo.Worker, script: Callable[..., Script]
) -> None:
    program = script("import starts, sys; starts.prefork(*sys.argv[1:])", broker.endpoint, "4")
    children = set(program.line().split())
    assert len(children) == 4
    with majordomo.Client(broker.endpoint, timeout=PATIENCE) as client:
        answers: set[str] = set()

        def all_have_answered() -> bool:
            answers.add(client.request("prefork", "")[0].decode())
            return answers == children

        # Idle workers take turns, so each of them answers sooner or later.
        until(all_have_answered)
    program.say("end")
    status, output, errors = program.end()
    assert (status, output, errors) == (0, "0 0 0 0\n", "")


def test_forks_while_requests_are_in_flight_leave_children_that_work_and_end(
    broker: majordomo.Broker, echoing: majordomo.Worker, script: Callable[..., Script]
) -> None:
    program = script("import starts, sys; starts.forks(*sys.argv[1:])", broker.endpoint, "20")
    status, output, errors = program.end()
    assert (status, output, errors) == (0, "parent is well\n", "")


def test_a_fork_in_a_handler_a_stream_or_an_event_loop_ends_that_in_the_child_only(
    broker: majordomo.Broker, echoing: majordomo.Worker, script: Callable[..., Script]
) -> None:
    def parts(_: majordomo.Request) -> Iterator[str]:
        yield from "012"

    with serving(broker.endpoint, "parts", parts):
        program = script("import starts, sys; starts.forks_inside(*sys.argv[1:])", broker.endpoint)
        status, output, errors = program.end()
    assert (status, output, errors) == (0, "all is well\n", "")


LISTING = """
import os
for fd in map(int, os.listdir("/proc/self/fd")):
    try:
        if fd > 2 and "/proc/" not in os.readlink(f"/proc/self/fd/{fd}"):
            print(os.readlink(f"/proc/self/fd/{fd}"))
    except FileNotFoundError:
        pass  # what the listing itself was read by
"""


def test_nothing_of_a_process_is_inherited_by_what_it_executes(
    broker: majordomo.Broker, echoing: majordomo.Worker, script: Callable[..., Script]
) -> None:
    program = script(
        """
import os, starts, subprocess, sys
starts.make_handles(sys.argv[1])
list_descriptors = [sys.executable, "-c", sys.argv[2]]
subprocess.run(list_descriptors, close_fds=False, check=True)
if os.fork() == 0:
    os.execv(sys.executable, list_descriptors)
assert os.wait()[1] == 0
""",
        broker.endpoint,
        LISTING,
    )
    status, output, errors = program.end()
    assert (status, output, errors) == (0, "", "")
