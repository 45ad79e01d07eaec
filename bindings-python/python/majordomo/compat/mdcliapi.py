"""The Guide's blocking client, by its names."""

from __future__ import annotations

from majordomo import Body, Client, MajordomoError, RequestTimeout
from majordomo.compat import _names

__all__ = ["MajorDomoClient"]


class MajorDomoClient:
    """A blocking MDP/0.1 client (RFC 7) with the names of the Guide's ``mdcliapi``.

    ``timeout`` (milliseconds for each attempt) and ``retries`` (how often a request is sent at most) may be assigned
    at any time; ``verbose`` logs what happens.
    """

    timeout: float = 2500
    retries: int = 3

    def __init__(self, broker: str | bytes, verbose: bool = False) -> None:
        self.broker = _names.text(broker)
        self.verbose = verbose
        self._log = _names.logger("mdcliapi", verbose)
        self._client = Client(self.broker)

    def send(self, service: str | bytes, request: Body) -> list[bytes] | None:
        """Send a request and return the reply's frames, or None when there was no reply or the user interrupted.

        Raises MajordomoError for what is neither: a service's own failure, an argument of the wrong form, a closed
        client.
        """
        name = _names.text(service)
        if self.verbose:
            self._log.info("I: sending request to %r", name)
        try:
            reply = self._client.request(name, request, timeout=self.timeout / 1000, retries=self.retries)
        except KeyboardInterrupt:
            return None
        except MajordomoError as failure:
            if not failure.retryable:
                raise
            level = "no reply" if isinstance(failure, RequestTimeout) else "no answer"
            self._log.warning("W: %s, request abandoned: %s", level, failure)
            return None
        if self.verbose:
            self._log.info("I: received reply of %d frames", len(reply))
        return list(reply)

    def destroy(self) -> None:
        """Close the connection; ``send`` then raises Closed."""
        self._client.close()
