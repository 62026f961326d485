"""Writes to a local directory: prepared under ``.skyplane/uploads``, read back, then made visible by one rename.

An upload is a directory ``<id>/`` with ``key`` (the key), ``boot`` (the start of this machine that it began in),
``attributes`` (time and permissions, if any are to be kept), ``object`` (the bytes, each part at its offset) and an
empty file for each part, whose name tells number, offset, size and CRC32C. A part's record is made after its bytes were
written and read back. None of this is flushed before completion: if the machine has started anew since, all is read
once more, which finds what a power cut has taken.
"""

from __future__ import annotations

import errno
import functools
import os
import re
import shutil
import uuid
from collections.abc import Iterator

from skyplane_core.checksum import combined_crc32c
from skyplane_core.checksum import crc32c as checksum_of
from skyplane_core.errors import ChecksumMismatch, PreconditionFailed, StoreRejected, UploadNotFound
from skyplane_core.model import ObjectAttributes, Precondition, StoredPart
from skyplane_core.stores import local_attributes, local_source
from skyplane_core.stores.local_listing import version_of
from skyplane_core.stores.local_paths import UPLOADS, make_parents, sync_directory

_ID = re.compile(r"[0-9a-f]{32}")
_PART = re.compile(r"part-(\d+)-(\d+)-(\d+)-([0-9a-f]{8})")
_READ_BACK_SIZE = 512 * 1024


class Upload:
    """One upload's directory.

    Raises:
        UploadNotFound: there is no such upload of ``key``.
    """

    def __init__(self, root: str, key: str, upload_id: str, where: str) -> None:
        self.directory = os.path.join(root, UPLOADS, upload_id)
        self.object_path = os.path.join(self.directory, "object")
        self.where = where
        if not _ID.fullmatch(upload_id) or _key_in(self.directory) != key:
            raise UploadNotFound("the upload is not open", where=where, why=f"no upload {upload_id!r}")

    def write_part(self, number: int, offset: int, data: memoryview, crc32c: int) -> StoredPart:
        """Write a part's bytes and its record; an older record of the same number goes."""
        try:
            descriptor = os.open(self.object_path, os.O_RDWR)
        except FileNotFoundError as error:
            raise UploadNotFound(
                "the upload is not open", where=self.where, why="it was completed or aborted"
            ) from error
        try:
            write_and_read_back(descriptor, data, offset, crc32c, f"{self.where} part {number}")
        finally:
            os.close(descriptor)
        part = StoredPart(number, f"{offset}-{len(data)}-{crc32c:08x}", len(data), crc32c)
        record = f"part-{number}-{part.part_id}"
        for name in os.listdir(self.directory):
            if name.startswith(f"part-{number}-") and name != record:
                os.unlink(os.path.join(self.directory, name))
        os.close(os.open(os.path.join(self.directory, record), os.O_WRONLY | os.O_CREAT, 0o666))
        return part

    def parts(self) -> list[StoredPart]:
        """The recorded parts by number."""
        found = (_PART.fullmatch(name) for name in os.listdir(self.directory))
        parts = [
            StoredPart(int(match[1]), f"{match[2]}-{match[3]}-{match[4]}", int(match[3]), int(match[4], 16))
            for match in found
            if match
        ]
        return sorted(parts, key=lambda part: part.number)

    def attributes(self) -> ObjectAttributes:
        """The file's own that it is to have."""
        return local_attributes.decode(_text_in(os.path.join(self.directory, "attributes")) or "{}")

    def check(self, parts: tuple[StoredPart, ...], size: int) -> None:
        """Raise StoreRejected unless ``parts`` are recorded here and cover ``size`` bytes without a gap."""
        recorded = {(part.number, part.part_id) for part in self.parts()}
        end = 0
        for part in parts:
            if (part.number, part.part_id) not in recorded:
                raise StoreRejected(
                    "a part is not in the upload", where=self.where, why=f"part {part.number} {part.part_id}"
                )
            if int(part.part_id.partition("-")[0]) != end:
                raise StoreRejected("the parts leave a gap", where=self.where, why=f"before part {part.number}")
            end += part.size
        if end != size:
            raise StoreRejected("the parts do not make up the object", where=self.where, why=f"{end} of {size} bytes")

    def settle(self, parts: tuple[StoredPart, ...], size: int, crc32c: int) -> None:
        """Cut the object to ``size``, make it durable, and see that it has ``crc32c``.

        By what its parts had when they were read back; after another start of the machine by reading it all.

        Raises:
            ChecksumMismatch: it holds other bytes.
        """
        flush(self.object_path, size)
        began = _text_in(os.path.join(self.directory, "boot"))
        if began and began == boot_id():
            seen_size, seen = size, combined_crc32c((part.crc32c or 0, part.size) for part in parts)
        else:
            seen_size, seen = checksum(self.object_path)
        if (seen_size, seen) != (size, crc32c):
            raise ChecksumMismatch(
                "the file holds other bytes than were sent",
                where=self.where,
                why=f"{seen_size} bytes with CRC32C {seen:08x}, expected {size} with {crc32c:08x}",
            )

    def remove(self) -> None:
        """Drop the upload, whatever is left of it; its key goes last, so that this can be repeated."""
        for name in os.listdir(self.directory):
            if name != "key":
                os.unlink(os.path.join(self.directory, name))
        shutil.rmtree(self.directory)


