"""A local directory under the suite."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from skyplane_core.model import StoreConfig
from tests.conformance.store_case import Feature, Gap, Running, StoreCase


@contextlib.contextmanager
def directory(path: Path) -> Iterator[Running]:
    def make_bucket(name: str) -> StoreConfig:
        (path / name).mkdir()
        return StoreConfig(kind="local", bucket=str(path / name))

    yield Running(make_bucket)


_NOT_INSIDE = "it would lead out of the directory, or back into it under another name"
_TOO_LONG = "a file name has at most 255 bytes"

CASES = [
    StoreCase(
        "local",
        directory,
        gaps={
            Feature.ATTRIBUTES: Gap("a file system keeps none"),
            Feature.METADATA_UNICODE: Gap("a file system keeps none"),
        },
        refused_keys={
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
        large_part=100_003,
    )
]
