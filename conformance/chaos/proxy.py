"""A small TCP proxy, a program of its own: each of its doors leads to the broker and can be cut, stopped up or slowed down.

It is driven by words on standard input, one command a line, and says the ports of its doors on standard output:

    open NAME         a door; answered with its port
    cut NAME          its connections are broken off, without a word; new ones may come
    hole NAME         nothing passes any more, and nobody is told: neither bytes nor the end of a connection
    delay NAME MS     whatever passes takes so much longer
    heal NAME         as at the beginning; what was held up arrives
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

CHUNK = 65536


class Door:
    def __init__(self, broker_port: int) -> None:
        self.broker_port = broker_port
        self.passable = asyncio.Event()
        self.passable.set()
        self.delay = 0.0
        self.writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> int:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        return int(server.sockets[0].getsockname()[1])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self.passable.wait()
            onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", self.broker_port)
        except OSError:
            writer.transport.abort()
            return
        self.writers |= {writer, onward_writer}
        await asyncio.gather(self.pump(reader, onward_writer), self.pump(onward_reader, writer))
        self.writers -= {writer, onward_writer}

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A broken connection is passed on as a closed one, as the kernel would do for a killed process.
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK):
                await asyncio.sleep(self.delay)
                await self.passable.wait()
                writer.write(chunk)
                await writer.drain()
        await self.passable.wait()
        writer.close()

    def cut(self) -> None:
        for writer in self.writers:
            writer.transport.abort()

    def heal(self) -> None:
        self.delay = 0.0
        self.passable.set()


async def main(broker_port: int) -> None:
    doors: dict[str, Door] = {}
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := (await commands.readline()).decode().split():
        command, name = line[:2]
        match command:
            case "open":
                doors[name] = Door(broker_port)
                print(await doors[name].open(), flush=True)
            case "cut":
                doors[name].cut()
            case "hole":
                doors[name].passable.clear()
            case "delay":
                doors[name].delay = int(line[2]) / 1000
            case "heal":
                doors[name].heal()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
