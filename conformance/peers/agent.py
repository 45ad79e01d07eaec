"""What the strangers' agents (AGENT.md) have in common: the commands, and the behaviours of their handlers."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from .lines import Body, Command, body_of, described, emit, flat, made_frame

ERROR_NAMES = {
    1: "Timeout", 2: "NoWorker", 3: "QueueFull", 4: "Expired", 5: "WorkerLost", 6: "AttemptsExhausted", 7: "Cancelled",
    8: "ServiceError", 9: "BrokerUnreachable", 10: "Denied", 11: "Protocol", 12: "InvalidArgument", 13: "Closed",
    14: "TooLarge", 15: "Internal", 16: "Busy",
}  # fmt: skip
# Those that say by themselves that another try may help (docs/mdpx.md, section 7).
RETRYABLE = {1, 2, 3, 4, 5, 6, 9, 16}
NUMBERS = {name: number for number, name in ERROR_NAMES.items()}
CANCEL_TICK_SECONDS = 0.02

OnPart = Callable[[Body], None]


class Failed(Exception):
    """A request, or a handler, ended with an error."""

    def __init__(self, kind: int | str, text: str, code: int = 0, retryable: bool | None = None) -> None:
        super().__init__(text)
        number = NUMBERS[kind] if isinstance(kind, str) else kind
        self.number = number if number in ERROR_NAMES else NUMBERS["Internal"]
        self.kind = ERROR_NAMES[self.number]
        self.text = text
        self.code = code
        self.retryable = self.number in RETRYABLE if retryable is None else retryable

    def fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {"kind": self.kind, "number": self.number, "text": self.text, "retryable": self.retryable}
        return {**fields, "service_code": self.code} if self.kind == "ServiceError" else fields


class Unsupported(Exception):
    """The protocol has no such thing."""


class Client(Protocol):
    """What a client of any protocol does for the agent."""

    def call(self, command: Command, body: Body, on_part: OnPart | None = None) -> Body:
        """The parts of the reply, joined; each one before that to `on_part`. Raises `Failed`."""

    def cancel(self, request: int) -> bool:
        """Gives up the request of that command; whether it is one of this client's."""

    def close(self) -> None: ...


class InHand(Protocol):
    """A request in hand, as its handler sees it. A protocol that does not tell gives `1`, -1 and no cancellation."""

    body: Body
    attempt: int
    cancelled: threading.Event

    @property
    def remaining_ms(self) -> int: ...

    def partial(self, body: Body) -> None: ...


class Handler:
    """The behaviours of section 4, each as a function from the request in hand to the body of the reply."""

    def __init__(self, command: Command) -> None:
        self.options = command
        self.handled = 0
        self.released = threading.Event()
        self._counting = threading.Lock()
        self._behave: Callable[[InHand], Body] = getattr(self, f"_{command['behaviour']}")

    def __call__(self, request: InHand) -> Body:
        with self._counting:
            self.handled += 1
        return self._behave(request)

    def _echo(self, request: InHand) -> Body:
        return Body(request.body.frames)

    def _reverse(self, request: InHand) -> Body:
        return Body(request.body.frames[::-1])

    def _name(self, request: InHand) -> Body:
        return Body([self.options["worker"].encode()])

    def _stream(self, request: InHand) -> Body:
        for frame in request.body.frames:
            request.partial(Body([frame], request.body.properties))
        return Body([b"END"], request.body.properties)

    def _fail(self, request: InHand) -> Body:
        raise Failed("ServiceError", self.options["text"], self.options["code"])

    def _raise(self, request: InHand) -> Body:
        raise RuntimeError(self.options["text"])

    def _holding(self) -> None:
        emit("holding", worker=self.options["worker"], handled=self.handled)

    def _hold(self, request: InHand) -> Body:
        self._holding()
        self.released.wait()
        return Body(request.body.frames)

    def _spin(self, request: InHand) -> Body:
        end = time.monotonic() + self.options["spin_ms"] / 1000
        while time.monotonic() < end:
            pass
        return Body(request.body.frames)

    def _describe(self, request: InHand) -> Body:
        told = {"attempt": request.attempt, "remaining_ms": request.remaining_ms, "properties": flat(request.body.properties)}
        return Body([json.dumps(told).encode()], request.body.properties)

    def _wait_cancel(self, request: InHand) -> Body:
        if self.options.get("part_first"):
            request.partial(request.body)
        self._holding()
        while not request.cancelled.wait(CANCEL_TICK_SECONDS) and not self.released.is_set():
            pass
        if request.cancelled.is_set():
            emit("cancelled", worker=self.options["worker"])
        return Body([b"cancelled"])

    def _retry(self, request: InHand) -> Body:
        if request.attempt < self.options.get("succeed_at", 2):
            raise Failed("ServiceError", "not yet", 503, retryable=True)
        return Body(request.body.frames)


