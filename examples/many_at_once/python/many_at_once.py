"""One asynchronous client with many requests in flight, and a worker that works on four at once."""

import asyncio
import sys

import majordomo
from majordomo.aio import Client, Worker


async def square(request: majordomo.Request) -> str:
    return str(int(request.body[0]) ** 2)


async def main(endpoint: str) -> None:
    async with Worker(endpoint, "many_at_once", concurrency=4) as worker, Client(endpoint) as client:
        serving = asyncio.create_task(worker.serve(square))
        numbers = range(1, 101)
        replies = await asyncio.gather(*(client.request("many_at_once", str(number)) for number in numbers))
        total = sum(int(reply[0]) for reply in replies)
        print(f"{len(numbers)} requests at once, {len(replies)} replies, sum of squares {total}")
        await worker.drain()
        await serving


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
