"""A directory of a real HDFS under the suite."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from skyplane_core.model import StoreConfig
from tests.conformance.store_case import Feature, Gap, Running, StoreCase
from tests.servers.hdfs import hdfs


@contextlib.contextmanager
def namenode_and_datanode(path: Path) -> Iterator[Running]:
    with hdfs(path) as server:

        def make_bucket(name: str) -> StoreConfig:
            server.make_directory(f"/user/{name}")
            return StoreConfig(kind="hdfs", bucket=f"/user/{name}", endpoint_url=server.url)

        yield Running(make_bucket)


_NOT_INSIDE = "it would lead out of the directory, or back into it under another name"
_TOO_LONG = "a file name has at most 255 bytes"

CASES = [
    StoreCase(
        "hdfs",
        namenode_and_datanode,
        gaps={
            Feature.ATTRIBUTES: Gap("HDFS keeps none"),
            Feature.METADATA_UNICODE: Gap("HDFS keeps none"),
        },
        refused_keys={
            "quote'\"<&>;:@,$!*()[]{}|\\^`~=": "HDFS takes no ':' in a name",
            "double//slash": _NOT_INSIDE,
            "/leading": _NOT_INSIDE,
            "//": _NOT_INSIDE,
            "a/../b": _NOT_INSIDE,
            "a/./b": _NOT_INSIDE,
            "../up": _NOT_INSIDE,
            "./here": _NOT_INSIDE,
            "k" * 1024: _TOO_LONG,
            "ü" * 512: _TOO_LONG,
        },
        refused_uploads={"trailing/": "a directory has no bytes"},
        large_part=1_100_003,
    )
]
