"""Object bytes out of GCS: ranges, conditions, headers, decompressive transcoding. The same for both APIs."""

from __future__ import annotations

import zlib

from skyplane_core.testing.objectserver.arena import Arena
from skyplane_core.testing.objectserver.blobs import Blob, BlobWriter
from skyplane_core.testing.objectserver.checksums import encode
from skyplane_core.testing.objectserver.conditions import check_read
from skyplane_core.testing.objectserver.gcs.placement import CUSTOM_TIME, shown
from skyplane_core.testing.objectserver.gcs.preconditions import Preconditions
from skyplane_core.testing.objectserver.messages import (
    ApiError,
    BlobRange,
    Request,
    Response,
    http_date,
    parse_range,
)
from skyplane_core.testing.objectserver.state import CONTENT_HEADERS, Bucket, State, StoredObject

META = "x-goog-meta-"


def find(bucket: Bucket, key: str, generation: str | None) -> StoredObject:
    """The live object, or exactly that generation of it. Raises ApiError NoSuchKey."""
    stored = bucket.current(key)
    if generation:
        if not generation.isdecimal():
            raise ApiError(400, "InvalidArgument", f"not a generation: {generation!r}")
        stored = bucket.version(key, int(generation))
    if stored is None or stored.deleted:
        raise ApiError(404, "NoSuchKey", f"No such object: {bucket.name}/{key}")
    return stored


def identity_headers(stored: StoredObject) -> dict[str, str]:
    """Which version of the object this is, and its checksums."""
    hashes = [f"crc32c={stored.blob.encoded('CRC32C')}"]
    if stored.md5 is not None:
        hashes.append(f"md5={encode(stored.md5)}")
    return {
        "ETag": f'"{stored.etag}"',
        "x-goog-generation": str(stored.generation),
        "x-goog-metageneration": str(stored.metageneration),
        "x-goog-hash": ",".join(hashes),
        "x-goog-stored-content-encoding": stored.attributes.get("content-encoding", "identity"),
        "x-goog-stored-content-length": str(stored.blob.size),
        **shown(stored),
    }


def as_header(text: str) -> str:
    """Text as a header value: its UTF-8 bytes, one character each."""
    return text.encode().decode("latin-1")


def from_header(value: str) -> str:
    """The inverse of :func:`as_header`."""
    return value.encode("latin-1").decode("utf-8", "replace")


def download(
    state: State, request: Request, bucket: Bucket, key: str, generation: str | None, conditions: Preconditions
) -> Response:
    """GET and HEAD of an object's bytes."""
    stored = find(bucket, key, generation)
    conditions.check_read(stored)
    check_read(request, stored)
    headers = {
        **identity_headers(stored),
        "Last-Modified": http_date(stored.modified),
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
    }
    headers.update(
        ("-".join(w.capitalize() for w in k.split("-")), as_header(v))
        for k, v in stored.attributes.items()
        if k in (*CONTENT_HEADERS, CUSTOM_TIME)
    )
    headers.update((META + as_header(name), as_header(value)) for name, value in stored.metadata.items())
    if _transcodes(request, stored):
        del headers["Content-Encoding"]
        headers["Warning"] = '214 UploadServer "gunzipped"'
        headers["x-guploader-response-body-transformations"] = "gunzipped"
        plain = _gunzip(stored.blob, state.arena)
        return Response(200, headers, BlobRange(plain, 0, plain.size))
    size = stored.blob.size
    chosen = parse_range(request.headers.get("range", ""), size)
    if chosen is None:
        return Response(200, headers, BlobRange(stored.blob, 0, size))
    start, length = chosen
    headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{size}"
    return Response(206, headers, BlobRange(stored.blob, start, length))


def _transcodes(request: Request, stored: StoredObject) -> bool:
    return (
        stored.attributes.get("content-encoding") == "gzip"
        and "gzip" not in request.headers.get("accept-encoding", "")
        and "no-transform" not in stored.attributes.get("cache-control", "")
    )


def _gunzip(blob: Blob, arena: Arena) -> Blob:
    inflate = zlib.decompressobj(wbits=31)
    writer = BlobWriter(arena)
    try:
        for chunk in blob.chunks():
            writer.write(inflate.decompress(chunk))
        writer.write(inflate.flush())
    except zlib.error as error:
        raise ApiError(
            400, "InvalidArgument", f"the object is not gzip, as its Content-Encoding says: {error}"
        ) from None
    return writer.finish()
