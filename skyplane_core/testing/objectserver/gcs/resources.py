"""Objects as JSON resources, and the other way round."""

from __future__ import annotations

import base64
import json
import urllib.parse
from typing import Any

from skyplane_core.testing.objectserver.checksums import encode
from skyplane_core.testing.objectserver.gcs.placement import CLASS, CUSTOM_TIME, KMS_KEY, placement
from skyplane_core.testing.objectserver.messages import ApiError, Request, Response, iso_date
from skyplane_core.testing.objectserver.state import Bucket, StoredObject

_ATTRIBUTES = {
    "contentType": "content-type",
    "cacheControl": "cache-control",
    "contentDisposition": "content-disposition",
    "contentEncoding": "content-encoding",
    "contentLanguage": "content-language",
    "customTime": CUSTOM_TIME,
}


RETENTION = "retention"
"""Under this name an object's retention is among its attributes, as JSON. Nothing is refused because of it."""


def answer(value: dict[str, Any], status: int = 200) -> Response:
    """A JSON answer."""
    return Response(status, {"Content-Type": "application/json; charset=UTF-8"}, json.dumps(value).encode())


def read_json(request: Request) -> dict[str, Any]:
    """The request's body; an empty one is an empty object. Raises ApiError."""
    return parse_json(request.read_document())


def parse_json(data: bytes) -> dict[str, Any]:
    """A JSON object; nothing is an empty one. Raises ApiError."""
    try:
        value = json.loads(data or b"{}")
    except ValueError as error:
        raise ApiError(400, "InvalidArgument", f"Parse Error: {error}") from None
    if not isinstance(value, dict):
        raise ApiError(400, "InvalidArgument", "Parse Error: not an object")
    return value


def resource(request: Request, bucket: str, stored: StoredObject) -> dict[str, Any]:
    """The object's resource, with links as this client reaches us."""
    name = urllib.parse.quote(stored.key, safe="")
    path = f"/storage/v1/b/{bucket}/o/{name}"
    generation = str(stored.generation)
    value: dict[str, Any] = {
        "kind": "storage#object",
        "id": f"{bucket}/{stored.key}/{generation}",
        "selfLink": request.base_url + path,
        "mediaLink": f"{request.base_url}/download{path}?generation={generation}&alt=media",
        "name": stored.key,
        "bucket": bucket,
        "generation": generation,
        "metageneration": str(stored.metageneration),
        "storageClass": stored.attributes.get(CLASS, "STANDARD"),
        "size": str(stored.blob.size),
        "crc32c": stored.blob.encoded("CRC32C"),
        "etag": base64.b64encode(f"{generation}/{stored.metageneration}".encode()).decode(),
        "timeCreated": iso_date(stored.created),
        "updated": iso_date(stored.modified),
        "timeStorageClassUpdated": iso_date(stored.created),
    }
    if KMS_KEY in stored.attributes:
        value["kmsKeyName"] = stored.attributes[KMS_KEY]
    if stored.md5 is not None:
        value["md5Hash"] = encode(stored.md5)
    if stored.components:
        value["componentCount"] = stored.components
    if stored.metadata:
        value["metadata"] = stored.metadata
    if RETENTION in stored.attributes:
        value["retention"] = json.loads(stored.attributes[RETENTION])
    value |= {name: stored.attributes[header] for name, header in _ATTRIBUTES.items() if header in stored.attributes}
    return value


def bucket_resource(request: Request, bucket: Bucket) -> dict[str, Any]:
    """The bucket's resource."""
    return {
        "kind": "storage#bucket",
        "id": bucket.name,
        "name": bucket.name,
        "selfLink": f"{request.base_url}/storage/v1/b/{bucket.name}",
        "projectNumber": "1",
        "metageneration": "1",
        "location": "US",
        "locationType": "multi-region",
        "storageClass": "STANDARD",
        "etag": "CAE=",
        "timeCreated": iso_date(bucket.created),
        "updated": iso_date(bucket.created),
        "versioning": {"enabled": bucket.versioning},
        "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}},
    }


def attributes_of(value: dict[str, Any], default_type: str = "") -> tuple[dict[str, str], dict[str, str]]:
    """Content headers and user metadata that a resource asks for. Raises ApiError for metadata that is no text."""
    attributes = {header: str(value[name]) for name, header in _ATTRIBUTES.items() if value.get(name)}
    attributes |= placement(str(value.get("storageClass") or ""), str(value.get("kmsKeyName") or ""))
    if default_type:
        attributes.setdefault("content-type", default_type)
    metadata = value.get("metadata") or {}
    if not isinstance(metadata, dict) or not all(isinstance(item, str) for item in metadata.values()):
        raise ApiError(400, "InvalidArgument", "metadata must be text by name")
    return attributes, dict(metadata)


def patched(stored: StoredObject, value: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Content headers and metadata after a PATCH: null removes, absence leaves alone."""
    attributes, metadata = dict(stored.attributes), dict(stored.metadata)
    for name, header in _ATTRIBUTES.items():
        if name in value:
            attributes.pop(header, None)
            if value[name] is not None:
                attributes[header] = str(value[name])
    if value.get("retention"):
        attributes[RETENTION] = json.dumps(value["retention"])
    if "metadata" in value:
        if value["metadata"] is None:
            metadata = {}
        for name, item in (value["metadata"] or {}).items():
            metadata.pop(name, None)
            if item is not None:
                metadata[name] = str(item)
    return attributes, metadata
