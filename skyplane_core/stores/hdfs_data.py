"""Part bytes of one directory of HDFS, for one thread."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

from skyplane_core.checksum import crc32c as checksum_of
from skyplane_core.errors import (
    ChecksumMismatch,
    ObjectNotFound,
    PreconditionFailed,
    SourceChanged,
    StoreError,
    StoreRejected,
)
from skyplane_core.model import Attestation, ObjectAttributes, Precondition, StoreConfig, Stored, StoredPart
from skyplane_core.stores import hdfs_source, hdfs_upload
from skyplane_core.stores.base import LANDING, Landed, ReadResult
from skyplane_core.stores.hdfs_client import Hdfs
from skyplane_core.stores.hdfs_paths import make_uploads, path_of, require_root, uploads_of


class HdfsData:
    """The data path of an HDFS store (see :class:`skyplane_core.stores.base.DataPath`).

    The library gives bytes in pieces of 64 KiB, which are copied into the caller's buffer: no more is in memory.
    """

    def __init__(self, config: StoreConfig, hdfs: Hdfs) -> None:
        self._config = config
        self._root = config.bucket
        self._hdfs = hdfs

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
            if not key.endswith("/"):
                self._fill(path, offset, buffer, where, landed)
        except StoreError as error:
            # What fails because the file was replaced meanwhile does not say so.
            self._check_version(path, version, where, error)
            raise
        self._check_version(path, version, where)
        return ReadResult(ObjectAttributes())

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
        if key.endswith("/"):
            return self._make_directory(path, len(data), precondition, where)
        prepared = f"{uploads_of(self._root)}/put-{uuid.uuid4().hex}"
        try:
            try:
                self._hdfs.write(prepared, iter([data]), where)
            except ObjectNotFound:
                make_uploads(self._hdfs, self._config)
                self._hdfs.write(prepared, iter([data]), where)
            version = hdfs_upload.settle(self._hdfs, prepared, len(data), crc32c, where)
            hdfs_source.note(self._hdfs, prepared, version, hdfs_source.source_of(attributes), where)
            hdfs_upload.publish(self._hdfs, prepared, path, precondition, where)
        except BaseException:
            # Whatever stays is hidden; why the write has failed is what counts.
            with contextlib.suppress(StoreError):
                self._hdfs.delete(prepared, where)
            raise
        return Stored(version, len(data), crc32c=crc32c, attestation=Attestation.READ_BACK)

    def put_part(
        self, key: str, upload_id: str, number: int, offset: int, data: memoryview, *, crc32c: int
    ) -> StoredPart:
        where = self._config.object_uri(key)
        if checksum_of(data) != crc32c:
            raise ChecksumMismatch("the part's bytes are not those that were read", where=f"{where} part {number}")
        upload = hdfs_upload.Upload(self._hdfs, self._root, key, upload_id, where)
        return upload.write_part(number, offset, data, crc32c)

    def close(self) -> None:
        """Nothing is held open between calls."""

    def _fill(self, path: str, offset: int, buffer: memoryview, where: str, landed: Landed | None) -> None:
        done = told = 0
        for piece in self._pieces(path, offset, len(buffer), where):
            buffer[done : done + len(piece)] = piece
            done += len(piece)
            if landed and (done - told >= LANDING or done == len(buffer)):
                landed(done)
                told = done

    def _pieces(self, path: str, offset: int, size: int, where: str) -> Iterator[bytes]:
        with self._hdfs.reading(path, where) as reader:
            if offset + size > len(reader):
                raise _changed(where, f"it ends at byte {len(reader)}")
            if size:
                yield from reader.read_range_stream(offset, size)

    def _check_version(self, path: str, version: str, where: str, cause: StoreError | None = None) -> None:
        found = self._hdfs.find(path, where)
        if found is None or found.version != version:
            why = f"asked for {version}, found {found.version}" if found else "it is gone"
            raise _changed(where, why) from cause

    def _make_directory(self, path: str, size: int, precondition: Precondition, where: str) -> Stored:
        if size:
            raise StoreRejected("a key that ends in '/' is a directory and holds no bytes", where=where)
        require_root(self._hdfs, self._config)
        found = self._hdfs.find(path, where)
        if (precondition.absent and found) or (
            precondition.version and (found is None or found.version != precondition.version)
        ):
            raise PreconditionFailed("the directory is not what the write's precondition demands", where=where)
        self._hdfs.make_directory(path, where)
        return Stored(self._hdfs.status(path, where).version, 0, crc32c=0, attestation=Attestation.READ_BACK)


def _changed(where: str, why: str) -> SourceChanged:
    return SourceChanged(
        "the source file is no longer the one that was listed",
        where=where,
        why=why,
        next_step="Run the transfer again to list it anew.",
    )
