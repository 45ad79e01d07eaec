"""Workers in both styles, and their behaviours (AGENT.md, section 4)."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import majordomo
import majordomo.aio
from lines import OUT, BadCommand, Command, flat, options_of
from loop import LOOP, run

WORKER_SECONDS = ("heartbeat", "reconnect", "drain_timeout")
WORKER_NUMBERS = ("liveness", "max_message_bytes", "prefetch", "keep_outcomes")


def listener(command: Command) -> Callable[[majordomo.Event], None] | None:
    return OUT.connection("worker", command["worker"]) if command.get("events") else None


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
        for frame in (*request.body, b"END"):
            yield majordomo.Message(frame, properties=request.properties)

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

    def describe(self, request: majordomo.Request) -> majordomo.Message:
        remaining = -1 if request.remaining is None else round(request.remaining * 1000)
        told = {"attempt": request.attempt, "remaining_ms": remaining, "properties": flat(request.properties)}
        return majordomo.Message(json.dumps(told), properties=request.properties)

    def wait_cancel(self, request: majordomo.Request) -> Any:
        self._tell_holding(request)
        request.wait_cancelled()
        OUT.event("cancelled", worker=self.command["worker"])
        return request.body

    def _tell_holding(self, request: majordomo.Request) -> None:
        if self.command.get("part_first"):
            request.partial(request.body)
        OUT.event("holding", worker=self.command["worker"], handled=self.handled)

    def witness(self, request: majordomo.Request) -> Any:
        self._tell_running(request)
        time.sleep(self._pause(request))
        return request.body

    def _tell_running(self, request: majordomo.Request) -> None:
        OUT.event("running", worker=self.command["worker"], request=int(request.body[0]))

    def _pause(self, request: majordomo.Request) -> float:
        return float(self.command["pause_ms"] / 1000 if request.attempt == 1 else 0)

    def retry(self, request: majordomo.Request) -> majordomo.Message:
        if request.attempt < self.command["succeed_at"]:
            raise majordomo.ServiceError(503, "not yet", retryable=True)
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
            majordomo.Worker(
                command["endpoint"],
                command["service"],
                protocol=command.get("protocol"),
                on_event=listener(command),
                **options,
            )
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
        for part in super().stream(request):
            yield part

    async def fail(self, request: majordomo.Request) -> None:  # type: ignore[override]
        super().fail(request)

    async def hold(self, request: majordomo.Request) -> majordomo.Message:  # type: ignore[override]
        OUT.event("holding", worker=self.command["worker"], handled=self.handled)
        await self.released_on_loop.wait()
        return request.body

    async def witness(self, request: majordomo.Request) -> majordomo.Message:
        self._tell_running(request)
        await asyncio.sleep(self._pause(request))
        return request.body

    async def wait_cancel(self, request: majordomo.Request) -> Any:
        self._tell_holding(request)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            OUT.event("cancelled", worker=self.command["worker"])

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
            on_event=listener(command),
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
