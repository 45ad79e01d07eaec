"""The failures: one exception class for each kind, with the numbers and names that all languages share."""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AttemptsExhausted",
    "BrokerUnreachable",
    "Busy",
    "Cancelled",
    "Closed",
    "Denied",
    "Expired",
    "InternalError",
    "InvalidArgument",
    "MajordomoError",
    "NoWorker",
    "ProtocolError",
    "QueueFull",
    "RequestTimeout",
    "ServiceError",
    "TooLarge",
    "WorkerLost",
]


class MajordomoError(Exception):
    """Base class of every failure that Majordomo reports.

    ``kind`` is the kind's name (``"Timeout"``), ``code`` its number (1), ``name`` its name in C and Node
    (``"MD_ETIMEOUT"``), and ``retryable`` tells whether the same request may succeed when it is sent again.
    """

    kind: ClassVar[str] = "Internal"
    code: ClassVar[int] = 15
    name: ClassVar[str] = "MD_EINTERNAL"
    retryable: ClassVar[bool] = False


class RequestTimeout(MajordomoError, TimeoutError):
    """No answer came in time."""

    kind = "Timeout"
    code = 1
    name = "MD_ETIMEOUT"
    retryable = True


class NoWorker(MajordomoError):
    """No worker serves the service, and the caller did not want to wait for one."""

    kind = "NoWorker"
    code = 2
    name = "MD_ENOWORKER"
    retryable = True


class QueueFull(MajordomoError):
    """A queue is at its limit and took nothing more."""

    kind = "QueueFull"
    code = 3
    name = "MD_EQUEUEFULL"
    retryable = True


class Expired(MajordomoError):
    """The request waited longer than it may."""

    kind = "Expired"
    code = 4
    name = "MD_EEXPIRED"
    retryable = True


class WorkerLost(MajordomoError):
    """The worker was lost while it held the request."""

    kind = "WorkerLost"
    code = 5
    name = "MD_EWORKERLOST"
    retryable = True


class AttemptsExhausted(MajordomoError):
    """Every permitted attempt at the request failed."""

    kind = "AttemptsExhausted"
    code = 6
    name = "MD_EATTEMPTS"
    retryable = True


class Cancelled(MajordomoError):
    """The caller gave the request up."""

    kind = "Cancelled"
    code = 7
    name = "MD_ECANCELLED"
    retryable = False


class ServiceError(MajordomoError):
    """The service's handler reported a failure of its own: ``service_code`` and ``text``.

    A handler raises it to choose what its caller gets. Any other exception of a handler has the code 500.
    """

    kind = "ServiceError"
    code = 8
    name = "MD_ESERVICE"
    retryable = False

    service_code: int
    """The service's own number for the failure."""
    text: str
    """What the service said."""

    def __init__(self, service_code: int, text: str, retryable: bool = False) -> None:
        super().__init__(service_code, text, retryable)
        self.service_code = service_code
        self.text = text
        # The service says of each failure by itself what other kinds say of all.
        self.retryable = retryable  # type: ignore[misc]

    def __str__(self) -> str:
        return f"the service failed: {self.service_code} {self.text}"


class BrokerUnreachable(MajordomoError, ConnectionError):
    """No broker could be reached."""

    kind = "BrokerUnreachable"
    code = 9
    name = "MD_EUNREACHABLE"
    retryable = True


class Denied(MajordomoError):
    """The other side does not permit it."""

    kind = "Denied"
    code = 10
    name = "MD_EDENIED"
    retryable = False


class ProtocolError(MajordomoError):
    """A peer broke the protocol."""

    kind = "Protocol"
    code = 11
    name = "MD_EPROTOCOL"
    retryable = False


class InvalidArgument(MajordomoError, ValueError):
    """An argument is not of the required form."""

    kind = "InvalidArgument"
    code = 12
    name = "MD_EINVAL"
    retryable = False


class Closed(MajordomoError):
    """The handle is closed, or was made before a fork."""

    kind = "Closed"
    code = 13
    name = "MD_ECLOSED"
    retryable = False


class TooLarge(MajordomoError, ValueError):
    """The message is larger than the limit."""

    kind = "TooLarge"
    code = 14
    name = "MD_ETOOLARGE"
    retryable = False


class InternalError(MajordomoError):
    """Something failed that should not have: the operating system, or this software."""

    kind = "Internal"
    code = 15
    name = "MD_EINTERNAL"
    retryable = False


class Busy(MajordomoError):
    """The handle is in use by another thread. Only C reports it; here a thread waits its turn."""

    kind = "Busy"
    code = 16
    name = "MD_EBUSY"
    retryable = True


_BY_NUMBER: dict[int, type[MajordomoError]] = {
    kind.code: kind
    for kind in (
        RequestTimeout,
        NoWorker,
        QueueFull,
        Expired,
        WorkerLost,
        AttemptsExhausted,
        Cancelled,
        BrokerUnreachable,
        Denied,
        ProtocolError,
        InvalidArgument,
        Closed,
        TooLarge,
        InternalError,
        Busy,
    )
}


def from_core(
    number: int, text: str, service_code: int | None = None, service_text: str = "", retryable: bool = False
) -> MajordomoError:
    """Return the exception for a failure of the compiled core."""
    if service_code is not None:
        return ServiceError(service_code, service_text, retryable)
    return _BY_NUMBER.get(number, MajordomoError)(text)
