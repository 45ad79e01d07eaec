"""Workers as functions."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Callable, Generic, Optional, TypeVar, Union, cast

from majordomo._majordomo import Event, Message, Request, Worker
from majordomo.errors import InvalidArgument, ServiceError

if TYPE_CHECKING:
    from typing_extensions import Buffer

_log = logging.getLogger("majordomo")

Frame = Union["Buffer", str]
"""One frame, where a body is asked for: any object with a buffer (bytes, bytearray, memoryview, mmap, array), or text
that is sent as UTF-8."""

Body = Union[Frame, Sequence[Frame], Message]
"""What is accepted where a body is asked for: one frame, a list or tuple of frames, or a Message."""

Handler = Callable[[Request], Union[Optional[Body], Iterator[Body]]]
"""A worker as a function: it takes the request, and returns the reply's body or is a generator of partial bodies."""

H = TypeVar("H", bound=Handler)


def serve(
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
    """Answer the requests of a service with a function, until the program is interrupted.

    ``handler`` takes the Request and returns the reply's body. A generator streams: all it yields but the last goes
    out as a partial reply, the last as the final one (an empty generator gives a final reply without frames).
    Raise ServiceError to answer with a failure of your own; any other exception answers 500 with its text. A handler
    that has called ``request.reply`` or ``request.fail`` itself returns None.

    ``concurrency`` requests are worked on at once, each on a thread and with a registration of its own; the first one
    is the calling thread, so with 1 the handler runs there. The other options are those of Worker. Each registration
    has them to itself: it holds ``prefetch`` further requests ready, and answers repeats from its own kept outcomes.
    ``on_event`` is told of the connections of all.

    Raises InvalidArgument for a service name or an option that is out of range. KeyboardInterrupt, or whatever else
    a signal handler raises, ends it: requests in hand on other threads are finished, the interrupted one goes to
    another worker.
    """
    if concurrency < 1:
        raise InvalidArgument(f"concurrency must be at least 1, not {concurrency}")
    workers: list[Worker] = []
    try:
        for _ in range(concurrency):
            worker = Worker(
                endpoints,
                service,
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
            workers.append(worker)
        for worker in workers[1:]:
            # Daemons: a handler that never returns does not keep an interrupted program from ending.
            threading.Thread(target=run, args=(worker, handler), name=f"majordomo {service}", daemon=True).start()
        run(workers[0], handler)
    finally:
        # The interrupted request is not answered by its loss: closed first, its worker gives it back to the broker.
        for worker in workers[:1]:
            worker.close()
        drains = [threading.Thread(target=worker.drain) for worker in workers[1:]]
        for drain in drains:
            drain.start()
        for drain in drains:
            drain.join()


def run(worker: Worker, handler: Handler) -> None:
    """Answer a worker's requests with a handler until it is drained or closed."""
    for request in worker:
        try:
            answer(request, handler)
        except BaseException:
            worker.close()
            raise
        # Not held, with its body, while the next one is waited for.
        del request


def answer(request: Request, handler: Handler) -> None:
    """Answer one request with a handler: its result, or the failure that its exception stands for."""
    try:
        result = handler(request)
        if isinstance(result, Iterator):
            stream(request, result)
        elif result is not None or not request.answered:
            request.reply(body_of_result(result))
    except Exception as failure:
        fail(request, failure)


def stream(request: Request, bodies: Iterator[Body]) -> None:
    """Send all bodies but the last as partial replies, and the last as the final one."""
    held: Body | None = None
    for body in bodies:
        if held is not None:
            request.partial(held)
        held = body_of_result(body)
    if held is not None or not request.answered:
        request.reply(() if held is None else held)


def body_of_result(result: object) -> Body:
    """Return what a handler gave as its reply, unless it gave nothing."""
    if result is None:
        raise TypeError("the handler gave None for a body, and has not answered the request itself")
    return cast(Body, result)


def fail(request: Request, failure: Exception) -> None:
    """Answer with the failure that an exception of a handler stands for."""
    if request.answered:
        _log.error("the handler of %r failed after its answer", request.service, exc_info=failure)
    elif isinstance(failure, ServiceError):
        request.fail(failure.service_code, failure.text, failure.retryable)
    else:
        _log.error("the handler of %r failed", request.service, exc_info=failure)
        request.fail(500, str(failure) or type(failure).__name__)


class Service(Generic[H]):
    """A handler with the name of its service, made by the decorator ``service``.

    It can be called as the function that it is, and ``serve(endpoints)`` answers requests with it.
    """

    def __init__(self, name: str, handler: H, options: dict[str, Any]) -> None:
        self.name = name
        self.handler = handler
        self._options = options
        self.__doc__ = handler.__doc__

    def __call__(self, request: Request) -> Any:
        """Call the handler."""
        return self.handler(request)

    def serve(self, endpoints: str | Sequence[str], **options: Any) -> None:
        """Answer requests until interrupted; the options are those of ``majordomo.serve``."""
        serve(endpoints, self.name, self.handler, **{**self._options, **options})

    def __repr__(self) -> str:
        return f"<majordomo.Service {self.name!r}>"


def service(name: str, **options: Any) -> Callable[[H], Service[H]]:
    """Make a function the handler of a service; the options are those of ``majordomo.serve``.

    >>> import majordomo
    >>> @majordomo.service("echo")
    ... def echo(request):
    ...     return request.body
    >>> echo.name
    'echo'

    ``echo.serve("tcp://127.0.0.1:5555")`` then answers its requests.
    """
    return lambda handler: Service(name, handler, options)
