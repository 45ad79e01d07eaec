"""Ctrl-C ends whatever blocks."""

from __future__ import annotations

import signal
from typing import Callable

import pytest
import zmq

import majordomo
from raw import RawBroker, socket
from scene import PATIENCE, Script, in_thread, until

WAITS = {
    "a request": "majordomo.Client(endpoint, timeout=3600).request('nobody', b'')",
    "a stream": "next(majordomo.Client(endpoint, timeout=3600).stream('nobody', b''))",
    "a stream between its parts": "list(majordomo.Client(endpoint, timeout=3600).stream('stuck', b''))",
    "a client that another thread uses": "asked_by_another_thread().request('nobody', b'')",
    "a reply and recv": "answering().recv(b'reply')",
    "recv": "majordomo.Worker(endpoint, 'idle').recv()",
    "recv with a timeout": "majordomo.Worker(endpoint, 'idle').recv(timeout=3600)",
    "a drain": "answering(drain_timeout=3600, on_event=tell_of_draining).drain()",
    "iteration": "next(majordomo.Worker(endpoint, 'idle'))",
    "serve": "majordomo.serve(endpoint, 'idle', lambda request: request.body)",
    "serve on several threads": "majordomo.serve(endpoint, 'idle', lambda request: request.body, concurrency=3)",
    "a broker": "started().wait()",
    "a decorated service": "majordomo.service('idle')(lambda request: request.body).serve(endpoint)",
    "asyncio": "asyncio.run(majordomo.aio.serve(endpoint, 'idle', lambda request: request.body))",
    "a request of asyncio": "asyncio.run(ask_at_once())",
    "a stream of asyncio": "asyncio.run(stream_at_once())",
}
THREADS = ["the process", "another thread"]
PROGRAM = """
import asyncio, signal, sys, threading
import majordomo, majordomo.aio

endpoint, kept = sys.argv[1], []
def interrupt_from_another_thread():
    if sys.stdin.readline():
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

def asked_by_another_thread():
    client = majordomo.Client(endpoint, timeout=3600)
    threading.Thread(target=client.request, args=["nobody", b""], daemon=True).start()
    return client

def tell_of_draining(event):
    if event.name == "draining":
        print("draining", flush=True)

def answering(**options):
    worker = majordomo.Worker(endpoint, "busy", **options)
    client = majordomo.Client(endpoint, timeout=3600)
    threading.Thread(target=client.request, args=["busy", b""], daemon=True).start()
    kept.append(worker.recv())
    return worker

def started():
    broker = majordomo.Broker("tcp://127.0.0.1:0")
    print("started", flush=True)
    return broker

async def ask_at_once():
    await majordomo.aio.Client(endpoint, timeout=3600).request("nobody", b"")

async def stream_at_once():
    async for part in majordomo.aio.Client(endpoint, timeout=3600).stream("nobody", b""):
        pass

threading.Thread(target=interrupt_from_another_thread, daemon=True).start()
try:
    print("waiting", flush=True)
    {wait}
except KeyboardInterrupt:
    print("interrupted")
"""


# asyncio waits in a select() of its own, which does not look for signals that another thread got.
CASES = [(wait, thread) for wait in WAITS for thread in THREADS if "asyncio" not in wait or thread == "the process"]


@pytest.mark.parametrize(("wait", "thread"), CASES)
def test_ctrl_c_ends(broker: majordomo.Broker, script: Callable[..., Script], wait: str, thread: str) -> None:
    with majordomo.Worker(broker.endpoint, "stuck") as stuck:
        until(lambda: broker.stats()["workers"] == 1)
        program = script(PROGRAM.format(wait=WAITS[wait]), broker.endpoint)
        assert program.line() == "waiting"
        if wait == "a stream between its parts":
            request = stuck.recv(timeout=PATIENCE)
            assert request is not None
            request.partial(b"the only one")
        elif wait == "a drain":
            assert program.line() == "draining"
        elif wait == "a broker":
            assert program.line() == "started"
        else:
            # Its request or its registration has arrived: now it waits for us.
            until(lambda: broker.stats()["queued"] + broker.stats()["workers"] > 1)
        if thread == "the process":
            program.process.send_signal(signal.SIGINT)
        else:
            program.say("")
        status, output, errors = program.end()
        assert (status, output) == (0, "interrupted\n"), errors


