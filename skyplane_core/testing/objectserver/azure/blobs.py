"""Azure: block blobs and containers. A blob's Content-MD5 is what its writer said; bodies are checked as they land."""

# ruff: noqa: ARG001, D103 - operations share one signature, and are named as the store names them.
from __future__ import annotations

import base64
import binascii
import dataclasses
import time

from skyplane_core.testing.objectserver import xmlio
from skyplane_core.testing.objectserver.azure.listing import Item, items, pack, unpack
from skyplane_core.testing.objectserver.blobs import Blob, concatenate
from skyplane_core.testing.objectserver.checksums import decode, encode, hasher
from skyplane_core.testing.objectserver.conditions import check_read, write_condition
from skyplane_core.testing.objectserver.messages import (
    ApiError,
    BlobRange,
    Request,
    Response,
    http_date,
    parse_range,
)
from skyplane_core.testing.objectserver.state import State, StoredObject
from skyplane_core.testing.objectserver.upload_body import check_digest, receive

VERSION = {"x-ms-version": "2023-11-03", "x-ms-request-id": "00000000-0000-0000-0000-000000000000"}
META = "x-ms-meta-"
CRC64 = "x-ms-content-crc64"
_ATTRIBUTES = ("content-type", "cache-control", "content-disposition", "content-encoding", "content-language")


def _described(request: Request) -> tuple[dict[str, str], dict[str, str], bytes | None]:
    """Content headers, metadata and the MD5 of the whole blob, as the writer gives them."""
    headers = request.headers
    attributes = {name: headers[f"x-ms-blob-{name}"] for name in _ATTRIBUTES if headers.get(f"x-ms-blob-{name}")}
    metadata = {name[len(META) :]: value for name, value in headers.items() if name.startswith(META)}
    try:
        md5 = base64.b64decode(headers.get("x-ms-blob-content-md5", ""), validate=True)
    except binascii.Error:
        raise ApiError(400, "InvalidDigest", "x-ms-blob-content-md5 is no base64") from None
    return attributes, metadata, md5 or None


def _land(request: Request, state: State) -> Blob:
    claimed = request.headers.get("content-md5")
    blob = receive(request, state.arena, ["MD5"] if claimed else [])
    if claimed:
        check_digest(blob, "MD5", claimed, "Content-MD5")
    _check_crc64(request, blob.digest("CRC64NVME"))
    return blob


def _check_crc64(request: Request, digest: bytes) -> None:
    claimed = request.headers.get(CRC64)
    if claimed is None:
        return
    wanted = decode(claimed, "CRC64NVME")
    if wanted is None:
        raise ApiError(400, "InvalidHeaderValue", f"{CRC64} is no base64 of 8 bytes")
    if wanted != digest[::-1]:
        raise ApiError(
            400, "Crc64Mismatch", "The CRC64 value specified in the request did not match the calculated one."
        )


def _crc64(digest: bytes) -> dict[str, str]:
    """What the service computed over the body of a write, the least significant byte first."""
    return {CRC64: encode(digest[::-1])}


def _written(stored: StoredObject, status: int = 201, checked: dict[str, str] | None = None) -> Response:
    headers = {"ETag": f'"{stored.etag}"', "Last-Modified": http_date(stored.modified), **VERSION, **(checked or {})}
    if stored.md5 is not None:
        headers["Content-MD5"] = encode(stored.md5)
    return Response(status, {**headers, "x-ms-request-server-encrypted": "true"})


def _find(state: State, container: str, key: str) -> StoredObject:
    stored = state.bucket(container).current(key)
    if stored is None:
        raise ApiError(404, "NoSuchKey", "The specified blob does not exist.")
    return stored


def put_blob(state: State, request: Request, container: str, key: str) -> Response:
    if request.headers.get("x-ms-blob-type") != "BlockBlob":
        raise ApiError(400, "InvalidHeaderValue", "only block blobs are implemented by this server")
    bucket = state.bucket(container)
    attributes, metadata, md5 = _described(request)
    blob = _land(request, state)
    if md5 is not None and md5 != blob.digest("MD5"):
        raise ApiError(400, "BadDigest", "The MD5 value specified in the request did not match with the server's.")
    stored = state.new_object(key, blob, attributes=attributes, metadata=metadata, md5=md5)
    with state.lock:
        bucket.put(stored, write_condition(request))
        bucket.blocks.pop(key, None)
    return _written(stored, checked=_crc64(blob.digest("CRC64NVME")))


