"""Copies in Google Cloud Storage that are to be retained, and whose sources may go only once they are."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from skyplane_core.attempts import attempt_all
from skyplane_core.moving import arrived, concerned, remove
from skyplane_core.stores.registry import open_store

if TYPE_CHECKING:
    from skyplane_core.model import StoreConfig
    from skyplane_core.spec import ReceiptLine
    from skyplane_core.stores.base import ObjectStore

_AT_ONCE = 32


class Retention(NamedTuple):
    """Until when nobody may replace or delete a copy; ``locked``: and nobody may shorten that."""

    until: datetime.datetime
    locked: bool


def retain(
    lines: Iterable[ReceiptLine],
    retention: Retention,
    source: StoreConfig,
    destination: StoreConfig,
    *,
    same: bool,
    moves: bool,
) -> int:
    """Retain what has arrived and, where it ``moves``, delete its sources after that. May be repeated.

    Args:
        same: what was left alone counts as well, where its very copy is there (:func:`skyplane_core.moving.arrived`).

    Returns how many copies are retained.

    Raises:
        SkyplaneError: a copy could not be retained, and every source object is there still; or a source object could
            not be deleted, or was written since. What else could be done has been, and the message counts what not.
    """
    from skyplane_core.stores.gcs_retention import retain as retain_copies

    with (
        closing(open_store(source)) as origin,
        closing(open_store(destination)) as there,
        ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="retention") as pool,
    ):
        kept = list(_arrived(lines, origin, there, pool, same=same))
        versions = ((line.destination_key, line.destination_version) for line in kept)
        retain_copies(destination, versions, retention.until, locked=retention.locked)
        if moves:
            attempt_all(pool, partial(remove, origin), kept, "deletion")
    return len(kept)


def _arrived(
    lines: Iterable[ReceiptLine], source: ObjectStore, destination: ObjectStore, pool: ThreadPoolExecutor, *, same: bool
) -> Iterator[ReceiptLine]:
    found = pool.map(partial(arrived, source, destination), (line for line in lines if concerned(line, same=same)))
    return (line for line in found if line is not None)
