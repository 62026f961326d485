"""S3 operations on one object: get, head, put, copy, delete."""

# ruff: noqa: D103 - operations share one signature, and are named as the store names them.
from __future__ import annotations

import dataclasses

from skyplane_core.testing.objectserver import xmlio
from skyplane_core.testing.objectserver.blobs import Blob
from skyplane_core.testing.objectserver.conditions import check_read, write_condition
from skyplane_core.testing.objectserver.messages import (
    ApiError,
    BlobRange,
    Request,
    Response,
    http_date,
    iso_date,
    parse_range,
    unquote,
)
from skyplane_core.testing.objectserver.s3.bodies import (
    DEFAULT_ALGORITHM,
    checksum_element,
    checksum_header,
    land,
    supported,
)
from skyplane_core.testing.objectserver.s3.placement import (
    TAGGING,
    check_readable,
    placement,
    shown,
    tagging,
)
from skyplane_core.testing.objectserver.state import CONTENT_HEADERS, Bucket, State, StoredObject

META = "x-amz-meta-"
MAX_PUT = 5 << 30
"""Bytes of a single PUT at most."""

_NULL_VERSION = "null"


def described(request: Request) -> tuple[dict[str, str], dict[str, str]]:
    """Content headers, placement and user metadata that a write carries."""
    attributes, metadata = placement(request), {}
    for name, value in request.headers.items():
        if name in CONTENT_HEADERS:
            attributes[name] = value
        elif name.startswith(META):
            metadata[name[len(META) :]] = value
    encoding = ",".join(e for e in attributes.pop("content-encoding", "").split(",") if e.strip() != "aws-chunked")
    if encoding:
        attributes["content-encoding"] = encoding.strip()
    if sum(len(name) + len(value) for name, value in metadata.items()) > 2048:
        raise ApiError(400, "MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size")
    return attributes, metadata


def version_headers(bucket: Bucket, stored: StoredObject) -> dict[str, str]:
    return {"x-amz-version-id": stored.version_id} if bucket.versioning else {}


