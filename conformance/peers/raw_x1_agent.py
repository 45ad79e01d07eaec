"""An agent (AGENT.md) that speaks MDPX/1 and is made of nothing but pyzmq and docs/mdpx.md: a stranger in the conformance matrix.

Asked for 0.1 or 0.2, it is the stranger of `raw_agent.py`. With `auto` it asks the broker, as the document says.
"""

from __future__ import annotations

import itertools
import math
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import zmq

from . import raw_agent, x1
from .raw_agent import emit
from .sockets import open_socket

ERROR_NAMES = {
    1: "Timeout", 2: "NoWorker", 3: "QueueFull", 4: "Expired", 5: "WorkerLost", 6: "AttemptsExhausted", 7: "Cancelled",
    8: "ServiceError", 9: "BrokerUnreachable", 10: "Denied", 11: "Protocol", 12: "InvalidArgument", 13: "Closed",
    14: "TooLarge", 15: "Internal", 16: "Busy",
}  # fmt: skip
TIMEOUT, EXPIRED, BROKER_UNREACHABLE, DENIED, CLOSED, TOO_LARGE = 1, 4, 9, 10, 13, 14
QUESTION = [b"", b"MDPC01", b"mmi.protocols", b""]
WELCOME_SECONDS = 2.0
FENCE_SECONDS = 0.5
TICK_SECONDS = 1.0


class Failed(Exception):
    """A request ended with an error."""

    def __init__(self, kind: int, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.kind = kind if kind in ERROR_NAMES else 15
        self.text = text
        self.code = code

    def fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {"kind": ERROR_NAMES[self.kind], "number": self.kind, "text": self.text}
        return {**fields, "service_code": self.code} if self.kind == x1.SERVICE_ERROR else fields


def write(command: str, leg: str, body: Sequence[bytes] = (), flag: bool = False, **fields: Any) -> list[bytes]:
    return x1.write(x1.Message(command, leg, fields, flag, [], list(body)))


def spoken_by(endpoint: str) -> str:
    """What the broker there speaks, asked on a connection of its own (section 2)."""
    with open_socket(zmq.DEALER) as socket:
        socket.connect(endpoint)
        for _ in range(2):
            socket.send_multipart(QUESTION)
            if socket.poll(500):
                names = socket.recv_multipart()[4:]
                return "x1" if b"x1" in names else "0.2" if b"0.2" in names else "0.1"
    return "0.2"


class Wakes:
    """A socket with which other threads wake the one that polls."""

    def __init__(self) -> None:
        self._endpoint = f"inproc://wake-{id(self)}"
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PULL)
        self.socket.bind(self._endpoint)
        self._lock = threading.Lock()
        self._sender: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
        self._sender.connect(self._endpoint)

    def wake(self) -> None:
        with self._lock:
            if not self._sender.closed:
                self._sender.send(b"")

    def drain(self) -> None:
        while self.socket.poll(0):
            self.socket.recv()

    def close(self) -> None:
        with self._lock:
            self.socket.close(0)
            self._sender.close(0)


class Call:
    """One request of one caller."""

    def __init__(self, service: bytes, body: Sequence[bytes], deadline: float) -> None:
        self.service = service
        self.body = body
        self.deadline = deadline
        self.number = 0
        self.parts = 0
        self.events: queue.Queue[list[bytes] | Failed | None] = queue.Queue()

    def next(self) -> list[bytes] | None:
        """The next body; `None` behind the last one."""
        event = self.events.get()
        if isinstance(event, Failed):
            raise event
        return event


