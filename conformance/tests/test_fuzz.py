"""Random and nearly right messages: the broker and everybody else go on."""

from __future__ import annotations

import random

from broker_process import BrokerProcess
from conftest import Peers

from peers import wire
from peers.raw_client import RawClient
from vectors import MALFORMED, WELL_FORMED

MESSAGES = 3000


def broken(rng: random.Random) -> list[bytes]:
    """A message of the vectors with a frame lost, doubled, cut, flipped, or swapped; or plain noise."""
    if rng.random() < 0.1:
        return [rng.randbytes(rng.choice([0, 1, 6, 40])) for _ in range(rng.randrange(1, 8))]
    frames = rng.choice(WELL_FORMED + MALFORMED).frames or [b""]
    for _ in range(rng.randrange(1, 3)):
        place = rng.randrange(len(frames))
        match rng.randrange(6):
            case 0 if len(frames) > 1:
                del frames[place]
            case 1:
                frames.insert(place, frames[place])
            case 2:
                frames[place] = frames[place][: rng.randrange(len(frames[place]) + 1)]
            case 3 if frames[place]:
                at = rng.randrange(len(frames[place]))
                frames[place] = frames[place][:at] + rng.randbytes(1) + frames[place][at + 1 :]
            case 4:
                other = rng.randrange(len(frames))
                frames[place], frames[other] = frames[other], frames[place]
            case _:
                frames[place] = rng.randbytes(rng.randrange(20))
    return frames


def test_05_no_message_ends_the_broker_or_harms_a_bystander(
    shared_broker: BrokerProcess, peers: Peers, rng: random.Random, protocol: str, service: str
) -> None:
    bystander = peers.worker(shared_broker, service, protocol)
    client = peers.client(shared_broker, protocol)
    hostile: list[RawClient] = []
    for number in range(MESSAGES):
        if number % 50 == 0:
            hostile.append(peers.client(shared_broker, protocol))
        frames = broken(rng)
        hostile[rng.randrange(len(hostile))].send_frames(frames)
        if number % 100 == 99:
            body = [b"%d" % number]
            client.send(service, body)
            assert bystander.echo_one() == body, f"after {frames!r}"
            assert client.recv() == wire.Reply(wire.FINAL, service.encode(), body)
    for attacker in hostile:
        # Whatever was queued before its answer is not of interest; that the broker read it all is.
        attacker.send("mmi.service", [b"nobody"])
    shared_broker.assert_serves(protocol)
