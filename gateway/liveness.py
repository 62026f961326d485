"""When a running transfer is to be reported, when its gateways' expiry renewed, and when it counts as stuck. Pure."""

from __future__ import annotations

from skyplane_core.coordinator.machine import TransferMachine
from skyplane_core.errors import TransferStalled
from skyplane_core.units import counted

REPORT_SECONDS = 0.2
RENEW_SECONDS = 5.0
COMPLETING_SECONDS = 630.0
"""How long a store may take to complete an upload: GCS says several minutes, and its adapter waits for ten."""


class Liveness:
    """Looked at once a turn of the driver's loop.

    Args:
        limit: seconds without any movement after which a transfer is stuck.
        now: the moment it starts, on a monotonic clock, as in every call.
    """

    def __init__(self, limit: float, now: float) -> None:
        self.limit = limit
        self._movement: tuple[float, ...] = ()
        self._moved_at = self._renewed_at = self._reported_at = now

    def stuck(self, movement: tuple[float, ...], now: float, *, completing: bool) -> bool:
        """Whether ``movement``, which changes whenever anything happens, has stayed the same for too long.

        ``completing``: all that is left to be waited for is stores that complete uploads.
        """
        limit = max(self.limit, COMPLETING_SECONDS) if completing else self.limit
        if movement != self._movement:
            self._movement, self._moved_at = movement, now
        elif now - self._moved_at > limit:
            self._moved_at = now
            return True
        return False

    def report_due(self, now: float) -> bool:
        """A few times a second."""
        due = now - self._reported_at >= REPORT_SECONDS
        if due:
            self._reported_at = now
        return due

    def renewal_due(self, now: float) -> bool:
        """Every few seconds while the transfer moves: no gateway may expire under it, and none outlive a stuck one."""
        due = self._moved_at > self._renewed_at and now - self._renewed_at >= RENEW_SECONDS
        if due:
            self._renewed_at = now
        return due


def stalled(machine: TransferMachine, limit: float, now: float, unanswered: str = "") -> TransferStalled:
    """The error for a transfer that is stuck: which part is out and with whom, or what it waits for.

    ``unanswered``: why a call to a store has no answer yet, if one has none.
    """
    held = machine.table.outstanding()
    where = held[0].lease.parts[0].key if held else ", ".join(machine.in_flight_keys()[:3])
    why = f"{counted(len(held), 'lease')} out, {counted(machine.in_flight, 'object')} in flight"
    if held:
        why += f"; the oldest is with {' -> '.join((held[0].reader, *held[0].lease.route))}"
    trouble = machine.table.stranded(now, 0.0) or unanswered
    return TransferStalled(
        f"nothing has moved for {limit:.0f} s",
        where=where,
        why=f"{why}; {trouble}" if trouble else why,
        next_step=_NEXT_STEP,
    )


def stranded(ways: str, limit: float) -> TransferStalled:
    """The error for a transfer that no route to a destination is left for; ``ways`` says which failed and why."""
    return TransferStalled(
        f"no route to the destination has worked for {limit:.0f} s",
        why=ways,
        next_step=_NEXT_STEP,
    )


_NEXT_STEP = "Look at the gateways' logs, then run the transfer again: it continues where it stopped."