def test_ctrl_c_ends_a_part_that_waits_for_room(script: Callable[..., Script]) -> None:
    with socket(zmq.ROUTER) as router:
        router.rcvhwm = 1
        broker = RawBroker(router)
        program = script(
            """
import os, signal, sys, majordomo
begun, seen = 0, []
def look(*_):
    # The same part as the last time: it waits.
    if begun in seen:
        os.kill(os.getpid(), signal.SIGINT)
    seen.append(begun)

worker = majordomo.Worker(sys.argv[1], "stream", protocol="0.2", heartbeat=60)
request = worker.recv()
signal.signal(signal.SIGALRM, look)
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
try:
    while True:
        begun += 1
        request.partial(bytes(65536))
except KeyboardInterrupt:
    signal.setitimer(signal.ITIMER_REAL, 0)
    print("interrupted", begun)
request.reply(b"")
""",
            broker.endpoint,
        )
        worker, *ready = broker.receive()
        assert ready == [b"MDPW02", b"\x01", b"stream"]
        broker.send(worker, b"MDPW02", b"\x02", b"client", b"", b"body")
        word, begun = program.line().split()
        assert word == "interrupted"
        # All parts go out, and the request could still be answered.
        parts = 0
        while (message := broker.receive()) == [worker, b"MDPW02", b"\x03", b"client", b"", bytes(65536)]:
            parts += 1
        assert message == [worker, b"MDPW02", b"\x04", b"client", b"", b""]
        assert parts in (int(begun), int(begun) - 1)
        status, _, errors = program.end()
        assert (status, errors) == (0, "")


def test_ctrl_c_in_an_event_listener_ends_the_call_that_tells_it(
    broker: majordomo.Broker, script: Callable[..., Script]
) -> None:
    program = script(
        """
import os, signal, sys, majordomo
def listener(event):
    os.kill(os.getpid(), signal.SIGINT)
try:
    majordomo.Client(sys.argv[1], timeout=3600, on_event=listener).request("nobody", b"")
except KeyboardInterrupt:
    print("interrupted")
""",
        broker.endpoint,
    )
    status, output, errors = program.end()
    assert (status, output, errors) == (0, "interrupted\n", "")


def test_a_signal_handler_that_does_not_raise_lets_the_call_go_on(
    broker: majordomo.Broker, script: Callable[..., Script]
) -> None:
    program = script(
        """
import os, signal, sys, majordomo
# Not by print: the next signal may come while its buffer is in use.
signal.signal(signal.SIGUSR1, lambda *_: os.write(1, b"signal\\n"))
client = majordomo.Client(sys.argv[1], timeout=3600)
print("waiting", flush=True)
print(client.request("late", b"body")[0].decode())
""",
        broker.endpoint,
    )
    assert program.line() == "waiting"
    with majordomo.Worker(broker.endpoint, "late") as worker:
        request = worker.recv(timeout=PATIENCE)
        assert request is not None
        for _ in range(3):
            program.process.send_signal(signal.SIGUSR1)
            assert program.line() == "signal"
        request.reply(b"answer")
        assert program.end()[:2] == (0, "answer\n")


def test_the_request_of_an_interrupted_handler_goes_to_another_worker(
    broker: majordomo.Broker, client: majordomo.Client, script: Callable[..., Script]
) -> None:
    program = script(
        """
import sys, threading, majordomo
def hang(request):
    print("holding", flush=True)
    threading.Event().wait()
majordomo.serve(sys.argv[1], "work", hang)
""",
        broker.endpoint,
    )
    wait = in_thread(lambda: client.request("work", b"body"))
    assert program.line() == "holding"
    program.process.send_signal(signal.SIGINT)
    with majordomo.Worker(broker.endpoint, "work") as worker:
        request = worker.recv(timeout=PATIENCE)
        assert request is not None
        request.reply(b"answered by another")
        assert wait() == [b"answered by another"]
    assert "KeyboardInterrupt" in program.end()[2]


def test_the_interpreter_ends_while_daemon_threads_wait(
    broker: majordomo.Broker, script: Callable[..., Script]
) -> None:
    program = script(
        """
import sys, threading, majordomo
worker = majordomo.Worker(sys.argv[1], "idle")
client = majordomo.Client(sys.argv[1], timeout=3600)
for wait in (worker.recv, lambda: client.request("nobody", b"")):
    threading.Thread(target=wait, daemon=True).start()
print(client.__class__.__name__, flush=True)
""",
        broker.endpoint,
    )
    status, output, errors = program.end()
    assert (status, output, errors) == (0, "Client\n", "")
