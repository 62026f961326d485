"""JSON API: objects and buckets, all but uploads."""

# ruff: noqa: ARG001, D103 - operations share one signature, and are named as the store names them.
from __future__ import annotations

import base64
import dataclasses
import hashlib
import time
from typing import Any

from skyplane_core.testing.objectserver.blobs import concatenate
from skyplane_core.testing.objectserver.gcs.download import download, find
from skyplane_core.testing.objectserver.gcs.globs import glob_pattern
from skyplane_core.testing.objectserver.gcs.placement import CLASS, placement
from skyplane_core.testing.objectserver.gcs.preconditions import Preconditions, from_query
from skyplane_core.testing.objectserver.gcs.resources import (
    answer,
    attributes_of,
    bucket_resource,
    patched,
    read_json,
    resource,
)
from skyplane_core.testing.objectserver.listing import list_page
from skyplane_core.testing.objectserver.messages import ApiError, Request, Response, unquote
from skyplane_core.testing.objectserver.state import State, StoredObject

MAX_COMPONENTS = 32
"""Sources of one compose at most."""
REWRITE_STEP = 1 << 20
"""Bytes that one call of a rewrite moves. GCS does not say how many; few of them show whoever does not go on."""


def get_object(state: State, request: Request, bucket_name: str, key: str) -> Response:
    """The resource, or with ``alt=media`` the bytes."""
    bucket, generation, conditions = state.bucket(bucket_name), request.query.get("generation"), from_query(request)
    if request.query.get("alt") == "media":
        return download(state, request, bucket, key, generation, conditions)
    stored = find(bucket, key, generation)
    conditions.check_read(stored)
    return answer(resource(request, bucket_name, stored))


def list_objects(state: State, request: Request, bucket_name: str, key: str) -> Response:
    query, bucket = request.query, state.bucket(bucket_name)
    if "matchGlob" in query and query.get("delimiter", "/") != "/":
        raise ApiError(400, "InvalidArgument", "matchGlob needs no delimiter, or /")
    after = ""
    if "pageToken" in query:
        try:
            after = base64.urlsafe_b64decode(query["pageToken"].encode()).decode()
        except ValueError:
            raise ApiError(400, "InvalidArgument", "Invalid pageToken") from None
    limit = request.number("maxResults", 1000, 1000)
    page = list_page(
        bucket,
        prefix=query.get("prefix", ""),
        delimiter=query.get("delimiter", ""),
        after=after,
        start=query.get("startOffset", ""),
        end=query.get("endOffset", ""),
        limit=max(1, limit),
        versions=query.get("versions", "").lower() == "true",
    )
    if "matchGlob" in query:
        # As at GCS, a page may hold nothing and not be the last.
        matching = glob_pattern(query["matchGlob"])
        page.objects = [stored for stored in page.objects if matching.fullmatch(stored.key)]
    value: dict[str, Any] = {"kind": "storage#objects"}
    if page.objects:
        page.objects.sort(key=lambda stored: (stored.key, stored.generation))
        value["items"] = [resource(request, bucket_name, stored) for stored in page.objects if not stored.deleted]
    if page.prefixes:
        value["prefixes"] = page.prefixes
    if page.more:
        value["nextPageToken"] = base64.urlsafe_b64encode(page.last.encode()).decode()
    return answer(value)


def delete_object(state: State, request: Request, bucket_name: str, key: str) -> Response:
    """404 if there is none, other than S3."""
    bucket, conditions = state.bucket(bucket_name), from_query(request)
    generation = request.query.get("generation")
    stored = find(bucket, key, generation)
    with state.lock:
        live = bucket.current(key)
        if not (bucket.versioning and not generation):
            if bucket.delete_version(key, stored.generation, conditions) is None:
                raise ApiError(404, "NoSuchKey", f"No such object: {bucket_name}/{key}")
            conditions = Preconditions()
        if bucket.versioning and live is not None and (not generation or live.generation == stored.generation):
            # No older version becomes live again: a marker hides them.
            bucket.put(state.new_object(key, concatenate(()), deleted=True), conditions)
    return Response(204)


def patch_object(state: State, request: Request, bucket_name: str, key: str) -> Response:
    """PATCH changes what is named, PUT (update) replaces all."""
    bucket, value = state.bucket(bucket_name), read_json(request)
    with state.lock:
        stored = find(bucket, key, request.query.get("generation"))
        from_query(request)(stored)
        attributes, metadata = attributes_of(value) if request.method == "PUT" else patched(stored, value)
        changed = dataclasses.replace(
            stored,
            attributes=attributes,
            metadata=metadata,
            metageneration=stored.metageneration + 1,
            modified=time.time(),
        )
        bucket.replace(stored, changed)
    return answer(resource(request, bucket_name, changed))


