"""Clients in both styles, and what a command asks of them (AGENT.md, section 3)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import majordomo
import majordomo.aio
from lines import OUT, Command, body_of, options_of, pattern, properties_of
from loop import run

CLIENT_SECONDS = ("timeout", "deadline", "reconnect_min", "reconnect_max")
CLIENT_NUMBERS = ("retries", "max_message_bytes")
ASYNC_CLIENT_NUMBERS = (*CLIENT_NUMBERS, "max_in_flight", "max_waiting")
REQUEST_SECONDS = ("timeout", "deadline")
REQUEST_NUMBERS = ("retries", "max_attempts")


def request_options(command: Command) -> dict[str, Any]:
    return {
        **options_of(command, REQUEST_SECONDS, REQUEST_NUMBERS),
        "fail_fast": command.get("fail_fast", False),
        "properties": properties_of(command),
    }


def listener(command: Command) -> Callable[[majordomo.Event], None] | None:
    return OUT.connection("client", command["client"]) if command.get("events") else None


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


class BlockingClient:
    def __init__(self, command: Command) -> None:
        options = options_of(command, CLIENT_SECONDS, CLIENT_NUMBERS)
        self.client = majordomo.Client(
            command["endpoint"], protocol=command.get("protocol"), on_event=listener(command), **options
        )

    def request(self, command: Command) -> None:
        OUT.body("reply", command, self.client.request(command["service"], body_of(command), **request_options(command)))

    def stream(self, command: Command) -> None:
        parts = 0
        for part in self.client.stream(command["service"], body_of(command), **request_options(command)):
            OUT.body("part", command, part)
            parts += 1
            if parts == command.get("leave_after"):
                break
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

    def cancel(self, command: Command) -> bool:
        """A blocking client has nothing to cancel."""
        return False

    def close(self) -> None:
        self.client.close()


class AsyncClient:
    """Each method runs in a thread of its command and waits for a coroutine on the one event loop."""

    def __init__(self, command: Command) -> None:
        options = options_of(command, CLIENT_SECONDS, ASYNC_CLIENT_NUMBERS)
        self.running: dict[int, asyncio.Task[None]] = {}
        self.client = run(self._open(command, options))

    async def _open(self, command: Command, options: dict[str, Any]) -> majordomo.aio.Client:
        # On the loop, whose thread is told of events.
        return majordomo.aio.Client(command["endpoint"], protocol=command.get("protocol"), on_event=listener(command), **options)

    def cancel(self, command: Command) -> bool:
        """Cancel the request; whether it is one of this client's."""
        return run(self._cancel(command))

    async def _cancel(self, command: Command) -> bool:
        task = self.running.get(command["request"])
        return task is not None and task.cancel()

    async def _cancellable(self, command: Command, asking: Coroutine[Any, Any, None]) -> None:
        task = self.running[command["id"]] = asyncio.ensure_future(asking)
        try:
            await task
        except asyncio.CancelledError:
            raise majordomo.Cancelled("the request was cancelled") from None
        finally:
            del self.running[command["id"]]

    def request(self, command: Command) -> None:
        run(self._cancellable(command, self._request(command)))

    async def _request(self, command: Command) -> None:
        reply = await self.client.request(command["service"], body_of(command), **request_options(command))
        OUT.body("reply", command, reply)

    def stream(self, command: Command) -> None:
        run(self._cancellable(command, self._stream(command)))

    async def _stream(self, command: Command) -> None:
        parts = 0
        async for part in self.client.stream(command["service"], body_of(command), **request_options(command)):
            OUT.body("part", command, part)
            parts += 1
            if parts == command.get("leave_after"):
                break
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
