"""The Guide's asynchronous client, by its names."""

from __future__ import annotations

import itertools
import select
import time
from collections import deque

from majordomo import Body, Message, _majordomo
from majordomo.compat import _names
from majordomo.errors import MajordomoError

__all__ = ["MajorDomoClient"]

_ANY_NUMBER = 1_000_000_000
_NO_DEADLINE = 24 * 3600.0
_SLICE = 0.1
"""Seconds after which a wait looks for signals that another thread got."""


class MajorDomoClient:
    """An asynchronous MDP/0.1 client (RFC 7) with the names of the Guide's ``mdcliapi2``.

    ``send`` returns at once, any number of times; ``recv`` returns the replies in the order in which they come.
    ``timeout`` (milliseconds that ``recv`` waits for the next reply) may be assigned at any time; ``verbose`` logs
    what happens. Unlike the Guide's, it sends a request again when its broker is lost.
    """

    timeout: float = 2500

    def __init__(self, broker: str | bytes, verbose: bool = False) -> None:
        self.broker = _names.text(broker)
        self.verbose = verbose
        self._log = _names.logger("mdcliapi2", verbose)
        self._mailbox = _majordomo.Mailbox()
        self._tokens = itertools.count(1)
        self._arrived: deque[Message | MajordomoError] = deque()
        # A Guide program may send all its requests before it takes the first reply.
        self._client = _majordomo.AsyncClient(self.broker, max_waiting=_ANY_NUMBER)

    def send(self, service: str | bytes, request: Body) -> None:
        """Send a request, without waiting for anything."""
        name = _names.text(service)
        if self.verbose:
            self._log.info("I: sending request to %r", name)
        self._client.submit(
            self._mailbox, next(self._tokens), name, request, None, None, _NO_DEADLINE, None, False, None
        )

    def recv(self) -> list[bytes] | None:
        """Return the frames of the next reply, or None when none came in time or the user interrupted.

        Raises MajordomoError for a request that ended otherwise: a service's own failure, an argument of the wrong
        form, a closed client. A request that timed out is logged and has no reply.
        """
        try:
            outcome = self._next(time.monotonic() + self.timeout / 1000)
        except KeyboardInterrupt:
            return None
        if outcome is None:
            self._log.warning("W: no reply within %s ms", self.timeout)
            return None
        if isinstance(outcome, MajordomoError):
            raise outcome
        if self.verbose:
            self._log.info("I: received reply of %d frames", len(outcome))
        return list(outcome)

    def _next(self, until: float) -> Message | MajordomoError | None:
        while True:
            while self._arrived:
                outcome = self._arrived.popleft()
                if not isinstance(outcome, MajordomoError) or not outcome.retryable:
                    return outcome
                self._log.warning("W: request abandoned: %s", outcome)
            left = until - time.monotonic()
            if left <= 0:
                return None
            poller = select.poll()
            poller.register(self._mailbox.fileno(), select.POLLIN)
            poller.poll(max(1.0, min(left, _SLICE) * 1000))
            for _, _, arrived in self._mailbox.drain():
                if isinstance(arrived, (Message, MajordomoError)):
                    self._arrived.append(arrived)

    def destroy(self) -> None:
        """Close the connections; unanswered requests end with Closed."""
        self._client.close()
