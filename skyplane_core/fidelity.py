"""What becomes of an object's attributes at a destination: mapped as asked, then fitted to what it holds. Pure.

What the user asked for comes first (:class:`skyplane_core.model.AttributeRules`), what the destination can hold is data
(:mod:`skyplane_core.stores.holding`), and what does not fit is refused, dropped or renamed by one policy. Nothing is
lost without a note, which goes into the receipt, but the content type of what lands on a disk, where nothing has one.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from typing import Any, NamedTuple

import msgspec

from skyplane_core.errors import StoreRejected
from skyplane_core.model import AttributeRules, ObjectAttributes, StoreConfig, Unfit
from skyplane_core.mtimes import GSUTIL_MTIME, MTIME, as_rfc3339, as_seconds, possible, recorded
from skyplane_core.spec import SOURCE_VERSION_KEY
from skyplane_core.stores.holding import Holding, Mtime, holding

MODE = "mode"
"""rclone's name for a file's permissions in metadata, in octal."""
_TAG_PREFIX = "tag-"
CONTENT_HEADERS = ("content_type", "cache_control", "content_disposition", "content_encoding", "content_language")
_NEXT = (
    "Map or drop them (metadata_rename, metadata_drop), or choose what is done with what does not fit (unfit: drop or "
    "rename)."
)


class Fitted(NamedTuple):
    """Attributes as they are written, and what was dropped or renamed for that."""

    attributes: ObjectAttributes
    notes: tuple[str, ...] = ()

    def explain(self, reason: str) -> str:
        """A receipt's reason with the notes behind it."""
        return "; ".join((reason, *self.notes))


def fit(attributes: ObjectAttributes, rules: AttributeRules, holds: Holding) -> Fitted:
    """What is written at a destination of an object that has ``attributes`` at its source.

    Raises:
        StoreRejected: something does not fit, and the rules are to fail then.
    """
    attributes = _with_headers(attributes, rules)
    fitting = _Fitting(rules.unfit, holds)
    metadata = dict(attributes.metadata)
    own = metadata.pop(SOURCE_VERSION_KEY, None)
    files = _of_file(attributes, metadata, rules)
    tags = attributes.tags | rules.tags
    names = fitting.names(_mapped(metadata, rules) + fitting.tags_as_metadata(tags))
    changes: dict[str, Any] = fitting.headers(attributes)
    changes |= {
        "tags": fitting.tags(tags),
        "storage_class": rules.storage_class or fitting.storage_class(attributes, rules),
        "mtime_ns": files.mtime_ns if holds.mtime is Mtime.SET else None,
        "mode": files.mode if holds.mode else None,
        "custom_time": attributes.custom_time if holds.custom_time else "",
    }
    records = _records(files, holds) | ({} if own is None else {SOURCE_VERSION_KEY: own})
    changes["metadata"] = fitting.sized(names, records)
    if fitting.misfits:
        raise StoreRejected(
            f"{holds.name} cannot hold the object's attributes", why="; ".join(fitting.misfits), next_step=_NEXT
        )
    return Fitted(msgspec.structs.replace(attributes, **changes), tuple(fitting.notes))


def fit_at(attributes: ObjectAttributes, rules: AttributeRules, config: StoreConfig, where: str) -> Fitted:
    """As :func:`fit`, for a store; ``where`` is the object's URI there."""
    try:
        return fit(attributes, rules, holding(config))
    except StoreRejected as error:
        raise StoreRejected(error.what, where=where, why=error.why, next_step=error.next_step) from error


def _with_headers(attributes: ObjectAttributes, rules: AttributeRules) -> ObjectAttributes:
    return msgspec.structs.replace(
        attributes, **{name: value for name in CONTENT_HEADERS if (value := getattr(rules, name))}
    )


class _File(NamedTuple):
    mtime_ns: int | None
    mode: int | None


def _of_file(attributes: ObjectAttributes, metadata: dict[str, str], rules: AttributeRules) -> _File:
    """What is to be kept of a file's own attributes; their records leave the metadata for those of the destination."""
    mtime = mode = None
    if rules.keep_mtime:
        mtime = recorded(metadata)
        if mtime is not None:
            metadata.pop(MTIME, None)
            metadata.pop(GSUTIL_MTIME, None)
        elif attributes.mtime_ns is not None and possible(attributes.mtime_ns):
            mtime = attributes.mtime_ns
    if rules.keep_mode:
        mode = attributes.mode
        if mode is None and re.fullmatch("0?[0-7]{1,7}", metadata.get(MODE, "")):
            mode = int(metadata.pop(MODE), 8)
    return _File(mtime, None if mode is None else mode & 0o777)


def _mapped(metadata: dict[str, str], rules: AttributeRules) -> list[tuple[str, str]]:
    kept = [
        (rules.metadata_rename.get(name, name), value)
        for name, value in metadata.items()
        if not any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for pattern in rules.metadata_drop)
        and name not in rules.metadata
    ]
    return kept + list(rules.metadata.items())