def create(root: str, key: str, attributes: ObjectAttributes) -> str:
    """Make an upload's directory and return its id."""
    upload_id = uuid.uuid4().hex
    directory = os.path.join(root, UPLOADS, upload_id)
    os.makedirs(directory)
    with open(os.path.join(directory, "object"), "xb"):
        pass
    with open(os.path.join(directory, "boot"), "xb") as file:
        file.write(boot_id().encode())
    with open(os.path.join(directory, "key"), "xb") as file:
        file.write(key.encode())
    if attributes.mtime_ns is not None or attributes.mode is not None:
        with open(os.path.join(directory, "attributes"), "xb") as file:
            file.write(local_attributes.encode(attributes))
    local_source.note(os.path.join(directory, "object"), attributes)
    return upload_id


def open_uploads(root: str, prefix: str) -> Iterator[tuple[str, str]]:
    """``(key, id)`` of the uploads under ``prefix``, by key."""
    try:
        names = os.listdir(os.path.join(root, UPLOADS))
    except FileNotFoundError:
        return
    found = ((_key_in(os.path.join(root, UPLOADS, name)), name) for name in names if _ID.fullmatch(name))
    yield from sorted((key, name) for key, name in found if key is not None and key.startswith(prefix))


def temporary_file(root: str) -> str:
    """The path of a new, empty, hidden file on the root's file system."""
    directory = os.path.join(root, UPLOADS)
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, f"put-{uuid.uuid4().hex}")
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    return path


def write_and_read_back(descriptor: int, data: memoryview, offset: int, crc32c: int, where: str) -> None:
    """Write all of ``data`` at ``offset``, and see that the file now has ``crc32c`` there.

    Piece by piece, so that what is read back is still in the core's cache: it is what the operating system took, and
    the device may yet lose. That it does not is what :func:`flush` asks of it.

    Raises:
        ChecksumMismatch: it holds other bytes.
    """
    view = memoryview(bytearray(min(_READ_BACK_SIZE, len(data))))
    seen = 0
    for start in range(0, len(data), _READ_BACK_SIZE):
        piece = data[start : start + _READ_BACK_SIZE]
        done = 0
        while done < len(piece):
            done += os.pwrite(descriptor, piece[done:], offset + start + done)
        done = 0
        while done < len(piece) and (count := os.preadv(descriptor, [view[done : len(piece)]], offset + start + done)):
            done += count
        seen = checksum_of(view[:done], seen)
    if seen != crc32c:
        raise ChecksumMismatch(
            "what was written reads back differently", where=where, why=f"CRC32C {seen:08x}, expected {crc32c:08x}"
        )


def flush(path: str, size: int) -> None:
    """Cut the file to ``size`` and make it durable. Its pages are dropped: who reads it next, reads the device."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        if os.fstat(descriptor).st_size > size:
            os.ftruncate(descriptor, size)
        os.fsync(descriptor)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def checksum(path: str) -> tuple[int, int]:
    """Size and CRC32C of a file's bytes."""
    view = memoryview(bytearray(_READ_BACK_SIZE))
    value = offset = 0
    descriptor = os.open(path, os.O_RDONLY)
    try:
        while count := os.preadv(descriptor, [view], offset):
            value = checksum_of(view[:count], value)
            offset += count
    finally:
        os.close(descriptor)
    return offset, value


@functools.cache
def boot_id() -> str:
    """A name for this start of this machine; empty where the system has none."""
    return _text_in("/proc/sys/kernel/random/boot_id") or ""


def publish(prepared: str, path: str, precondition: Precondition, where: str) -> None:
    """Make a prepared, durable file visible at ``path``, durably and at once.

    ``absent`` is atomic (a hard link). A version is compared just before the rename, which is not: no POSIX call is.
    The prepared name is gone afterwards, or, if ``absent``, may remain until the caller removes it.
    """
    for last in (False, False, True):
        make_parents(path)
        try:
            _make_visible(prepared, path, precondition, where)
            sync_directory(os.path.dirname(path))
            return
        except FileNotFoundError:
            # A deletion elsewhere may take a directory that has just become empty.
            if last or not os.path.exists(prepared):
                raise


def _make_visible(prepared: str, path: str, precondition: Precondition, where: str) -> None:
    if precondition.absent:
        try:
            os.link(prepared, path)
        except FileExistsError as error:
            _refuse_directory(path)
            if not os.path.samefile(prepared, path):
                raise PreconditionFailed("the file exists already", where=where) from error
        return
    if precondition.version:
        seen = current_version(path)
        if seen != precondition.version:
            raise PreconditionFailed(
                "the file is not the one that was meant", where=where, why=f"it is {seen or 'gone'}"
            )
    _refuse_directory(path)
    os.rename(prepared, path)


def _refuse_directory(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)


def current_version(path: str) -> str:
    """The version of the file at ``path``, or an empty string."""
    try:
        return version_of(os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _key_in(directory: str) -> str | None:
    return _text_in(os.path.join(directory, "key"))


def _text_in(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            return file.read().decode()
    except (FileNotFoundError, NotADirectoryError):
        return None
