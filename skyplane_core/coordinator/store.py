"""What a coordinator needs of a store: control calls and small state objects, wherever the store's agent runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from skyplane_core.model import (
    Copied,
    CopySource,
    ObjectAttributes,
    ObjectInfo,
    Precondition,
    Stored,
    StoredPart,
)
from skyplane_core.stores.base import Capabilities


class ListedStore(Protocol):
    """What deciding about objects needs of a store. The calls mean what they mean in :class:`ObjectStore`."""

    @property
    def capabilities(self) -> Capabilities: ...

    def list(self, prefix: str = "", *, start_after: str = "", delimiter: str = "") -> Iterator[ObjectInfo]: ...

    def head(self, key: str) -> ObjectInfo: ...


class AgentStore(ListedStore, Protocol):
    """One store as its agent serves it. Thread-safe; errors are those of :mod:`skyplane_core.errors`.

    The calls mean what they mean in :class:`skyplane_core.stores.base.ObjectStore`. A call that fails in
    passing was tried again before it raises.
    """

    @property
    def answered_at(self) -> float:
        """When the store last answered (monotonic clock): while it does, a transfer that waits for it is not stuck."""
        ...

    @property
    def trouble(self) -> str:
        """Why nobody has answered the last call; empty if somebody has."""
        ...

    def tags(self, key: str) -> dict[str, str]: ...

    def create_upload(self, key: str, attributes: ObjectAttributes) -> str: ...

    def list_parts(self, key: str, upload_id: str) -> Sequence[StoredPart]: ...

    def complete_upload(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[StoredPart],
        *,
        size: int,
        crc32c: int,
        precondition: Precondition,
    ) -> Stored: ...

    def copy(
        self, source: CopySource, key: str, attributes: ObjectAttributes, precondition: Precondition
    ) -> Copied: ...

    def copy_part(
        self, source: CopySource, key: str, upload_id: str, number: int, offset: int, size: int
    ) -> StoredPart: ...

    def abort_upload(self, key: str, upload_id: str) -> None: ...

    def delete(self, key: str, precondition: Precondition = Precondition()) -> None: ...

    def read_back(self, key: str, version: str, size: int) -> int:
        """Read the whole object again at ``version`` and return the CRC32C of what came."""
        ...

    def put_bytes(self, key: str, data: bytes) -> None:
        """Write a small object of the coordinator's own (journal, receipt), replacing what was there."""
        ...

    def get_bytes(self, key: str) -> bytes:
        """Read a small object of the coordinator's own. Raises ObjectNotFound."""
        ...

    def peek(self, key: str) -> bytes | None:
        """As :meth:`get_bytes`, None where there is no such object. Tried once, and counts as no answer."""
        ...
