"""The smallest hub: a worker, a client, one request, one reply."""

import sys
import threading

import majordomo


def main(endpoint: str) -> None:
    worker = majordomo.Worker(endpoint, "echo")
    serving = threading.Thread(target=worker.serve, args=[lambda request: request.body])
    serving.start()
    try:
        with majordomo.Client(endpoint) as client:
            reply = client.request("echo", ["hello", "world"])
            print(f"{len(reply)} frames: {b' '.join(reply).decode()}")
    finally:
        worker.drain()
        serving.join()


if __name__ == "__main__":
    main(sys.argv[1])