def put_block(state: State, request: Request, container: str, key: str) -> Response:
    bucket, block_id = state.bucket(container), request.query.get("blockid", "")
    blob = _land(request, state)
    if not blob.size:
        raise ApiError(400, "InvalidHeaderValue", "a block without bytes")
    with state.lock:
        waiting = bucket.blocks.setdefault(key, {})
        if any(len(other) != len(block_id) for other in waiting) or not block_id:
            raise ApiError(400, "InvalidBlobOrBlock", "The specified blob or block content is invalid.")
        waiting[block_id] = blob
    checked = {"Content-MD5": blob.encoded("MD5")} if "MD5" in blob.digests else _crc64(blob.digest("CRC64NVME"))
    return Response(201, {**VERSION, **checked, "x-ms-request-server-encrypted": "true"})


def put_block_list(state: State, request: Request, container: str, key: str) -> Response:
    """Commits the listed blocks; the others that waited are dropped."""
    bucket, condition = state.bucket(container), write_condition(request)
    attributes, metadata, md5 = _described(request)
    document = request.read_document()
    sums = {name: hasher(name) for name in ("MD5", "CRC64NVME")}
    for running in sums.values():
        running.update(document)
    digest = sums["CRC64NVME"].digest()
    _check_crc64(request, digest)
    if request.headers.get("content-md5", encode(sums["MD5"].digest())) != encode(sums["MD5"].digest()):
        raise ApiError(400, "BadDigest", "The MD5 value specified in the request did not match with the server's.")
    root = xmlio.parse(document)
    with state.lock:
        waiting, current = bucket.blocks.get(key, {}), bucket.current(key)
        committed = bucket.committed.get(current.generation, {}) if current is not None else {}
        chosen: dict[str, Blob] = {}
        pieces: list[Blob] = []
        for node in root:
            block_id = (node.text or "").strip()
            places = {"Uncommitted": [waiting], "Committed": [committed]}.get(node.tag, [waiting, committed])
            found = next((place[block_id] for place in places if block_id in place), None)
            if found is None:
                raise ApiError(400, "InvalidBlockList", "The specified block list is invalid.")
            chosen[block_id] = found
            pieces.append(found)
        stored = state.new_object(key, concatenate(pieces), attributes=attributes, metadata=metadata, md5=md5)
        bucket.put(stored, condition)
        if current is not None:
            bucket.committed.pop(current.generation, None)
        bucket.committed[stored.generation] = chosen
        bucket.blocks.pop(key, None)
    return _written(stored, checked=_crc64(digest))


def get_block_list(state: State, request: Request, container: str, key: str) -> Response:
    bucket, kind = state.bucket(container), request.query.get("blocklisttype", "committed")
    with state.lock:
        waiting, current = dict(bucket.blocks.get(key, {})), bucket.current(key)
        committed = dict(bucket.committed.get(current.generation, {})) if current is not None else {}
    if current is None and not waiting:
        raise ApiError(404, "NoSuchKey", "The specified blob does not exist.")
    content = ""
    for name, blocks in (("Committed", committed), ("Uncommitted", dict(sorted(waiting.items())))):
        if kind in ("all", name.lower()):
            entries = (
                xmlio.wrap("Block", xmlio.elements([("Name", block_id), ("Size", blob.size)]))
                for block_id, blob in blocks.items()
            )
            content += xmlio.wrap(f"{name}Blocks", *entries)
    headers = {"Content-Type": "application/xml", **VERSION}
    if current is not None:
        headers["ETag"] = f'"{current.etag}"'
    return Response(200, headers, xmlio.document("BlockList", content))


def get_blob(state: State, request: Request, container: str, key: str) -> Response:
    """GET and HEAD."""
    if state.hierarchical and next(state.bucket(container).keys(f"{key}/"), None) is not None:
        return Response(200, {"ETag": '"0x1"', "Last-Modified": http_date(0), f"{META}hdi_isfolder": "true", **VERSION})
    stored = _find(state, container, key)
    check_read(request, stored)
    size = stored.blob.size
    headers = {
        "ETag": f'"{stored.etag}"',
        "Last-Modified": http_date(stored.modified),
        "x-ms-creation-time": http_date(stored.created),
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
        "x-ms-blob-type": "BlockBlob",
        "x-ms-server-encrypted": "true",
        "x-ms-lease-state": "available",
        "x-ms-lease-status": "unlocked",
        **VERSION,
    }
    headers.update(("-".join(w.capitalize() for w in name.split("-")), v) for name, v in stored.attributes.items())
    headers.update((META + name, value) for name, value in stored.metadata.items())
    chosen = parse_range(request.headers.get("x-ms-range") or request.headers.get("range", ""), size)
    if chosen is None:
        if stored.md5 is not None:
            headers["Content-MD5"] = encode(stored.md5)
        return Response(200, headers, BlobRange(stored.blob, 0, size))
    start, length = chosen
    headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{size}"
    if stored.md5 is not None:
        headers["x-ms-blob-content-md5"] = encode(stored.md5)
    if request.headers.get("x-ms-range-get-content-md5") == "true":
        headers["Content-MD5"] = stored.blob.slice(start, length).encoded("MD5")
    return Response(206, headers, BlobRange(stored.blob, start, length))


