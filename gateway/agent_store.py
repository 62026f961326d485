"""The coordinator's view of a store: served in this process, or by the agent of another gateway over a link."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from gateway.store_calls import (
    AbortUpload,
    CompleteUpload,
    CopyObject,
    CopyPart,
    CreateUpload,
    Delete,
    GetBytes,
    GetCapabilities,
    GetTags,
    Head,
    ListPage,
    ListParts,
    PutBytes,
    ReadBack,
    StoreCall,
    perform,
)
from skyplane_core.coordinator.retry import retry_delay
from skyplane_core.errors import ObjectNotFound, SkyplaneError, StoreUnavailable
from skyplane_core.model import (
    Copied,
    CopySource,
    CopyStep,
    ObjectAttributes,
    ObjectInfo,
    Precondition,
    Stored,
    StoredPart,
)
from skyplane_core.read_ahead import read_ahead
from skyplane_core.stores.base import Capabilities, ObjectStore
from skyplane_core.stores.paging import Page

T = TypeVar("T")
PAGE = 1000

Caller = Callable[[StoreCall, Any], Any]
"""Performs a call and returns its result as the given type."""


class CalledStore:
    """A store behind a caller. Implements :class:`skyplane_core.coordinator.store.AgentStore`.

    Args:
        max_attempts: how often a call is tried when failures are passing.
        trouble: says why nobody has answered the last call; empty if somebody has.
    """

    def __init__(self, call: Caller, max_attempts: int, trouble: Callable[[], str] = str) -> None:
        self._call = call
        self._trouble = trouble
        self._max_attempts = max_attempts
        self._capabilities: Capabilities | None = None
        self.answered_at = 0.0

    @property
    def trouble(self) -> str:
        return self._trouble()

    @property
    def capabilities(self) -> Capabilities:
        if self._capabilities is None:
            self._capabilities = self._ask(GetCapabilities(), Capabilities)
        return self._capabilities

    def list(self, prefix: str = "", *, start_after: str = "", delimiter: str = "") -> Iterator[ObjectInfo]:
        if self.capabilities.listing_ranges:
            yield from self._ranges(prefix, start_after, delimiter)
            return
        more = True
        while more:
            objects, more = self._ask(ListPage(prefix, start_after, delimiter, PAGE), Page)
            yield from objects
            start_after = objects[-1].key if objects else start_after

    def _ranges(self, prefix: str, start_after: str, delimiter: str) -> Iterator[ObjectInfo]:
        def fetch(after: str) -> Page:
            return self._ask(ListPage(prefix, after, delimiter, PAGE), Page)

        return read_ahead(fetch, prefix, start_after)

    def head(self, key: str) -> ObjectInfo:
        return self._ask(Head(key), ObjectInfo)

    def tags(self, key: str) -> dict[str, str]:
        return self._ask(GetTags(key), dict[str, str])

    def create_upload(self, key: str, attributes: ObjectAttributes) -> str:
        return self._ask(CreateUpload(key, attributes), str)

    def list_parts(self, key: str, upload_id: str) -> Sequence[StoredPart]:
        return self._ask(ListParts(key, upload_id), list[StoredPart])

    def complete_upload(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[StoredPart],
        *,
        size: int,
        crc32c: int,
        precondition: Precondition,
    ) -> Stored:
        return self._ask(CompleteUpload(key, upload_id, tuple(parts), size, crc32c, precondition), Stored)

    def copy(self, source: CopySource, key: str, attributes: ObjectAttributes, precondition: Precondition) -> Copied:
        step = CopyStep(moved=-1)
        while True:
            last = step
            step = self._ask(CopyObject(source, key, attributes, precondition, last.token), CopyStep)
            if step.copied is not None:
                return step.copied
            if not step.token or step.moved <= last.moved:
                raise StoreUnavailable("a copy that the store makes by itself does not get on", where=key)

    def copy_part(
        self, source: CopySource, key: str, upload_id: str, number: int, offset: int, size: int
    ) -> StoredPart:
        return self._ask(CopyPart(source, key, upload_id, number, offset, size), StoredPart)

    def abort_upload(self, key: str, upload_id: str) -> None:
        self._ask(AbortUpload(key, upload_id), type(None))

    def delete(self, key: str, precondition: Precondition = Precondition()) -> None:
        self._ask(Delete(key, precondition), type(None))

    def read_back(self, key: str, version: str, size: int) -> int:
        return self._ask(ReadBack(key, version, size), int)

    def put_bytes(self, key: str, data: bytes) -> None:
        self._ask(PutBytes(key, data), type(None))

    def get_bytes(self, key: str) -> bytes:
        return self._ask(GetBytes(key), bytes)

    def peek(self, key: str) -> bytes | None:
        try:
            found: bytes = self._call(GetBytes(key), bytes)
        except ObjectNotFound:
            return None
        return found

    def _ask(self, call: StoreCall, result: type[T]) -> T:
        attempt = 1
        while True:
            try:
                value: T = self._call(call, result)
            except SkyplaneError as error:
                self._pause(error, attempt)
                attempt += 1
            else:
                self.answered_at = time.monotonic()
                return value

    def _pause(self, error: SkyplaneError, attempt: int) -> None:
        """Wait as long as the error asks for before another attempt, or raise it if there is to be none."""
        delay = retry_delay(error.record(), attempt, self._max_attempts, random.uniform)
        if delay is None:
            raise error
        time.sleep(delay)


class DirectStore(CalledStore):
    """A store whose agent is this process: calls are made at once, and a listing streams without pages of ours."""

    def __init__(self, store: Callable[[], ObjectStore], max_attempts: int) -> None:
        super().__init__(lambda call, _result: perform(store(), call), max_attempts)
        self._store = store

    def list(self, prefix: str = "", *, start_after: str = "", delimiter: str = "") -> Iterator[ObjectInfo]:
        """As a stream, which goes on after its last key with a new store when credentials were renewed.

        A listing lasts as long as the transfer, because admission pauses it, and so outlives its credentials.
        """
        if self.capabilities.listing_ranges:
            yield from self._ranges(prefix, start_after, delimiter)
            return
        attempt = 1
        while True:
            try:
                store = self._store()
                for info in store.list(prefix, start_after=start_after, delimiter=delimiter):
                    start_after, attempt = info.key, 1
                    self.answered_at = time.monotonic()
                    yield info
                    if self._store() is not store:
                        break
                else:
                    return
            except SkyplaneError as error:
                self._pause(error, attempt)
                attempt += 1
