"""The one event loop on which everything asynchronous of the agent runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

LOOP = asyncio.new_event_loop()


def run(coroutine: Awaitable[Any]) -> Any:
    """Run a coroutine on the agent's event loop, and wait for it in this thread."""

    async def awaited() -> Any:
        return await coroutine

    return asyncio.run_coroutine_threadsafe(awaited(), LOOP).result()
