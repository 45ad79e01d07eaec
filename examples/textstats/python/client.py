"""Sends the files named on standard input to services: client.py ENDPOINT SERVICE..., names ended by NUL."""

import os
import sys
import time
from collections.abc import Iterator

import majordomo


def names() -> Iterator[bytes]:
    yield from sys.stdin.buffer.read().split(b"\0")[:-1]


def content(name: bytes) -> "bytes | None":
    try:
        with open(name, "rb") as file:
            return file.read()
    except OSError:
        return None


def ask(client: majordomo.Client, service: str, text: "bytes | None") -> "tuple[float, bool, str]":
    """Return the milliseconds, whether it went well, and what to say about it."""
    if text is None:
        return 0.0, False, '"error":"UNREADABLE"'
    begin = time.monotonic()
    try:
        reply = client.request(service, text)
    except majordomo.MajordomoError as failure:
        return (time.monotonic() - begin) * 1000, False, f'"error":"{failure.name}"'
    milliseconds = (time.monotonic() - begin) * 1000
    if len(reply) == 1 and reply[0] and all(0x20 <= byte <= 0x7E for byte in reply[0]):
        return milliseconds, True, f'"reply":{reply[0].decode("ascii")}'
    return milliseconds, False, '"error":"BAD_REPLY"'


def main(endpoint: str, *services: str) -> int:
    failed = False
    with majordomo.Client(endpoint, timeout=120, retries=3) as client:
        for number, name in enumerate(names()):
            text = content(name)
            for service in services:
                milliseconds, ok, outcome = ask(client, service, text)
                failed = failed or not ok
                ok_text = "true" if ok else "false"
                head = f'"file":{number},"service":"{service}","ms":{milliseconds:.3f},"ok":{ok_text}'
                print(f"{{{head},{outcome}}}", flush=True)
    return int(failed)


if __name__ == "__main__":
    try:
        status = main(*sys.argv[1:])
    except (majordomo.MajordomoError, TypeError) as failure:
        print(f"client: {failure}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        # Nothing is left to say, and nobody waits for the rest.
        os._exit(130)
    sys.exit(status)
