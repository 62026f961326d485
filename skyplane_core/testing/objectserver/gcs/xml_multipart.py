"""XML API: multipart uploads. Each part is checked against its x-goog-hash; the whole has a crc32c and no MD5."""

# ruff: noqa: D103 - operations share one signature, and are named as the store names them.
from __future__ import annotations

import os
import time

from skyplane_core.testing.objectserver import xmlio
from skyplane_core.testing.objectserver.blobs import concatenate
from skyplane_core.testing.objectserver.gcs.bodies import announced, land, verify
from skyplane_core.testing.objectserver.gcs.download import identity_headers
from skyplane_core.testing.objectserver.gcs.preconditions import from_headers
from skyplane_core.testing.objectserver.gcs.xml_objects import XML, described
from skyplane_core.testing.objectserver.messages import Request, Response, iso_date
from skyplane_core.testing.objectserver.s3.multipart import chosen_parts, part_number
from skyplane_core.testing.objectserver.state import State, StoredPart, Upload, opaque_etag


def create_upload(state: State, request: Request, bucket_name: str, key: str) -> Response:
    bucket = state.bucket(bucket_name)
    attributes, metadata = described(request)
    upload = Upload(os.urandom(24).hex(), key, time.time(), attributes, metadata)
    with state.lock:
        bucket.uploads[upload.id] = upload
    content = xmlio.elements([("Bucket", bucket_name), ("Key", key), ("UploadId", upload.id)])
    return Response(200, XML, xmlio.document("InitiateMultipartUploadResult", content, xmlio.S3_NAMESPACE))


def upload_part(state: State, request: Request, bucket_name: str, key: str) -> Response:
    bucket, number = state.bucket(bucket_name), part_number(request)
    upload = bucket.upload(request.query["uploadId"], key)
    blob = land(request, state, announced(request))
    etag = blob.digest("MD5").hex() if state.md5 else opaque_etag()
    with state.lock:
        bucket.upload(upload.id, key).parts[number] = StoredPart(number, blob, etag, time.time())
    hashes = [f"crc32c={blob.encoded('CRC32C')}"]
    if "MD5" in blob.digests:
        hashes.append(f"md5={blob.encoded('MD5')}")
    return Response(200, {"ETag": f'"{etag}"', "x-goog-hash": ",".join(hashes)})


def list_parts(state: State, request: Request, bucket_name: str, key: str) -> Response:
    upload = state.bucket(bucket_name).upload(request.query["uploadId"], key)
    marker = request.number("part-number-marker", 0)
    limit = request.number("max-parts", 1000, 1000)
    with state.lock:
        parts = sorted((part for part in upload.parts.values() if part.number > marker), key=lambda part: part.number)
    page = parts[:limit]
    content = xmlio.elements(
        [
            ("Bucket", bucket_name),
            ("Key", key),
            ("UploadId", upload.id),
            ("StorageClass", "STANDARD"),
            ("PartNumberMarker", marker),
            ("NextPartNumberMarker", page[-1].number if page else 0),
            ("MaxParts", limit),
            ("IsTruncated", len(parts) > limit),
        ]
    )
    for part in page:
        fields: list[tuple[str, object]] = [
            ("PartNumber", part.number),
            ("LastModified", iso_date(part.modified)),
            ("ETag", f'"{part.etag}"'),
            ("Size", part.blob.size),
        ]
        content += xmlio.wrap("Part", xmlio.elements(fields))
    return Response(200, XML, xmlio.document("ListPartsResult", content, xmlio.S3_NAMESPACE))


def complete_upload(state: State, request: Request, bucket_name: str, key: str) -> Response:
    bucket = state.bucket(bucket_name)
    listed = xmlio.parse(request.read_document()).findall("Part")
    upload = bucket.upload(request.query["uploadId"], key)
    with state.lock:
        parts = chosen_parts(upload, listed)
    blob = concatenate(part.blob for part in parts)
    wanted = announced(request)
    # Content-MD5 here is that of the list of parts, not of the object.
    wanted.pop("MD5", None)
    verify(blob, wanted)
    stored = state.new_object(
        key,
        blob,
        etag=f"{opaque_etag()}-{len(parts)}",
        attributes=upload.attributes,
        metadata=upload.metadata,
        part_sizes=tuple(part.blob.size for part in parts),
    )
    bucket.finish_upload(upload, stored, from_headers(request))
    content = xmlio.elements(
        [
            ("Location", f"{request.base_url}{request.path}"),
            ("Bucket", bucket_name),
            ("Key", key),
            ("ETag", f'"{stored.etag}"'),
        ]
    )
    document = xmlio.document("CompleteMultipartUploadResult", content, xmlio.S3_NAMESPACE)
    return Response(200, {**XML, **identity_headers(stored)}, document)


def abort_upload(state: State, request: Request, bucket_name: str, key: str) -> Response:
    state.bucket(bucket_name).abort_upload(request.query["uploadId"], key)
    return Response(204)
