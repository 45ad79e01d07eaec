"""The bridge between the core's I/O thread and asyncio event loops."""

from __future__ import annotations

import asyncio
import itertools
from typing import Callable, Union
from weakref import WeakKeyDictionary

from majordomo import _majordomo
from majordomo._majordomo import Message, Request

Outcome = Union[Message, Request, Exception, None]
"""What arrives under a token: a part of a reply, a request, a failure, or None where a worker has closed."""

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
