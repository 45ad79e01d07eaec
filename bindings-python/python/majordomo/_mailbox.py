"""The bridge between the core's I/O thread and asyncio event loops."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from typing import Callable, Union
from weakref import WeakKeyDictionary

from majordomo import _majordomo
from majordomo._majordomo import Message, Request, Unread

Outcome = Union[Message, Unread, Request, int, Exception, None]
"""What arrives under a token: a reply, a part of one, a request, the number of a cancelled one, a failure, or None
where a worker has closed."""

Sink = Callable[[Outcome, bool], None]
"""Takes an outcome on the event loop, and whether it is the last one under its token."""


class Mailbox:
    """Hands what arrives for one event loop to those who wait for it, a whole batch at each wake-up.

    The loop watches a file descriptor, which the core's I/O thread makes readable without taking the GIL, once for
    a batch: were it to call ``call_soon_threadsafe``, a program that holds the GIL would hold up all heartbeats.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.native = _majordomo.Mailbox()
        self._sinks: dict[int, Sink] = {}
        self._tokens = itertools.count(1)
        # The loop holds this mailbox through its reader until it is closed; nothing here holds the loop.
        loop.add_reader(self.native.fileno(), self._deliver)

    def register(self, sink: Sink) -> int:
        """Return the token under which outcomes reach this sink, until the last one."""
        token = next(self._tokens)
        self._sinks[token] = sink
        return token

    def forget(self, token: int) -> None:
        """Drop what still arrives under this token."""
        self._sinks.pop(token, None)

    def _deliver(self) -> None:
        for token, last, outcome in self.native.drain():
            sink = self._sinks.pop(token, None) if last else self._sinks.get(token)
            if sink is not None:
                sink(outcome, last)


_mailboxes: WeakKeyDictionary[asyncio.AbstractEventLoop, Mailbox] = WeakKeyDictionary()


def of_running_loop() -> Mailbox:
    """Return the mailbox of the running event loop; there is one for all handles that are used in it."""
    loop = asyncio.get_running_loop()
    mailbox = _mailboxes.get(loop)
    if mailbox is None:
        mailbox = _mailboxes[loop] = Mailbox(loop)
    return mailbox


class Arrival:
    """A queue with an end: outcomes come from the mailbox, and end with the last one."""

    def __init__(self) -> None:
        self.ended = False
        """Whether the last outcome has come; it may not have been taken yet."""
        self._outcomes: deque[Outcome] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._at_end: list[asyncio.Future[None]] = []

    @property
    def exhausted(self) -> bool:
        """Whether the last outcome has been taken."""
        return self.ended and not self._outcomes

    def put(self, outcome: Outcome, last: bool) -> None:
        """Take an outcome from the mailbox."""
        if self.ended:
            return
        if outcome is not None:
            self._outcomes.append(outcome)
        if last:
            self._finish()
        else:
            self._wake_one()

    def end(self) -> None:
        """Drop what has not been taken, and end."""
        self._outcomes.clear()
        self._finish()

    def _finish(self) -> None:
        self.ended = True
        for future in (*self._waiting, *self._at_end):
            _wake(future)
        self._waiting.clear()
        self._at_end.clear()

    def _wake_one(self) -> None:
        while self._waiting:
            if _wake(self._waiting.popleft()):
                return

    async def get(self) -> Outcome:
        """Wait for the next outcome; None after the end."""
        while not self._outcomes:
            if self.ended:
                return None
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            try:
                await future
            except BaseException:
                if future.done() and not future.cancelled() and self._outcomes:
                    # Woken and cancelled at once: the outcome is for the next one who waits.
                    self._wake_one()
                raise
        return self._outcomes.popleft()

    async def wait_for_end(self) -> None:
        """Wait until the last outcome has come."""
        if not self.ended:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._at_end.append(future)
            await future


def _wake(future: asyncio.Future[None]) -> bool:
    if future.done():
        return False
    future.set_result(None)
    return True
