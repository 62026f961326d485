"""Tells a transfer whose gateways cannot be reached to end, by the place that both sides reach: its destination."""

from __future__ import annotations

import secrets
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from airflow_provider_skyplane.several import separate
from skyplane_core.errors import BucketNotFound

if TYPE_CHECKING:
    from airflow_provider_skyplane.engine import Engine, FanOut, Request
    from skyplane_core.stores.base import ObjectStore


def recall(engine: Engine, request: Request | FanOut, transfer_id: str, *, hand_over: bool) -> bool:
    """Leave word in the journal of the transfer, or in those of several, that whoever runs it is to let go of it.

    Args:
        request: by which its destinations are found; a transfer to others than these is left alone.
        hand_over: what is open is to be left for somebody who goes on with it; else it is aborted.

    Returns whether there was a journal: a transfer without one has not begun, or has ended in order.

    Raises:
        SkyplaneError: a destination cannot be read or written.
    """
    from skyplane_core.coordinator import journal
    from skyplane_core.stores.whole import put_bytes

    ids = separate(transfer_id)
    if len(ids) != len(request.each):
        return False
    found = False
    for one, own in zip(request.each, ids, strict=True):
        store, state = engine.state(one, own)
        with closing(store):
            if _has_journal(store, state):
                journal.recall(partial(put_bytes, store), state, secrets.token_hex(8), hand_over=hand_over)
                found = True
    return found


def _has_journal(store: ObjectStore, state: str) -> bool:
    try:
        return next(iter(store.list(f"{state}journal-")), None) is not None
    except BucketNotFound:
        # A directory of the other machine, say. Whether it is to be there, the start of a transfer tells.
        return False
