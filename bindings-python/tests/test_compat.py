"""Programs in the style of the Guide's Python examples, with their import changed."""

from __future__ import annotations

from typing import Any, Callable

import pytest

import majordomo
from majordomo.compat import mdcliapi, mdcliapi2, mdwrkapi
from scene import PATIENCE, Script, in_thread


def echo_worker(worker: mdwrkapi.MajorDomoWorker, requests: int) -> None:
    reply = None
    for _ in range(requests):
        reply = worker.recv(reply)
    try:
        worker.recv(reply)
    except majordomo.Closed:
        return


@pytest.fixture
def worker(broker: majordomo.Broker) -> Any:
    worker = mdwrkapi.MajorDomoWorker(broker.endpoint, b"echo", False)
    yield worker
    worker.destroy()


def test_the_guides_client_and_worker_meet(broker: majordomo.Broker, worker: mdwrkapi.MajorDomoWorker) -> None:
    in_thread(lambda: echo_worker(worker, 100))
    client = mdcliapi.MajorDomoClient(broker.endpoint, False)
    for _ in range(50):
        assert client.send(b"echo", b"Hello world") == [b"Hello world"]
        assert client.send("echo", [b"Hello", b"world"]) == [b"Hello", b"world"]
    client.destroy()


def test_no_reply_is_none(broker: majordomo.Broker) -> None:
    client = mdcliapi.MajorDomoClient(broker.endpoint)
    assert (client.timeout, client.retries) == (2500, 3)
    client.timeout, client.retries = 50, 1
    assert client.send(b"nobody", b"") is None
    client.timeout = PATIENCE * 1000
    assert client.send(b"mmi.service", b"nobody") == [b"404"]


def test_the_asynchronous_client_sends_first_and_receives_later(
    broker: majordomo.Broker, worker: mdwrkapi.MajorDomoWorker
) -> None:
    in_thread(lambda: echo_worker(worker, 1000))
    client = mdcliapi2.MajorDomoClient(broker.endpoint)
    client.timeout = PATIENCE * 1000
    for number in range(1000):
        client.send(b"echo", str(number).encode())
    replies = [client.recv() for _ in range(1000)]
    assert sorted(replies, key=str) == sorted([[str(number).encode()] for number in range(1000)], key=str)
    client.timeout = 10
    assert client.recv() is None
    client.destroy()


def test_a_failure_that_is_no_silence_is_raised(broker: majordomo.Broker) -> None:
    with pytest.raises(majordomo.InvalidArgument):
        mdcliapi.MajorDomoClient(broker.endpoint).send(b"\xff", b"")
    client = mdcliapi2.MajorDomoClient(broker.endpoint)
    client.timeout = PATIENCE * 1000
    client.send("", b"")
    with pytest.raises(majordomo.InvalidArgument):
        client.recv()


def test_a_worker_with_other_heartbeats_serves(broker: majordomo.Broker, worker: mdwrkapi.MajorDomoWorker) -> None:
    worker.heartbeat, worker.reconnect = 100, 200
    assert (worker.heartbeat, worker.reconnect) == (100, 200)
    in_thread(lambda: echo_worker(worker, 1))
    assert mdcliapi.MajorDomoClient(broker.endpoint).send(b"echo", b"hi") == [b"hi"]


@pytest.mark.parametrize(
    "wait",
    [
        "mdcliapi.MajorDomoClient(endpoint).send(b'nobody', b'')",
        "mdcliapi2.MajorDomoClient(endpoint).recv()",
        "mdwrkapi.MajorDomoWorker(endpoint, b'idle').recv()",
    ],
)
def test_ctrl_c_gives_none(broker: majordomo.Broker, script: Callable[..., Script], wait: str) -> None:
    program = script(
        f"""
import os, signal, sys
from majordomo.compat import mdcliapi, mdcliapi2, mdwrkapi
mdcliapi.MajorDomoClient.timeout = mdcliapi2.MajorDomoClient.timeout = 3_600_000
endpoint, last = sys.argv[1], None

def look(number, frame):
    # The same line of the call as the last time: it waits.
    global last
    here = (frame.f_code, frame.f_lineno)
    if here == last and frame.f_code.co_name in ("send", "recv", "_next"):
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.kill(os.getpid(), signal.SIGINT)
    last = here

signal.signal(signal.SIGALRM, look)
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
print({wait})
""",
        broker.endpoint,
    )
    status, output, errors = program.end()
    assert (status, output) == (0, "None\n"), errors
