"""When a transfer counts as stuck."""

from __future__ import annotations

from gateway.liveness import COMPLETING_SECONDS, Liveness


def test_what_does_not_move_for_too_long_is_stuck_once() -> None:
    liveness = Liveness(60.0, 0.0)
    assert not liveness.stuck((1,), 0.0, completing=False)
    assert not liveness.stuck((1,), 60.0, completing=False)
    assert liveness.stuck((1,), 60.1, completing=False)
    # Whoever was told gives up what is out, which takes a moment of its own.
    assert not liveness.stuck((1,), 60.2, completing=False)


def test_whatever_moves_starts_the_clock_again() -> None:
    liveness = Liveness(60.0, 0.0)
    for now in range(0, 600, 50):
        assert not liveness.stuck((now,), float(now), completing=False)


def test_a_store_that_completes_an_upload_is_waited_for_longer_but_not_for_ever() -> None:
    liveness = Liveness(60.0, 0.0)
    liveness.stuck((1,), 0.0, completing=True)
    assert not liveness.stuck((1,), COMPLETING_SECONDS, completing=True)
    assert liveness.stuck((1,), COMPLETING_SECONDS + 1, completing=True)


def test_a_longer_limit_holds_for_completions_too() -> None:
    liveness = Liveness(7200.0, 0.0)
    liveness.stuck((1,), 0.0, completing=True)
    assert not liveness.stuck((1,), 7000.0, completing=True)
