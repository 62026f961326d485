"""What botocore reads from its own files, read once for all clients of a module."""

# ruff: noqa: TID253  # test code is never parsed as a DAG
from __future__ import annotations

import functools

import pytest
from botocore.loaders import JSONFileLoader


def read_once(patch: pytest.MonkeyPatch) -> None:
    """A stock operator makes clients anew, and half of its time is botocore's reading the same files."""
    read = functools.cache(JSONFileLoader().load_file)
    patch.setattr(JSONFileLoader, "load_file", lambda _loader, path: read(path))
