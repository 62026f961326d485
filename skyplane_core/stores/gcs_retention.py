"""Retention of GCS objects that are there already: until when nobody may replace or delete them."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from skyplane_core.attempts import attempt_all
from skyplane_core.model import StoreConfig
from skyplane_core.stores import gcs_wire as wire
from skyplane_core.stores.gcs_calls import GcsCalls, open_pool

_AT_ONCE = 16


def retain(
    config: StoreConfig, objects: Iterable[tuple[str, str]], until: datetime.datetime, *, locked: bool = False
) -> None:
    """Retain objects until a moment, each at the generation that is given: one request for each of them.

    Args:
        objects: keys and generations.
        until: without a time zone it is UTC.
        locked: nobody can shorten it any more.

    Raises:
        PreconditionFailed: an object is another one by now.
        StoreError: GCS refused it; a bucket without object retention says so. With how many it refused.
    """
    moment = until if until.tzinfo else until.replace(tzinfo=datetime.timezone.utc)
    retention = {
        "mode": "Locked" if locked else "Unlocked",
        "retainUntilTime": moment.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }
    body = msgspec.json.encode({"retention": retention})
    calls, connections = GcsCalls(config), open_pool(config)

    def one(item: tuple[str, str]) -> None:
        key, generation = item
        target = wire.json_target(config.bucket, key, ifGenerationMatch=generation)
        with connections.connection() as http:
            calls.send(
                http,
                "PATCH",
                target,
                "cannot retain the object",
                key=key,
                headers={"Content-Type": "application/json"},
                body=body,
            )

    try:
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="retention") as pool:
            attempt_all(pool, one, objects, "retention")
    finally:
        connections.close()
