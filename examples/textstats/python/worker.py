"""Serves text statistics: worker.py ENDPOINT SERVICE."""

import heapq
import json
import re
import signal
import sys
import threading
from collections import Counter

import majordomo

WORD = re.compile(rb"[0-9A-Za-z\x80-\xff]+")
CONTINUATION = bytes(range(0x80, 0xC0))


def statistics(text: bytes) -> str:
    """Count, as the example's README defines it."""
    counts = Counter(WORD.findall(text.lower()))
    top = heapq.nsmallest(10, counts.items(), key=lambda entry: (-entry[1], entry[0]))
    reply = {
        "lines": text.count(b"\n") + (text != b"" and not text.endswith(b"\n")),
        "words": sum(counts.values()),
        "characters": len(text.translate(None, CONTINUATION)),
        "top": [[word.decode("latin-1"), count] for word, count in top],
    }
    return json.dumps(reply, separators=(",", ":"))


def main(endpoint: str, service: str) -> None:
    worker = majordomo.Worker(endpoint, service)

    def drain(*_: object) -> None:
        # On a thread of its own: the main thread may be in the middle of a request, which is to be finished.
        threading.Thread(target=worker.drain).start()

    signal.signal(signal.SIGTERM, drain)
    signal.signal(signal.SIGINT, drain)
    print("ready", flush=True)
    worker.serve(lambda request: statistics(b"".join(request.body)))


if __name__ == "__main__":
    main(*sys.argv[1:])
