"""What a transfer left at its destination, for whoever comes when its gateways are gone."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from skyplane_core.coordinator.preview import PreviewStore
from skyplane_core.coordinator.receipt import read_receipt
from skyplane_core.errors import BucketNotFound, ObjectNotFound, StoreRejected
from skyplane_core.locations import Location
from skyplane_core.selection import tree_root
from skyplane_core.spec import STATE_SEGMENT, Progress
from skyplane_core.stores.base import ObjectStore
from skyplane_core.stores.registry import open_store
from skyplane_core.stores.whole import get_bytes


class Left(NamedTuple):
    """``ended``: how it ended, as its receipt says; None without one. ``begun``: whether there is anything of it."""

    ended: Progress | None
    begun: bool


def left_by(transfer_id: str, destination: Location) -> Left:
    """What there is of a transfer at its destination.

    Args:
        destination: as it was given to the transfer: a prefix, or an object's key.

    Raises:
        StoreError: the destination cannot be asked, or what is there is no receipt of this transfer.
    """
    # A tree's state is below its prefix, that of one object beside it.
    beside = destination.key[: destination.key.rfind("/") + 1]
    states = [f"{root}{STATE_SEGMENT}/{transfer_id}/" for root in dict.fromkeys((tree_root(destination.key), beside))]
    with contextlib.closing(open_store(destination.store)) as store:
        for state in states:
            ended = _ended(store, state)
            if ended is None:
                continue
            if ended.transfer_id != transfer_id:
                raise StoreRejected(
                    f"the receipt is of transfer {ended.transfer_id}", where=destination.store.object_uri(state)
                )
            return Left(ended, begun=True)
        listed = PreviewStore(store, read_ahead=False)
        return Left(None, begun=any(next(iter(listed.list(state)), None) is not None for state in states))


def _ended(store: ObjectStore, state: str) -> Progress | None:
    try:
        return read_receipt(lambda key: get_bytes(store, key), state)[0]
    except ObjectNotFound:
        return None
    except BucketNotFound:
        # A local directory is made by the transfer.
        if store.uri.startswith("file:"):
            return None
        raise
