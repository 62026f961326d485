"""What the conformance suite knows of a server: how to start it, and where it is known to fall short.

A new server is a context manager that yields a :class:`Running` and one :class:`StoreCase` in a ``cases_*.py`` beside
this file. A gap is a :class:`Feature` with what happens instead and the reason; the suite then demands exactly that, so
that a server which closes its gap fails the suite until the gap is removed.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from skyplane_core.errors import StoreError
from skyplane_core.model import ObjectAttributes, StoreConfig


class Feature(enum.Enum):
    """What a server may lack. Each is one expectation in the suite."""

    PUT_IF_ABSENT = "a put with `absent` onto an object raises PreconditionFailed"
    PUT_IF_VERSION = "a put with another version than the current one raises PreconditionFailed"
    PUT_OF_VERSION = "a put with the current version replaces it"
    COMPLETE_IF_ABSENT = "a completion with `absent` onto an object raises PreconditionFailed"
    COMPLETE_IF_VERSION = "a completion with another version than the current one raises PreconditionFailed"
    COMPLETE_OF_VERSION = "a completion with the current version replaces it"
    PUT_CHECKSUM = "a put whose CRC32C is wrong raises ChecksumMismatch and leaves nothing"
    PART_CHECKSUM = "a part whose CRC32C is wrong raises ChecksumMismatch"
    WHOLE_CHECKSUM = "a completion whose CRC32C is wrong raises ChecksumMismatch and leaves nothing"
    CREDENTIALS = "wrong credentials raise Unauthenticated"
    ATTRIBUTES = "content headers and metadata come back as they went"
    METADATA_UNICODE = "metadata outside ASCII comes back as it went"
    ABORTED_PART = "a part for an upload that was aborted raises UploadNotFound"
    COMPLETE_ABORTED = "completing an aborted upload raises UploadNotFound"
    LIST_ABORTED = "the parts of an aborted upload raise UploadNotFound"
    REPEAT_AFTER_OVERWRITE = "repeating a completion whose object somebody overwrote raises UploadNotFound"
    STORAGE_CLASS = "a storage class comes back as it went"
    TAGS = "tags come back as they went"
    REPEATED_COMPLETE = "repeating a completion returns the same Stored"
    PART_REPLACED = "a part that is put again with other bytes is listed instead of the first"
    UPLOAD_SURVIVES_WRITES = "an upload stays open when an object is put at its key"
    UPLOAD_SURVIVES_DELETES = "an upload stays open when the object at its key is deleted"
    COPY_OF_VERSION = "a copy from a version of the source that is not there any more raises SourceChanged"
    COPY_CHECKSUM = "a copy comes with the store's own checksum of it"
    UPLOAD_SURVIVES_COMMITS = "an upload stays open when another one of its key is completed"


class Gap(NamedTuple):
    """What happens instead: ``raises``, or without it nothing, as if all were well."""

    reason: str
    raises: type[StoreError] | None = None


class Running(NamedTuple):
    """A started server.

    ``make_bucket`` makes an empty bucket and returns its config. ``distrust`` returns a config with credentials that
    the server must not accept, or is None where there are none.
    """

    make_bucket: Callable[[str], StoreConfig]
    distrust: Callable[[StoreConfig], StoreConfig] | None = None


ATTRIBUTES = ObjectAttributes(
    content_type="text/x-odd; charset=utf-8",
    cache_control="max-age=17, private",
    content_disposition='attachment; filename="a b.txt"',
    content_encoding="gzip",
    content_language="de",
    metadata={"owner": "somebody", "spaced": "two  blanks", "word": "=?UTF-8?Q?not=20a=20word?=", "empty-not": "x"},
)


@dataclass(frozen=True)
class StoreCase:
    """One server under the suite.

    Args:
        start: starts the server, given a directory of its own, and stops it. It may raise :class:`Unavailable`.
        gaps: what is known to be missing.
        refused_keys: keys out of :data:`ODD_KEYS` that are refused by name (StoreRejected), with the reason.
        refused_uploads: further such keys, which cannot be uploaded in parts.
        unknown_keys: such keys that the server cannot even route (ObjectNotFound), with the reason.
        large_part: bytes of a part that is not the last one.
        attributes: content headers and metadata that the store can hold.
        copies: the store is asked to copy objects by itself.
    """

    name: str
    start: Callable[[Path], AbstractContextManager[Running]]
    gaps: Mapping[Feature, Gap] = field(default_factory=dict)
    refused_keys: Mapping[str, str] = field(default_factory=dict)
    refused_uploads: Mapping[str, str] = field(default_factory=dict)
    unknown_keys: Mapping[str, str] = field(default_factory=dict)
    large_part: int = 5 * 1024 * 1024
    attributes: ObjectAttributes = ATTRIBUTES
    copies: bool = False

    def outcome(self, feature: Feature, normal: type[StoreError] | None) -> AbstractContextManager[object]:
        """A block that must raise ``normal`` (None: must succeed), or do what the gap says."""
        expected = self.gaps[feature].raises if feature in self.gaps else normal
        return pytest.raises(expected) if expected is not None else contextlib.nullcontext()

    def has(self, feature: Feature) -> bool:
        return feature not in self.gaps


class Unavailable(Exception):
    """The server's software is not installed here; the message says how to get it."""


ODD_KEYS = (
    "plain",
    "a space",
    "tab\there",
    "plus+plus",
    "100%",
    "%2F",
    "%2e%2e",
    "q?x=1&y=2#z",
    "ünïcode/日本語/🛰",
    "e\u0301 is not \u00e9",
    "quote'\"<&>;:@,$!*()[]{}|\\^`~=",
    "line\nfeed",
    "control\x01",
    "trailing/",
    "double//slash",
    "/leading",
    "//",
    "a/../b",
    "a/./b",
    "../up",
    "./here",
    "dots...",
    "k" * 1024,
    "ü" * 512,
)
"""Keys that something on the way is known to have mangled somewhere."""


@contextlib.contextmanager
def started(case: StoreCase, directory: Path) -> Iterator[Running]:
    """The case's server; without it, a failure that says what is missing."""
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(case.start(directory))
        except Unavailable as missing:
            pytest.fail(f"{missing}; scripts/setup --servers installs it")
        yield running
