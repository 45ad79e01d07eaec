"""Reliable request-reply between programs in different languages, over ZeroMQ's Majordomo protocol.

A Client asks a service by its name, a Worker serves one, and a Broker stands between them:

>>> import majordomo, threading
>>> broker = majordomo.Broker("tcp://127.0.0.1:0")
>>> worker = majordomo.Worker(broker.endpoint, "echo")
>>> def echo():
...     for request in worker:
...         request.reply(request.body)
>>> thread = threading.Thread(target=echo)
>>> thread.start()
>>> with majordomo.Client(broker.endpoint) as client:
...     client.request("echo", "hello")[0]
b'hello'
>>> worker.drain()
>>> thread.join()
>>> broker.stop()

The protocols are MDP/0.1 (RFC 7), MDP/0.2 (RFC 18) and MMI (RFC 8). ``majordomo.aio`` has the same names for asyncio,
and ``majordomo.compat`` the class names of the ZeroMQ Guide's examples. Durations are seconds everywhere.
"""

from collections.abc import Sequence as _Sequence

from majordomo._majordomo import Broker, Client, Event, Message, Parts, Request, Worker, libzmq_version, version
from majordomo._serve import Body, Frame, Handler, Service, serve, service
from majordomo.errors import (
    AttemptsExhausted,
    BrokerUnreachable,
    Busy,
    Cancelled,
    Closed,
    Denied,
    Expired,
    InternalError,
    InvalidArgument,
    MajordomoError,
    NoWorker,
    ProtocolError,
    QueueFull,
    RequestTimeout,
    ServiceError,
    TooLarge,
    WorkerLost,
)

__all__ = [
    "AttemptsExhausted",
    "Body",
    "Broker",
    "BrokerUnreachable",
    "Busy",
    "Cancelled",
    "Client",
    "CONTENT_TYPE",
    "Closed",
    "Denied",
    "Event",
    "Expired",
    "Frame",
    "Handler",
    "IDEMPOTENCY_KEY",
    "InternalError",
    "InvalidArgument",
    "MajordomoError",
    "Message",
    "NoWorker",
    "Parts",
    "ProtocolError",
    "QueueFull",
    "Request",
    "RequestTimeout",
    "Service",
    "ServiceError",
    "TRACEPARENT",
    "TooLarge",
    "Worker",
    "WorkerLost",
    "libzmq_version",
    "serve",
    "service",
    "version",
]

IDEMPOTENCY_KEY = "idempotency-key"
"""Property: the application's own key of a request, by which a worker that keeps outcomes knows a repeat."""

CONTENT_TYPE = "content-type"
"""Property: the media type of the body."""

TRACEPARENT = "traceparent"
"""Property: the W3C trace context."""

__version__ = version()

_Sequence.register(Message)