def compose(state: State, request: Request, bucket_name: str, key: str) -> Response:
    """Puts up to 32 objects in a row as a new one, which has no MD5."""
    bucket, value = state.bucket(bucket_name), read_json(request)
    sources = value.get("sourceObjects") or []
    if not 1 <= len(sources) <= MAX_COMPONENTS:
        raise ApiError(400, "InvalidArgument", f"The number of source components is between 1 and {MAX_COMPONENTS}.")
    attributes, metadata = attributes_of(value.get("destination") or {})
    found = []
    for source in sources:
        stored = find(bucket, source.get("name", ""), str(source.get("generation") or ""))
        wanted = (source.get("objectPreconditions") or {}).get("ifGenerationMatch")
        if wanted is not None and str(wanted) != str(stored.generation):
            raise ApiError(412, "PreconditionFailed", f"the generation of source {stored.key!r} is not {wanted}")
        found.append(stored)
    composed = state.new_object(
        key,
        concatenate(stored.blob for stored in found),
        etag=f"{state.generation():x}",
        attributes=attributes,
        metadata=metadata,
        components=sum(max(1, stored.components) for stored in found),
    )
    bucket.put(composed, from_query(request))
    return answer(resource(request, bucket_name, composed))


def rewrite(state: State, request: Request, bucket_name: str, key: str) -> Response:
    """``rewriteTo`` and ``copyTo``. A rewrite into another storage class takes a call for every few bytes."""
    raw_source, verb, raw_target = _split_copy(request.path)
    target_bucket, _, raw_key = raw_target.partition("/o/")
    value, target = read_json(request), state.bucket(unquote(target_bucket))
    stored = find(state.bucket(bucket_name), unquote(raw_source), request.query.get("sourceGeneration"))
    from_query(request, "Source")(stored)
    attributes, metadata = attributes_of(value) if value else (stored.attributes, stored.metadata)
    attributes = attributes | placement("", request.query.get("destinationKmsKeyName", ""))
    if verb == "rewriteTo" and attributes.get(CLASS) != stored.attributes.get(CLASS):
        moved = _moved(request, stored, raw_target)
        if moved < stored.blob.size:
            return answer(
                {
                    "kind": "storage#rewriteResponse",
                    "totalBytesRewritten": str(moved),
                    "objectSize": str(stored.blob.size),
                    "done": False,
                    "rewriteToken": _token(stored, raw_target, moved),
                }
            )
    copied = state.new_object(
        unquote(raw_key),
        stored.blob,
        attributes=attributes,
        metadata=metadata,
        md5=stored.md5,
        components=stored.components,
    )
    target.put(copied, from_query(request))
    made = resource(request, target.name, copied)
    if verb == "copyTo":
        return answer(made)
    size = str(copied.blob.size)
    return answer(
        {
            "kind": "storage#rewriteResponse",
            "totalBytesRewritten": size,
            "objectSize": size,
            "done": True,
            "resource": made,
        }
    )


def _moved(request: Request, stored: StoredObject, target: str) -> int:
    """How far a rewrite is after this call. Raises ApiError for a token of another one."""
    token = request.query.get("rewriteToken", "")
    before = 0
    if token:
        before = next((at for at in range(0, stored.blob.size, REWRITE_STEP) if _token(stored, target, at) == token), 0)
        if not before:
            raise ApiError(400, "invalid", "Invalid rewriteToken")
    return before + REWRITE_STEP


def _token(stored: StoredObject, target: str, moved: int) -> str:
    return hashlib.sha256(f"{stored.generation} {target} {moved}".encode()).hexdigest()


def _split_copy(path: str) -> tuple[str, str, str]:
    for verb in ("rewriteTo", "copyTo"):
        before, found, after = path.partition(f"/{verb}/b/")
        if found:
            return before.partition("/o/")[2], verb, after
    raise ApiError(404, "NoSuchKey", "Not Found")


def get_bucket(state: State, request: Request, bucket_name: str, key: str) -> Response:
    return answer(bucket_resource(request, state.bucket(bucket_name)))


def create_bucket(state: State, request: Request, bucket_name: str, key: str) -> Response:
    return answer(bucket_resource(request, state.create_bucket(str(read_json(request).get("name", "")))))


def delete_bucket(state: State, request: Request, bucket_name: str, key: str) -> Response:
    state.delete_bucket(bucket_name)
    return Response(204)


def list_buckets(state: State, request: Request, bucket_name: str, key: str) -> Response:
    return answer({"kind": "storage#buckets", "items": [bucket_resource(request, item) for item in state.buckets()]})
