"""S3 multipart uploads. Completing one puts the parts' bytes in a row; no byte is moved."""

# ruff: noqa: D103 - operations share one signature, and are named as the store names them.
from __future__ import annotations

import functools
import hashlib
import os
import time
from xml.etree.ElementTree import Element

from skyplane_core.testing.objectserver import checksums, xmlio
from skyplane_core.testing.objectserver.blobs import concatenate
from skyplane_core.testing.objectserver.conditions import write_condition
from skyplane_core.testing.objectserver.messages import ApiError, Request, Response, iso_date, parse_range
from skyplane_core.testing.objectserver.s3.bodies import (
    ALGORITHMS,
    DEFAULT_ALGORITHM,
    check_type,
    checksum_element,
    checksum_header,
    default_type,
    land,
    supported,
)
from skyplane_core.testing.objectserver.s3.objects import copy_source, described, version_headers
from skyplane_core.testing.objectserver.state import State, StoredPart, Upload, opaque_etag

MIN_PART = 5 << 20
MAX_PART = 5 << 30
MAX_PARTS = 10_000

_XML = {"Content-Type": "application/xml"}


def create_upload(state: State, request: Request, bucket_name: str, key: str) -> Response:
    bucket = state.bucket(bucket_name)
    attributes, metadata = described(request)
    asked = request.headers.get("x-amz-checksum-algorithm", "")
    algorithm = supported(asked) if asked else ""
    checksum_type = request.headers.get("x-amz-checksum-type", "").upper()
    if checksum_type and not algorithm:
        raise ApiError(
            400,
            "InvalidRequest",
            "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
        )
    if algorithm:
        checksum_type = checksum_type or default_type(algorithm)
        check_type(algorithm, checksum_type)
    upload = Upload(os.urandom(24).hex(), key, time.time(), attributes, metadata, algorithm, checksum_type)
    with state.lock:
        bucket.uploads[upload.id] = upload
    content = xmlio.elements([("Bucket", bucket_name), ("Key", key), ("UploadId", upload.id)])
    headers = dict(_XML)
    if algorithm:
        headers |= {"x-amz-checksum-algorithm": algorithm, "x-amz-checksum-type": checksum_type}
    return Response(200, headers, xmlio.document("InitiateMultipartUploadResult", content, xmlio.S3_NAMESPACE))


def part_number(request: Request) -> int:
    """Raises ApiError unless it is between 1 and 10,000."""
    text = request.query.get("partNumber", "")
    if not text.isdecimal() or not 1 <= int(text) <= MAX_PARTS:
        raise ApiError(400, "InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive")
    return int(text)


