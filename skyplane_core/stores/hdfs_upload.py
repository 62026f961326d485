"""Writes to HDFS: prepared under ``.skyplane/uploads``, read back, then made visible by one rename.

A file of HDFS has one writer, who can only append. So an upload is a directory, with ``opened`` (what it is for) and a
file for each part, whose name tells number, offset, size and CRC32C. A part gets that name when all of it was written
and read back. Completion has the NameNode join the parts' blocks, which moves no byte; where it cannot, the parts are
written one after the other into one file, which is read back.
"""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
import re
import uuid
from collections.abc import Iterator

import msgspec

from skyplane_core.checksum import combined_crc32c
from skyplane_core.checksum import crc32c as checksum_of
from skyplane_core.errors import (
    ChecksumMismatch,
    ObjectNotFound,
    PermissionDenied,
    PreconditionFailed,
    StoreRejected,
    UploadNotFound,
)
from skyplane_core.model import Precondition, StoredPart
from skyplane_core.stores.hdfs_client import Hdfs
from skyplane_core.stores.hdfs_errors import NEXT_FOR_CONFLICT
from skyplane_core.stores.hdfs_paths import uploads_of

_ID = re.compile(r"[0-9a-f]{32}-[0-9a-f]{16}")
_PART = re.compile(r"part-(\d+)-(\d+)-(\d+)-([0-9a-f]{8})")


class Upload:
    """One upload's directory. Its id tells of which key it is; that it is open, only a call.

    Raises:
        UploadNotFound: there cannot be such an upload of ``key``.
    """

    def __init__(self, hdfs: Hdfs, root: str, key: str, upload_id: str, where: str) -> None:
        self._hdfs = hdfs
        self._where = where
        self.directory = f"{uploads_of(root)}/{upload_id}"
        if not _ID.fullmatch(upload_id) or not upload_id.endswith(_tag(key)):
            raise UploadNotFound("the upload is not open", where=where, why=f"no upload {upload_id!r}")

    def write_part(self, number: int, offset: int, data: memoryview, crc32c: int) -> StoredPart:
        """Write a part's bytes; where it was written before, the later one counts."""
        part = StoredPart(number, f"{offset}-{len(data)}-{crc32c:08x}", len(data), crc32c)
        written = f"{self.directory}/new-{uuid.uuid4().hex}"
        try:
            self._hdfs.write(written, iter([data]), self._where)
            settle(self._hdfs, written, len(data), crc32c, f"{self._where} part {number}")
            self._hdfs.rename(written, self._path(part), self._where, overwrite=True)
        except ObjectNotFound as error:
            raise self._not_open() from error
        return part

    def parts(self) -> list[StoredPart]:
        """The parts that are there, by number."""
        newest: dict[int, tuple[int, StoredPart]] = {}
        for modified, part in self._found():
            newest[part.number] = max(newest.get(part.number, (0, part)), (modified, part), key=lambda entry: entry[0])
        return [part for _, (_, part) in sorted(newest.items())]

    def assemble(self, parts: tuple[StoredPart, ...], size: int, crc32c: int) -> str:
        """Make one file of all parts, in the upload's directory, and return its path. May be repeated.

        Raises:
            StoreRejected: ``parts`` are not all there, or do not cover ``size`` bytes without a gap.
            ChecksumMismatch: they hold other bytes.
        """
        if combined_crc32c((part.crc32c or 0, part.size) for part in parts) != crc32c:
            raise ChecksumMismatch("the parts are not those of the object", where=self._where)
        if self._is_joined(parts, size):
            return self._path(parts[0])
        self._check(parts, size)
        try:
            if self._hdfs.calls is not None and parts:
                # Such as in an encryption zone, or where Kerberos would have to tell who is asking.
                with contextlib.suppress(StoreRejected, PermissionDenied):
                    first, *others = map(self._path, parts)
                    if others:
                        self._hdfs.calls.concat(first, others, self._where)
                    return first
            path = f"{self.directory}/object-{uuid.uuid4().hex}"
            self._hdfs.write(path, self._bytes_of(parts), self._where)
            settle(self._hdfs, path, size, crc32c, self._where)
        except ObjectNotFound as error:
            raise self._not_open() from error
        return path

    def source(self) -> str:
        """The source's version that was given when the upload was opened."""
        opened = _opened_in(self._hdfs, self.directory, self._where)
        return opened.source if opened is not None else ""

    def remove(self) -> None:
        """Drop the upload, whatever is left of it."""
        self._hdfs.delete(self.directory, self._where, recursive=True)

    def _is_joined(self, parts: tuple[StoredPart, ...], size: int) -> bool:
        """Whether an earlier completion got as far as having the parts joined, which leaves them all in the first."""
        found = self._hdfs.find(self._path(parts[0]), self._where) if len(parts) > 1 else None
        return found is not None and found.size == size

    def _check(self, parts: tuple[StoredPart, ...], size: int) -> None:
        there = {(part.number, part.part_id) for _, part in self._found()}
        end = 0
        for part in parts:
            if (part.number, part.part_id) not in there:
                raise StoreRejected(
                    "a part is not in the upload", where=self._where, why=f"part {part.number} {part.part_id}"
                )
            if int(part.part_id.partition("-")[0]) != end:
                raise StoreRejected("the parts leave a gap", where=self._where, why=f"before part {part.number}")
            end += part.size
        if end != size:
            raise StoreRejected("the parts do not make up the object", where=self._where, why=f"{end} of {size} bytes")

    def _found(self) -> Iterator[tuple[int, StoredPart]]:
        """Each part's file, with the time of its writing."""
        try:
            for entry in self._hdfs.entries(self.directory, self._where):
                match = _PART.fullmatch(posixpath.basename(entry.path))
                if match and int(match[3]) == entry.size:
                    part_id = f"{match[2]}-{match[3]}-{match[4]}"
                    yield entry.modified, StoredPart(int(match[1]), part_id, entry.size, int(match[4], 16))
        except ObjectNotFound as error:
            raise self._not_open() from error

    def _bytes_of(self, parts: tuple[StoredPart, ...]) -> Iterator[memoryview]:
        for part in parts:
            seen = 0
            for piece in _pieces(self._hdfs, self._path(part), self._where):
                seen = checksum_of(piece, seen)
                yield piece
            if seen != part.crc32c:
                raise _differs(f"{self._where} part {part.number}", seen, part.crc32c or 0)

    def _path(self, part: StoredPart) -> str:
        return f"{self.directory}/part-{part.number}-{part.part_id}"

    def _not_open(self) -> UploadNotFound:
        return UploadNotFound("the upload is not open", where=self._where, why="it was completed or aborted")


