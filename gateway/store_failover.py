"""Calls to a destination's store agent on whichever of its writers answers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from gateway.store_calls import StoreCall, decode_result
from skyplane_core.errors import GatewayUnreachable, HandshakeFailed, LinkLost, TransferStalled

log = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 1.0


class FailingOver:
    """A caller for :class:`gateway.agent_store.CalledStore`. Thread-safe.

    The writer that answered last is asked first. A call is repeated elsewhere when its answer was lost, which every
    store call allows.

    Args:
        call: performs a call on one gateway and returns the encoded result.
        writers: all that hold this destination's credentials.
        patience: seconds for which it goes on asking when none of them answers.
        hopeless: whether the transfer has failed or was cancelled, so that waiting for writers is of no use.
    """

    def __init__(
        self,
        call: Callable[[str, StoreCall], bytes],
        writers: Sequence[str],
        patience: float,
        hopeless: Callable[[], bool],
    ) -> None:
        self._call = call
        self._writers = tuple(writers)
        self._patience = patience
        self._hopeless = hopeless
        self._first = 0
        self.trouble = ""
        """Why no writer has answered the call that was made last; empty once one has."""

    def __call__(self, request: StoreCall, result: Any) -> Any:
        """The result as the given type.

        Raises:
            TransferStalled: no writer answered for so long.
            SkyplaneError: what the store agent raised.
        """
        deadline = time.monotonic() + self._patience
        while True:
            problems = []
            first = self._first
            for step in range(len(self._writers)):
                index = (first + step) % len(self._writers)
                writer = self._writers[index]
                try:
                    body = self._call(writer, request)
                except (LinkLost, HandshakeFailed, GatewayUnreachable) as error:
                    problems.append(f"{writer}: {error}")
                    log.info("a writer does not answer", extra={"writer": writer, "why": str(error)})
                    continue
                self._first, self.trouble = index, ""
                return decode_result(body, result)
            self.trouble = "; ".join(problems)
            if self._hopeless() or time.monotonic() >= deadline:
                raise TransferStalled(
                    "no gateway that writes to the destination answers",
                    where=", ".join(self._writers),
                    why=self.trouble,
                    next_step="Look at their logs, then run the transfer again: it continues where it stopped.",
                )
            time.sleep(PAUSE_SECONDS)
