"""The Guide's worker, by its names."""

from __future__ import annotations

from majordomo import Body, Worker
from majordomo.compat import _names

__all__ = ["MajorDomoWorker"]


class MajorDomoWorker:
    """An MDP/0.1 worker (RFC 7) with the names of the Guide's ``mdwrkapi``.

    ``heartbeat`` and ``reconnect`` are milliseconds; assigning another value registers anew. ``verbose`` logs what
    happens. Heartbeats go out whatever the program does between two calls of ``recv``.
    """

    HEARTBEAT_LIVENESS = 3

    def __init__(self, broker: str | bytes, service: str | bytes, verbose: bool = False) -> None:
        self.broker = _names.text(broker)
        self.service = _names.text(service)
        self.verbose = verbose
        self._log = _names.logger("mdwrkapi", verbose)
        self._heartbeat: float = 2500
        self._reconnect: float = 2500
        self._worker = self._register()

    def _register(self) -> Worker:
        if self.verbose:
            self._log.info("I: connecting to broker at %s", self.broker)
        return Worker(
            self.broker,
            self.service,
            heartbeat=self._heartbeat / 1000,
            reconnect=self._reconnect / 1000,
            liveness=self.HEARTBEAT_LIVENESS,
        )

    @property
    def heartbeat(self) -> float:
        """Milliseconds between heartbeats."""
        return self._heartbeat

    @heartbeat.setter
    def heartbeat(self, milliseconds: float) -> None:
        if milliseconds != self._heartbeat:
            self._heartbeat = milliseconds
            self._worker.close()
            self._worker = self._register()

    @property
    def reconnect(self) -> float:
        """Milliseconds before connecting again."""
        return self._reconnect

    @reconnect.setter
    def reconnect(self, milliseconds: float) -> None:
        if milliseconds != self._reconnect:
            self._reconnect = milliseconds
            self._worker.close()
            self._worker = self._register()

    def recv(self, reply: Body | None = None) -> list[bytes] | None:
        """Send the reply to the last request, if one is given, and return the frames of the next request.

        Returns None when the user interrupted. Raises InvalidArgument for a reply when there is no request to answer,
        and Closed after ``destroy``.
        """
        try:
            request = self._worker.recv(reply)
        except KeyboardInterrupt:
            self._log.warning("W: interrupt received, closing the worker")
            self._worker.close()
            return None
        if request is None:
            return None
        if self.verbose:
            self._log.info("I: received request of %d frames", len(request.body))
        return list(request.body)

    def destroy(self) -> None:
        """Say DISCONNECT and close the connection."""
        self._worker.close()
