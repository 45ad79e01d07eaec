"""Peers of pyzmq in the same process: neither the protocol nor libzmq's symbols get in each other's way."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import zmq

import majordomo
import raw
from scene import PATIENCE, Script, in_thread


def test_both_libzmqs_live_in_one_process(broker: majordomo.Broker, echoing: majordomo.Worker) -> None:
    assert zmq.zmq_version_info() >= (4, 0)
    assert majordomo.libzmq_version() >= (4, 3, 5)
    with raw.socket(zmq.REQ) as client:
        client.connect(broker.endpoint)
        for _ in range(100):
            client.send_multipart([b"MDPC01", b"echo", b"one", b"", b"three"])
            assert client.recv_multipart() == [b"MDPC01", b"echo", b"one", b"", b"three"]


def test_a_raw_worker_serves_our_client(broker: majordomo.Broker, client: majordomo.Client) -> None:
    with raw.socket(zmq.DEALER) as worker:
        worker.connect(broker.endpoint)
        worker.send_multipart([b"", b"MDPW01", raw.READY, b"raw"])
        wait = in_thread(lambda: client.request("raw", ["a", "b"]))
        while True:
            empty, header, command, *rest = worker.recv_multipart()
            assert (empty, header) == (b"", b"MDPW01")
            if command == raw.REQUEST:
                break
        address, empty, *body = rest
        assert body == [b"a", b"b"]
        worker.send_multipart([b"", b"MDPW01", raw.REPLY, address, b"", *reversed(body)])
        assert wait() == [b"b", b"a"]


def test_our_client_speaks_to_a_raw_broker() -> None:
    with raw.socket(zmq.ROUTER) as router:
        broker = raw.RawBroker(router)
        with majordomo.Client(broker.endpoint, timeout=PATIENCE, protocol="0.1") as client:
            wait = in_thread(lambda: client.request("echo", "hi"))
            sender, *frames = broker.receive()
            assert frames == [b"", b"MDPC01", b"echo", b"hi"]
            broker.send(sender, b"", b"MDPC01", b"echo", b"ho")
            assert wait() == [b"ho"]


def test_our_worker_registers_answers_and_says_goodbye_to_a_raw_broker() -> None:
    with raw.socket(zmq.ROUTER) as router:
        broker = raw.RawBroker(router)
        with majordomo.Worker(broker.endpoint, "echo", protocol="0.1") as worker:
            wait = in_thread(lambda: worker.recv().reply(b"ho"))
            identity, service = broker.receive_command(raw.READY)
            assert service == b"echo"
            broker.send(identity, b"", b"MDPW01", raw.REQUEST, b"client", b"", b"hi")
            assert broker.receive_command(raw.REPLY) == [identity, b"client", b"", b"ho"]
            wait()
        assert broker.receive_command(raw.DISCONNECT) == [identity]


HOLDS_THE_GIL = """
import mmap, sys
import majordomo

# Nothing in the loop gives the GIL up, and nobody may ask for it.
sys.setswitchinterval(3600)
with open(sys.argv[2], "r+b") as file:
    flag = mmap.mmap(file.fileno(), 1)

def spin(request):
    while not flag[0]:
        pass
    return b"done"
"""
BLOCKING = """
majordomo.Worker(sys.argv[1], "spin", heartbeat=0.02, protocol="0.1").serve(spin)
"""
ASYNCIO = """
import asyncio, majordomo.aio
asyncio.run(majordomo.aio.serve(sys.argv[1], "spin", spin, heartbeat=0.02, protocol="0.1"))
"""


def heartbeats_go_out_while_the_handler_spins(start: Callable[..., Script], tmp_path: Path, code: str) -> None:
    flag = tmp_path / "flag"
    flag.write_bytes(b"\0")
    with raw.socket(zmq.ROUTER) as router:
        broker = raw.RawBroker(router)
        start(HOLDS_THE_GIL + code, broker.endpoint, str(flag))
        identity, _ = broker.receive_command(raw.READY)
        broker.send(identity, b"", b"MDPW01", raw.REQUEST, b"client", b"", b"")
        # The worker's own, and it takes them for a live broker as long as these come back.
        for _ in range(20):
            assert broker.receive()[1:] == [b"", b"MDPW01", raw.HEARTBEAT]
            broker.send(identity, b"", b"MDPW01", raw.HEARTBEAT)
        with flag.open("r+b") as file:  # in place: a mapped file must not shrink
            file.write(b"\1")
        assert broker.receive_command(raw.REPLY) == [identity, b"client", b"", b"done"]


def test_heartbeats_go_out_while_a_blocking_handler_holds_the_gil(
    script: Callable[..., Script], tmp_path: Path
) -> None:
    heartbeats_go_out_while_the_handler_spins(script, tmp_path, BLOCKING)


def test_heartbeats_go_out_while_an_asyncio_handler_holds_the_gil(
    script: Callable[..., Script], tmp_path: Path
) -> None:
    heartbeats_go_out_while_the_handler_spins(script, tmp_path, ASYNCIO)
