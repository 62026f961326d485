"""What connections say about the path under them, from invented figures of the kernel's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.path_view import SHORTEST, PathView, Seen
from gateway.tcp_info import TcpInfo

LOSSY = TcpInfo(acked=1000, min_rtt=0.1, rtt=0.102, sent=10, resent=1, unsent=5000, busy=1.0)


def test_connections_that_only_losses_limit_leave_room() -> None:
    assert PathView().look([("a", LOSSY), ("b", LOSSY)]) == Seen(2000, 0.1, 20, 2, room=True)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"rtt": 0.13}, id="a queue"),
        pytest.param({"unsent": 0}, id="a sender that has nothing more to send"),
        pytest.param({"held": 0.5}, id="a peer that does not read"),
        pytest.param({"min_rtt": SHORTEST / 2, "rtt": SHORTEST / 2}, id="a path too short to tell"),
    ],
)
def test_whatever_else_limits_them_leaves_none(changed: dict[str, float]) -> None:
    other = LOSSY._replace(**changed)
    assert not PathView().look([("a", other), ("b", other)]).room


def test_where_the_kernel_says_nothing_nothing_is_known() -> None:
    assert PathView().look([("a", None)]) == Seen(0)


def test_a_peer_that_once_did_not_read_is_not_held_against_it() -> None:
    view = PathView()
    assert not view.look([("a", LOSSY._replace(held=1.0))]).room
    assert view.look([("a", LOSSY._replace(held=1.0, busy=2.0))]).room


changes = st.lists(st.dictionaries(st.integers(0, 5), st.tuples(st.integers(0, 10**6), st.integers(0, 1000))))


@given(changes)
def test_totals_are_what_all_connections_ever_did(looks: list[dict[int, tuple[int, int]]]) -> None:
    """A connection that is not there at a look has ended; a number that comes again is another one."""
    view, alive, number = PathView(), {}, 0
    total = segments = 0
    for look in looks:
        now = {}
        for name, (acked, sent) in look.items():
            number += 1
            unique, before = alive.get(name, (number, TcpInfo()))
            now[name] = (unique, before._replace(acked=before.acked + acked, sent=before.sent + sent))
            total, segments = total + acked, segments + sent
        alive = now
        seen = view.look(alive.values())
        assert (seen.acked, seen.sent) == (total, segments)
