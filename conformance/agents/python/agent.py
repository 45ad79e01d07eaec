"""The conformance agent of Python: lines of JSON become calls of `majordomo`, and outcomes lines (see AGENT.md)."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import threading
import time
import zlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any

import majordomo
import majordomo.aio

Command = dict[str, Any]
PATTERN = bytes(range(251))
BODY_SHOWN_UP_TO = 65536

CLIENT_SECONDS = ("timeout", "deadline", "reconnect_min", "reconnect_max")
CLIENT_NUMBERS = ("retries", "max_message_bytes")
ASYNC_CLIENT_NUMBERS = (*CLIENT_NUMBERS, "max_in_flight", "max_waiting")
REQUEST_SECONDS = ("timeout", "deadline")
REQUEST_NUMBERS = ("retries",)
WORKER_SECONDS = ("heartbeat", "reconnect", "drain_timeout")
WORKER_NUMBERS = ("liveness", "max_message_bytes")


class BadCommand(Exception):
    """The agent cannot carry out a command for a reason that is no error of the library."""


# Lines


class Output:
    """Events, one line each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def event(self, event: str, **fields: Any) -> None:
        line = json.dumps({"event": event, **{name: value for name, value in fields.items() if value is not None}})
        self.line(line)

    def body(self, event: str, command: Command, message: Sequence[bytes]) -> None:
        shown = sum(map(len, message)) <= BODY_SHOWN_UP_TO
        fields = {
            "event": event,
            "id": command["id"],
            "sizes": [len(frame) for frame in message],
            "crc32": [zlib.crc32(frame) for frame in message],
            "body": [base64.b64encode(frame).decode() for frame in message] if shown else None,
        }
        self.line(json.dumps(fields))

    def error(self, command: Command, failure: majordomo.MajordomoError) -> None:
        if isinstance(failure, majordomo.ServiceError):
            self.event(
                "error",
                id=command["id"],
                kind=failure.kind,
                number=failure.code,
                service_code=failure.service_code,
                text=failure.text,
            )
        else:
            self.event("error", id=command["id"], kind=failure.kind, number=failure.code, text=str(failure))

    def line(self, line: str) -> None:
        with self._lock:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


OUT = Output()


def body_of(command: Command) -> list[bytes]:
    if "body" in command:
        return [base64.b64decode(frame, validate=True) for frame in command["body"]]
    size, seed = command.get("size", 0), command.get("seed", 0)
    return [pattern(size, seed + frame) for frame in range(command.get("frames", 1))]


