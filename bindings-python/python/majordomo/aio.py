"""The same names for asyncio: Client, Worker, Broker, serve.

>>> import asyncio, majordomo.aio
>>> async def main():
...     async with majordomo.aio.Broker("tcp://127.0.0.1:0") as broker:
...         async with majordomo.aio.Worker(broker.endpoint, "echo") as worker:
...             serving = asyncio.create_task(worker.serve(lambda request: request.body))
...             async with majordomo.aio.Client(broker.endpoint) as client:
...                 replies = await asyncio.gather(*(client.request("echo", str(n)) for n in range(3)))
...             await worker.drain()
...             await serving
...             return [reply[0] for reply in replies]
>>> asyncio.run(main())
[b'0', b'1', b'2']

All handles of a process share one I/O thread of the core, which keeps heartbeats going whatever the event loop does.
Handles may be used from several event loops, each in its own thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Callable, Optional, TypeVar, Union, cast

import majordomo
from majordomo import _mailbox, _majordomo, _serve
from majordomo._majordomo import Event, Message, Request, Unread
from majordomo._serve import Body, Frame
from majordomo.errors import Closed, InvalidArgument

__all__ = ["Broker", "Client", "Handler", "Parts", "Worker", "serve"]

T = TypeVar("T")

Handler = Callable[[Request], Union[Awaitable[Optional[Body]], AsyncIterator[Body], Optional[Body], Any]]
"""A worker as a function: an ``async def`` that returns the reply's body, an async generator of partial bodies, or
one of the handlers of ``majordomo.serve`` where it does not block."""


class Client:
    """An asynchronous client of a Majordomo broker; many requests may be under way at once.

    Options are those of ``majordomo.Client`` (durations in seconds), and two more: ``max_in_flight`` (1,000) requests
    are with the broker at once: over MDPX on one connection, within the broker's credit; MDP/0.1 and 0.2 need a
    connection for each, and 64 of these at most are used. ``max_waiting`` (10,000) further ones wait for their turn,
    and one more raises QueueFull. ``on_event`` is called on the thread of the event loop in which the client was made.

    Raises InvalidArgument for an option that is out of range.
    """

    def __init__(
        self,
        endpoints: str | Sequence[str],
        *,
        timeout: float | None = None,
        retries: int | None = None,
        deadline: float | None = None,
        protocol: str | None = None,
        max_in_flight: int | None = None,
        max_waiting: int | None = None,
        max_message_bytes: int | None = None,
        reconnect_min: float | None = None,
        reconnect_max: float | None = None,
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        self._native = _majordomo.AsyncClient(
            endpoints,
            timeout=timeout,
            retries=retries,
            deadline=deadline,
            protocol=protocol,
            max_in_flight=max_in_flight,
            max_waiting=max_waiting,
            max_message_bytes=max_message_bytes,
            reconnect_min=reconnect_min,
            reconnect_max=reconnect_max,
            on_event=_on_the_loop(on_event),
        )

    async def request(
        self,
        service: str,
        body: Body,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        deadline: float | None = None,
        max_attempts: int | None = None,
        fail_fast: bool = False,
        properties: Mapping[str, Frame] | None = None,
    ) -> Message:
        """Ask a service, and wait for its reply.

        Cancelling the task gives the request up; over MDPX the broker and the handler are told. Arguments and errors
        are those of ``majordomo.Client.request``, and QueueFull when ``max_in_flight`` and ``max_waiting`` are reached.
        """
        mailbox = _mailbox.of_running_loop()
        reply: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        token = mailbox.register(partial(_settle, reply))
        try:
            number = self._native.submit(
                mailbox.native, token, service, body, timeout, retries, deadline, max_attempts, fail_fast, properties
            )
        except BaseException:
            mailbox.forget(token)
            raise
        try:
            return await reply
        except BaseException:
            self._native.cancel(number)
            raise

    def stream(
        self,
        service: str,
        body: Body,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        deadline: float | None = None,
        max_attempts: int | None = None,
        fail_fast: bool = False,
        properties: Mapping[str, Frame] | None = None,
    ) -> Parts:
        """Ask a service, and iterate over the messages of its reply: the partial ones, then the final one.

        Over MDP/0.1, which knows one reply only, that is one message. The request is sent at once; closing or
        dropping the iterator gives it up, as cancelling the task of ``request`` does. Parts that are not read wait in
        memory: over MDPX the stream fails with QueueFull when they exceed ``max_message_bytes``, over 0.2 its
        connection is not read meanwhile. Arguments and errors are those of ``request``; a failure is raised by the
        iterator.
        """
        parts = Parts()
        mailbox = _mailbox.of_running_loop()
        token = mailbox.register(parts._arrival.put)
        try:
            number = self._native.submit(
                mailbox.native,
                token,
                service,
                body,
                timeout,
                retries,
                deadline,
                max_attempts,
                fail_fast,
                properties,
                parts=True,
            )
        except BaseException:
            mailbox.forget(token)
            raise
        parts._asked = self._native, number
        return parts

    async def close(self) -> None:
        """Close the connections; unanswered requests end with Closed, and so do later ones."""
        self._native.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class Parts(AsyncIterator[Message]):
    """The messages of a reply as they come, made by ``Client.stream``."""

    def __init__(self) -> None:
        self._arrival = _mailbox.Arrival()
        # The client, which would close with the stream if nobody else held it, and its number of the request.
        self._asked: tuple[_majordomo.AsyncClient, int] | None = None
        self._final = False

    @property
    def final(self) -> bool:
        """Whether the message that the iterator returned last was the final one."""
        return self._final

    def __aiter__(self) -> Parts:
        return self

    async def __anext__(self) -> Message:
        outcome = await self._arrival.get()
        if outcome is None:
            raise StopAsyncIteration
        if isinstance(outcome, Exception):
            raise outcome
        if isinstance(outcome, Unread):
            return outcome.take()
        self._final = True
        return cast(Message, outcome)

    async def aclose(self) -> None:
        """Abandon the request, unless it has ended."""
        self._arrival.end()
        self._give_up()

    async def __aenter__(self) -> Parts:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # The mailbox holds the arrival queue and not this object, so that an iterator nobody holds is noticed here.
        self._give_up()

    def _give_up(self) -> None:
        if self._asked is not None:
            client, number = self._asked
            client.cancel(number)


class Worker:
    """An asynchronous worker: registers for a service at a broker and takes its requests.

    ``async for request in worker``, ``await worker.recv()`` or ``await worker.serve(handler)``. Options are those of
    ``majordomo.Worker`` (durations in seconds), and ``concurrency`` (1): how many requests are handed out at once;
    over MDP/0.1 and 0.2 each takes a registration of its own. The worker registers when it is first used in an event
    loop, and belongs to that loop from then on.

    Raises InvalidArgument, when it registers, for a service name or an option that is out of range.
    """

    def __init__(
        self,
        endpoints: str | Sequence[str],
        service: str,
        *,
        heartbeat: float | None = None,
        liveness: int | None = None,
        reconnect: float | None = None,
        concurrency: int | None = None,
        protocol: str | None = None,
        max_message_bytes: int | None = None,
        drain_timeout: float | None = None,
        prefetch: int | None = None,
        keep_outcomes: int | None = None,
        keep_outcomes_bytes: int | None = None,
        keep_outcomes_age: float | None = None,
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        self._on_event = on_event
        self._concurrency = concurrency
        self._connect = partial(
            _majordomo.AsyncWorker,
            endpoints=endpoints,
            service=service,
            heartbeat=heartbeat,
            liveness=liveness,
            reconnect=reconnect,
            protocol=protocol,
            max_message_bytes=max_message_bytes,
            drain_timeout=drain_timeout,
            prefetch=prefetch,
            keep_outcomes=keep_outcomes,
            keep_outcomes_bytes=keep_outcomes_bytes,
            keep_outcomes_age=keep_outcomes_age,
        )
        self._handlers: dict[int, asyncio.Task[None]] = {}
        self._native: _majordomo.AsyncWorker | None = None
        self._arrival = _mailbox.Arrival()

    def _started(self) -> _majordomo.AsyncWorker:
        if self._native is None:
            if self._arrival.ended:
                raise Closed("this worker is closed")
            mailbox = _mailbox.of_running_loop()
            token = mailbox.register(self._take)
            try:
                self._native = self._connect(
                    mailbox.native, token, concurrency=self._concurrency, on_event=_on_the_loop(self._on_event)
                )
            except BaseException:
                mailbox.forget(token)
                raise
        return self._native

    def _take(self, outcome: _mailbox.Outcome, last: bool) -> None:
        if isinstance(outcome, int):
            task = self._handlers.get(outcome)
            if task is not None:
                task.cancel()
        else:
            self._arrival.put(outcome, last)

    def _forget(self, number: int, handlers: set[asyncio.Task[None]], task: asyncio.Task[None]) -> None:
        handlers.discard(task)
        if self._handlers.get(number) is task:
            del self._handlers[number]

    async def recv(self) -> Request:
        """Wait for the next request. Raises Closed after ``close`` or ``drain``."""
        if self._native is not None or not self._arrival.ended:
            self._started()
        outcome = await self._arrival.get()
        if outcome is None:
            raise Closed("this worker is closed")
        if isinstance(outcome, Exception):
            raise outcome
        return cast(Request, outcome)

    def __aiter__(self) -> Worker:
        return self

    async def __anext__(self) -> Request:
        try:
            return await self.recv()
        except Closed:
            raise StopAsyncIteration from None

    async def serve(self, handler: Handler, *, concurrency: int | None = None) -> None:
        """Answer requests with a function until the worker is drained or closed, or the task is cancelled.

        ``handler`` takes the Request; it is an ``async def`` that returns the reply's body, or an async generator:
        all it yields but the last goes out as a partial reply, the last as the final one. Failures are answered as
        by ``majordomo.serve``. ``concurrency`` replaces the worker's option, unless it has registered already.

        A handler whose request is cancelled by its caller (MDPX only) is cancelled as a task is.
        Cancelling the task cancels the running handlers and closes the worker: their requests go to another one.
        """
        if concurrency is not None and concurrency != self._concurrency:
            if self._native is not None:
                raise InvalidArgument("the worker has registered already; give its concurrency when it is made")
            self._concurrency = concurrency
        handlers: set[asyncio.Task[None]] = set()
        try:
            async for request in self:
                task = asyncio.create_task(_answer(request, handler))
                handlers.add(task)
                self._handlers[request._id] = task
                task.add_done_callback(partial(self._forget, request._id, handlers))
                if request.cancelled:
                    # Told of before its handler was known.
                    task.cancel()
                del request, task
            if handlers:
                # Not gather(): cancelled, it would cancel the handlers before the worker is closed.
                await asyncio.wait(handlers)
        finally:
            if handlers:
                # Closed first: the requests of cancelled handlers then go to another worker instead of failing.
                await self.close()
                for task in handlers:
                    task.cancel()
                await asyncio.wait(handlers)

    async def drain(self) -> None:
        """Take no new requests, wait until those in hand are answered, say DISCONNECT and close.

        Waits at most ``drain_timeout`` seconds.
        """
        if self._native is None:
            self._arrival.end()
        else:
            self._native.drain()
            await self._arrival.wait_for_end()

    async def close(self) -> None:
        """Say DISCONNECT and close; requests in hand go to another worker. Closing twice does nothing."""
        if self._native is not None:
            self._native.close()
        self._arrival.end()

    async def __aenter__(self) -> Worker:
        self._started()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class Broker:
    """An embedded broker, started at the beginning of an ``async with`` block and stopped at its end.

    Arguments and options are those of ``majordomo.Broker``.
    """

    def __init__(self, endpoints: str | Sequence[str], **options: Any) -> None:
        self._start = partial(majordomo.Broker, endpoints, **options)
        self._blocking: majordomo.Broker | None = None

    async def start(self) -> Broker:
        """Start the broker; does nothing when it is running."""
        if self._blocking is None:
            self._blocking = await _in_thread(self._start)
        return self

    def _running(self) -> majordomo.Broker:
        if self._blocking is None:
            raise Closed("this broker is not started; use it in an `async with` block")
        return self._blocking

    @property
    def endpoint(self) -> str:
        """The first address that the broker listens on, its port resolved."""
        return self._running().endpoint

    @property
    def endpoints(self) -> list[str]:
        """All addresses that the broker listens on, their ports resolved."""
        return self._running().endpoints

    async def stats(self) -> dict[str, Any]:
        """Return the broker's counters and what it knows of services."""
        return await _in_thread(self._running().stats)

    async def stop(self) -> None:
        """Say DISCONNECT to the workers and end the broker. Stopping twice does nothing."""
        if self._blocking is not None:
            await _in_thread(self._blocking.stop)

    async def __aenter__(self) -> Broker:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()


