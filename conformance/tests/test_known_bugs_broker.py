"""Defects of earlier brokers, as black-box checks. The number in each name is that of the list of known defects.

Any broker can be judged: `pytest tests/test_known_bugs_broker.py --broker-command '…'`, see README.md.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq
from broker_process import BrokerProcess
from conftest import Peers
from stats import wait_for_queued, wait_for_stat, wait_until

from peers import wire
from peers.raw_client import PATIENCE_MS, RawClient
from peers.raw_worker import RawWorker

StartBroker = Callable[..., BrokerProcess]

FAST = {"heartbeat_ms": 300, "liveness": 3}
BEAT_MS = 100


def status(client: RawClient, service: str) -> bytes:
    return client.request("mmi.service", [service.encode()]).body[0]


def wait_for_status(client: RawClient, service: str, expected: bytes) -> None:
    """Asks until the broker says so, or until patience ends."""
    for _ in range(PATIENCE_MS // 20):
        if status(client, service) == expected:
            return
        threading.Event().wait(0.02)
    pytest.fail(f"mmi.service never said {expected!r} about {service!r}")


def test_01_request_of_a_worker_that_dies_busy_goes_to_another(
    start_broker: StartBroker, peers: Peers, protocol: str, service: str
) -> None:
    broker = start_broker(**FAST)
    first = peers.worker(broker, service, protocol, beat_ms=BEAT_MS)
    client = peers.client(broker, protocol)
    client.send(service, [b"do it"])
    first.recv_request()
    first.close()
    second = peers.worker(broker, service, protocol, ready=False, beat_ms=BEAT_MS)
    second.ready()
    request = second.recv_request()
    assert request.body == [b"do it"]
    second.reply(request.address, [b"done"])
    assert client.recv().body == [b"done"]


def test_02_a_silent_worker_behind_a_live_one_expires(
    start_broker: StartBroker, peers: Peers, protocol: str, service: str
) -> None:
    broker = start_broker(**FAST)
    live = peers.worker(broker, f"{service}-other", protocol)
    silent = peers.worker(broker, service, protocol)
    assert silent.recv_any().command == wire.HEARTBEAT, "the broker beats to the silent one too"
    # After these beats of the broker the silent worker is long over its time.
    live.answer_beats(3 * FAST["liveness"])
    client = peers.client(broker, protocol)
    assert status(client, service) == b"404", "the silent worker still counts"
    client.send(service, [b"work"])
    fresh = peers.worker(broker, service, protocol, ready=False)
    fresh.ready()
    assert fresh.echo_one() == [b"work"], "a dead worker got the request"
    assert client.recv().body == [b"work"]


def test_03_mmi_service_denies_a_service_that_was_only_asked_for(
    broker: BrokerProcess, peers: Peers, protocol: str, service: str
) -> None:
    client = peers.client(broker, protocol)
    client.send(service, [b"anybody?"])
    assert status(client, service) == b"404"


def test_03_mmi_service_denies_a_service_whose_idle_worker_died(
    start_broker: StartBroker, peers: Peers, protocol: str, service: str
) -> None:
    broker = start_broker(**FAST)
    peers.worker(broker, service, protocol).close()
    wait_for_status(peers.client(broker, protocol), service, b"404")


def test_03_mmi_service_denies_a_service_whose_busy_worker_died(
    start_broker: StartBroker, peers: Peers, protocol: str, service: str
) -> None:
    broker = start_broker(**FAST)
    worker = peers.worker(broker, service, protocol)
    client = peers.client(broker, protocol)
    client.send(service, [b"work"])
    worker.recv_request()
    worker.close()
    wait_for_status(peers.client(broker, protocol), service, b"404")


@pytest.mark.parametrize("name", ["mmi.service", "mmi.anything"])
def test_04_a_worker_cannot_register_a_reserved_name(broker: BrokerProcess, peers: Peers, protocol: str, name: str) -> None:
    impostor = peers.worker(broker, name, protocol, ready=False)
    impostor.ready()
    impostor.recv_disconnect()
    client = peers.client(broker, protocol)
    assert status(client, name) == b"404"
    assert client.request("mmi.anything", [b""]).body == [b"501"]


def test_06_disconnect_while_busy_gives_the_request_back(
    broker: BrokerProcess, peers: Peers, protocol: str, service: str
) -> None:
    first = peers.worker(broker, service, protocol)
    client = peers.client(broker, protocol)
    client.send(service, [b"work"])
    first.recv_request()
    first.disconnect()
    second = peers.worker(broker, service, protocol, ready=False)
    second.ready()
    assert second.echo_one() == [b"work"]
    assert client.recv().body == [b"work"]
    broker.assert_serves(protocol)


def test_06_second_ready_of_an_idle_worker_is_answered_by_disconnect(
    broker: BrokerProcess, peers: Peers, protocol: str, service: str
) -> None:
    worker = peers.worker(broker, service, protocol)
    worker.ready()
    worker.recv_disconnect()
    broker.assert_serves(protocol)
    assert status(peers.client(broker, protocol), service) == b"404"


def test_06_second_ready_of_a_busy_worker_gives_its_request_back(
    broker: BrokerProcess, peers: Peers, protocol: str, service: str
) -> None:
    first = peers.worker(broker, service, protocol)
    client = peers.client(broker, protocol)
    client.send(service, [b"work"])
    first.recv_request()
    first.ready()
    first.recv_disconnect()
    second = peers.worker(broker, service, protocol, ready=False)
    second.ready()
    assert second.echo_one() == [b"work"]
    assert client.recv().body == [b"work"]


def test_07_an_answer_nobody_asked_for_reaches_nobody(broker: BrokerProcess, peers: Peers, protocol: str, service: str) -> None:
    victim = RawClientWithIdentity(broker.endpoint, protocol, b"victim")
    with victim:
        assert status(victim, service) == b"404"
        worker = peers.worker(broker, service, protocol)
        worker.reply(b"victim", [b"forged"])
        # The answers to questions asked afterwards come in order, so a forged one would come between them.
        for _ in range(50):
            answer = victim.request("mmi.service", [b"nobody"])
            assert answer.body == [b"404"], f"a forged answer was delivered: {answer}"


def test_07_a_worker_that_answers_unasked_does_not_get_two_requests_at_once(
    broker: BrokerProcess, peers: Peers, protocol: str, service: str
) -> None:
    worker = peers.worker(broker, service, protocol)
    worker.reply(b"nobody", [b"forged"])
    clients = [peers.client(broker, protocol) for _ in range(2)]
    for number, client in enumerate(clients):
        client.send(service, [b"%d" % number])
        status(client, service)
    message = worker.recv()
    if message.command == wire.DISCONNECT:
        return
    assert not worker.socket.poll(300), f"a busy worker got {worker.recv_any()}"


def test_07_an_answer_to_another_address_does_not_count(broker: BrokerProcess, peers: Peers, protocol: str, service: str) -> None:
    bystander = RawClientWithIdentity(broker.endpoint, protocol, b"bystander")
    with bystander:
        assert status(bystander, "x") == b"404"
        worker = peers.worker(broker, service, protocol)
        client = peers.client(broker, protocol)
        client.send(service, [b"work"])
        request = worker.recv_request()
        worker.reply(b"bystander", [b"wrong"])
        worker.reply(request.address, [b"right"])
        # A broker may also drop a worker that answers so; then the request is another worker's.
        if client.try_recv(2000) != wire.Reply(wire.FINAL, service.encode(), [b"right"]):
            second = peers.worker(broker, service, protocol, ready=False)
            second.ready()
            second.reply(second.recv_request().address, [b"right"])
            assert client.recv().body == [b"right"]
        assert bystander.request("mmi.service", [b"x"]).body == [b"404"]


def test_08_requests_and_names_that_nobody_serves_go_away(
    start_broker: StartBroker, peers: Peers, protocol: str, service: str
) -> None:
    broker = start_broker(request_ttl_ms=200)
    client = peers.client(broker, protocol)
    for number in range(100):
        client.send(f"{service}-misspelt-{number}", [b"lost"])
    asker = peers.client(broker, protocol)
    stats = wait_for_stat(asker, "expired", 100)
    assert stats["services"] == 0
    assert stats["queued"] == 0 and stats["queued_bytes"] == 0


def test_09_a_client_that_gave_up_does_not_have_its_request_run(
    broker: BrokerProcess, peers: Peers, protocol: str, service: str
) -> None:
    impatient = peers.client(broker, protocol)
    impatient.send(service, [b"first try"])
    assert status(impatient, service) == b"404"
    impatient.close()
    again = peers.client(broker, protocol)
    again.send(service, [b"second try"])
    assert status(again, service) == b"404"
    wait_for_queued(broker, service, 1)
    worker = peers.worker(broker, service, protocol, ready=False)
    worker.ready()
    assert worker.echo_one() == [b"second try"]
    assert again.recv().body == [b"second try"]


def test_10_the_next_waiting_request_follows_a_final_reply_at_once(
    broker: BrokerProcess, peers: Peers, protocol: str, service: str
) -> None:
    clients = [peers.client(broker, protocol) for _ in range(3)]
    for number, client in enumerate(clients):
        client.send(service, [b"%d" % number])
        assert status(client, service) == b"404"
    worker = peers.worker(broker, service, protocol, ready=False)
    worker.ready()
    assert [worker.echo_one() for _ in clients] == [[b"0"], [b"1"], [b"2"]]
    assert [client.recv().body for client in clients] == [[b"0"], [b"1"], [b"2"]]


def test_11_a_partial_does_not_make_its_worker_idle(speaks_02: None, broker: BrokerProcess, peers: Peers, service: str) -> None:
    worker = peers.worker(broker, service, "0.2")
    first, second = peers.client(broker, "0.2"), peers.client(broker, "0.2")
    first.send(service, [b"stream"])
    request = worker.recv_request()
    worker.partial(request.address, [b"part"])
    assert first.recv() == wire.Reply(wire.PARTIAL, service.encode(), [b"part"])
    second.send(service, [b"next"])
    assert status(second, service) == b"200"
    assert not worker.socket.poll(300), f"a streaming worker got {worker.recv_any()}"
    worker.reply(request.address, [b"end"])
    assert worker.echo_one() == [b"next"]
    assert first.recv().body == [b"end"]
    assert second.recv().body == [b"next"]


def test_12_a_step_of_the_wall_clock_expires_nobody(
    start_broker: StartBroker,
    peers: Peers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    protocol: str,
    service: str,
) -> None:
    shim = tmp_path / "clockstep.so"
    source = Path(__file__).with_name("clockstep.c")
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", shim, source], check=True)
    stepped = tmp_path / "stepped"
    monkeypatch.setenv("LD_PRELOAD", str(shim))
    monkeypatch.setenv("CLOCKSTEP", str(stepped))
    broker = start_broker(heartbeat_ms=300, liveness=10)
    monkeypatch.delenv("LD_PRELOAD")
    worker = peers.worker(broker, service, protocol, beat_ms=BEAT_MS)
    assert worker.recv_any().command == wire.HEARTBEAT
    stepped.touch()
    # Not a word from the worker for one broker interval, which is far less than its time.
    assert worker.socket.poll(PATIENCE_MS), "no beat of the broker after the step"
    client = peers.client(broker, protocol)
    client.send(service, [b"still there?"])
    assert worker.echo_one() == [b"still there?"]
    assert client.recv().body == [b"still there?"]


def test_13_a_burst_of_answers_to_a_slow_reader_is_kept(broker: BrokerProcess, peers: Peers, protocol: str, service: str) -> None:
    count, body = 4000, bytes(4096)
    client = RawClient(broker.endpoint, protocol)
    with client, peers.worker(broker, service, protocol) as worker:
        # A reader whose own buffers are as small as they get: what is not read stays with the broker.
        client.socket.setsockopt(zmq.RCVHWM, 1)
        client.socket.setsockopt(zmq.RCVBUF, 4096)
        client.socket.disconnect(broker.endpoint)
        client.socket.connect(broker.endpoint)
        for number in range(count):
            client.send(service, [b"%d" % number, body])
        for _ in range(count):
            worker.echo_one()
        got = [int(client.recv().body[0]) for _ in range(count)]
    assert got == list(range(count))


@pytest.mark.ours
def test_13_a_request_whose_client_has_gone_is_counted_and_frees_its_worker(
    broker: BrokerProcess, peers: Peers, protocol: str, service: str
) -> None:
    worker = peers.worker(broker, service, protocol)
    client = peers.client(broker, protocol)
    client.send(service, [b"bye"])
    request = worker.recv_request()
    client.close()
    worker.reply(request.address, [b"too late"])
    # Whether the broker hears first of the closed connection or of the answer decides which of these it is; an answer
    # handed over to a connection that then turns out to be closed is both answered and undeliverable.
    outcomes = ("abandoned", "undeliverable", "answered")
    asker = peers.client(broker, protocol)
    wait_until(asker, "mmi.stats", lambda stats: sum(stats[name] for name in outcomes) >= 1 and stats["in_flight"] == 0)
    again = peers.client(broker, protocol)
    again.send(service, [b"next"])
    assert worker.echo_one() == [b"next"]
    assert again.recv().body == [b"next"]


def test_16_answers_are_a_sign_of_life(start_broker: StartBroker, peers: Peers, protocol: str, service: str) -> None:
    broker = start_broker(**FAST)
    worker = peers.worker(broker, service, protocol)
    client = peers.client(broker, protocol)
    clock = peers.worker(broker, f"{service}-clock", protocol)
    for _ in range(3 * FAST["liveness"]):
        # Three times its allowed silence without one HEARTBEAT of the worker, but with answers all the while.
        client.send(service, [b"busy"])
        worker.echo_one()
        client.recv()
        clock.answer_beats(1)
    assert status(client, service) == b"200"


class RawClientWithIdentity(RawClient):
    """A client whose routing id is known, as anyone may choose it."""

    def __init__(self, endpoint: str, protocol: str, identity: bytes) -> None:
        super().__init__(endpoint, protocol)
        self.socket.disconnect(endpoint)
        self.socket.setsockopt(zmq.IDENTITY, identity)
        self.socket.connect(endpoint)


def test_a_worker_of_the_guide_that_beats_only_when_idle_keeps_its_long_request(
    start_broker: StartBroker, peers: Peers, service: str
) -> None:
    """The other side of defects 1 and 14: whoever was never seen to beat while busy is not judged by its silence."""
    broker = start_broker(**FAST)
    worker: RawWorker = peers.worker(broker, service, "0.1", beat_ms=BEAT_MS)
    client = peers.client(broker)
    client.send(service, [b"slow"])
    request = worker.recv_request()
    peers.worker(broker, f"{service}-clock").answer_beats(3 * FAST["liveness"])
    worker.reply(request.address, [b"done"])
    assert client.recv().body == [b"done"]
