"""Part bytes of one local directory, for one thread."""

from __future__ import annotations

import os

from skyplane_core.errors import (
    BucketNotFound,
    PreconditionFailed,
    SourceChanged,
    StoreRejected,
)
from skyplane_core.model import Attestation, ObjectAttributes, Precondition, StoreConfig, Stored, StoredPart
from skyplane_core.stores import local_attributes, local_source, local_upload
from skyplane_core.stores.base import LANDING, Landed, ReadResult
from skyplane_core.stores.local_listing import version_of
from skyplane_core.stores.local_paths import make_parents, mapped, path_of


class LocalData:
    """The data path of a local store (see :class:`skyplane_core.stores.base.DataPath`)."""

    def __init__(self, config: StoreConfig) -> None:
        self._config = config
        self._root = config.bucket

    def read_into(
        self,
        key: str,
        version: str,
        offset: int,
        buffer: memoryview,
        *,
        whole: bool = False,  # noqa: ARG002 - the protocol's
        landed: Landed | None = None,
    ) -> ReadResult:
        where = self._config.object_uri(key)
        path = path_of(self._root, key, where)
        try:
            # Without O_NONBLOCK, opening what has become a pipe would wait for its writer.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _changed(where, "it is gone") from error
        except OSError:
            with mapped(where):
                raise
        try:
            with mapped(where):
                status = _check_version(descriptor, version, where)
                _fill(descriptor, offset, buffer, where, landed)
                # Once more, because a file can be written in place while it is read.
                _check_version(descriptor, version, where)
        finally:
            os.close(descriptor)
        return ReadResult(local_attributes.of(status))

    def put_object(
        self,
        key: str,
        data: memoryview,
        *,
        crc32c: int,
        attributes: ObjectAttributes,
        precondition: Precondition,
    ) -> Stored:
        where = self._config.object_uri(key)
        path = path_of(self._root, key, where)
        require_root(self._config)
        with mapped(where):
            if key.endswith("/"):
                _make_directory(path, len(data), precondition, where)
            else:
                prepared = local_upload.temporary_file(self._root)
                try:
                    descriptor = os.open(prepared, os.O_RDWR)
                    try:
                        local_upload.write_and_read_back(descriptor, data, 0, crc32c, where)
                    finally:
                        os.close(descriptor)
                    local_source.note(prepared, attributes)
                    local_attributes.set_mtime(prepared, attributes)
                    local_source.seal(prepared)
                    local_upload.flush(prepared, len(data))
                    local_attributes.set_mode(prepared, attributes)
                    local_upload.publish(prepared, path, precondition, where)
                finally:
                    if os.path.lexists(prepared):
                        os.unlink(prepared)
            return stored_at(path, len(data), crc32c)

    def put_part(
        self, key: str, upload_id: str, number: int, offset: int, data: memoryview, *, crc32c: int
    ) -> StoredPart:
        where = self._config.object_uri(key)
        with mapped(where):
            return local_upload.Upload(self._root, key, upload_id, where).write_part(number, offset, data, crc32c)

    def close(self) -> None:
        """Nothing is held open between calls."""


def require_root(config: StoreConfig) -> None:
    """Raise BucketNotFound unless the directory exists."""
    if not os.path.isdir(config.bucket):
        raise BucketNotFound(
            "the directory does not exist", where=config.uri, next_step="Create it, or check its name."
        )


def _make_directory(path: str, size: int, precondition: Precondition, where: str) -> None:
    if size:
        raise StoreRejected("a key that ends in '/' is a directory and holds no bytes", where=where)
    seen = local_upload.current_version(path)
    if (precondition.absent and seen) or (precondition.version and seen != precondition.version):
        raise PreconditionFailed("the directory is not what the write's precondition demands", where=where)
    make_parents(os.path.join(path, "x"))


def stored_at(path: str, size: int, crc32c: int) -> Stored:
    """The word for a file that was read back."""
    return Stored(version_of(os.stat(path)), size, crc32c=crc32c, attestation=Attestation.READ_BACK)


def _check_version(descriptor: int, version: str, where: str) -> os.stat_result:
    status = os.fstat(descriptor)
    seen = version_of(status)
    if seen != version:
        raise _changed(where, f"asked for {version}, found {seen}")
    return status


def _fill(descriptor: int, offset: int, buffer: memoryview, where: str, landed: Landed | None) -> None:
    done = 0
    while done < len(buffer):
        count = os.preadv(descriptor, [buffer[done : done + LANDING] if landed else buffer[done:]], offset + done)
        if not count:
            raise _changed(where, f"it ends at byte {offset + done}")
        done += count
        if landed:
            landed(done)


def _changed(where: str, why: str) -> SourceChanged:
    return SourceChanged(
        "the source file is no longer the one that was listed",
        where=where,
        why=why,
        next_step="Run the transfer again to list it anew.",
    )