def pattern(size: int, shift: int) -> bytes:
    """Byte `i` is `(shift + i mod 251) mod 256`."""
    table = bytes((shift + value) % 256 for value in range(256))
    return (PATTERN * (size // len(PATTERN) + 1))[:size].translate(table)


def options_of(command: Command, seconds: Sequence[str], numbers: Sequence[str]) -> dict[str, Any]:
    options = {name: command[f"{name}_ms"] / 1000 for name in seconds if f"{name}_ms" in command}
    options.update({name: command[name] for name in numbers if name in command})
    return options


def request_options(command: Command) -> dict[str, Any]:
    return options_of(command, REQUEST_SECONDS, REQUEST_NUMBERS)


class Many:
    """What became of the requests of `request_many`."""

    def __init__(self) -> None:
        self.ok = self.mismatched = self.errors = 0
        self.first_error: str | None = None

    def count(self, request: list[bytes], reply: majordomo.Message) -> None:
        if reply == request:
            self.ok += 1
        else:
            self.mismatched += 1

    def count_error(self, failure: majordomo.MajordomoError) -> None:
        self.errors += 1
        self.first_error = self.first_error or failure.kind

    def report(self, command: Command) -> None:
        OUT.event(
            "many",
            id=command["id"],
            ok=self.ok,
            mismatched=self.mismatched,
            errors=self.errors,
            first_error=self.first_error,
        )


def numbered(number: int, size: int) -> list[bytes]:
    return [str(number).encode(), pattern(size, number)]


# Clients


class BlockingClient:
    def __init__(self, command: Command) -> None:
        options = options_of(command, CLIENT_SECONDS, CLIENT_NUMBERS)
        self.client = majordomo.Client(command["endpoint"], protocol=command.get("protocol"), **options)

    def request(self, command: Command) -> None:
        OUT.body(
            "reply", command, self.client.request(command["service"], body_of(command), **request_options(command))
        )

    def stream(self, command: Command) -> None:
        parts = 0
        for part in self.client.stream(command["service"], body_of(command), **request_options(command)):
            OUT.body("part", command, part)
            parts += 1
        OUT.event("end", id=command["id"], parts=parts)

    def request_many(self, command: Command) -> None:
        many, options = Many(), request_options(command)
        for number in range(command["count"]):
            request = numbered(number, command.get("size", 0))
            try:
                many.count(request, self.client.request(command["service"], request, **options))
            except majordomo.MajordomoError as failure:
                many.count_error(failure)
        many.report(command)

    def close(self) -> None:
        self.client.close()


class AsyncClient:
    """Each method runs in a thread of its command and waits for a coroutine on the one event loop."""

    def __init__(self, command: Command) -> None:
        options = options_of(command, CLIENT_SECONDS, ASYNC_CLIENT_NUMBERS)
        self.client = majordomo.aio.Client(command["endpoint"], protocol=command.get("protocol"), **options)

    def request(self, command: Command) -> None:
        run(self._request(command))

    async def _request(self, command: Command) -> None:
        reply = await self.client.request(command["service"], body_of(command), **request_options(command))
        OUT.body("reply", command, reply)

    def stream(self, command: Command) -> None:
        run(self._stream(command))

    async def _stream(self, command: Command) -> None:
        parts = 0
        async for part in self.client.stream(command["service"], body_of(command), **request_options(command)):
            OUT.body("part", command, part)
            parts += 1
        OUT.event("end", id=command["id"], parts=parts)

    def request_many(self, command: Command) -> None:
        run(self._request_many(command))

    async def _request_many(self, command: Command) -> None:
        many, options = Many(), request_options(command)
        numbers = iter(range(command["count"]))

        async def one_after_the_other() -> None:
            for number in numbers:
                request = numbered(number, command.get("size", 0))
                try:
                    many.count(request, await self.client.request(command["service"], request, **options))
                except majordomo.MajordomoError as failure:
                    many.count_error(failure)

        await asyncio.gather(*(one_after_the_other() for _ in range(command.get("concurrency", 1))))
        many.report(command)

    def close(self) -> None:
        run(self.client.close())


# Workers


class Behaviour:
    """The handlers, by the names of AGENT.md, each written for a blocking worker."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.handled = 0
        self.released = threading.Event()
        self._counting = threading.Lock()
        handler = getattr(self, command["behaviour"], None)
        if handler is None or command["behaviour"].startswith("_"):
            raise BadCommand(f"unknown behaviour {command['behaviour']!r}")
        self._behave: Callable[[majordomo.Request], Any] = handler

    def __call__(self, request: majordomo.Request) -> Any:
        with self._counting:
            self.handled += 1
        return self._behave(request)

    def echo(self, request: majordomo.Request) -> majordomo.Message:
        return request.body

    def reverse(self, request: majordomo.Request) -> majordomo.Message:
        return request.body[::-1]

    def name(self, request: majordomo.Request) -> str:
        return str(self.command["worker"])

    def stream(self, request: majordomo.Request) -> Any:
        yield from request.body
        yield b"END"

    def fail(self, request: majordomo.Request) -> None:
        raise majordomo.ServiceError(self.command["code"], self.command["text"])

    def hold(self, request: majordomo.Request) -> majordomo.Message:
        OUT.event("holding", worker=self.command["worker"], handled=self.handled)
        self.released.wait()
        return request.body

    def spin(self, request: majordomo.Request) -> majordomo.Message:
        # Threads that wait for the GIL ask for it after the switch interval: meanwhile this one keeps it.
        interval = sys.getswitchinterval()
        sys.setswitchinterval(3600)
        end = time.monotonic() + self.command["spin_ms"] / 1000
        while time.monotonic() < end:
            pass
        sys.setswitchinterval(interval)
        return request.body

    def release(self) -> None:
        self.released.set()


def unexpected(behaviour: Behaviour, request: majordomo.Request) -> None:
    raise RuntimeError(behaviour.command.get("text", ""))


# `raise` is a keyword, so this handler cannot be written as a method of that name.
setattr(Behaviour, "raise", unexpected)


class BlockingWorker:
    def __init__(self, command: Command) -> None:
        self.command = command
        self.behaviour = Behaviour(command)
        options = options_of(command, WORKER_SECONDS, WORKER_NUMBERS)
        self.workers = [
            majordomo.Worker(command["endpoint"], command["service"], protocol=command.get("protocol"), **options)
            for _ in range(command.get("concurrency", 1))
        ]
        self.threads = [threading.Thread(target=self._serve, args=(worker,), daemon=True) for worker in self.workers]
        for thread in self.threads:
            thread.start()

    def _serve(self, worker: majordomo.Worker) -> None:
        try:
            worker.serve(self.behaviour)
        except majordomo.MajordomoError as failure:
            ended(self.command, failure)

    def release(self) -> None:
        self.behaviour.release()

    def stop(self) -> None:
        drains = [threading.Thread(target=worker.drain) for worker in self.workers]
        for drain in drains:
            drain.start()
        for thread in (*drains, *self.threads):
            thread.join()


class AsyncBehaviour(Behaviour):
    """The same, as coroutines and asynchronous generators where that makes a difference."""

    def __init__(self, command: Command) -> None:
        super().__init__(command)
        self.released_on_loop = asyncio.Event()

    async def echo(self, request: majordomo.Request) -> majordomo.Message:  # type: ignore[override]
        return request.body

    async def stream(self, request: majordomo.Request) -> Any:
        for frame in request.body:
            yield frame
        yield b"END"

    async def fail(self, request: majordomo.Request) -> None:  # type: ignore[override]
        super().fail(request)

    async def hold(self, request: majordomo.Request) -> majordomo.Message:  # type: ignore[override]
        OUT.event("holding", worker=self.command["worker"], handled=self.handled)
        await self.released_on_loop.wait()
        return request.body

    def release(self) -> None:
        LOOP.call_soon_threadsafe(self.released_on_loop.set)


class AsyncWorker:
    def __init__(self, command: Command) -> None:
        self.command = command
        self.serving: Future[None] | None = None
        run(self._start())

    async def _start(self) -> None:
        command = self.command
        self.behaviour = AsyncBehaviour(command)
        self.worker = majordomo.aio.Worker(
            command["endpoint"],
            command["service"],
            protocol=command.get("protocol"),
            concurrency=command.get("concurrency"),
            **options_of(command, WORKER_SECONDS, WORKER_NUMBERS),
        )
        await self.worker.__aenter__()
        self.serving = asyncio.run_coroutine_threadsafe(self._serve(), LOOP)

    async def _serve(self) -> None:
        try:
            await self.worker.serve(self.behaviour)
        except majordomo.MajordomoError as failure:
            ended(self.command, failure)

    def release(self) -> None:
        self.behaviour.release()

    def stop(self) -> None:
        run(self.worker.drain())
        if self.serving is not None:
            self.serving.result()


def ended(command: Command, failure: majordomo.MajordomoError) -> None:
    OUT.event("worker_ended", worker=command["worker"], kind=failure.kind, number=failure.code, text=str(failure))


# Commands


class Agent:
    def __init__(self) -> None:
        self.clients: dict[str, BlockingClient | AsyncClient] = {}
        self.workers: dict[str, BlockingWorker | AsyncWorker] = {}
        self.brokers: dict[str, majordomo.Broker] = {}
        self.running: list[threading.Thread] = []

    def ping(self, command: Command) -> None:
        ok(command)

    def open_client(self, command: Command) -> None:
        style = AsyncClient if command.get("style") == "async" else BlockingClient
        self.clients[command["client"]] = style(command)
        ok(command)

    def request(self, command: Command) -> None:
        named(self.clients, command["client"]).request(command)

    def stream(self, command: Command) -> None:
        named(self.clients, command["client"]).stream(command)

    def request_many(self, command: Command) -> None:
        named(self.clients, command["client"]).request_many(command)

    def close_client(self, command: Command) -> None:
        taken(self.clients, command["client"]).close()
        ok(command)

    def start_worker(self, command: Command) -> None:
        style = AsyncWorker if command.get("style") == "async" else BlockingWorker
        self.workers[command["worker"]] = style(command)
        ok(command)

    def release(self, command: Command) -> None:
        named(self.workers, command["worker"]).release()
        ok(command)

    def worker_stats(self, command: Command) -> None:
        ok(command, handled=named(self.workers, command["worker"]).behaviour.handled)

    def stop_worker(self, command: Command) -> None:
        # It keeps its name until it has ended: what it holds may yet have to be released.
        worker = named(self.workers, command["worker"])
        worker.stop()
        self.workers.pop(command["worker"], None)
        ok(command, handled=worker.behaviour.handled)

    def start_broker(self, command: Command) -> None:
        broker = majordomo.Broker(command["bind"])
        self.brokers[command["broker"]] = broker
        ok(command, endpoint=broker.endpoint)

    def stop_broker(self, command: Command) -> None:
        taken(self.brokers, command["broker"]).stop()
        ok(command)

    def close(self) -> None:
        for worker in self.workers.values():
            worker.release()
            worker.stop()
        for client in self.clients.values():
            client.close()
        for broker in self.brokers.values():
            broker.stop()


BESIDE = {"request", "request_many", "stream", "stop_worker", "close_client"}


def carry_out(method: Callable[[Command], None], command: Command) -> None:
    try:
        method(command)
    except majordomo.MajordomoError as failure:
        OUT.error(command, failure)
    except Exception as failure:
        OUT.event("failed", id=command["id"], text=f"{type(failure).__name__}: {failure}")


def ok(command: Command, **fields: Any) -> None:
    OUT.event("ok", id=command["id"], **fields)


def named(things: dict[str, Any], name: str) -> Any:
    if name not in things:
        raise BadCommand(f"nothing is named {name!r}")
    return things[name]


def taken(things: dict[str, Any], name: str) -> Any:
    thing = named(things, name)
    del things[name]
    return thing


LOOP = asyncio.new_event_loop()


def run(coroutine: Coroutine[Any, Any, Any] | Awaitable[Any]) -> Any:
    """Run a coroutine on the agent's event loop, and wait for it in this thread."""

    async def awaited() -> Any:
        return await coroutine

    return asyncio.run_coroutine_threadsafe(awaited(), LOOP).result()


def main() -> None:
    threading.Thread(target=LOOP.run_forever, daemon=True).start()
    agent = Agent()
    OUT.event("hello", language="python", agent=1)
    quitting: Command | None = None
    for line in sys.stdin:
        command: Command = json.loads(line)
        if command["cmd"] == "quit":
            quitting = command
            break
        method = None if command["cmd"].startswith("_") else getattr(agent, command["cmd"], None)
        if method is None or command["cmd"] == "close":
            OUT.event("failed", id=command["id"], text=f"unknown command {command['cmd']!r}")
        elif command["cmd"] in BESIDE:
            threading.Thread(target=carry_out, args=(method, command), daemon=True).start()
        else:
            carry_out(method, command)
    agent.close()
    if quitting is not None:
        ok(quitting)


if __name__ == "__main__":
    main()