class Session(threading.Thread):
    """One session, one connection, any number of requests at once (section 5)."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(daemon=True)
        self.endpoint = endpoint
        self.identity = (os.urandom(16), os.urandom(16))
        self.numbers = itertools.count(1)
        self.acked = self.said = 0
        self.ended: set[int] = set()
        self.waiting: deque[Call] = deque()
        self.open: dict[int, Call] = {}
        self.submitted: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self.wakes = Wakes()
        self.closing = False
        self.start()

    def submit(self, call: Call) -> None:
        self.submitted.put(call)
        self.wakes.wake()

    def close(self) -> None:
        self.closing = True
        self.wakes.wake()
        self.join()
        self.wakes.close()

    def run(self) -> None:
        pause = 0.0
        while not self.closing:
            self.socket = open_socket(zmq.DEALER)
            self.socket.connect(self.endpoint)
            if self.greet():
                pause = 0.05
                self.serve()
            if self.closing:
                self.say("DISCONNECT", "any", kind=0, text="")
                self.socket.close(2000)
            else:
                self.socket.close(0)
                time.sleep(pause)
                pause = min(max(0.05, 2 * pause), 0.5)
        self.take_submitted()
        for call in [*self.open.values(), *self.waiting]:
            call.events.put(Failed(CLOSED, "this client is closed"))

    def say(self, command: str, leg: str = "client", body: Sequence[bytes] = (), **fields: Any) -> None:
        self.socket.send_multipart(write(command, leg, body, **fields))

    def greet(self) -> bool:
        """Says HELLO; whether WELCOME came."""
        session, secret = self.identity
        self.say("HELLO", session=session, secret=secret, heartbeat_ms=833, liveness=3)
        end = time.monotonic() + WELCOME_SECONDS
        while not self.closing and time.monotonic() < end:
            message = self.wait(min(end, time.monotonic() + 0.05))
            self.end_late()
            if message is None:
                continue
            if message.command != "WELCOME":
                if message.command == "DISCONNECT" and message.kind == DENIED:
                    self.identity = (os.urandom(16), os.urandom(16))
                return False
            self.silence = message.heartbeat_ms * message.liveness / 1000
            self.credit, self.largest = message.credit, message.max_message
            self.resend(resumed=message.flag)
            return True
        return False

    def resend(self, resumed: bool) -> None:
        for number, call in sorted(self.open.items()):
            if not resumed and call.parts:
                self.end(number, Failed(BROKER_UNREACHABLE, "the connection was lost in the middle of a streamed reply"))
        for _, call in sorted(self.open.items()):
            self.send(call)

    def wait(self, until: float) -> x1.Message | None:
        """The next message; `None` when the time is over or somebody wakes us."""
        poller = zmq.Poller()
        poller.register(self.socket, zmq.POLLIN)
        poller.register(self.wakes.socket, zmq.POLLIN)
        ready = dict(poller.poll(max(0, math.ceil(1000 * (until - time.monotonic())))))
        if self.wakes.socket in ready:
            self.wakes.drain()
            self.take_submitted()
        return x1.read(self.socket.recv_multipart()) if self.socket in ready else None

    def take_submitted(self) -> None:
        while not self.submitted.empty():
            self.waiting.append(self.submitted.get())

    def serve(self) -> None:
        """Until the connection is to be given up."""
        heard = time.monotonic()
        while not self.closing:
            while self.waiting and len(self.open) < self.credit:
                self.begin(self.waiting.popleft())
                if len(self.open) == 1:
                    heard = time.monotonic()
            now = time.monotonic()
            soonest = min((call.deadline for call in self.open.values()), default=now + TICK_SECONDS)
            message = self.wait(min(soonest, heard + self.silence if self.open else soonest, now + TICK_SECONDS))
            now = time.monotonic()
            if message is None:
                if self.open and now >= heard + self.silence:
                    return
            else:
                heard = now
                if message.command == "DISCONNECT":
                    return
                if "number" in message.fields and message.number in self.open:
                    self.take(message)
            self.end_late()
            if self.acked >= self.said + (1 if message is None else 256):
                self.say("ACK", number=self.acked)
                self.said = self.acked

    def begin(self, call: Call) -> None:
        call.number = next(self.numbers)
        self.open[call.number] = call
        if sum(map(len, call.body)) > self.largest:
            self.end(call.number, Failed(TOO_LARGE, f"the broker takes {self.largest} bytes at most"))
        else:
            self.send(call)

    def send(self, call: Call) -> None:
        ttl_ms = max(1, math.ceil(1000 * (call.deadline - time.monotonic())))
        self.said = self.acked
        self.say(
            "REQUEST", body=call.body, number=call.number, acked=self.acked, ttl_ms=ttl_ms, max_attempts=0, service=call.service,
        )  # fmt: skip

    def take(self, message: x1.Message) -> None:
        call = self.open[message.number]
        if message.command == "ERROR":
            if message.kind == EXPIRED and time.monotonic() >= call.deadline:
                return None  # that is the caller's own deadline: `end_late` says so
            return self.end(message.number, Failed(message.kind, message.text, message.code))
        if message.sequence != call.parts:
            self.say("CANCEL", number=message.number)
            lost = "the connection was lost in the middle of a streamed reply"
            return self.end(message.number, Failed(BROKER_UNREACHABLE, lost))
        call.parts += 1
        call.events.put(message.body)
        if message.command == "FINAL":
            self.end(message.number, None)

    def end_late(self) -> None:
        now = time.monotonic()
        for number in [number for number, call in self.open.items() if now >= call.deadline]:
            self.say("CANCEL", number=number)
            self.end(number, Failed(TIMEOUT, f"no answer from {self.open[number].service!r}"))
        for call in [call for call in self.waiting if now >= call.deadline]:
            self.waiting.remove(call)
            call.events.put(Failed(TIMEOUT, f"no answer from {call.service!r}"))

    def end(self, number: int, outcome: Failed | None) -> None:
        self.open.pop(number).events.put(outcome)
        self.ended.add(number)
        while self.acked + 1 in self.ended:
            self.acked += 1
            self.ended.remove(self.acked)


class Client:
    """What the agent calls: as `raw_agent.Client`."""

    def __init__(self, command: dict[str, Any]) -> None:
        self.options = command
        self.session = Session(command["endpoint"].split(",")[0])

    def call(self, command: dict[str, Any], body: Sequence[bytes], on_part: Any = None) -> list[bytes]:
        options = {"timeout_ms": 2500, "retries": 3, **self.options, **command}
        time_ms = options.get("deadline_ms", options["timeout_ms"] * options["retries"])
        call = Call(command["service"].encode(), body, time.monotonic() + time_ms / 1000)
        self.session.submit(call)
        joined: list[bytes] = []
        while (part := call.next()) is not None:
            if on_part:
                on_part(part)
            joined += part
        return joined

    def close(self) -> None:
        self.session.close()


class Job(threading.Thread):
    """One delivery, and the handler that works on it."""

    def __init__(self, worker: Worker, request: x1.Message) -> None:
        super().__init__(daemon=True)
        self.worker = worker
        self.request = request
        self.delivery = request.delivery
        self.parts = 0

    def run(self) -> None:
        try:
            self.worker.handle(self, list(self.request.body))
        except Exception as problem:  # the handler's own failure
            self.fail(500, repr(problem))

    def partial(self, body: Sequence[bytes]) -> None:
        self.worker.answer(self, False, write("PARTIAL", "worker", body, delivery=self.delivery, sequence=self.parts))
        self.parts += 1

    def final(self, body: Sequence[bytes]) -> None:
        self.worker.answer(self, True, write("FINAL", "worker", body, delivery=self.delivery, sequence=self.parts))

    def fail(self, code: int, text: str) -> None:
        fields = {"delivery": self.delivery, "kind": x1.SERVICE_ERROR, "code": code, "text": text}
        self.worker.answer(self, True, write("ERROR", "worker", **fields))


class Worker(threading.Thread):
    """The socket is this thread's; every delivery that is started has a thread of its own (section 6)."""

    def __init__(self, command: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self.options = {"heartbeat_ms": 2500, "liveness": 3, "reconnect_ms": 2500, "concurrency": 1, **command}
        self.handled = 0
        self.released = threading.Event()
        self.stopping = False
        self.wakes = Wakes()
        self.running: dict[int, Job] = {}
        self.stale: set[Job] = set()
        self.answers: queue.SimpleQueue[tuple[Job, bool, list[bytes]]] = queue.SimpleQueue()

    def answer(self, job: Job, is_last: bool, frames: list[bytes]) -> None:
        self.answers.put((job, is_last, frames))
        self.wakes.wake()

    def stop(self) -> int:
        self.stopping = True
        self.wakes.wake()
        self.join()
        self.wakes.close()
        return self.handled

    def run(self) -> None:
        while True:
            self.socket = open_socket(zmq.DEALER)
            self.socket.connect(self.options["endpoint"])
            self.ready()
            left = self.serve()
            self.socket.close(2000 if left else 0)
            if left:
                return
            # What was held is the broker's again; the answers of what still runs are dropped.
            self.stale.update(self.running.values())
            self.running.clear()
            time.sleep(min(self.options["reconnect_ms"], 100) / 1000)

    def say(self, command: str, leg: str = "worker", **fields: Any) -> None:
        self.send(write(command, leg, **fields))

    def send(self, frames: list[bytes]) -> None:
        self.socket.send_multipart(frames)
        self.sent = time.monotonic()

    def ready(self) -> None:
        capacity = max(0, self.options["concurrency"] - len(self.stale))
        heartbeat_ms, liveness = self.options["heartbeat_ms"], self.options["liveness"]
        service = self.options["service"].encode()
        self.say("READY", capacity=capacity, heartbeat_ms=heartbeat_ms, liveness=liveness, service=service)

    def serve(self) -> bool:
        """One connection. Whether the worker has left for good."""
        interval = silence = WELCOME_SECONDS
        heard = time.monotonic()
        draining = welcome = False
        fence = math.inf  # until when deliveries may come that were on their way when DRAIN was said
        poller = zmq.Poller()
        poller.register(self.socket, zmq.POLLIN)
        poller.register(self.wakes.socket, zmq.POLLIN)
        while True:
            if self.stopping and not draining:
                draining = True
                fence = 0.0
                if welcome:
                    self.say("DRAIN")
                    self.send(QUESTION)
                    fence = self.sent + FENCE_SECONDS
            if draining and not self.running and time.monotonic() >= fence:
                self.say("DISCONNECT", "any", kind=0, text="")
                return True
            until = min(heard + silence, self.sent + interval if welcome else math.inf)
            until = min(until, fence if not self.running else math.inf)
            ready = dict(poller.poll(max(0, math.ceil(1000 * (until - time.monotonic())))))
            if self.wakes.socket in ready:
                self.wakes.drain()
                self.send_answers()
            if self.socket in ready:
                heard = time.monotonic()
                frames = self.socket.recv_multipart()
                if frames[1:3] == QUESTION[1:3]:
                    fence = 0.0
                    continue
                message = x1.read(frames)
                if message.command == "DISCONNECT":
                    return self.stopping
                if message.command == "WELCOME":
                    welcome = True
                    interval, silence = message.heartbeat_ms / 1000, message.heartbeat_ms * message.liveness / 1000
                elif message.command == "DELIVER":
                    self.take(message, draining)
            now = time.monotonic()
            if now >= heard + silence and not self.socket.poll(0):
                return False
            if welcome and now >= self.sent + interval:
                self.say("HEARTBEAT", "any")

    def take(self, message: x1.Message, draining: bool) -> None:
        if draining:
            self.say("RETURN", delivery=message.delivery)
            return
        self.handled += 1
        job = self.running[message.delivery] = Job(self, message)
        job.start()

    def send_answers(self) -> None:
        while not self.answers.empty():
            job, is_last, frames = self.answers.get()
            if self.running.get(job.delivery) is job:
                self.send(frames)
                if is_last:
                    del self.running[job.delivery]
            elif is_last and job in self.stale:
                self.stale.remove(job)
                self.ready()

    def handle(self, job: Job, body: list[bytes]) -> None:
        behaviour = self.options["behaviour"]
        if behaviour == "fail":
            return job.fail(self.options["code"], self.options["text"])
        if behaviour == "raise":
            raise RuntimeError(self.options["text"])
        if behaviour == "stream":
            for frame in body:
                job.partial([frame])
            body = [b"END"]
        elif behaviour == "reverse":
            body = body[::-1]
        elif behaviour == "name":
            body = [self.options["worker"].encode()]
        elif behaviour == "hold":
            emit("holding", worker=self.options["worker"], handled=self.handled)
            self.released.wait()
        elif behaviour == "spin":
            end = time.monotonic() + self.options["spin_ms"] / 1000
            while time.monotonic() < end:
                pass
        job.final(body)


class Agent(raw_agent.Agent):
    """The stranger's agent, with MDPX beside the older versions."""

    @staticmethod
    def settle(command: dict[str, Any]) -> dict[str, Any]:
        if command["protocol"] == "auto":
            return {**command, "protocol": spoken_by(command["endpoint"].split(",")[0])}
        return command

    def open_client(self, command: dict[str, Any]) -> None:
        command = self.settle(command)
        if command["protocol"] != "x1":
            return super().open_client(command)
        self.clients[command["client"]] = Client(command)  # type: ignore[assignment]
        emit("ok", id=command["id"])

    def start_worker(self, command: dict[str, Any]) -> None:
        command = self.settle(command)
        if command["protocol"] != "x1":
            return super().start_worker(command)
        worker = self.workers[command["worker"]] = Worker(command)  # type: ignore[assignment]
        worker.start()
        emit("ok", id=command["id"])

    def request_many(self, command: dict[str, Any]) -> None:
        client = self.clients[command["client"]]
        if not isinstance(client, Client):
            return super().request_many(command)
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
                body = [b"%d" % number, raw_agent.made_frame(command["size"], number, 0)]
                try:
                    outcome = "ok" if client.call(command, body) == body else "mismatched"
                except Failed as failure:
                    outcome = "errors"
                    first.setdefault("first_error", ERROR_NAMES[failure.kind])
                with lock:
                    counts[outcome] += 1

        threads = [threading.Thread(target=work) for _ in range(command["concurrency"])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        emit("many", id=command["id"], **counts, **first)

    def perform(self, command: dict[str, Any]) -> None:
        try:
            getattr(self, command["cmd"])(command)
        except Failed as failure:
            emit("error", id=command["id"], **failure.fields())
        except raw_agent.TimedOut as problem:
            emit("error", id=command["id"], kind="Timeout", number=TIMEOUT, text=str(problem))
        except Exception as problem:  # the driver has to hear of everything
            emit("failed", id=command["id"], text=repr(problem))


if __name__ == "__main__":
    Agent().run()
