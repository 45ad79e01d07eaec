"""A worker that answers in parts, and a client that takes them as they come."""

import sys
import threading
from collections.abc import Iterator

import majordomo


def count(request: majordomo.Request) -> Iterator[str]:
    # The last body that a generator yields is the final reply, those before it are partial ones.
    for number in range(1, int(request.body[0]) + 1):
        yield str(number)
    yield "done"


def main(endpoint: str) -> None:
    worker = majordomo.Worker(endpoint, "streaming", protocol="0.2")
    serving = threading.Thread(target=worker.serve, args=[count])
    serving.start()
    try:
        with majordomo.Client(endpoint, protocol="0.2") as client:
            parts = client.stream("streaming", "5")
            for part in parts:
                print("final" if parts.final else "part", part[0].decode())
    finally:
        worker.drain()
        serving.join()


if __name__ == "__main__":
    main(sys.argv[1])
