"""After fork: handles from before raise Closed in the child, new ones work, and the parent's go on."""

from __future__ import annotations

from typing import Callable

import majordomo
from scene import Script

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
