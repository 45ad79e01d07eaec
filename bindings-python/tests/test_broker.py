"""The embedded broker."""

from __future__ import annotations

import json
import math

import pytest

import majordomo
from scene import PATIENCE, echo, in_thread, serving, until


def test_port_0_picks_a_free_port_and_tells_it() -> None:
    with majordomo.Broker("tcp://127.0.0.1:0") as one, majordomo.Broker(["tcp://127.0.0.1:0"] * 2) as two:
        assert one.endpoint.startswith("tcp://127.0.0.1:")
        assert not one.endpoint.endswith(":0")
        assert two.endpoints[0] == two.endpoint
        assert len({one.endpoint, *two.endpoints}) == 3


def test_stats_are_those_that_clients_can_ask_for(
    broker: majordomo.Broker, client: majordomo.Client, echoing: majordomo.Worker
) -> None:
    client.request("echo", b"")
    stats = broker.stats()
    status, text = client.request("mmi.stats", "")
    assert status == b"200"
    assert stats.keys() == json.loads(text).keys()


def test_a_stopped_broker_raises_closed_and_frees_its_port() -> None:
    broker = majordomo.Broker("tcp://127.0.0.1:0")
    endpoint = broker.endpoint
    broker.stop()
    broker.stop()
    with pytest.raises(majordomo.Closed):
        broker.stats()
    assert broker.endpoint == endpoint
    with majordomo.Broker(endpoint) as again:
        assert again.endpoint == endpoint


def test_an_address_in_use_is_an_error() -> None:
    with majordomo.Broker("tcp://127.0.0.1:0") as broker, pytest.raises(majordomo.MajordomoError) as failure:
        majordomo.Broker(broker.endpoint)
    assert broker.endpoint in str(failure.value)


def test_a_full_queue_refuses_what_is_new_and_keeps_what_it_has() -> None:
    def client() -> majordomo.Client:
        return majordomo.Client(small.endpoint, timeout=PATIENCE)

    with majordomo.Broker("tcp://127.0.0.1:0", max_queued=1, request_ttl=math.inf) as small:
        with client() as first, client() as second:
            wait = in_thread(lambda: first.request("late", b"first"))
            until(lambda: small.stats()["queued"] == 1)
            with pytest.raises(majordomo.QueueFull):
                second.request("late", b"second")
            assert small.stats()["refused"] == 1
            with serving(small.endpoint, "late", echo):
                assert wait() == [b"first"]


def test_a_broker_nobody_holds_ends() -> None:
    endpoint = majordomo.Broker("tcp://127.0.0.1:0").endpoint
    with majordomo.Broker(endpoint) as again:
        assert again.endpoint == endpoint
