"""A caller gives up, by its own will or because its deadline passes, and the handler hears of it (MDPX)."""

from __future__ import annotations

import asyncio
import sys

import majordomo
from majordomo.aio import Client, Worker


async def main(endpoint: str) -> None:
    started: asyncio.Queue[float | None] = asyncio.Queue()
    stopped: asyncio.Queue[bool] = asyncio.Queue()

    async def work(request: majordomo.Request) -> None:
        started.put_nowait(request.remaining)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            # A handler whose caller has given up is cancelled as any task is. A blocking one asks `request.cancelled`.
            stopped.put_nowait(request.cancelled)
            raise

    async with Worker(endpoint, "cancel") as worker, Client(endpoint) as client:
        serving = asyncio.create_task(worker.serve(work))

        asking = asyncio.create_task(client.request("cancel", "work", deadline=60))
        remaining = await started.get()
        if remaining is not None and 0 < remaining <= 60:
            print("the handler works; its caller waits for another minute at most")
        # Cancelling the task is giving the request up.
        asking.cancel()
        await asyncio.wait([asking])
        print("the caller gives up")
        if await stopped.get():
            print("the handler hears of it and stops")

        try:
            await client.request("cancel", "work", deadline=1)
        except majordomo.MajordomoError as failure:
            print(f"the deadline passes: {failure.kind}")
        if await stopped.get():
            print("the handler hears of it and stops")
        await worker.drain()
        await serving


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