class _Opened(msgspec.Struct, frozen=True):
    """What an upload is for."""

    key: str
    source: str


# Made once and here: msgspec works out a type on its first use, and crashes if two threads do so at once.
_OPENED = msgspec.json.Decoder(_Opened)


def create(hdfs: Hdfs, uploads: str, key: str, source: str, where: str) -> str:
    """Make an upload's directory in ``uploads`` and return its id.

    Args:
        source: the source's version that the file is to be a copy of, empty if that is not to be recorded.
    """
    upload_id = f"{uuid.uuid4().hex}-{_tag(key)}"
    directory = f"{uploads}/{upload_id}"
    hdfs.make_directory(directory, where)
    hdfs.write(f"{directory}/opened", iter([memoryview(msgspec.json.encode(_Opened(key, source)))]), where)
    return upload_id


def open_uploads(hdfs: Hdfs, root: str, prefix: str, where: str) -> Iterator[tuple[str, str]]:
    """``(key, id)`` of the uploads under ``prefix``, by key."""
    found = []
    try:
        for entry in hdfs.entries(uploads_of(root), where):
            name = posixpath.basename(entry.path)
            opened = _opened_in(hdfs, entry.path, where) if _ID.fullmatch(name) else None
            if opened is not None and opened.key.startswith(prefix):
                found.append((opened.key, name))
    except ObjectNotFound:
        return
    yield from sorted(found)


def settle(hdfs: Hdfs, path: str, size: int, crc32c: int, where: str) -> str:
    """Read a prepared file back and return its version, which a rename leaves as it is.

    Raises:
        ChecksumMismatch: it holds other bytes than were sent.
    """
    seen_size, seen = checksum(hdfs, path, where)
    if (seen_size, seen) != (size, crc32c):
        raise _differs(where, seen, crc32c)
    return hdfs.status(path, where).version


def checksum(hdfs: Hdfs, path: str, where: str) -> tuple[int, int]:
    """Size and CRC32C of a file's bytes. Raises ObjectNotFound."""
    size = value = 0
    for piece in _pieces(hdfs, path, where):
        size += len(piece)
        value = checksum_of(piece, value)
    return size, value


def publish(hdfs: Hdfs, prepared: str, path: str, precondition: Precondition, where: str) -> None:
    """Make a prepared file visible at ``path``, at once.

    ``absent`` is atomic. A version is compared just before the rename, which is not: HDFS has no such call.
    """
    for last in (False, False, True):
        if precondition.version:
            found = hdfs.find(path, where)
            if found is None or found.version != precondition.version:
                why = f"it is {found.version if found else 'gone'}"
                raise PreconditionFailed("the file is not the one that was meant", where=where, why=why)
        try:
            hdfs.rename(prepared, path, where, overwrite=not precondition.absent)
            return
        except FileExistsError as error:
            if precondition.absent:
                raise PreconditionFailed("the file exists already", where=where) from error
            raise StoreRejected("a directory stands there", where=where, next_step=NEXT_FOR_CONFLICT) from error
        except ObjectNotFound:
            # Its directory is not there yet; or a deletion elsewhere took it, since it had just become empty.
            if last or hdfs.find(prepared, where) is None:
                raise
            hdfs.make_directory(posixpath.dirname(path), where)


def _pieces(hdfs: Hdfs, path: str, where: str) -> Iterator[memoryview]:
    with hdfs.reading(path, where) as reader:
        if len(reader):
            for piece in reader.read_range_stream(0, len(reader)):
                yield memoryview(piece)


def _opened_in(hdfs: Hdfs, directory: str, where: str) -> _Opened | None:
    """What an upload is for; None for one that is just being opened or removed."""
    try:
        content = b"".join(_pieces(hdfs, f"{directory}/opened", where))
    except ObjectNotFound:
        return None
    return _OPENED.decode(content) if content else None


def _tag(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def _differs(where: str, seen: int, expected: int) -> ChecksumMismatch:
    return ChecksumMismatch(
        "what was written reads back differently", where=where, why=f"CRC32C {seen:08x}, expected {expected:08x}"
    )
