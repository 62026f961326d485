"""One direction of a proxied connection: every rule strikes at its very byte, and no byte is lost but by a rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.testing.faultproxy import TO_SERVER, ProxyFault
from skyplane_core.testing.faultproxy.faults import Rule
from skyplane_core.testing.faultproxy.flow import HELD, Flow

ENDS = ("cut", "truncate", "half-close", "stall")


def drive(flow: Flow, chunks: list[bytes], most: int) -> tuple[bytes, list[tuple[str, int]]]:
    """What leaves when bytes come as ``chunks`` and at most ``most`` leave at once, and which faults struck where."""
    left, struck, now = b"", [], 0.0
    for chunk in [*chunks, b""]:
        flow.take(chunk, now)
        while True:
            while (fault := flow.due()) is not None:
                struck.append((fault.action, flow.passed))
                if fault.action in ENDS:
                    return left, struck
            view = flow.ready(now)
            data = bytes(view[:most])
            view.release()
            if data:
                left += data
                flow.sent(len(data), now)
                continue
            wakes = flow.wakes_at()
            if wakes is None or wakes <= now:
                break
            now = wakes
    return left, struck


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=8),
    st.lists(st.tuples(st.sampled_from(["cut", "call", "flip", "slow", "delay", "truncate"]), st.integers(0, 200))),
    st.integers(1, 50),
)
def test_rules_strike_at_their_byte_and_nothing_else_changes(
    chunks: list[bytes], rules: list[tuple[str, int]], most: int
) -> None:
    faults = [ProxyFault(action, TO_SERVER, at=at, rate=50.0, seconds=3.0) for action, at in rules]
    left, struck = drive(Flow(Rule(fault) for fault in faults), chunks, most)
    sent = bytearray(b"".join(chunks))
    ends = [at for action, at in rules if action in ENDS and at <= len(sent)]
    expected = min(ends, default=len(sent))
    assert len(left) == expected
    for action, at in rules:
        if action == "flip" and at < expected:
            sent[at] ^= 1
    assert left == bytes(sent[:expected])
    for action, at in rules:
        if at < expected:
            assert (action, at) in struck


def test_a_rule_strikes_as_often_as_it_may_over_all_flows() -> None:
    rule = Rule(ProxyFault("cut", at=2, times=1))
    first, second = Flow([rule]), Flow([rule])
    assert drive(first, [b"abcd"], 10) == (b"ab", [("cut", 2)])
    assert drive(second, [b"abcd"], 10) == (b"abcd", [])


def test_a_stalled_flow_takes_a_bounded_amount_and_goes_on_where_it_was() -> None:
    flow = Flow([Rule(ProxyFault("stall", at=3))])
    data = bytes(range(256)) * 1024
    assert drive(flow, [data], 1 << 20)[0] == data[:3]
    while flow.wants:
        flow.take(data, 0.0)
    assert not len(flow.ready(0.0))
    assert flow.wakes_at() is None
    flow.clear()
    rest = 0
    while len(view := flow.ready(0.0)):
        count = len(view)
        view.release()
        flow.sent(count, 0.0)
        rest += count
    assert HELD <= rest < HELD + 2 * len(data)


def test_a_slow_flow_takes_its_time_and_a_delayed_one_loses_none() -> None:
    flow = Flow([Rule(ProxyFault("slow", rate=100.0))])
    flow.take(b"x" * 300, 0.0)
    assert flow.due() is not None
    now = 0.0
    while (wakes := flow.wakes_at()) is not None:
        now = max(now, wakes)
        count = len(flow.ready(now))
        flow.sent(count, now)
    assert 2.9 <= now <= 3.1
    late = Flow([Rule(ProxyFault("delay", seconds=5.0))])
    late.take(b"x", 1.0)
    assert late.due() is not None
    assert (len(late.ready(5.9)), len(late.ready(6.0))) == (0, 1)


def test_what_is_no_fault_is_refused() -> None:
    for wrong in (("explode", {}), ("cut", {"direction": "up"}), ("cut", {"at": -1}), ("flip", {"bit": 8})):
        with pytest.raises(ValueError, match=r"no fault|no direction|out of range"):
            ProxyFault(wrong[0], **wrong[1])
