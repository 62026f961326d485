"""A directory as a store: keys are relative paths, and what a rename made visible is whole.

A file system keeps no content headers and no user metadata, so these are dropped, except for the version of the source
that a file is a copy of (:mod:`skyplane_core.stores.local_source`). Time of modification and permissions are the file's
own, where they are to be kept (:mod:`skyplane_core.stores.local_attributes`). Keys that cannot be paths strictly inside
the directory are refused (:mod:`skyplane_core.stores.local_paths`). Files behind links are read wherever they are,
directories behind links only inside the tree, and neither where links are skipped
(:class:`skyplane_core.stores.local_listing.Listing`); a write replaces a link and never goes through it to a place
outside. A key that ends in ``/`` is a directory and has no bytes; an empty one is listed so. A directory goes with the
last key in it, as a prefix does in an object store.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
from collections.abc import Iterable, Iterator

import msgspec

from skyplane_core.errors import (
    ObjectNotFound,
    PermissionDenied,
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
from skyplane_core.stores import local_attributes, local_source, local_upload
from skyplane_core.stores.base import NEXT_FOR_MISSING, Capabilities, DataPath
from skyplane_core.stores.local_data import LocalData, require_root, stored_at
from skyplane_core.stores.local_listing import Listing, info_of
from skyplane_core.stores.local_names import name_rules
from skyplane_core.stores.local_paths import MAX_NAME_BYTES, NEXT_FOR_RIGHTS, mapped, path_of, remove_empty_parents

_TIB = 1024**4
CAPABILITIES = Capabilities(
    attestation=Attestation.READ_BACK,
    min_part_size=1,
    max_part_size=_TIB,
    max_parts=1_000_000,
    max_single_put=_TIB,
    max_object_size=8 * 1024 * 1024 * _TIB - 1,
    max_key_bytes=4095,
    # `absent` is atomic, a version is not (see local_upload.publish), and one flag speaks for both.
    conditional_put=False,
    conditional_complete=False,
    markers_are_implied=True,
    keys_are_paths=True,
    max_segment_bytes=MAX_NAME_BYTES,
)


def open_store(config: StoreConfig) -> LocalStore:
    """The directory that ``config.bucket`` names, an absolute path. It need not exist yet (see ``probe``)."""
    if not os.path.isabs(config.bucket):
        raise UsageError("a local store needs an absolute directory", where=config.uri)
    return LocalStore(config)


class LocalStore:
    """One directory (see :class:`skyplane_core.stores.base.ObjectStore`)."""

    def __init__(self, config: StoreConfig) -> None:
        self._config = config
        self._root = config.bucket

    @property
    def uri(self) -> str:
        return self._config.uri

    @functools.cached_property
    def capabilities(self) -> Capabilities:
        """What a directory can do; the file system under this one says which names it takes."""
        rules = name_rules(self._root)
        return msgspec.structs.replace(CAPABILITIES, folds_case=rules.folds_case, windows_names=rules.windows_names)

    def probe(self) -> None:
        require_root(self._config)
        if not os.access(self._root, os.R_OK | os.X_OK):
            raise PermissionDenied("the directory cannot be read", where=self.uri, next_step=NEXT_FOR_RIGHTS)

    def list(self, prefix: str = "", *, start_after: str = "", delimiter: str = "") -> Iterator[ObjectInfo]:
        self.probe()
        follow = self._config.symlinks == "follow"
        return iter(Listing(self._root, prefix, start_after, delimiter, self.uri, follow=follow))

    def head(self, key: str) -> ObjectInfo:
        where = self._config.object_uri(key)
        path = path_of(self._root, key, where)
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ObjectNotFound("the file does not exist", where=where, next_step=NEXT_FOR_MISSING) from error
        except OSError:
            with mapped(where):
                raise
        if not (stat.S_ISDIR if key.endswith("/") else stat.S_ISREG)(status.st_mode):
            raise _of_another_kind(key, status.st_mode, where)
        info = info_of(key, status)
        with mapped(where):
            noted = local_source.attributes_of(path)
        attributes = msgspec.structs.replace(local_attributes.of(status), metadata=noted.metadata)
        return ObjectInfo(info.key, info.size, info.version, info.modified, attributes=attributes)

    def create_upload(self, key: str, attributes: ObjectAttributes) -> str:
        where = self._config.object_uri(key)
        path_of(self._root, key, where)
        if key.endswith("/"):
            raise StoreRejected("a key that ends in '/' is a directory and holds no bytes", where=where)
        require_root(self._config)
        with mapped(where):
            return local_upload.create(self._root, key, attributes)

    def list_parts(self, key: str, upload_id: str) -> Iterator[StoredPart]:
        where = self._config.object_uri(key)
        with mapped(where):
            return iter(local_upload.Upload(self._root, key, upload_id, where).parts())

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
        where = self._config.object_uri(key)
        path = path_of(self._root, key, where)
        try:
            upload = local_upload.Upload(self._root, key, upload_id, where)
        except UploadNotFound:
            with mapped(where):
                return self._completed_before(path, size, crc32c, where)
        with mapped(where):
            if not os.path.exists(upload.object_path):
                # A completion that was interrupted after its rename.
                stored = self._completed_before(path, size, crc32c, where)
            else:
                taken = tuple(parts)
                upload.check(taken, size)
                attributes = upload.attributes()
                local_attributes.set_mtime(upload.object_path, attributes)
                local_source.seal(upload.object_path)
                upload.settle(taken, size, crc32c)
                local_attributes.set_mode(upload.object_path, attributes)
                local_upload.publish(upload.object_path, path, precondition, where)
                stored = stored_at(path, size, crc32c)
            upload.remove()
            return stored

    def abort_upload(self, key: str, upload_id: str) -> None:
        where = self._config.object_uri(key)
        try:
            with mapped(where):
                local_upload.Upload(self._root, key, upload_id, where).remove()
        except (UploadNotFound, ObjectNotFound):
            return

    def list_uploads(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        self.probe()
        return local_upload.open_uploads(self._root, prefix)

    def delete(self, key: str, precondition: Precondition = Precondition()) -> None:
        where = self._config.object_uri(key)
        path = path_of(self._root, key, where)
        if precondition != Precondition() and local_upload.current_version(path) != precondition.version:
            raise PreconditionFailed("the file to delete is not the one that was meant", where=where)
        with mapped(where):
            try:
                (os.rmdir if key.endswith("/") else os.unlink)(path)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return
            except OSError as error:
                # A directory with files in it is no object of its own, so that there is nothing to delete.
                if not key.endswith("/") or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            remove_empty_parents(self._root, path)

    def data(self) -> DataPath:
        return LocalData(self._config)

    def close(self) -> None:
        """Nothing is held open."""

    @staticmethod
    def _completed_before(path: str, size: int, crc32c: int, where: str) -> Stored:
        if os.path.isfile(path) and local_upload.checksum(path) == (size, crc32c):
            return stored_at(path, size, crc32c)
        raise UploadNotFound("the upload is not open, and its file is not there", where=where)


def _of_another_kind(key: str, mode: int, where: str) -> ObjectNotFound:
    """The error for what is there and is not what ``key`` asks for: a directory if it ends in ``/``, else a file."""
    found = "directory" if stat.S_ISDIR(mode) else "regular file" if stat.S_ISREG(mode) else "pipe, socket or device"
    return ObjectNotFound(
        "not a directory" if key.endswith("/") else "not a regular file",
        where=where,
        why=f"it is a {found}",
        next_step="Name a regular file, or copy all files in a directory with -r (recursive=True).",
    )
