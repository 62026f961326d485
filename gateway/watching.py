"""Whether the other gateways of the head's transfers are there: asked every few seconds, noticed at once when not."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from skyplane_core.errors import SkyplaneError

log = logging.getLogger(__name__)

ASK_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 10.0
"""How long an answer may take: a gateway that is alive answers at once, if its machine is not utterly busy."""
REDIAL_SECONDS: Final = 0.5
LOST_SECONDS: Final = 4.0
"""How long a gateway may be unreachable after its link broke, or an answer failed to come, until it counts as lost."""


class Watch:
    """Watches one gateway from a thread of its own until :meth:`close`.

    Args:
        ask: asks the gateway (at most :data:`ANSWER_SECONDS`) and returns its pulse.
        lost, found: told when the gateway is lost, with the reason, and when it is back.
    """

    def __init__(
        self, gateway: str, ask: Callable[[], int], lost: Callable[[str, str], None], found: Callable[[str], None]
    ) -> None:
        self.gateway = gateway
        self.pulse = 0
        self._ask = ask
        self._lost = lost
        self._found = found
        self._changed = threading.Condition()
        self._broken = False
        self._closed = False
        threading.Thread(target=self._run, name=f"watch-{gateway}", daemon=True).start()

    def broken(self) -> None:
        """The link to it broke: look at once."""
        with self._changed:
            self._broken = True
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        silent_since: float | None = None
        away = False
        while self._wait(ASK_SECONDS if silent_since is None else REDIAL_SECONDS, eager=silent_since is None):
            asked = time.monotonic()
            try:
                self.pulse = self._ask()
            except SkyplaneError as error:
                silent_since = asked if silent_since is None else silent_since
                if not away and time.monotonic() - silent_since >= LOST_SECONDS:
                    away = True
                    log.warning("gateway lost", extra={"gateway": self.gateway, "why": str(error)})
                    self._lost(self.gateway, str(error))
                continue
            silent_since = None
            if away:
                away = False
                log.info("gateway found again", extra={"gateway": self.gateway})
                self._found(self.gateway)

    def _wait(self, seconds: float, *, eager: bool) -> bool:
        """Pause, shorter if the link breaks meanwhile; False when there is nothing more to do."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (eager and self._broken), seconds)
            self._broken = False
            return not self._closed
