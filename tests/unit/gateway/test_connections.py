"""Which gateways are on this machine, so that what goes to them costs nothing."""

from __future__ import annotations

from gateway.connections import on_this_machine
from gateway.messages import Peer


def test_only_an_address_of_this_machine_that_can_be_dialled_says_that_a_gateway_is_here() -> None:
    peers = (
        Peer("a", "127.0.0.1", 1),
        Peer("b", "127.10.0.7", 1),
        Peer("c", "::1", 1),
        Peer("d", "localhost", 1),
        Peer("e", "10.0.0.1", 1),
        Peer("f", "gateway.example", 1),
        # Perhaps a forwarded port of SSH: it says where somebody logs in, not where the gateway is.
        Peer("g", "127.0.0.1", 1, dials_out=True),
        Peer("h", "", 0, dials_out=True),
    )
    assert on_this_machine(peers) == {"a", "b", "c", "d"}
