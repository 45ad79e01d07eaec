"""Programs of several processes, for test_fork.py: a module, since `spawn` and `forkserver` import what they run."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.queues import SimpleQueue
from typing import Any, Callable

import majordomo
import majordomo.aio

warnings.simplefilter("ignore")  # newer Pythons warn of fork() in a process with threads

PATIENCE = 60.0
"""Seconds after which a program that hangs is given up."""

early: list[Any] = []
"""Handles that were made before; a child of `fork` has them, too."""


def closed(call: Callable[[], Any]) -> bool:
    """Whether a call of a handle from before says so."""
    try:
        call()
    except majordomo.Closed:
        return True
    return False


async def ask(client: majordomo.aio.Client, service: str, body: str) -> bytes:
    return (await client.request(service, body, timeout=PATIENCE))[0]


def status_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def make_handles(endpoint: str) -> None:
    """Make one of each, and use it."""
    client, async_client = majordomo.Client(endpoint), majordomo.aio.Client(endpoint)
    worker, broker = majordomo.Worker(endpoint, "parent"), majordomo.Broker("tcp://127.0.0.1:0")
    early.extend((client, async_client, worker, broker))
    use_handles()


def use_handles() -> None:
    client, async_client, worker, broker = early
    assert client.request("echo", "hi") == [b"hi"]
    assert asyncio.run(ask(async_client, "echo", "hi")) == b"hi"
    assert worker.recv(timeout=0.001) is None
    assert broker.stats()


def refuse_handles() -> None:
    """In a child of `fork`: whatever was made before says Closed; closing and dropping it does nothing."""
    client, async_client, worker, broker = early
    assert closed(lambda: client.request("echo", ""))
    assert closed(lambda: client.stream("echo", ""))
    assert closed(lambda: asyncio.run(ask(async_client, "echo", "")))
    assert closed(worker.recv)
    assert closed(lambda: next(worker))
    assert closed(lambda: worker.serve(lambda _: b""))
    assert closed(broker.stats)
    assert closed(broker.wait)
    client.close()
    worker.drain()
    worker.close()


def child(endpoint: str, name: str, told: SimpleQueue[str]) -> None:
    """Take all three roles; the parent asks the worker, and the broker after it."""
    if early:
        refuse_handles()
    with majordomo.Client(endpoint, timeout=PATIENCE) as client:
        assert client.request("echo", name) == [name.encode()]
        assert asyncio.run(ask(majordomo.aio.Client(endpoint), "echo", name)) == name.encode()
    with majordomo.Broker("tcp://127.0.0.1:0") as broker:
        told.put(broker.endpoint)
        broker_worker = majordomo.Worker(broker.endpoint, "child")
        request = broker_worker.recv()
        request.reply(name)
        with majordomo.Worker(endpoint, name) as worker:
            worker.recv().reply(str(os.getpid()))
            broker_worker.drain()


def children(method: str, endpoint: str) -> None:
    """Start children with this method before there is any handle, and again when there are."""
    context: Any = multiprocessing.get_context(method)
    for when in ("before", "after"):
        told: SimpleQueue[str] = context.SimpleQueue()
        process = context.Process(target=child, args=(endpoint, f"{method} {when}", told))
        process.start()
        with majordomo.Client(told.get(), timeout=PATIENCE) as client:
            assert client.request("child", "") == [f"{method} {when}".encode()]
        with majordomo.Client(endpoint, timeout=PATIENCE) as client:
            assert client.request(f"{method} {when}", "") == [str(process.pid).encode()]
        process.join(PATIENCE)
        assert process.exitcode == 0, process.exitcode
        if early:
            use_handles()
        else:
            make_handles(endpoint)
    for handle in early:
        try:
            pickle.dumps(handle)
        except TypeError:
            continue
        raise AssertionError(f"{handle!r} could be sent to another process")


def prefork(endpoint: str, count: str) -> None:
    """Serve from children, as a prefork server does: the parent connects, forks and waits; SIGTERM ends a child."""
    make_handles(endpoint)
    pids = []
    for _ in range(int(count)):
        pid = os.fork()
        if pid == 0:
            refuse_handles()
            worker = majordomo.Worker(endpoint, "prefork")
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            worker.serve(lambda _: str(os.getpid()))
            raise AssertionError("serve() has returned")
        pids.append(pid)
    print(*pids, flush=True)
    assert sys.stdin.readline() == "end\n"
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    print(*(status_of(pid) for pid in pids))
    use_handles()


@contextmanager
def traffic(endpoint: str) -> Iterator[None]:
    """Threads that ask, stream, ask asynchronously and serve all the time."""
    over = threading.Event()
    made_by: list[majordomo.Client] = [early[0], majordomo.Client(endpoint, timeout=PATIENCE)]

    def asking(client: majordomo.Client) -> None:
        while not over.is_set():
            assert client.request("echo", "x") == [b"x"]

    def streaming(client: majordomo.Client) -> None:
        while not over.is_set():
            assert list(client.stream("echo", "x")) == [[b"x"]]

    async def many(client: majordomo.aio.Client) -> None:
        while not over.is_set():
            assert await asyncio.gather(*(ask(client, "echo", "x") for _ in range(20))) == [b"x"] * 20

    threads = [threading.Thread(target=asking, args=[client], daemon=True) for client in made_by]
    threads += [threading.Thread(target=streaming, args=[early[0]], daemon=True)]
    threads += [threading.Thread(target=lambda: asyncio.run(many(early[1])), daemon=True)]
    worker = majordomo.Worker(endpoint, "echo")
    serving = threading.Thread(target=worker.serve, args=[lambda request: request.body], daemon=True)
    for thread in (*threads, serving):
        thread.start()
    yield
    over.set()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    worker.drain()
    serving.join(PATIENCE)


def forks(endpoint: str, count: str) -> None:
    """Fork again and again while requests are in flight on every kind of handle."""
    make_handles(endpoint)
    with traffic(endpoint):
        for number in range(int(count)):
            pid = os.fork()
            if pid == 0:
                signal.alarm(int(PATIENCE))
                refuse_handles()
                with majordomo.Client(endpoint, timeout=PATIENCE) as client:
                    assert client.request("echo", str(number)) == [str(number).encode()]
                assert asyncio.run(ask(majordomo.aio.Client(endpoint), "echo", "x")) == b"x"
                # Not os._exit: whatever the interpreter does at its end shall find nothing to wait for.
                sys.exit(7)
            assert status_of(pid) == 7
    use_handles()
    print("parent is well")


def forks_inside(endpoint: str) -> None:
    """Fork in the middle of things: in a handler, with a stream half read, in a running event loop."""

    def handler(request: majordomo.Request) -> bytes:
        pid = os.fork()
        if pid == 0:
            assert closed(lambda: request.reply(b"the child's"))
            assert closed(lambda: request.fail(1, ""))
            sys.exit(7)
        return b"the parent's, %d" % status_of(pid)

    worker = majordomo.Worker(endpoint, "forking")
    asked: list[bytes] = []

    def asks() -> None:
        with majordomo.Client(endpoint, timeout=PATIENCE, retries=1) as client:
            asked.append(client.request("forking", "")[0])
        worker.drain()

    thread = threading.Thread(target=asks)
    thread.start()
    # On the main thread: sys.exit() of a child's only thread ends the child.
    worker.serve(handler)
    thread.join()
    assert asked == [b"the parent's, 7"], asked

    client = majordomo.Client(endpoint, timeout=PATIENCE)
    parts = client.stream("parts", "")
    assert next(parts) == [b"0"]
    pid = os.fork()
    if pid == 0:
        assert closed(lambda: next(parts))
        parts.close()
        sys.exit(7)
    assert status_of(pid) == 7
    assert [part[0] for part in parts] == [b"1", b"2"]

    async def fork_in_a_loop() -> bytes:
        async_client = majordomo.aio.Client(endpoint)
        reply = asyncio.create_task(ask(async_client, "late", ""))
        assert await ask(async_client, "echo", "x") == b"x"
        pid = os.fork()
        if pid == 0:
            # The loop is the parent's; the child goes its own way, and never back into it.
            try:
                assert majordomo.Client(endpoint).request("echo", "x") == [b"x"]
                os._exit(7)
            finally:
                os._exit(1)
        assert status_of(pid) == 7
        with majordomo.Worker(endpoint, "late") as late:
            (await asyncio.to_thread(late.recv)).reply("late")
            return await reply

    assert asyncio.run(fork_in_a_loop()) == b"late"
    print("all is well")
