"""A client of MDPX/1 made of nothing but pyzmq and docs/mdpx.md: one session, many requests at once (section 5)."""

from __future__ import annotations

import itertools
import math
import os
import queue
import threading
import time
from collections import deque
from typing import Any

import zmq

from . import x1
from .agent import Failed, OnPart
from .lines import Body, Command, Properties
from .sockets import open_socket
from .wakes import Wakes

WELCOME_SECONDS = 2.0
TICK_SECONDS = 1.0


class Call:
    """One request of one caller."""

    def __init__(self, service: bytes, body: Body, deadline: float, max_attempts: int, fail_fast: bool) -> None:
        self.service = service
        self.body = body
        self.deadline = deadline
        self.max_attempts = max_attempts
        self.fail_fast = fail_fast
        self.number = 0
        self.parts = 0
        self.cancelled = False
        self.events: queue.Queue[Body | Failed | None] = queue.Queue()

    def next(self) -> Body | None:
        """The next body; `None` behind the last one."""
        event = self.events.get()
        if isinstance(event, Failed):
            raise event
        return event

    def given_up(self, now: float) -> Failed | None:
        """How it ended if its caller does not wait any more."""
        if self.cancelled:
            return Failed("Cancelled", "the caller has given the request up")
        return Failed("Timeout", f"no answer from {self.service!r}") if now >= self.deadline else None


class Session(threading.Thread):
    """The socket is this thread's; callers give it their calls and wait for what they lead to."""

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

    def cancel(self, call: Call) -> None:
        call.cancelled = True
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
                self.say("DISCONNECT", kind=0, text="")
                self.socket.close(2000)
            else:
                self.socket.close(0)
                time.sleep(pause)
                pause = min(max(0.05, 2 * pause), 0.5)
        self.take_submitted()
        for call in [*self.open.values(), *self.waiting]:
            call.events.put(Failed("Closed", "this client is closed"))

    def say(self, command: str, flag: bool = False, body: Body | None = None, **fields: Any) -> None:
        self.socket.send_multipart(x1.written(command, "client", body, flag, **fields))

    def greet(self) -> bool:
        """Says HELLO; whether WELCOME came."""
        session, secret = self.identity
        self.say("HELLO", session=session, secret=secret, heartbeat_ms=833, liveness=3)
        end = time.monotonic() + WELCOME_SECONDS
        while not self.closing and time.monotonic() < end:
            message = self.wait(min(end, time.monotonic() + 0.05))
            self.end_given_up(connected=False)
            if message is None:
                continue
            if message.command != "WELCOME":
                if message.command == "DISCONNECT" and message.kind == x1.DENIED:
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
                self.end(number, Failed("BrokerUnreachable", "the connection was lost in the middle of a streamed reply"))
            elif not resumed and call.max_attempts == 1:
                self.end(number, Failed("WorkerLost", "the broker was lost, and the request must not run twice"))
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
            self.end_given_up()
            if self.acked >= self.said + (1 if message is None else 256):
                self.say("ACK", number=self.acked)
                self.said = self.acked

    def begin(self, call: Call) -> None:
        call.number = next(self.numbers)
        self.open[call.number] = call
        if sum(map(len, call.body.frames)) > self.largest:
            self.end(call.number, Failed("TooLarge", f"the broker takes {self.largest} bytes at most"))
        else:
            self.send(call)

    def send(self, call: Call) -> None:
        ttl_ms = max(1, math.ceil(1000 * (call.deadline - time.monotonic())))
        self.said = self.acked
        self.say(
            "REQUEST", call.fail_fast, call.body, number=call.number, acked=self.acked, ttl_ms=ttl_ms,
            max_attempts=call.max_attempts, service=call.service,
        )  # fmt: skip

    def take(self, message: x1.Message) -> None:
        call = self.open[message.number]
        if message.command == "ERROR":
            failed = Failed(message.kind, message.text, message.code, message.flag)
            if failed.kind == "Expired" and time.monotonic() >= call.deadline:
                return None  # that is the caller's own deadline: `end_given_up` says so
            return self.end(message.number, failed)
        if message.sequence != call.parts:
            self.say("CANCEL", number=message.number)
            lost = "the connection was lost in the middle of a streamed reply"
            return self.end(message.number, Failed("BrokerUnreachable", lost))
        call.parts += 1
        call.events.put(Body(message.body, message.properties))
        if message.command == "FINAL":
            self.end(message.number, None)

    def end_given_up(self, connected: bool = True) -> None:
        now = time.monotonic()
        for number, call in list(self.open.items()):
            if failed := call.given_up(now):
                if connected:
                    self.say("CANCEL", number=number)
                self.end(number, failed)
        for call in list(self.waiting):
            if failed := call.given_up(now):
                self.waiting.remove(call)
                call.events.put(failed)

    def end(self, number: int, outcome: Failed | None) -> None:
        self.open.pop(number).events.put(outcome)
        self.ended.add(number)
        while self.acked + 1 in self.ended:
            self.acked += 1
            self.ended.remove(self.acked)


class Client:
    """What the agent calls."""

    def __init__(self, command: Command) -> None:
        self.options = command
        self.session = Session(command["endpoint"].split(",")[0])
        self.calls: dict[int, Call] = {}

    def call(self, command: Command, body: Body, on_part: OnPart | None = None) -> Body:
        options = {"timeout_ms": 2500, "retries": 3, "max_attempts": 0, "fail_fast": False, **self.options, **command}
        time_ms = options.get("deadline_ms", options["timeout_ms"] * options["retries"])
        deadline = time.monotonic() + time_ms / 1000
        call = Call(command["service"].encode(), body, deadline, options["max_attempts"], options["fail_fast"])
        self.calls[command["id"]] = call
        self.session.submit(call)
        joined: list[bytes] = []
        properties: Properties = []
        while (part := call.next()) is not None:
            if on_part:
                on_part(part)
            joined += part.frames
            properties = part.properties
        return Body(joined, properties)

    def cancel(self, request: int) -> bool:
        call = self.calls.get(request)
        if call:
            self.session.cancel(call)
        return call is not None

    def close(self) -> None:
        self.session.close()