def upload_part(state: State, request: Request, bucket_name: str, key: str) -> Response:
    bucket, number = state.bucket(bucket_name), part_number(request)
    upload = bucket.upload(request.query["uploadId"], key)
    if (request.content_length or 0) > MAX_PART:
        raise ApiError(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")
    landed = land(request, state, extra=upload.algorithm)
    if upload.algorithm and landed.algorithm != upload.algorithm:
        raise ApiError(
            400,
            "InvalidRequest",
            "Checksum Type mismatch occurred, expected checksum Type: "
            f"{upload.algorithm.lower()}, actual checksum Type: {landed.algorithm.lower() or 'null'}",
        )
    algorithm = landed.algorithm or DEFAULT_ALGORITHM
    etag = landed.blob.digest("MD5").hex() if state.md5 else opaque_etag()
    part = StoredPart(number, landed.blob, etag, time.time(), landed.blob.encoded(algorithm))
    with state.lock:
        bucket.upload(upload.id, key).parts[number] = part
    return Response(200, {"ETag": f'"{etag}"', checksum_header(algorithm): part.checksum})


def upload_part_copy(state: State, request: Request, bucket_name: str, key: str) -> Response:
    bucket, number = state.bucket(bucket_name), part_number(request)
    upload = bucket.upload(request.query["uploadId"], key)
    source = copy_source(state, request)
    wanted = parse_range(request.headers.get("x-amz-copy-source-range", ""), source.blob.size)
    blob = source.blob.slice(*(wanted or (0, source.blob.size)))
    algorithm = upload.algorithm or DEFAULT_ALGORITHM
    etag = blob.digest("MD5").hex() if state.md5 else opaque_etag()
    part = StoredPart(number, blob, etag, time.time(), blob.encoded(algorithm))
    with state.lock:
        bucket.upload(upload.id, key).parts[number] = part
    content = xmlio.elements(
        [
            ("ETag", f'"{etag}"'),
            ("LastModified", iso_date(part.modified)),
            (checksum_element(algorithm), part.checksum),
        ]
    )
    return Response(200, _XML, xmlio.document("CopyPartResult", content, xmlio.S3_NAMESPACE))


def list_parts(state: State, request: Request, bucket_name: str, key: str) -> Response:
    upload = state.bucket(bucket_name).upload(request.query["uploadId"], key)
    marker = request.number("part-number-marker", 0)
    limit = request.number("max-parts", 1000, 1000)
    with state.lock:
        parts = sorted((part for part in upload.parts.values() if part.number > marker), key=lambda part: part.number)
    page, more = parts[:limit], len(parts) > limit
    content = xmlio.elements(
        [
            ("Bucket", bucket_name),
            ("Key", key),
            ("UploadId", upload.id),
            ("StorageClass", "STANDARD"),
            ("PartNumberMarker", marker),
            ("NextPartNumberMarker", page[-1].number if page else 0),
            ("MaxParts", limit),
            ("IsTruncated", more),
            ("ChecksumAlgorithm", upload.algorithm or None),
            ("ChecksumType", upload.checksum_type or None),
        ]
    )
    for part in page:
        checksum = [(checksum_element(upload.algorithm), part.checksum)] if upload.algorithm else []
        content += xmlio.wrap(
            "Part",
            xmlio.elements(
                [
                    ("PartNumber", part.number),
                    ("LastModified", iso_date(part.modified)),
                    ("ETag", f'"{part.etag}"'),
                    ("Size", part.blob.size),
                    *checksum,
                ]
            ),
        )
    return Response(200, _XML, xmlio.document("ListPartsResult", content, xmlio.S3_NAMESPACE))


def chosen_parts(upload: Upload, listed: list[Element], minimum: int = MIN_PART) -> list[StoredPart]:
    """The parts that a completion names, in order.

    Raises:
        ApiError: MalformedXML, InvalidPartOrder, InvalidPart, EntityTooSmall.
    """
    chosen: list[StoredPart] = []
    for node in listed:
        number = xmlio.text(node, "PartNumber")
        if not number.isdecimal():
            raise ApiError(400, "MalformedXML", "a part has no number")
        if chosen and int(number) <= chosen[-1].number:
            raise ApiError(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
        part = upload.parts.get(int(number))
        if part is None or xmlio.text(node, "ETag").strip('"') != part.etag:
            raise ApiError(
                400,
                "InvalidPart",
                "One or more of the specified parts could not be found. The part may not have been uploaded, or the "
                "specified entity tag may not match the part's entity tag.",
                fields={"PartNumber": number, "UploadId": upload.id},
            )
        chosen.append(part)
    if not chosen:
        raise ApiError(400, "MalformedXML", "You must specify at least one part")
    for part in chosen[:-1]:
        if part.blob.size < minimum:
            raise ApiError(
                400,
                "EntityTooSmall",
                "Your proposed upload is smaller than the minimum allowed size",
                fields={"ProposedSize": str(part.blob.size), "MinSizeAllowed": str(minimum)},
            )
    return chosen


def complete_upload(state: State, request: Request, bucket_name: str, key: str) -> Response:
    bucket = state.bucket(bucket_name)
    listed = xmlio.parse(request.read_document()).findall("Part")
    upload = bucket.upload(request.query["uploadId"], key)
    with state.lock:
        parts = chosen_parts(upload, listed)
    _check_part_checksums(upload, parts, listed)
    blob = concatenate(part.blob for part in parts)
    expected_size = request.headers.get("x-amz-mp-object-size", "")
    if expected_size and expected_size != str(blob.size):
        raise ApiError(
            400,
            "InvalidRequest",
            f"The provided 'x-amz-mp-object-size' header does not match what was computed: {blob.size}",
        )
    algorithm, checksum_type, checksum = _whole_checksum(request, upload, parts)
    tags = [bytes.fromhex(part.etag) for part in parts]
    digest = hashlib.md5(b"".join(tags), usedforsecurity=False).hexdigest() if state.md5 else opaque_etag()
    stored = state.new_object(
        key,
        blob,
        etag=f"{digest}-{len(parts)}",
        attributes=upload.attributes,
        metadata=upload.metadata,
        checksums={algorithm: checksum},
        checksum_type=checksum_type,
        part_sizes=tuple(part.blob.size for part in parts),
    )
    bucket.finish_upload(upload, stored, write_condition(request))
    content = xmlio.elements(
        [
            ("Location", f"{request.base_url}{request.path}"),
            ("Bucket", bucket_name),
            ("Key", key),
            ("ETag", f'"{stored.etag}"'),
            (checksum_element(algorithm), checksum),
            ("ChecksumType", checksum_type),
        ]
    )
    headers = {**_XML, **version_headers(bucket, stored)}
    return Response(200, headers, xmlio.document("CompleteMultipartUploadResult", content, xmlio.S3_NAMESPACE))


def _check_part_checksums(upload: Upload, parts: list[StoredPart], listed: list[Element]) -> None:
    for part, node in zip(parts, listed, strict=True):
        for algorithm in ALGORITHMS:
            claimed = xmlio.text(node, checksum_element(algorithm))
            if claimed and claimed != part.blob.encoded(algorithm):
                raise ApiError(400, "InvalidPart", f"The checksum of part {part.number} does not match the one stored.")
        if upload.checksum_type == "COMPOSITE" and not xmlio.text(node, checksum_element(upload.algorithm)):
            raise ApiError(
                400,
                "InvalidRequest",
                f"The upload was created using a {upload.algorithm.lower()} checksum. The complete request must "
                f"include the checksum for each part. It was missing for part {part.number} in the request.",
            )


def _whole_checksum(request: Request, upload: Upload, parts: list[StoredPart]) -> tuple[str, str, str]:
    """Algorithm, type and value of the finished object's checksum, held against the one in the request."""
    algorithm = upload.algorithm or DEFAULT_ALGORITHM
    checksum_type = upload.checksum_type or default_type(algorithm)
    asked_type = request.headers.get("x-amz-checksum-type", "").upper()
    if asked_type and asked_type != checksum_type:
        raise ApiError(400, "InvalidRequest", f"The upload was created with the {checksum_type} checksum type.")
    digests = [part.blob.digest(algorithm) for part in parts]
    if checksum_type == "COMPOSITE":
        whole = checksums.hasher(algorithm)
        whole.update(b"".join(digests))
        value = f"{checksums.encode(whole.digest())}-{len(parts)}"
    else:
        sized = zip(digests[1:], (part.blob.size for part in parts[1:]), strict=True)
        fold = functools.reduce(lambda left, right: checksums.combine(algorithm, left, *right), sized, digests[0])
        value = checksums.encode(fold)
    for name in ALGORITHMS:
        claimed = request.headers.get(checksum_header(name))
        if claimed is not None and (name != algorithm or claimed not in (value, value.partition("-")[0])):
            raise ApiError(400, "BadDigest", f"The {name} you specified did not match the calculated checksum.")
    return algorithm, checksum_type, value


def abort_upload(state: State, request: Request, bucket_name: str, key: str) -> Response:
    state.bucket(bucket_name).abort_upload(request.query["uploadId"], key)
    return Response(204)