class Worker(Protocol):
    """What a worker of any protocol does for the agent."""

    handler: Handler

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Agent:
    """Reads commands and carries them out. A language says how it opens a client and a worker."""

    BESIDE = {"request", "request_many", "stream", "stop_worker", "close_client"}

    def __init__(self, language: str, client: Callable[[Command], Client], worker: Callable[[Command], Worker]) -> None:
        self.language = language
        self.new_client = client
        self.new_worker = worker
        self.clients: dict[str, Client] = {}
        self.workers: dict[str, Worker] = {}

    def open_client(self, command: Command) -> None:
        self.clients[command["client"]] = self.new_client(command)
        emit("ok", id=command["id"])

    def close_client(self, command: Command) -> None:
        self.clients.pop(command["client"]).close()
        emit("ok", id=command["id"])

    def request(self, command: Command) -> None:
        body = self.clients[command["client"]].call(command, body_of(command))
        emit("reply", id=command["id"], **described(body))

    def stream(self, command: Command) -> None:
        client, parts = self.clients[command["client"]], []

        def on_part(body: Body) -> None:
            parts.append(body)
            emit("part", id=command["id"], **described(body))
            if len(parts) == command.get("leave_after"):
                client.cancel(command["id"])

        try:
            client.call(command, body_of(command), on_part)
        except Failed as failed:
            if failed.kind != "Cancelled" or len(parts) != command.get("leave_after"):
                raise
        emit("end", id=command["id"], parts=len(parts))

    def cancel(self, command: Command) -> None:
        if not any([client.cancel(command["request"]) for client in self.clients.values()]):
            raise Unsupported
        emit("ok", id=command["id"])

    def request_many(self, command: Command) -> None:
        client = self.clients[command["client"]]
        numbers = iter(range(command["count"]))
        counts = {"ok": 0, "mismatched": 0, "errors": 0}
        first: dict[str, str] = {}
        lock = threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                body = [b"%d" % number, made_frame(command["size"], number, 0)]
                try:
                    outcome = "ok" if client.call(command, Body(body)).frames == body else "mismatched"
                except Failed as failure:
                    outcome = "errors"
                    first.setdefault("first_error", failure.kind)
                with lock:
                    counts[outcome] += 1

        threads = [threading.Thread(target=work) for _ in range(command["concurrency"])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        emit("many", id=command["id"], **counts, **first)

    def start_worker(self, command: Command) -> None:
        worker = self.workers[command["worker"]] = self.new_worker(command)
        worker.start()
        emit("ok", id=command["id"])

    def release(self, command: Command) -> None:
        self.workers[command["worker"]].handler.released.set()
        emit("ok", id=command["id"])

    def worker_stats(self, command: Command) -> None:
        emit("ok", id=command["id"], handled=self.workers[command["worker"]].handler.handled)

    def stop_worker(self, command: Command) -> None:
        worker = self.workers[command["worker"]]
        worker.stop()
        del self.workers[command["worker"]]
        emit("ok", id=command["id"], handled=worker.handler.handled)

    def ping(self, command: Command) -> None:
        emit("ok", id=command["id"])

    def start_broker(self, command: Command) -> None:
        raise Unsupported

    stop_broker = start_broker

    def run(self) -> None:
        emit("hello", language=self.language, agent=1)
        for line in sys.stdin:
            command = json.loads(line)
            if command["cmd"] == "quit":
                break
            if command["cmd"] in self.BESIDE:
                threading.Thread(target=self.perform, args=(command,), daemon=True).start()
            else:
                self.perform(command)
        else:
            command = None
        for worker in list(self.workers.values()):
            worker.handler.released.set()
            worker.stop()
        for client in self.clients.values():
            client.close()
        if command:
            emit("ok", id=command["id"])

    def perform(self, command: Command) -> None:
        try:
            getattr(self, command["cmd"])(command)
        except Failed as failure:
            emit("error", id=command["id"], **failure.fields())
        except Unsupported:
            emit("failed", id=command["id"], text="unsupported")
        except Exception as problem:  # the driver has to hear of everything
            emit("failed", id=command["id"], text=repr(problem))
