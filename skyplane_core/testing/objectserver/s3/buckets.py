"""S3 operations on buckets: listings, creation, deletion of many objects."""

# ruff: noqa: ARG001, D103 - operations share one signature, and are named as the store names them.
from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Callable

from skyplane_core.testing.objectserver import xmlio
from skyplane_core.testing.objectserver.listing import list_page
from skyplane_core.testing.objectserver.messages import ApiError, Request, Response, iso_date
from skyplane_core.testing.objectserver.s3.bodies import declared_algorithm, land
from skyplane_core.testing.objectserver.s3.objects import remove
from skyplane_core.testing.objectserver.state import State, StoredObject

_XML = {"Content-Type": "application/xml"}
_OWNER = xmlio.wrap("Owner", xmlio.element("ID", "objectserver"), xmlio.element("DisplayName", "objectserver"))


def _limit(request: Request, name: str = "max-keys") -> int:
    return request.number(name, 1000, 1000)


def _encoder(request: Request) -> Callable[[str], str]:
    kind = request.query.get("encoding-type", "")
    if kind not in ("", "url"):
        raise ApiError(400, "InvalidArgument", "Invalid Encoding Method specified in Request")
    return (lambda text: urllib.parse.quote(text, safe="/-_.~")) if kind else str


def _entry(stored: StoredObject, encode: Callable[[str], str]) -> str:
    return xmlio.elements(
        [
            ("Key", encode(stored.key)),
            ("LastModified", iso_date(stored.modified)),
            ("ETag", f'"{stored.etag}"'),
            *(("ChecksumAlgorithm", name) for name in stored.checksums),
            ("ChecksumType", stored.checksum_type if stored.checksums else None),
            ("Size", stored.blob.size),
            ("StorageClass", "STANDARD"),
        ]
    )


