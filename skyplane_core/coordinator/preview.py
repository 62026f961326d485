"""A store opened in the client, as far as a dry run needs it: listing and HEAD, and nothing that writes."""

from __future__ import annotations

from collections.abc import Iterator

from skyplane_core.errors import BucketNotFound
from skyplane_core.model import ObjectInfo
from skyplane_core.read_ahead import page_behind
from skyplane_core.read_ahead import read_ahead as pages_ahead
from skyplane_core.stores.base import Capabilities, ObjectStore, RangeListing


class PreviewStore:
    """A :class:`skyplane_core.coordinator.store.ListedStore`.

    Args:
        read_ahead: ask for pages before they are wanted, where the store can list several ranges at once.
    """

    def __init__(self, store: ObjectStore, *, read_ahead: bool = True) -> None:
        self._store = store
        self._read_ahead = read_ahead

    @property
    def uri(self) -> str:
        return self._store.uri

    @property
    def capabilities(self) -> Capabilities:
        return self._store.capabilities

    def list(self, prefix: str = "", *, start_after: str = "", delimiter: str = "") -> Iterator[ObjectInfo]:
        """A local directory that does not exist yet is an empty destination."""
        store = self._store
        try:
            if self._read_ahead and isinstance(store, RangeListing) and store.capabilities.listing_ranges:
                paged: RangeListing = store
                yield from pages_ahead(lambda after: page_behind(paged, after, prefix, delimiter), prefix, start_after)
            else:
                yield from store.list(prefix, start_after=start_after, delimiter=delimiter)
        except BucketNotFound:
            if not self._store.uri.startswith("file:"):
                raise

    def head(self, key: str) -> ObjectInfo:
        return self._store.head(key)