def set_metadata(state: State, request: Request, container: str, key: str) -> Response:
    bucket = state.bucket(container)
    metadata = _described(request)[1]
    with state.lock:
        stored = _find(state, container, key)
        check_read(request, stored)
        etag = f"{state.generation():x}"
        changed = dataclasses.replace(stored, metadata=metadata, modified=time.time(), etag=etag)
        bucket.replace(stored, changed)
    return _written(changed, 200)


def delete_blob(state: State, request: Request, container: str, key: str) -> Response:
    bucket = state.bucket(container)
    with state.lock:
        stored = _find(state, container, key)
        check_read(request, stored)
        bucket.delete(key)
        bucket.blocks.pop(key, None)
        bucket.committed.pop(stored.generation, None)
    return Response(202, dict(VERSION))


def list_blobs(state: State, request: Request, container: str, key: str) -> Response:
    query, bucket, hierarchical = request.query, state.bucket(container), state.hierarchical
    limit = max(1, request.number("maxresults", 5000, 5000))
    prefix, delimiter, marker = (query.get(name, "") for name in ("prefix", "delimiter", "marker"))
    include = query.get("include", "").split(",")
    try:
        start = unpack(marker) if marker else ()
    except ValueError:
        raise ApiError(400, "OutOfRangeQueryParameterValue", "the marker is not one of ours") from None
    with state.lock:
        listing = items(
            bucket,
            prefix=prefix,
            delimiter=delimiter,
            uncommitted="uncommittedblobs" in include,
            hierarchical=hierarchical,
        )
        found = [item for item in listing if item.place >= start]
    page = found[:limit]
    content = "".join(_listed(item, hierarchical=hierarchical, metadata="metadata" in include) for item in page)
    head = xmlio.elements([("Prefix", prefix), ("Marker", marker), ("MaxResults", limit), ("Delimiter", delimiter)])
    tail = xmlio.element("NextMarker", pack(found[limit].place) if len(found) > limit else "")
    document = xmlio.document("EnumerationResults", head + xmlio.wrap("Blobs", content) + tail)
    return Response(200, {"Content-Type": "application/xml", **VERSION}, document)


def _listed(item: Item, *, hierarchical: bool, metadata: bool) -> str:
    stored = item.stored
    name = xmlio.element("Name", item.name)
    if stored is None:
        properties: list[tuple[str, object]] = [("Content-Length", 0), ("BlobType", "BlockBlob")]
        if hierarchical and item.kind != "Blob":
            properties.append(("ResourceType", "directory"))
        described = xmlio.wrap("Properties", xmlio.elements(properties))
        if item.kind == "BlobPrefix":
            return xmlio.wrap("BlobPrefix", name, described if hierarchical else "")
        return xmlio.wrap("Blob", name, described)
    properties = [
        ("Creation-Time", http_date(stored.created)),
        ("Last-Modified", http_date(stored.modified)),
        ("Etag", stored.etag),
        ("Content-Length", stored.blob.size),
        ("Content-Type", stored.attributes.get("content-type", "application/octet-stream")),
        *(("-".join(w.capitalize() for w in n.split("-")), stored.attributes.get(n, "")) for n in _ATTRIBUTES[1:]),
        ("Content-MD5", encode(stored.md5) if stored.md5 is not None else ""),
        ("BlobType", "BlockBlob"),
    ]
    if hierarchical:
        properties.append(("ResourceType", "file"))
    kept = xmlio.wrap("Metadata", xmlio.elements(stored.metadata.items()) if metadata else "")
    return xmlio.wrap("Blob", name, xmlio.wrap("Properties", xmlio.elements(properties)), kept)


def get_account(state: State, request: Request, container: str, key: str) -> Response:
    kind = {"x-ms-account-kind": "StorageV2", "x-ms-is-hns-enabled": str(state.hierarchical).lower()}
    return Response(200, {**VERSION, **kind})


def get_container(state: State, request: Request, container: str, key: str) -> Response:
    bucket = state.bucket(container)
    return Response(200, {"ETag": '"0x1"', "Last-Modified": http_date(bucket.created), **VERSION})


def create_container(state: State, request: Request, container: str, key: str) -> Response:
    bucket = state.create_bucket(container)
    return Response(201, {"ETag": '"0x1"', "Last-Modified": http_date(bucket.created), **VERSION})


def delete_container(state: State, request: Request, container: str, key: str) -> Response:
    state.delete_bucket(container)
    return Response(202, dict(VERSION))
