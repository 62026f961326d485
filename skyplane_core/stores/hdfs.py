"""A directory of HDFS as a store: keys are relative paths, and what a rename made visible is whole.

HDFS keeps no content headers, so attributes are dropped, except for the version of the source that a file is a copy of
(:mod:`skyplane_core.stores.hdfs_source`). Keys that cannot be paths strictly inside the directory are refused.
A key that ends in ``/`` is a directory and has no bytes; an empty one is listed so. A directory goes with the last key
in it, as a prefix does in an object store.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future

from skyplane_core.errors import (
    ObjectNotFound,
    PreconditionFailed,
    StoreRejected,
    UploadNotFound,
    UsageError,
)
from skyplane_core.model import (
    Attestation,
    ObjectAttributes,
    ObjectInfo,
    Precondition,
    StoreConfig,
    Stored,
    StoredPart,
)
from skyplane_core.stores import hdfs_source, hdfs_upload
from skyplane_core.stores.base import MIB, NEXT_FOR_MISSING, Capabilities, DataPath
from skyplane_core.stores.hdfs_client import Hdfs
from skyplane_core.stores.hdfs_data import HdfsData
from skyplane_core.stores.hdfs_listing import Listing, info_of
from skyplane_core.stores.hdfs_paths import make_uploads, path_of, remove_empty_parents, require_root
from skyplane_core.stores.tree import Window

_TIB = 1024**4
CAPABILITIES = Capabilities(
    attestation=Attestation.READ_BACK,
    # Each part is a file for a while, and files are what a NameNode's memory is spent on.
    min_part_size=MIB,
    max_part_size=_TIB,
    max_parts=10_000,
    max_single_put=_TIB,
    # 1 MiB blocks for each file, of 128 MiB: the limits that a NameNode has unless it is told others.
    max_object_size=128 * _TIB,
    max_key_bytes=4095,
    # `absent` is atomic, a version is not (see hdfs_upload.publish), and one flag speaks for both.
    conditional_put=False,
    conditional_complete=False,
    markers_are_implied=True,
    keys_are_paths=True,
    max_segment_bytes=255,
)


def open_store(config: StoreConfig) -> HdfsStore:
    """The directory that ``config.bucket`` names, an absolute path. It need not exist yet (see ``probe``)."""
    if not config.bucket.startswith("/") or not config.endpoint_url.startswith("hdfs://"):
        raise UsageError("an HDFS store needs hdfs://namenode and an absolute directory", where=config.uri)
    return HdfsStore(config)


def make_root(config: StoreConfig) -> None:
    """Make the directory that ``config`` names, and where writes to it are prepared, if they are not there.

    Raises:
        PermissionDenied: nothing may be written there.
        StoreRejected: a file stands there.
    """
    with contextlib.closing(Hdfs(config)) as hdfs:
        hdfs.make_directory(config.bucket, config.uri)
        make_uploads(hdfs, config)


class HdfsStore:
    """One directory (see :class:`skyplane_core.stores.base.ObjectStore`)."""

    def __init__(self, config: StoreConfig) -> None:
        self._config = config
        self._root = config.bucket
        self._hdfs = Hdfs(config)
        self._lock = threading.Lock()
        self._completing: dict[str, Future[Stored]] = {}

    @property
    def uri(self) -> str:
        return self._config.uri

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    def probe(self) -> None:
        require_root(self._hdfs, self._config)
        next(self._hdfs.entries(self._root, self.uri), None)

    def list(self, prefix: str = "", *, start_after: str = "", delimiter: str = "") -> Iterator[ObjectInfo]:
        require_root(self._hdfs, self._config)
        return iter(Listing(self._hdfs, self._root, Window(prefix, start_after, delimiter), self.uri))

    def head(self, key: str) -> ObjectInfo:
        where = self._config.object_uri(key)
        path = path_of(self._root, key, where)
        found = self._hdfs.status(path, where)
        if found.is_directory != key.endswith("/"):
            raise ObjectNotFound(
                "not a directory" if key.endswith("/") else "not a file",
                where=where,
                why=f"it is a {'directory' if found.is_directory else 'file'}",
                next_step=NEXT_FOR_MISSING,
            )
        info = info_of(key, found)
        attributes = hdfs_source.attributes_of(self._hdfs, path, found, where)
        return ObjectInfo(info.key, info.size, info.version, info.modified, attributes=attributes)

    def create_upload(self, key: str, attributes: ObjectAttributes) -> str:
        where = self._config.object_uri(key)
        path_of(self._root, key, where)
        if key.endswith("/"):
            raise StoreRejected("a key that ends in '/' is a directory and holds no bytes", where=where)
        source = hdfs_source.source_of(attributes)
        return hdfs_upload.create(self._hdfs, make_uploads(self._hdfs, self._config), key, source, where)

    def list_parts(self, key: str, upload_id: str) -> Iterator[StoredPart]:
        return iter(self._upload(key, upload_id).parts())

    def complete_upload(
        self,
        key: str,
        upload_id: str,
        parts: Iterable[StoredPart],
        *,
        size: int,
        crc32c: int,
        precondition: Precondition,
    ) -> Stored:
        # Where all bytes are written once more, that takes long: who lost patience and asks again waits for the same.
        with self._lock:
            begun = self._completing.get(upload_id)
            mine = begun or self._completing.setdefault(upload_id, Future())
        if begun is not None:
            return begun.result()
        try:
            mine.set_result(self._complete(key, upload_id, tuple(parts), size, crc32c, precondition))
        except BaseException as error:  # noqa: BLE001 - it is raised below
            mine.set_exception(error)
        finally:
            with self._lock:
                del self._completing[upload_id]
        return mine.result()

    def abort_upload(self, key: str, upload_id: str) -> None:
        self._upload(key, upload_id).remove()

    def list_uploads(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        require_root(self._hdfs, self._config)
        return hdfs_upload.open_uploads(self._hdfs, self._root, prefix, self.uri)

    def delete(self, key: str, precondition: Precondition = Precondition()) -> None:
        where = self._config.object_uri(key)
        path = path_of(self._root, key, where)
        found = self._hdfs.find(path, where)
        if precondition != Precondition() and (found.version if found else "") != precondition.version:
            raise PreconditionFailed("the file to delete is not the one that was meant", where=where)
        if found is None or found.is_directory != key.endswith("/"):
            return
        try:
            self._hdfs.delete(path, where)
        except StoreRejected:
            # A directory with files in it is no object of its own, so that there is nothing to delete.
            if not found.is_directory:
                raise
        else:
            remove_empty_parents(self._hdfs, self._root, path, where)

    def data(self) -> DataPath:
        return HdfsData(self._config, self._hdfs)

    def close(self) -> None:
        self._hdfs.close()

    def _upload(self, key: str, upload_id: str) -> hdfs_upload.Upload:
        return hdfs_upload.Upload(self._hdfs, self._root, key, upload_id, self._config.object_uri(key))

    def _complete(
        self,
        key: str,
        upload_id: str,
        parts: tuple[StoredPart, ...],
        size: int,
        crc32c: int,
        precondition: Precondition,
    ) -> Stored:
        where = self._config.object_uri(key)
        path = path_of(self._root, key, where)
        upload = self._upload(key, upload_id)
        try:
            prepared = upload.assemble(parts, size, crc32c)
        except UploadNotFound:
            return self._completed_before(path, size, crc32c, where)
        version = self._hdfs.status(prepared, where).version
        hdfs_source.note(self._hdfs, prepared, version, upload.source(), where)
        hdfs_upload.publish(self._hdfs, prepared, path, precondition, where)
        upload.remove()
        return Stored(version, size, crc32c=crc32c, attestation=Attestation.READ_BACK)

    def _completed_before(self, path: str, size: int, crc32c: int, where: str) -> Stored:
        found = self._hdfs.find(path, where)
        is_it = found is not None and not found.is_directory and found.size == size
        if found is None or not is_it or hdfs_upload.checksum(self._hdfs, path, where) != (size, crc32c):
            raise UploadNotFound("the upload is not open, and its file is not there", where=where)
        return Stored(found.version, size, crc32c=crc32c, attestation=Attestation.READ_BACK)