async def serve(
    endpoints: str | Sequence[str],
    service: str,
    handler: Handler,
    *,
    concurrency: int = 1,
    heartbeat: float | None = None,
    liveness: int | None = None,
    reconnect: float | None = None,
    protocol: str | None = None,
    max_message_bytes: int | None = None,
    drain_timeout: float | None = None,
    prefetch: int | None = None,
    keep_outcomes: int | None = None,
    keep_outcomes_bytes: int | None = None,
    keep_outcomes_age: float | None = None,
    on_event: Callable[[Event], object] | None = None,
) -> None:
    """Answer the requests of a service with an ``async def`` or an async generator, until the task is cancelled.

    ``concurrency`` requests are worked on at once. Options are those of Worker; the handler is described at
    ``Worker.serve``.
    """
    worker = Worker(
        endpoints,
        service,
        concurrency=concurrency,
        heartbeat=heartbeat,
        liveness=liveness,
        reconnect=reconnect,
        protocol=protocol,
        max_message_bytes=max_message_bytes,
        drain_timeout=drain_timeout,
        prefetch=prefetch,
        keep_outcomes=keep_outcomes,
        keep_outcomes_bytes=keep_outcomes_bytes,
        keep_outcomes_age=keep_outcomes_age,
        on_event=on_event,
    )
    async with worker:
        await worker.serve(handler)


