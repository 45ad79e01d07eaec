"""The conformance agent of Python: lines of JSON become calls of `majordomo`, and outcomes lines (see AGENT.md)."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from typing import Any

import majordomo
from clients import AsyncClient, BlockingClient
from lines import OUT, BadCommand, Command
from loop import LOOP
from workers import AsyncWorker, BlockingWorker


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

    def cancel(self, command: Command) -> None:
        clients = [named(self.clients, command["client"])] if "client" in command else list(self.clients.values())
        if not any([client.cancel(command) for client in clients]):
            raise BadCommand("unsupported")
        ok(command)

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
    except BadCommand as failure:
        OUT.event("failed", id=command["id"], text=str(failure))
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
