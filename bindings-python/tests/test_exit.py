"""The interpreter ends with requests in flight: at once, without a crash, and with the status that it was given."""

from __future__ import annotations

import signal
from typing import Callable

import pytest

import majordomo
from scene import Script

BUSY = """
import asyncio, os, signal, sys, threading
import majordomo, majordomo.aio

endpoint = sys.argv[1]
begun = [threading.Event() for _ in range(6)]

def asking():
    with majordomo.Client(endpoint) as client:
        while client.request("echo", "x"):
            begun[0].set()

def waiting():
    begun[1].set()
    majordomo.Client(endpoint, timeout=3600).request("nobody", "")

def streaming():
    client = majordomo.Client(endpoint)
    while list(client.stream("echo", "x")):
        begun[2].set()

async def asking_at_once():
    async with majordomo.aio.Client(endpoint, timeout=3600) as client:
        lost = [asyncio.ensure_future(client.request("nobody", "")) for _ in range(100)]
        while await asyncio.gather(*(client.request("echo", "x") for _ in range(20))):
            begun[3].set()

def serving():
    majordomo.serve(endpoint, "mine", lambda request: begun[4].set() or request.body, concurrency=2)

def serving_at_once():
    async def hang(request):
        begun[5].set()
        await asyncio.get_running_loop().create_future()
    asyncio.run(majordomo.aio.serve(endpoint, "hanging", hang, concurrency=3))

def use_both():
    client = majordomo.aio.Client(endpoint)
    async def both():
        hung = asyncio.ensure_future(client.request("hanging", "", timeout=3600))
        while await client.request("mine", "x"):
            pass
    asyncio.run(both())

broker = majordomo.Broker("tcp://127.0.0.1:0")
kept = [majordomo.Client(endpoint), majordomo.Worker(endpoint, "idle"), majordomo.aio.Client(endpoint)]
waits = [asking, waiting, streaming, lambda: asyncio.run(asking_at_once()), serving, serving_at_once, use_both]
for wait in waits:
    threading.Thread(target=wait, daemon=True).start()
for event in begun:
    event.wait()
"""
ENDS = {
    "natural": ("", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "exception": ("raise RuntimeError('on purpose')", 1),
    "os._exit": ("os._exit(4)", 4),
    "os.abort": ("signal.signal(signal.SIGABRT, signal.SIG_DFL); os.abort()", -signal.SIGABRT),
    "sigterm": ("os.kill(os.getpid(), signal.SIGTERM); signal.pause()", -signal.SIGTERM),
    "sigint": ("os.kill(os.getpid(), signal.SIGINT); signal.pause()", -signal.SIGINT),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_interpreter_ends_while_daemon_threads_ask_stream_and_serve(
    broker: majordomo.Broker, echoing: majordomo.Worker, script: Callable[..., Script], end: str
) -> None:
    statement, expected = ENDS[end]
    # A race between the end and the threads, so not once only.
    scripts = [script(BUSY + statement, broker.endpoint) for _ in range(4)]
    for program in scripts:
        status, output, errors = program.end()
        assert (status, output) == (expected, ""), errors
        unexpected = [line for line in errors.splitlines() if "panic" in line or "Fatal" in line]
        assert not unexpected, errors


LOOPS = {
    "returns": ("return", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "exception": ("raise RuntimeError('on purpose')", 1),
    "os._exit": ("os._exit(4)", 4),
    "sigint": ("os.kill(os.getpid(), signal.SIGINT); await asyncio.get_running_loop().create_future()", -signal.SIGINT),
}


@pytest.mark.parametrize("end", LOOPS)
def test_an_event_loop_ends_with_requests_in_flight(
    broker: majordomo.Broker, script: Callable[..., Script], end: str
) -> None:
    statement, expected = LOOPS[end]
    program = script(
        f"""
import asyncio, os, signal, sys
import majordomo, majordomo.aio

async def main():
    begun = asyncio.Event()
    async def hang(request):
        begun.set()
        await asyncio.get_running_loop().create_future()
    client = majordomo.aio.Client(sys.argv[1], timeout=3600)
    tasks = [asyncio.ensure_future(majordomo.aio.serve(sys.argv[1], "hang", hang, concurrency=4))]
    tasks += [asyncio.ensure_future(client.request("hang", "")) for _ in range(50)]
    parts = [client.stream("nobody", "") for _ in range(50)]
    await begun.wait()
    {statement}

asyncio.run(main())
""",
        broker.endpoint,
    )
    status, output, errors = program.end()
    assert (status, output) == (expected, ""), errors


def test_what_atexit_and_destructors_ask_at_the_end_is_answered(
    broker: majordomo.Broker, echoing: majordomo.Worker, script: Callable[..., Script]
) -> None:
    program = script(
        """
import atexit, sys, majordomo
client = majordomo.Client(sys.argv[1])

class Last:
    def __del__(self):
        print(client.request("echo", "__del__")[0].decode(), flush=True)

atexit.register(lambda: print(client.request("echo", "atexit")[0].decode(), flush=True))
last = Last()
del Last
last.itself = last
""",
        broker.endpoint,
    )
    status, output, errors = program.end()
    assert (status, output, errors) == (0, "atexit\n__del__\n", "")


def test_threads_that_are_no_daemons_are_waited_for(
    broker: majordomo.Broker, echoing: majordomo.Worker, script: Callable[..., Script]
) -> None:
    program = script(
        """
import sys, threading, majordomo
def ask():
    threading.main_thread().join()
    with majordomo.Client(sys.argv[1]) as client:
        print(client.request("echo", "after the main thread")[0].decode())
threading.Thread(target=ask).start()
""",
        broker.endpoint,
    )
    status, output, errors = program.end()
    assert (status, output, errors) == (0, "after the main thread\n", "")
