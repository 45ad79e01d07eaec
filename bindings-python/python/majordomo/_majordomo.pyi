from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, SupportsIndex, final, overload

from majordomo._serve import Body, Frame, Handler

__all__ = [
    "AsyncClient",
    "AsyncWorker",
    "Broker",
    "Client",
    "Event",
    "Mailbox",
    "Message",
    "Parts",
    "Request",
    "Unread",
    "Worker",
    "error_table",
    "libzmq_version",
    "mdbroker",
    "version",
]

@final
class Event:
    @property
    def name(self) -> str: ...
    @property
    def endpoint(self) -> str | None: ...
    @property
    def protocol(self) -> str | None: ...
    @property
    def reason(self) -> str | None: ...

@final
class Message(Sequence[bytes]):
    def __new__(cls, body: Body | None = None, /, *, properties: Mapping[str, Frame] | None = None) -> Message: ...
    @property
    def properties(self) -> dict[str, bytes]: ...
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: SupportsIndex, /) -> bytes: ...
    @overload
    def __getitem__(self, index: slice, /) -> Message: ...
    def __iter__(self) -> Iterator[bytes]: ...
    def __reversed__(self) -> Iterator[bytes]: ...
    def __contains__(self, frame: object, /) -> bool: ...
    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int: ...
    def count(self, value: Any) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __getnewargs_ex__(self) -> tuple[tuple[tuple[bytes, ...]], dict[str, dict[str, bytes]]]: ...

@final
class Client:
    def __new__(
        cls,
        endpoints: str | Sequence[str],
        *,
        timeout: float | None = None,
        retries: int | None = None,
        deadline: float | None = None,
        protocol: str | None = None,
        max_message_bytes: int | None = None,
        reconnect_min: float | None = None,
        reconnect_max: float | None = None,
        on_event: Callable[[Event], object] | None = None,
    ) -> Client: ...
    def request(
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
    ) -> Message: ...
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
    ) -> Parts: ...
    def close(self) -> None: ...
    def __enter__(self) -> Client: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...

@final
class Parts:
    def __iter__(self) -> Parts: ...
    def __next__(self) -> Message: ...
    @property
    def final(self) -> bool: ...
    def close(self) -> None: ...
    def __enter__(self) -> Parts: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...

@final
class Worker:
    def __new__(
        cls,
        endpoints: str | Sequence[str],
        service: str,
        *,
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
    ) -> Worker: ...
    @overload
    def recv(self, reply: Body | None = None, *, timeout: None = None) -> Request: ...
    @overload
    def recv(self, reply: Body | None = None, *, timeout: float) -> Request | None: ...
    def __iter__(self) -> Worker: ...
    def __next__(self) -> Request: ...
    def serve(self, handler: Handler) -> None: ...
    def drain(self) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> Worker: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...

@final
class Request:
    @property
    def body(self) -> Message: ...
    @property
    def service(self) -> str: ...
    @property
    def answered(self) -> bool: ...
    @property
    def properties(self) -> dict[str, bytes]: ...
    @property
    def attempt(self) -> int: ...
    @property
    def remaining(self) -> float | None: ...
    @property
    def cancelled(self) -> bool: ...
    @property
    def _id(self) -> int: ...
    def wait_cancelled(self, timeout: float | None = None) -> bool: ...
    def reply(self, body: Body, *, properties: Mapping[str, Frame] | None = None) -> None: ...
    def partial(self, body: Body, *, properties: Mapping[str, Frame] | None = None) -> None: ...
    def fail(self, code: int, text: str, retryable: bool = False) -> None: ...

@final
class Broker:
    def __new__(
        cls,
        endpoints: str | Sequence[str],
        *,
        heartbeat: float | None = None,
        liveness: int | None = None,
        max_attempts: int | None = None,
        attempt_timeout: float | None = None,
        request_ttl: float | None = None,
        max_queued: int | None = None,
        max_queued_per_service: int | None = None,
        max_queued_bytes: int | None = None,
        max_queued_bytes_per_service: int | None = None,
        max_message_bytes: int | None = None,
        max_services: int | None = None,
        max_workers: int | None = None,
        max_sessions: int | None = None,
        credit: int | None = None,
        heartbeat_min: float | None = None,
        heartbeat_max: float | None = None,
    ) -> Broker: ...
    @property
    def endpoint(self) -> str: ...
    @property
    def endpoints(self) -> list[str]: ...
    def stats(self) -> dict[str, Any]: ...
    def stop(self) -> None: ...
    def wait(self) -> None: ...
    def __enter__(self) -> Broker: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...

@final
class Mailbox:
    def __new__(cls) -> Mailbox: ...
    def fileno(self) -> int: ...
    def drain(self) -> list[tuple[int, bool, Message | Unread | Request | int | Exception | None]]: ...

@final
class Unread:
    def take(self) -> Message: ...

@final
class AsyncClient:
    def __new__(
        cls,
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
    ) -> AsyncClient: ...
    def submit(
        self,
        mailbox: Mailbox,
        token: int,
        service: str,
        body: Body,
        timeout: float | None,
        retries: int | None,
        deadline: float | None,
        max_attempts: int | None,
        fail_fast: bool,
        properties: Mapping[str, Frame] | None,
        *,
        parts: bool = False,
    ) -> int: ...
    def cancel(self, number: int) -> None: ...
    def close(self) -> None: ...

@final
class AsyncWorker:
    def __new__(
        cls,
        mailbox: Mailbox,
        token: int,
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
    ) -> AsyncWorker: ...
    def drain(self) -> None: ...
    def close(self) -> None: ...

def version() -> str: ...
def libzmq_version() -> tuple[int, int, int]: ...
def error_table() -> list[tuple[int, str, str, bool, str]]: ...
def mdbroker(args: list[str]) -> int: ...
