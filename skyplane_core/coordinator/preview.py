"""A store opened in the client, as far as a dry run needs it: listing and HEAD, and nothing that writes."""

from __future__ import annotations

from collections.abc import Iterator

from skyplane_core.errors import BucketNotFound
from skyplane_core.model import ObjectInfo
from skyplane_core.stores.base import Capabilities, ObjectStore


class PreviewStore:
    """A :class:`skyplane_core.coordinator.store.ListedStore`."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    @property
    def capabilities(self) -> Capabilities:
        return self._store.capabilities

    def list(self, prefix: str = "", *, start_after: str = "", delimiter: str = "") -> Iterator[ObjectInfo]:
        """A local directory that does not exist yet is an empty destination."""
        try:
            yield from self._store.list(prefix, start_after=start_after, delimiter=delimiter)
        except BucketNotFound:
            if not self._store.uri.startswith("file:"):
                raise

    def head(self, key: str) -> ObjectInfo:
        return self._store.head(key)
