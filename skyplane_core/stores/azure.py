"""Azure Blob Storage.

A version is an ETag. A store is one container; its config's bucket is ``account/container``. Requests are our own,
authorized by the account's key, a SAS token or a bearer token; azure-identity is imported to resolve an environment's
credentials (:func:`resolve`), which a gateway is given and never does.
"""

from __future__ import annotations

import email.utils
from collections.abc import Iterable, Iterator

from skyplane_core.errors import BucketNotFound, ObjectNotFound, PreconditionFailed
from skyplane_core.model import (
    Attestation,
    ObjectAttributes,
    ObjectInfo,
    Precondition,
    StoreConfig,
    Stored,
    StoredPart,
)
from skyplane_core.stores import azure_wire as wire
from skyplane_core.stores.azure_auth import resolve
from skyplane_core.stores.azure_calls import AzureCalls
from skyplane_core.stores.azure_data import AzureData
from skyplane_core.stores.azure_listing import Listing
from skyplane_core.stores.azure_uploads import AzureUploads
from skyplane_core.stores.base import MIB, Capabilities, DataPath
from skyplane_core.stores.s3_xml import number

__all__ = ["AzureStore", "open_store", "resolve"]

# https://learn.microsoft.com/azure/storage/blobs/scalability-targets
CAPABILITIES = Capabilities(
    attestation=Attestation.PER_PART,
    min_part_size=1,
    max_part_size=4000 * MIB,
    max_parts=50_000,
    max_single_put=5000 * MIB,
    max_object_size=50_000 * 4000 * MIB,
    # 1,024 characters.
    max_key_bytes=3072,
    blob_names=True,
    conditional_delete=True,
    listing_has_attributes=True,
)


def open_store(config: StoreConfig) -> AzureStore:
    """The container that ``config`` describes. Opens no connection.

    Raises:
        UsageError: the bucket is not ``account/container``, or the endpoint no URL.
    """
    return AzureStore(config)


class AzureStore:
    """An :class:`~skyplane_core.stores.base.ObjectStore` on one container."""

    def __init__(self, config: StoreConfig) -> None:
        self._calls = AzureCalls(config)
        self._pool = self._calls.open_pool()
        self._listing = Listing(self._calls, self._pool)
        self._uploads = AzureUploads(self._calls, self._pool, self._listing)

    @property
    def uri(self) -> str:
        return self._calls.config.uri

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    def probe(self) -> None:
        """Lists at most one blob: what every transfer needs from either side."""
        target = self._calls.target(restype="container", comp="list", maxresults="1")
        with self._pool.connection() as http:
            self._calls.send(http, "GET", target, "cannot use the container", missing=BucketNotFound)

    def list(self, prefix: str = "", *, start_after: str = "", delimiter: str = "") -> Iterator[ObjectInfo]:
        return self._listing.objects(prefix, start_after, delimiter)

    def head(self, key: str) -> ObjectInfo:
        what = "cannot look at the blob"
        with self._pool.connection() as http:
            headers = self._calls.send(http, "HEAD", self._calls.target(key), what, key=key).headers
            if headers.get(wire.IS_DIRECTORY) == "true" and self._calls.hierarchical(http):
                raise ObjectNotFound(what, where=self._calls.where(key), why="it is a directory")
        try:
            return ObjectInfo(
                key=key,
                size=number(headers.get("Content-Length")),
                version=wire.from_etag(headers["ETag"]),
                modified=email.utils.parsedate_to_datetime(headers["Last-Modified"]).timestamp(),
                attributes=wire.parse_attributes(headers),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise self._calls.garbled(error, key) from error

    def create_upload(self, key: str, attributes: ObjectAttributes) -> str:
        return self._uploads.create(key, attributes)

    def list_parts(self, key: str, upload_id: str) -> Iterator[StoredPart]:
        return self._uploads.parts(key, upload_id)

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
        return self._uploads.complete(key, upload_id, list(parts), size, crc32c, precondition)

    def abort_upload(self, key: str, upload_id: str) -> None:
        self._uploads.abort(key, upload_id)

    def list_uploads(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        return self._uploads.open_uploads(prefix)

    def delete(self, key: str, precondition: Precondition = Precondition()) -> None:
        with self._pool.connection() as http:
            try:
                self._calls.send(
                    http,
                    "DELETE",
                    self._calls.target(key),
                    "cannot delete the blob",
                    key=key,
                    headers=wire.condition_headers(precondition),
                )
            except ObjectNotFound as error:
                if precondition.version:
                    raise PreconditionFailed("the blob is gone", where=error.where, why=error.why) from error

    def data(self) -> DataPath:
        return AzureData(self._calls)

    def close(self) -> None:
        self._pool.close()