def list_objects(state: State, request: Request, bucket_name: str, key: str) -> Response:
    """ListObjectsV2 (``list-type=2``), else the first version of it."""
    query, bucket = request.query, state.bucket(bucket_name)
    second = query.get("list-type") == "2"
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    limit, encode = _limit(request), _encoder(request)
    token = query.get("continuation-token", "")
    after = query.get("start-after" if second else "marker", "")
    if second and token:
        try:
            after = base64.urlsafe_b64decode(token.encode()).decode()
        except ValueError:
            raise ApiError(400, "InvalidArgument", "The continuation token provided is incorrect") from None
    page = list_page(bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
    more = page.more and limit > 0
    head: list[tuple[str, object]] = [
        ("Name", bucket_name),
        ("Prefix", encode(prefix)),
        ("Delimiter", encode(delimiter) if delimiter else None),
        ("MaxKeys", limit),
        ("EncodingType", query.get("encoding-type") or None),
        ("IsTruncated", more),
    ]
    if second:
        head += [
            ("KeyCount", page.count),
            ("StartAfter", encode(query["start-after"]) if "start-after" in query else None),
            ("ContinuationToken", token or None),
            ("NextContinuationToken", base64.urlsafe_b64encode(page.last.encode()).decode() if more else None),
        ]
    else:
        head += [("Marker", encode(after)), ("NextMarker", encode(page.last) if more and delimiter else None)]
    content = xmlio.elements(head)
    content += "".join(xmlio.wrap("Contents", _entry(stored, encode)) for stored in page.objects)
    content += "".join(xmlio.wrap("CommonPrefixes", xmlio.element("Prefix", encode(group))) for group in page.prefixes)
    return Response(200, _XML, xmlio.document("ListBucketResult", content, xmlio.S3_NAMESPACE))


def list_versions(state: State, request: Request, bucket_name: str, key: str) -> Response:
    """ListObjectVersions; a page holds all versions of a key or none."""
    query, bucket, encode = request.query, state.bucket(bucket_name), _encoder(request)
    limit = _limit(request)
    prefix, delimiter, after = (query.get(name, "") for name in ("prefix", "delimiter", "key-marker"))
    page = list_page(bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit, versions=True)
    content = xmlio.elements(
        [
            ("Name", bucket_name),
            ("Prefix", encode(prefix)),
            ("KeyMarker", encode(after)),
            ("NextKeyMarker", encode(page.last) if page.more else None),
            ("MaxKeys", limit),
            ("EncodingType", query.get("encoding-type") or None),
            ("IsTruncated", page.more),
        ]
    )
    newest = ""
    for stored in page.objects:
        latest, newest = stored.key != newest, stored.key
        version = [("VersionId", stored.version_id if bucket.versioning else "null"), ("IsLatest", latest)]
        if stored.deleted:
            fields = [("Key", encode(stored.key)), ("LastModified", iso_date(stored.modified))]
            content += xmlio.wrap("DeleteMarker", xmlio.elements([*fields, *version]))
        else:
            content += xmlio.wrap("Version", _entry(stored, encode), xmlio.elements(version))
    content += "".join(xmlio.wrap("CommonPrefixes", xmlio.element("Prefix", encode(group))) for group in page.prefixes)
    return Response(200, _XML, xmlio.document("ListVersionsResult", content, xmlio.S3_NAMESPACE))


def list_uploads(state: State, request: Request, bucket_name: str, key: str) -> Response:
    """Open uploads by key, then by age."""
    query, bucket, encode = request.query, state.bucket(bucket_name), _encoder(request)
    limit, prefix = _limit(request, "max-uploads"), query.get("prefix", "")
    marker = (query.get("key-marker", ""), query.get("upload-id-marker", "\U0010ffff"))
    with state.lock:
        found = sorted(bucket.uploads.values(), key=lambda upload: (upload.key, upload.id))
    found = [upload for upload in found if upload.key.startswith(prefix) and (upload.key, upload.id) > marker]
    page, more = found[:limit], len(found) > limit
    content = xmlio.elements(
        [
            ("Bucket", bucket_name),
            ("Prefix", encode(prefix)),
            ("KeyMarker", encode(marker[0])),
            ("NextKeyMarker", encode(page[-1].key) if more else None),
            ("NextUploadIdMarker", page[-1].id if more else None),
            ("MaxUploads", limit),
            ("EncodingType", query.get("encoding-type") or None),
            ("IsTruncated", more),
        ]
    )
    for upload in page:
        fields = [("Key", encode(upload.key)), ("UploadId", upload.id), ("Initiated", iso_date(upload.created))]
        content += xmlio.wrap("Upload", xmlio.elements([*fields, ("StorageClass", "STANDARD")]))
    return Response(200, _XML, xmlio.document("ListMultipartUploadsResult", content, xmlio.S3_NAMESPACE))


def delete_objects(state: State, request: Request, bucket_name: str, key: str) -> Response:
    """At most 1000 keys; needs Content-MD5 or a checksum, as S3 does."""
    bucket = state.bucket(bucket_name)
    root = xmlio.parse(_checked_document(state, request))
    content, quiet = "", xmlio.text(root, "Quiet") == "true"
    entries = root.findall("Object")
    if not 1 <= len(entries) <= 1000:
        raise ApiError(400, "MalformedXML", "between 1 and 1000 keys can be deleted at once")
    for entry in entries:
        # Not the stripped text: white space belongs to a key.
        name = entry.findtext("Key") or ""
        try:
            headers = remove(state, bucket, name, entry.findtext("VersionId"), xmlio.text(entry, "ETag"))
        except ApiError as error:
            fields = [("Key", name), ("Code", error.code), ("Message", error.message)]
            content += xmlio.wrap("Error", xmlio.elements(fields))
            continue
        if not quiet:
            marker = headers.get("x-amz-delete-marker")
            content += xmlio.wrap("Deleted", xmlio.elements([("Key", name), ("DeleteMarker", marker)]))
    return Response(200, _XML, xmlio.document("DeleteResult", content, xmlio.S3_NAMESPACE))


def _checked_document(state: State, request: Request) -> bytes:
    if not declared_algorithm(request) and "content-md5" not in request.headers:
        raise ApiError(400, "InvalidRequest", "Missing required header for this request: Content-MD5")
    return land(request, state).blob.read()


def head_bucket(state: State, request: Request, bucket_name: str, key: str) -> Response:
    state.bucket(bucket_name)
    return Response(200, {"x-amz-bucket-region": "us-east-1"})


def create_bucket(state: State, request: Request, bucket_name: str, key: str) -> Response:
    state.create_bucket(bucket_name)
    return Response(200, {"Location": f"/{bucket_name}"})


def delete_bucket(state: State, request: Request, bucket_name: str, key: str) -> Response:
    state.delete_bucket(bucket_name)
    return Response(204)


def bucket_location(state: State, request: Request, bucket_name: str, key: str) -> Response:
    state.bucket(bucket_name)
    return Response(200, _XML, xmlio.document("LocationConstraint", "", xmlio.S3_NAMESPACE))


def bucket_versioning(state: State, request: Request, bucket_name: str, key: str) -> Response:
    content = xmlio.element("Status", "Enabled") if state.bucket(bucket_name).versioning else ""
    return Response(200, _XML, xmlio.document("VersioningConfiguration", content, xmlio.S3_NAMESPACE))


def list_buckets(state: State, request: Request, bucket_name: str, key: str) -> Response:
    entries = "".join(
        xmlio.wrap("Bucket", xmlio.elements([("Name", bucket.name), ("CreationDate", iso_date(bucket.created))]))
        for bucket in state.buckets()
    )
    content = _OWNER + xmlio.wrap("Buckets", entries)
    return Response(200, _XML, xmlio.document("ListAllMyBucketsResult", content, xmlio.S3_NAMESPACE))
