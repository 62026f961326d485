"""Transfers that run side by side for one task, one for each destination, seen as one. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from skyplane_core.spec import Progress, TransferState

_SEPARATOR = ","
_COUNTS = tuple(field.name for field in msgspec.structs.fields(Progress) if field.type is int)


class Several(Progress, frozen=True):
    """Sums over transfers, and ``each`` of them in the order in which they were asked for."""

    each: tuple[Progress, ...] = ()


def joined(transfer_ids: Sequence[str]) -> str:
    """One id for all of them, which is that of the transfer where there is one."""
    return _SEPARATOR.join(transfer_ids)


def separate(transfer_id: str) -> list[str]:
    """The inverse of :func:`joined`."""
    return transfer_id.split(_SEPARATOR)


def as_one(progresses: Sequence[Progress]) -> Progress:
    """The progress of all: it has ended when all have, and well only if all did. One alone stays what it is."""
    if len(progresses) == 1:
        return progresses[0]
    running = [one for one in progresses if not one.state.ended]
    ends = [one.ended_at for one in progresses if one.ended_at is not None]
    expiries = [one.credentials_expire_at for one in running if one.credentials_expire_at is not None]
    return Several(
        transfer_id=joined([one.transfer_id for one in progresses]),
        state=running[0].state if running else _end([one.state for one in progresses]),
        listing_done=all(one.listing_done for one in progresses),
        started_at=min(one.started_at for one in progresses),
        ended_at=None if running else max(ends, default=None),
        failures=tuple(failure for one in progresses for failure in one.failures),
        error="; ".join(one.error for one in progresses if one.error),
        credentials_expire_at=min(expiries, default=None),
        stopped_at=", ".join(dict.fromkeys(one.stopped_at for one in progresses if one.stopped_at)),
        server_side_refused="; ".join(
            dict.fromkeys(one.server_side_refused for one in progresses if one.server_side_refused)
        ),
        each=tuple(progresses),
        **{name: sum(getattr(one, name) for one in progresses) for name in _COUNTS},
    )


def _end(states: Sequence[TransferState]) -> TransferState:
    """The worst of what has ended."""
    for worst in (TransferState.FAILED, TransferState.CANCELLED):
        if worst in states:
            return worst
    return TransferState.DONE