def _settle(reply: asyncio.Future[Message], outcome: _mailbox.Outcome, last: bool) -> None:
    # A cancelled future takes no result.
    if not last or reply.done():
        return
    if isinstance(outcome, Exception):
        reply.set_exception(outcome)
    else:
        reply.set_result(cast(Message, outcome))


async def _answer(request: Request, handler: Handler) -> None:
    try:
        result = handler(request)
        if isinstance(result, AsyncIterator):
            await _stream(request, result)
        elif isinstance(result, Iterator):
            _serve.stream(request, result)
        else:
            if inspect.isawaitable(result):
                result = await result
            if result is not None or not request.answered:
                request.reply(_serve.body_of_result(result))
    except Exception as failure:
        _serve.fail(request, failure)


async def _stream(request: Request, bodies: AsyncIterator[Body]) -> None:
    held: Body | None = None
    async for body in bodies:
        if held is not None:
            request.partial(held)
        held = _serve.body_of_result(body)
    if held is not None or not request.answered:
        request.reply(() if held is None else held)


def _on_the_loop(listener: Callable[[Event], object] | None) -> Callable[[Event], object] | None:
    """Return what tells the listener on the thread of the running event loop; the I/O thread calls it."""
    if listener is None:
        return None
    loop = asyncio.get_running_loop()

    def tell(event: Event) -> None:
        # A loop that is closed has nobody left to be told.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(listener, event)

    return tell


async def _in_thread(function: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, function)