def _records(files: _File, holds: Holding) -> dict[str, str]:
    """What says in metadata what the store itself cannot."""
    found = {}
    if files.mtime_ns is not None and holds.mtime is Mtime.SECONDS:
        found[MTIME] = as_seconds(files.mtime_ns)
    if files.mtime_ns is not None and holds.mtime in (Mtime.RFC3339, Mtime.GOOGLE):
        found[MTIME] = as_rfc3339(files.mtime_ns)
    if files.mtime_ns is not None and holds.mtime is Mtime.GOOGLE:
        found[GSUTIL_MTIME] = str(files.mtime_ns // 10**9)
    if files.mode is not None and not holds.mode:
        found[MODE] = f"{files.mode:04o}"
    return found


class _Fitting:
    """Collects what was done about what does not fit."""

    def __init__(self, unfit: Unfit, holds: Holding) -> None:
        self._unfit = unfit
        self._holds = holds
        self.misfits: list[str] = []
        self.notes: list[str] = []

    def headers(self, attributes: ObjectAttributes) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        for name in CONTENT_HEADERS:
            value = getattr(attributes, name)
            if not value:
                continue
            shown = name.replace("_", "-").title()
            if not self._holds.content_headers:
                changes[name] = ""
                if name != "content_type":
                    self.notes.append(f"{shown} dropped, which is not held there")
            elif self._holds.ascii_headers and not _is_plain(value):
                changes[name] = ""
                self._lose(f"{shown} is not printable ASCII", f"{shown} dropped, which is not printable ASCII")
        return changes

    def names(self, metadata: list[tuple[str, str]]) -> dict[str, str]:
        """Metadata by names that are possible there, each once."""
        if not self._holds.metadata:
            if metadata:
                self.notes.append(f"metadata dropped, which is not held there: {_listed(name for name, _ in metadata)}")
            return {}
        pattern = _pattern(self._holds.metadata_names)
        values = _pattern(self._holds.metadata_values)
        found: dict[str, str] = {}
        taken: set[str] = set()
        for name, value in metadata:
            wanted = name.lower() if self._holds.lower_case else name
            trouble = ""
            if not values.fullmatch(value):
                trouble = "has a value that cannot be there"
            elif not pattern.fullmatch(wanted):
                trouble = "is no name there"
            elif self._folded(wanted) in taken:
                trouble = "is taken already"
            if trouble and (self._unfit is not Unfit.RENAME or not values.fullmatch(value)):
                self._lose(f"metadata {name!r} {trouble}", f"metadata {name!r} dropped, which {trouble}")
                continue
            new = self._possible(wanted, pattern, taken) if trouble else wanted
            if trouble:
                self.notes.append(f"metadata {name!r} renamed to {new!r}")
            found[new] = value
            taken.add(self._folded(new))
        return found

    def _folded(self, name: str) -> str:
        return name.lower() if self._holds.one_case else name

    def _possible(self, name: str, pattern: re.Pattern[str], taken: set[str]) -> str:
        """A name like ``name`` that is possible and not taken."""
        filler = "-" if pattern.fullmatch("-") else "_"
        stem = "".join(char if pattern.fullmatch(f"{filler}{char}") else filler for char in name)
        stem = stem if pattern.fullmatch(stem) else f"{filler}{stem}"
        number, new = 2, stem
        while self._folded(new) in taken:
            new, number = f"{stem}{filler}{number}", number + 1
        return new

    def tags_as_metadata(self, tags: dict[str, str]) -> list[tuple[str, str]]:
        if self._holds.tags or self._unfit is not Unfit.RENAME or not tags:
            return []
        self.notes.append(f"tags renamed to metadata {_TAG_PREFIX}*: {_listed(tags)}")
        return [(f"{_TAG_PREFIX}{name}", value) for name, value in tags.items()]

    def tags(self, tags: dict[str, str]) -> dict[str, str]:
        if not tags:
            return {}
        kept = dict(list(tags.items())[: self._holds.tags])
        gone = [name for name in tags if name not in kept]
        if gone and (self._holds.tags or self._unfit is not Unfit.RENAME):
            most = f"there are at most {self._holds.tags} tags" if self._holds.tags else "there are no tags"
            self._lose(f"{most} there: {_listed(gone)}", f"tags dropped: {_listed(gone)}")
        return kept

    def storage_class(self, attributes: ObjectAttributes, rules: AttributeRules) -> str:
        name = attributes.storage_class if rules.keep_storage_class else ""
        known = self._holds.storage_classes
        if name and (not self._holds.classes or (known and name not in known)):
            self._lose(f"there is no storage class {name}", f"storage class {name} dropped")
            return ""
        return name

    def sized(self, metadata: dict[str, str], records: dict[str, str]) -> dict[str, str]:
        """Metadata and our records as far as there is room; our records go first."""
        if not self._holds.metadata:
            # What the store makes of the source's version is its own affair.
            return {name: value for name, value in records.items() if name == SOURCE_VERSION_KEY}
        self.notes += [f"{name} not recorded, as metadata has that name" for name in records if name in metadata]
        found = {**records, **metadata}
        limit = self._holds.metadata_bytes
        largest = sorted(metadata, key=lambda name: (-self._size(name, metadata[name]), name))
        for name in (*(name for name in records if name not in metadata), *largest):
            if not limit or sum(self._size(*item) for item in found.items()) <= limit:
                break
            del found[name]
            if name in metadata:
                too_much = f"metadata {name!r} is beyond the {limit} bytes that there are"
                self._lose(too_much, f"metadata {name!r} dropped for want of room")
            else:
                self.notes.append(f"{name} not recorded for want of room")
        return found

    def _size(self, name: str, value: str) -> int:
        raw = len(value.encode())
        if self._holds.ascii_values and (not _is_plain(value) or "=?" in value):
            # As an RFC 2047 word.
            raw = 12 + 4 * -(-raw // 3)
        return len(name.encode()) + raw

    def _lose(self, misfit: str, note: str) -> None:
        if self._unfit is Unfit.FAIL:
            self.misfits.append(misfit)
        else:
            self.notes.append(note)


def _is_plain(value: str) -> bool:
    """Whether a header carries it as it is."""
    return value.isascii() and value.isprintable() and value == value.strip()


def _listed(names: Any) -> str:
    """Some names for a note."""
    shown = sorted(names)
    return ", ".join(map(repr, shown[:5])) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")


@functools.lru_cache(maxsize=32)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text)
