"""Part bytes of one container, for one thread."""

from __future__ import annotations

from skyplane_core.errors import BucketNotFound, PreconditionFailed, SourceChanged, StoreUnavailable, UploadNotFound
from skyplane_core.model import Attestation, ObjectAttributes, Precondition, Stored, StoredPart
from skyplane_core.stores import azure_wire as wire
from skyplane_core.stores.azure_calls import AzureCalls
from skyplane_core.stores.base import Landed, ReadResult
from skyplane_core.stores.http_data import DATA_TIMEOUT, Answer

_READ = "cannot read the blob"


class AzureData:
    """A :class:`~skyplane_core.stores.base.DataPath` on one keep-alive connection."""

    def __init__(self, calls: AzureCalls) -> None:
        self._calls = calls
        self._http = calls.open_http(DATA_TIMEOUT)

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
        """As the protocol says. Azure vouches for nothing: at most it has kept an MD5 that a writer told it."""
        headers = {"If-Match": f'"{version}"'}
        target = self._calls.target(key)
        if len(buffer):
            headers["x-ms-range"] = f"bytes={offset}-{offset + len(buffer) - 1}"
            answer = self._get(key, target, headers, buffer, landed)
        else:
            answer = self._calls.send(
                self._http,
                "HEAD",
                target,
                _READ,
                key=key,
                headers=headers,
                missing=SourceChanged,
                conflict=SourceChanged,
            )
        seen = wire.from_etag(answer.headers.get("ETag", ""))
        if seen != version:
            raise SourceChanged(f"version {seen or 'none'} came instead of {version}", where=self._calls.where(key))
        if len(buffer) and not answer.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            raise StoreUnavailable(
                "Azure ignored the range",
                where=self._calls.where(key),
                why=f"HTTP {answer.status}, Content-Range {answer.headers.get('Content-Range')!r}",
            )
        return ReadResult(wire.parse_attributes(answer.headers))

    def put_object(
        self, key: str, data: memoryview, *, crc32c: int, attributes: ObjectAttributes, precondition: Precondition
    ) -> Stored:
        """As the protocol says; attested WHOLE where the answer names the checksum that the service computed."""
        what = "cannot write the blob"
        headers = {
            "x-ms-blob-type": "BlockBlob",
            **wire.attribute_headers(attributes, self._calls.where(key)),
            **wire.condition_headers(precondition),
        }
        target = self._calls.target(key)
        self._calls.check_segments(self._http, key)
        answer = self._calls.put(self._http, target, what, key=key, headers=headers, body=data, crc32c=crc32c)
        if answer.status >= 300:
            raise self._calls.refused(answer, what, key=key, missing=written_where_nothing_is(precondition))
        named = answer.headers.get(wire.CRC64) or answer.headers.get(wire.MD5)
        return Stored(
            version=etag_of(self._calls, answer, key),
            size=len(data),
            attestation=Attestation.WHOLE if named else None,
        )

    def put_part(
        self,
        key: str,
        upload_id: str,
        number: int,
        offset: int,  # noqa: ARG002 - blocks are ordered by the list that commits them
        data: memoryview,
        *,
        crc32c: int,
    ) -> StoredPart:
        """As the protocol says, but that an upload which is not open any more takes parts: only its commit fails."""
        what = f"cannot write part {number}"
        block = wire.Block(wire.token_of(upload_id), number, crc32c)
        target = self._calls.target(key, comp="block", blockid=block.id)
        answer = self._calls.put(self._http, target, what, key=key, headers={}, body=data, crc32c=crc32c)
        if answer.status >= 300:
            raise self._calls.refused(answer, what, key=key, missing=UploadNotFound)
        return StoredPart(number, block.id, len(data), crc32c)

    def close(self) -> None:
        self._http.close()

    def _get(self, key: str, target: str, headers: dict[str, str], buffer: memoryview, landed: Landed | None) -> Answer:
        request = self._calls.request("GET", target, headers)
        try:
            answer = self._http.get_into(request, buffer, expect=(206,), landed=landed)
        except StoreUnavailable as error:
            raise self._calls.unreachable(error, _READ, key) from error
        if answer.status != 206:
            raise self._calls.refused(answer, _READ, key=key, missing=SourceChanged, conflict=SourceChanged)
        return answer


def written_where_nothing_is(precondition: Precondition) -> type[BucketNotFound | PreconditionFailed]:
    """What a 404 to a write means: some servers say so where a version was to be replaced that is gone."""
    return PreconditionFailed if precondition.version else BucketNotFound


def etag_of(calls: AzureCalls, answer: Answer, key: str) -> str:
    """The version that a write made."""
    etag = answer.headers.get("ETag")
    if not etag:
        raise calls.garbled(ValueError("a written blob without an ETag"), key)
    return wire.from_etag(etag)
