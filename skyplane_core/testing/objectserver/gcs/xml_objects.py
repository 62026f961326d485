"""XML API: objects and listings."""

# ruff: noqa: ARG001, D103 - operations share one signature, and are named as the store names them.
from __future__ import annotations

import base64
import urllib.parse

from skyplane_core.testing.objectserver import xmlio
from skyplane_core.testing.objectserver.gcs.bodies import announced, land
from skyplane_core.testing.objectserver.gcs.download import META, download, find, from_header, identity_headers
from skyplane_core.testing.objectserver.gcs.placement import CLASS, CUSTOM_TIME, KMS_KEY, placement
from skyplane_core.testing.objectserver.gcs.preconditions import from_headers
from skyplane_core.testing.objectserver.listing import list_page
from skyplane_core.testing.objectserver.messages import ApiError, Request, Response, iso_date, unquote
from skyplane_core.testing.objectserver.state import CONTENT_HEADERS, State

XML = {"Content-Type": "application/xml; charset=UTF-8"}


def described(request: Request) -> tuple[dict[str, str], dict[str, str]]:
    """Content headers, placement and user metadata that a write carries."""
    attributes, metadata = placement(request.headers.get(CLASS, ""), request.headers.get(KMS_KEY, "")), {}
    for name, value in request.headers.items():
        if name in (*CONTENT_HEADERS, CUSTOM_TIME) and value:
            attributes[name] = from_header(value)
        elif name.startswith(META):
            metadata[from_header(name[len(META) :])] = from_header(value)
    return attributes, metadata


def get_object(state: State, request: Request, bucket_name: str, key: str) -> Response:
    """GET and HEAD."""
    bucket, generation = state.bucket(bucket_name), request.query.get("generation")
    return download(state, request, bucket, key, generation, from_headers(request))


def put_object(state: State, request: Request, bucket_name: str, key: str) -> Response:
    bucket, conditions = state.bucket(bucket_name), from_headers(request)
    if conditions.any:
        conditions(bucket.current(key))
    attributes, metadata = described(request)
    blob = land(request, state, announced(request))
    stored = state.new_object(key, blob, attributes=attributes, metadata=metadata)
    bucket.put(stored, conditions)
    return Response(200, identity_headers(stored))


def copy_object(state: State, request: Request, bucket_name: str, key: str) -> Response:
    """PUT with x-goog-copy-source."""
    bucket = state.bucket(bucket_name)
    source_bucket, _, source_key = unquote(request.headers["x-goog-copy-source"]).lstrip("/").partition("/")
    generation = request.headers.get("x-goog-copy-source-generation")
    source = find(state.bucket(source_bucket), source_key, generation)
    from_headers(request, "copy-source-")(source)
    attributes, metadata = source.attributes, source.metadata
    if request.headers.get("x-goog-metadata-directive", "COPY").upper() == "REPLACE":
        attributes, metadata = described(request)
    stored = state.new_object(
        key, source.blob, attributes=attributes, metadata=metadata, md5=source.md5, components=source.components
    )
    bucket.put(stored, from_headers(request))
    fields = [("LastModified", iso_date(stored.modified)), ("ETag", f'"{stored.etag}"')]
    document = xmlio.document("CopyObjectResult", xmlio.elements(fields), xmlio.GCS_NAMESPACE)
    return Response(200, {**XML, **identity_headers(stored)}, document)


def delete_object(state: State, request: Request, bucket_name: str, key: str) -> Response:
    """404 if there is none, other than S3."""
    bucket, conditions = state.bucket(bucket_name), from_headers(request)
    stored = find(bucket, key, request.query.get("generation"))
    if bucket.delete_version(key, stored.generation, conditions) is None:
        raise ApiError(404, "NoSuchKey", "The specified key does not exist.")
    return Response(204)


def list_objects(state: State, request: Request, bucket_name: str, key: str) -> Response:
    """``list-type=2``, else the first version with markers."""
    query, bucket = request.query, state.bucket(bucket_name)
    second, prefix, delimiter = query.get("list-type") == "2", query.get("prefix", ""), query.get("delimiter", "")
    limit = request.number("max-keys", 1000, 1000)
    after = query.get("start-after" if second else "marker", "")
    token = query.get("continuation-token", "")
    if second and token:
        try:
            after = base64.urlsafe_b64decode(token.encode()).decode()
        except ValueError:
            raise ApiError(400, "InvalidArgument", "The continuation token provided is incorrect") from None
    page = list_page(bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit)

    def encode(text: str) -> str:
        return urllib.parse.quote(text, safe="/-_.~") if query.get("encoding-type") == "url" else text

    fields: list[tuple[str, object]] = [
        ("Name", bucket_name),
        ("Prefix", encode(prefix)),
        ("Delimiter", encode(delimiter) if delimiter else None),
        ("MaxKeys", limit),
        ("EncodingType", query.get("encoding-type") or None),
        ("IsTruncated", page.more),
    ]
    if second:
        following = base64.urlsafe_b64encode(page.last.encode()).decode() if page.more else None
        fields += [
            ("KeyCount", page.count),
            ("StartAfter", encode(query["start-after"]) if "start-after" in query else None),
            ("ContinuationToken", token or None),
            ("NextContinuationToken", following),
        ]
    else:
        fields += [("Marker", encode(after)), ("NextMarker", encode(page.last) if page.more else None)]
    content = xmlio.elements(fields)
    for stored in page.objects:
        entry = [
            ("Key", encode(stored.key)),
            ("Generation", stored.generation),
            ("MetaGeneration", stored.metageneration),
            ("LastModified", iso_date(stored.modified)),
            ("ETag", f'"{stored.etag}"'),
            ("Size", stored.blob.size),
            ("StorageClass", "STANDARD"),
        ]
        content += xmlio.wrap("Contents", xmlio.elements(entry))
    content += "".join(xmlio.wrap("CommonPrefixes", xmlio.element("Prefix", encode(group))) for group in page.prefixes)
    return Response(200, XML, xmlio.document("ListBucketResult", content, xmlio.GCS_NAMESPACE))


def head_bucket(state: State, request: Request, bucket_name: str, key: str) -> Response:
    state.bucket(bucket_name)
    return Response(200)


def create_bucket(state: State, request: Request, bucket_name: str, key: str) -> Response:
    state.create_bucket(bucket_name)
    return Response(200)


def delete_bucket(state: State, request: Request, bucket_name: str, key: str) -> Response:
    state.delete_bucket(bucket_name)
    return Response(204)


def list_buckets(state: State, request: Request, bucket_name: str, key: str) -> Response:
    entries = "".join(
        xmlio.wrap("Bucket", xmlio.elements([("Name", bucket.name), ("CreationDate", iso_date(bucket.created))]))
        for bucket in state.buckets()
    )
    return Response(200, XML, xmlio.document("ListAllMyBucketsResult", xmlio.wrap("Buckets", entries)))