def find(bucket: Bucket, key: str, version_id: str | None) -> StoredObject:
    """The current object or the named version. Raises ApiError NoSuchKey, NoSuchVersion or (delete marker) 405."""
    if version_id is None or (version_id == _NULL_VERSION and not bucket.versioning):
        current = bucket.current(key)
        if current is None:
            deleted = {"x-amz-delete-marker": "true"} if bucket.versioning and bucket.versions(key) else {}
            raise ApiError(404, "NoSuchKey", "The specified key does not exist.", fields={"Key": key}, headers=deleted)
        return current
    stored = bucket.version(key, generation_of(version_id))
    if stored is None:
        raise ApiError(404, "NoSuchVersion", "The specified version does not exist.", fields={"VersionId": version_id})
    if stored.deleted:
        raise ApiError(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")
    return stored


def generation_of(version_id: str) -> int:
    """The generation that a version id stands for. Raises ApiError for what is none."""
    try:
        return int(version_id, 16)
    except ValueError:
        raise ApiError(400, "InvalidArgument", "Invalid version id specified") from None


def get_object(state: State, request: Request, bucket_name: str, key: str) -> Response:
    """GET and HEAD."""
    bucket = state.bucket(bucket_name)
    stored = find(bucket, key, request.query.get("versionId"))
    check_read(request, stored)
    size = stored.blob.size
    headers = {
        "Last-Modified": http_date(stored.modified),
        "ETag": f'"{stored.etag}"',
        "Accept-Ranges": "bytes",
        "Content-Type": "binary/octet-stream",
        **version_headers(bucket, stored),
    }
    for name, value in stored.attributes.items():
        if name in CONTENT_HEADERS:
            headers[_title(name)] = request.query.get(f"response-{name}", value)
    headers.update(shown(stored))
    if request.method == "GET":
        check_readable(stored)
    headers.update((META + name, value) for name, value in stored.metadata.items())
    part = _part_range(request, stored)
    chosen = part or parse_range(request.headers.get("range", ""), size)
    if chosen is None:
        if request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
            headers.update(checksum_headers(stored))
        return Response(200, headers, BlobRange(stored.blob, 0, size))
    start, length = chosen
    if part and stored.part_sizes:
        headers["x-amz-mp-parts-count"] = str(len(stored.part_sizes))
    if length:
        headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{size}"
    return Response(206, headers, BlobRange(stored.blob, start, length))


def get_tagging(state: State, request: Request, bucket_name: str, key: str) -> Response:
    return tagging(find(state.bucket(bucket_name), key, request.query.get("versionId")))


def checksum_headers(stored: StoredObject) -> dict[str, str]:
    """What S3 attests about the whole object."""
    headers = {checksum_header(name): value for name, value in stored.checksums.items()}
    return {**headers, "x-amz-checksum-type": stored.checksum_type} if headers else {}


def _part_range(request: Request, stored: StoredObject) -> tuple[int, int] | None:
    text = request.query.get("partNumber", "")
    if not text:
        return None
    number, sizes = int(text) if text.isdecimal() else 0, stored.part_sizes or (stored.blob.size,)
    if not 1 <= number <= len(sizes):
        raise ApiError(416, "InvalidPartNumber", "The requested partnumber is not satisfiable")
    return sum(sizes[: number - 1]), sizes[number - 1]


def _title(name: str) -> str:
    return "-".join(word.capitalize() for word in name.split("-"))


def put_object(state: State, request: Request, bucket_name: str, key: str) -> Response:
    bucket = state.bucket(bucket_name)
    if (request.content_length or 0) > MAX_PUT:
        raise ApiError(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")
    attributes, metadata = described(request)
    condition = write_condition(request)
    if condition is not None:
        with state.lock:
            condition(bucket.current(key))
    landed = land(request, state)
    stored = _whole(state, key, landed.blob, landed.algorithm, attributes, metadata)
    bucket.put(stored, condition)
    headers = {"ETag": f'"{stored.etag}"', **checksum_headers(stored), **version_headers(bucket, stored)}
    return Response(200, headers)


def _whole(
    state: State, key: str, blob: Blob, algorithm: str, attributes: dict[str, str], metadata: dict[str, str]
) -> StoredObject:
    """A new version of an object whose checksum is over all of it."""
    algorithm = algorithm or DEFAULT_ALGORITHM
    return state.new_object(
        key, blob, attributes=attributes, metadata=metadata, checksums={algorithm: blob.encoded(algorithm)}
    )


def copy_source(state: State, request: Request) -> StoredObject:
    """The object that x-amz-copy-source names, its conditions checked."""
    path, _, query = request.headers["x-amz-copy-source"].partition("?versionId=")
    bucket_name, _, key = unquote(path).lstrip("/").partition("/")
    stored = find(state.bucket(bucket_name), key, query or None)
    names = {"if-match", "if-none-match", "if-modified-since", "if-unmodified-since"}
    conditions = {
        name: value for name in names if (value := request.headers.get(f"x-amz-copy-source-{name}")) is not None
    }
    try:
        check_read(dataclasses.replace(request, headers=conditions), stored)
    except ApiError as error:
        raise ApiError(412, "PreconditionFailed", error.message) from None
    if bucket_name in state.requester_pays and request.headers.get("x-amz-request-payer") != "requester":
        raise ApiError(403, "AccessDenied", "Access Denied")
    check_readable(stored)
    return stored


def _of_copy(request: Request, source: StoredObject) -> tuple[dict[str, str], dict[str, str]]:
    """What a copy gets: each of metadata and tags is the source's or the request's, its class always the request's."""
    attributes, metadata = described(request)
    tags = attributes.pop(TAGGING, "")
    if request.headers.get("x-amz-tagging-directive", "COPY").upper() != "REPLACE":
        tags = source.attributes.get(TAGGING, "")
    if request.headers.get("x-amz-metadata-directive", "COPY").upper() != "REPLACE":
        placed = placement(request)
        placed.pop(TAGGING, None)
        content = {name: value for name, value in source.attributes.items() if name in CONTENT_HEADERS}
        attributes, metadata = content | placed, source.metadata
    return attributes | ({TAGGING: tags} if tags else {}), metadata


def copy_object(state: State, request: Request, bucket_name: str, key: str) -> Response:
    bucket = state.bucket(bucket_name)
    source = copy_source(state, request)
    if source.blob.size > MAX_PUT:
        raise ApiError(400, "InvalidRequest", "The specified copy source is larger than the maximum allowable size")
    attributes, metadata = _of_copy(request, source)
    asked = request.headers.get("x-amz-checksum-algorithm", "")
    algorithm = supported(asked) if asked else next(iter(source.checksums), "")
    stored = _whole(state, key, source.blob, algorithm, attributes, metadata)
    bucket.put(stored, write_condition(request))
    content = xmlio.elements(
        [
            ("LastModified", iso_date(stored.modified)),
            ("ETag", f'"{stored.etag}"'),
            *((checksum_element(name), value) for name, value in stored.checksums.items()),
            ("ChecksumType", stored.checksum_type),
        ]
    )
    return Response(
        200,
        {"Content-Type": "application/xml", **version_headers(bucket, stored)},
        xmlio.document("CopyObjectResult", content, xmlio.S3_NAMESPACE),
    )


def delete_object(state: State, request: Request, bucket_name: str, key: str) -> Response:
    """No error if there is nothing to delete, unless If-Match was given."""
    bucket = state.bucket(bucket_name)
    return Response(
        204, remove(state, bucket, key, request.query.get("versionId"), request.headers.get("if-match", ""))
    )


def remove(state: State, bucket: Bucket, key: str, version_id: str | None, etag: str = "") -> dict[str, str]:
    """Delete the object, add a delete marker, or delete one version; returns headers that tell which."""

    def condition(current: StoredObject | None) -> None:
        if etag and (current is None or etag.strip('"') not in (current.etag, "*")):
            raise ApiError(412, "PreconditionFailed", "The object is not the one that If-Match names")

    if version_id is not None and bucket.versioning:
        gone = bucket.delete_version(key, generation_of(version_id), condition)
        marker = {"x-amz-delete-marker": "true"} if gone is not None and gone.deleted else {}
        return {"x-amz-version-id": version_id, **marker}
    if not bucket.versioning:
        bucket.delete(key, condition)
        return {}
    marker_object = state.new_object(key, Blob((), 0, 0, 0), deleted=True)
    bucket.put(marker_object, condition)
    return {"x-amz-delete-marker": "true", "x-amz-version-id": marker_object.version_id}
