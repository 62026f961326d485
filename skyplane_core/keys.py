"""Source key -> destination key, as one pure function for everybody, and what follows from it. See docs/keys.md.

A key is compared and cut as text, never unquoted or normalised. For valid Unicode, the order of Python strings is
the order of their UTF-8 bytes, which is the order that stores list in.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from skyplane_core.errors import UsageError
from skyplane_core.selection import root, select, selects, tree_root
from skyplane_core.spec import KeyMapping, MappingKind, Selection
from skyplane_core.stores.base import Capabilities
from skyplane_core.stores.blob_names import blob_refusal
from skyplane_core.stores.path_names import path_refusal, windows_refusal

__all__ = [
    "check_key",
    "key_check",
    "listing_prefix",
    "map_key",
    "preserves_order",
    "rule",
    "select",
    "selects",
    "source_prefix",
]


def rule(source_key: str, destination_key: str, *, recursive: bool) -> tuple[Selection, KeyMapping]:
    """The selection and the mapping that ``cp [-r] SRC DST`` (and ``sync``, which is always recursive) mean.

    A recursive rule selects what lies under ``source_key`` and never an object of exactly that name.

    Raises:
        UsageError: not recursive, and the source names no object.
    """
    if recursive:
        source = root(source_key)
        return Selection(source, tree=True), KeyMapping(MappingKind.PREFIX, source, destination_key)
    if not source_key:
        raise UsageError(
            "the source names a bucket or directory, not an object", next_step="Add -r to copy all that is in it."
        )
    return Selection(source_key, single=True), KeyMapping(MappingKind.OBJECT, source_key, destination_key)


def map_key(mapping: KeyMapping, key: str) -> str:
    """The destination key of a selected source key.

    Different keys of one selection get different destination keys, with two exceptions: FLATTEN, and REPLACE where
    the selection's prefix does not start with the mapping's source (see :func:`preserves_order`). The result is empty
    only for what has no counterpart at the destination: the folder marker of the copied root itself, and each folder
    marker with FLATTEN.

    Raises:
        UsageError: ``key`` is not one that this mapping is for.
    """
    if mapping.kind is MappingKind.APPEND:
        return mapping.destination + key
    if mapping.kind is MappingKind.REPLACE:
        return key.replace(mapping.source, mapping.destination, 1)
    if mapping.kind is MappingKind.FLATTEN:
        return "" if key.endswith("/") else mapping.destination + key[key.rfind("/") + 1 :]
    if mapping.kind is MappingKind.PREFIX:
        source = tree_root(mapping.source)
        if not key.startswith(source):
            raise _foreign(mapping, key)
        return tree_root(mapping.destination) + key[len(source) :]
    if key != mapping.source:
        raise _foreign(mapping, key)
    destination = root(mapping.destination)
    return destination + _basename(key) if not destination or destination.endswith("/") else destination


def listing_prefix(mapping: KeyMapping, selection: Selection | None = None) -> str:
    """The longest prefix that the destination keys of all selected source keys are known to share.

    Without a ``selection`` only the mapping is relied on, so APPEND and REPLACE share less.
    """
    if mapping.kind is MappingKind.OBJECT:
        return map_key(mapping, mapping.source)
    shared = source_prefix(selection) if selection is not None else ""
    if mapping.kind is MappingKind.PREFIX:
        source = tree_root(mapping.source)
        inside = shared[len(source) :] if shared.startswith(source) else ""
        return tree_root(mapping.destination) + inside
    if mapping.kind is MappingKind.APPEND:
        return mapping.destination + shared
    if mapping.kind is MappingKind.FLATTEN:
        return mapping.destination
    if selection is None or not preserves_order(mapping, selection):
        return ""
    return map_key(mapping, shared)


def source_prefix(selection: Selection) -> str:
    """What to list the source with: as narrow as the selection allows."""
    return tree_root(selection.prefix) if selection.tree else selection.prefix


def preserves_order(mapping: KeyMapping, selection: Selection) -> bool:
    """Whether ascending source keys get strictly ascending destination keys, as a streaming merge needs.

    False for FLATTEN, and for REPLACE where the mapping's source may occur elsewhere than at the start of a key. There
    two source keys may also get the same destination key.
    """
    if mapping.kind is MappingKind.FLATTEN:
        return False
    return mapping.kind is not MappingKind.REPLACE or selection.single or selection.prefix.startswith(mapping.source)


def check_key(key: str, capabilities: Capabilities) -> str | None:
    """Why no object with this key can exist in a store with these capabilities, or None if it can."""
    if not key:
        return "the key is empty"
    if "\0" in key:
        return "the key contains a NUL character"
    try:
        length = len(key) if key.isascii() else len(key.encode())
    except UnicodeEncodeError:
        return "the key is not valid UTF-8"
    if length > capabilities.max_key_bytes:
        return f"the key has {length} bytes and the store allows {capabilities.max_key_bytes}"
    if capabilities.keys_are_paths and (reason := path_refusal(key, capabilities.max_segment_bytes)):
        return f"the key cannot be a file name: {reason}"
    if capabilities.windows_names and (reason := windows_refusal(key)):
        return f"the key cannot be a file name there: {reason}"
    if capabilities.blob_names and (reason := blob_refusal(key)):
        return f"the key cannot be a blob's name: {reason}"
    return None


def key_check(capabilities: Capabilities) -> Callable[[str], str | None]:
    """:func:`check_key` for the keys of one transfer, which also refuses one that the store takes for another.

    Where the store folds case, the keys are held in memory for that.
    """
    if not capabilities.folds_case:
        return lambda key: check_key(key, capabilities)
    seen: dict[str, str] = {}

    def check(key: str) -> str | None:
        reason = check_key(key, capabilities)
        if reason is not None:
            return reason
        other = seen.setdefault(folded(key), key)
        return None if other == key else f"the destination takes it for the same name as {other!r}"

    return check


def folded(key: str) -> str:
    """What a store that folds case takes a key for: the same for ``A``, ``a``, and for ``é`` however it is composed."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", key).casefold())


def _basename(key: str) -> str:
    """What follows the last ``/``; a folder marker keeps its own final one."""
    return key[key.rstrip("/").rfind("/") + 1 :] if key.strip("/") else key


def _foreign(mapping: KeyMapping, key: str) -> UsageError:
    return UsageError(
        f"the key {key!r} is not under {mapping.source!r}, so it has no destination",
        next_step="Select only what is under it: let the source's prefix end in a slash.",
    )
