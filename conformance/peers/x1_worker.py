"""A worker of MDPX/1 made of nothing but pyzmq and docs/mdpx.md: a thread for each delivery that it has started (section 6)."""

from __future__ import annotations

import math
import queue
import threading
import time
from typing import Any

import zmq

from . import x1
from .agent import Failed, Handler
from .lines import Body, Command
from .sockets import open_socket
from .wakes import Wakes

WELCOME_SECONDS = 2.0
FENCE_SECONDS = 0.5


class Job(threading.Thread):
    """One delivery, and the handler that works on it."""

    def __init__(self, worker: Worker, request: x1.Message) -> None:
        super().__init__(daemon=True)
        self.worker = worker
        self.delivery = request.delivery
        self.body = Body(request.body, request.properties)
        self.attempt = request.attempt
        self.end = time.monotonic() + request.ttl_ms / 1000 if request.ttl_ms else math.inf
        self.cancelled = threading.Event()
        self.parts = 0

    @property
    def remaining_ms(self) -> int:
        return -1 if self.end == math.inf else max(0, round(1000 * (self.end - time.monotonic())))

    def run(self) -> None:
        try:
            reply = self.worker.handler(self)
            self.answer(True, "FINAL", reply, sequence=self.parts)
        except Failed as failed:
            self.fail(failed)
        except Exception as problem:  # the handler's own failure
            self.fail(Failed("ServiceError", repr(problem), 500))

    def partial(self, body: Body) -> None:
        self.answer(False, "PARTIAL", body, sequence=self.parts)
        self.parts += 1

    def fail(self, failed: Failed) -> None:
        self.answer(True, "ERROR", flag=failed.retryable, kind=failed.number, code=failed.code, text=failed.text)

    def answer(self, is_last: bool, command: str, body: Body | None = None, flag: bool = False, **fields: Any) -> None:
        self.worker.answer(self, is_last, x1.written(command, "worker", body, flag, delivery=self.delivery, **fields))


class Worker(threading.Thread):
    """The socket is this thread's; jobs give it their answers."""

    def __init__(self, command: Command) -> None:
        super().__init__(daemon=True)
        self.options = {"heartbeat_ms": 2500, "liveness": 3, "reconnect_ms": 2500, "concurrency": 1, **command}
        self.handler = Handler(command)
        self.stopping = False
        self.wakes = Wakes()
        self.running: dict[int, Job] = {}
        self.stale: set[Job] = set()
        self.answers: queue.SimpleQueue[tuple[Job, bool, list[bytes]]] = queue.SimpleQueue()

    def answer(self, job: Job, is_last: bool, frames: list[bytes]) -> None:
        self.answers.put((job, is_last, frames))
        self.wakes.wake()

    def stop(self) -> None:
        self.stopping = True
        self.wakes.wake()
        self.join()
        self.wakes.close()

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
            for job in self.stale:
                job.cancelled.set()
            time.sleep(min(self.options["reconnect_ms"], 100) / 1000)

    def say(self, command: str, **fields: Any) -> None:
        self.send(x1.written(command, "worker", **fields))

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
                    self.send(x1.QUESTION)
                    fence = self.sent + FENCE_SECONDS
            if draining and not self.running and time.monotonic() >= fence:
                self.say("DISCONNECT", kind=0, text="")
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
                if frames[1:3] == x1.QUESTION[1:3]:
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
                elif message.command == "CANCEL" and message.delivery in self.running:
                    self.running[message.delivery].cancelled.set()
            now = time.monotonic()
            if now >= heard + silence and not self.socket.poll(0):
                return False
            if welcome and now >= self.sent + interval:
                self.say("HEARTBEAT")

    def take(self, message: x1.Message, draining: bool) -> None:
        if draining:
            self.say("RETURN", delivery=message.delivery)
            return
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
