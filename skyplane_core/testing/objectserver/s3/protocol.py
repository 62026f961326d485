"""Which S3 operation a request is, whether it may pass, and what a refusal looks like."""

# ruff: noqa: D102 - the docstrings of the interfaces that these classes have hold.
from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection

from skyplane_core.testing.objectserver import sigv4, xmlio
from skyplane_core.testing.objectserver.keyring import Keyring
from skyplane_core.testing.objectserver.messages import ApiError, Call, Request, Response, unquote
from skyplane_core.testing.objectserver.s3 import buckets, multipart, objects
from skyplane_core.testing.objectserver.s3.aws_chunked import AwsChunkedBody
from skyplane_core.testing.objectserver.s3.shortcomings import Shortcomings
from skyplane_core.testing.objectserver.state import State
from skyplane_core.testing.objectserver.upload_body import HashedBody

MAX_KEY_BYTES = 1024

Operation = Callable[[State, Request, str, str], Response]

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")

_UNSUPPORTED = frozenset(
    {
        "acl",
        "attributes",
        "cors",
        "encryption",
        "legal-hold",
        "lifecycle",
        "logging",
        "notification",
        "object-lock",
        "policy",
        "publicAccessBlock",
        "replication",
        "requestPayment",
        "restore",
        "retention",
        "select",
        "tagging",
        "torrent",
        "website",
    }
)
"""Sub-resources that exist and that this server has not."""

_ON_BUCKET: dict[tuple[str, str], tuple[str, Operation]] = {
    ("GET", "uploads"): ("ListMultipartUploads", buckets.list_uploads),
    ("GET", "location"): ("GetBucketLocation", buckets.bucket_location),
    ("GET", "versioning"): ("GetBucketVersioning", buckets.bucket_versioning),
    ("GET", "versions"): ("ListObjectVersions", buckets.list_versions),
    ("GET", ""): ("ListObjects", buckets.list_objects),
    ("HEAD", ""): ("HeadBucket", buckets.head_bucket),
    ("PUT", ""): ("CreateBucket", buckets.create_bucket),
    ("DELETE", ""): ("DeleteBucket", buckets.delete_bucket),
    ("POST", "delete"): ("DeleteObjects", buckets.delete_objects),
}

_ON_OBJECT: dict[tuple[str, str], tuple[str, Operation]] = {
    ("GET", "uploadId"): ("ListParts", multipart.list_parts),
    ("GET", "tagging"): ("GetObjectTagging", objects.get_tagging),
    ("PUT", "uploadId"): ("UploadPart", multipart.upload_part),
    ("POST", "uploads"): ("CreateMultipartUpload", multipart.create_upload),
    ("POST", "uploadId"): ("CompleteMultipartUpload", multipart.complete_upload),
    ("DELETE", "uploadId"): ("AbortMultipartUpload", multipart.abort_upload),
    ("GET", ""): ("GetObject", objects.get_object),
    ("HEAD", ""): ("HeadObject", objects.get_object),
    ("PUT", ""): ("PutObject", objects.put_object),
    ("DELETE", ""): ("DeleteObject", objects.delete_object),
}

_COPIES: dict[str, tuple[str, Operation]] = {
    "PutObject": ("CopyObject", objects.copy_object),
    "UploadPart": ("UploadPartCopy", multipart.upload_part_copy),
}
"""What a write becomes if it names a source."""


class S3Protocol:
    """Path-style S3. See the modules beside this one for the operations."""

    def __init__(self, state: State, keyring: Keyring, shortcomings: Collection[str] = ()) -> None:
        self._state = state
        self._keyring = keyring
        self._shortcomings = Shortcomings(shortcomings)
        self._request_ids = itertools.count(1)

    def route(self, request: Request) -> Call:
        raw_bucket, _, raw_key = request.path.removeprefix("/").partition("/")
        bucket, key = unquote(raw_bucket), unquote(raw_key)
        if len(key.encode()) > MAX_KEY_BYTES:
            raise ApiError(400, "KeyTooLongError", "Your key is too long")
        if not bucket:
            if request.method != "GET":
                raise ApiError(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")
            return self._call("ListBuckets", buckets.list_buckets, request, "", "")
        query = request.query if request.raw_query else {}
        unsupported = _UNSUPPORTED.intersection(query)
        if key and request.method == "GET":
            unsupported -= {"tagging"}
        if unsupported:
            raise ApiError(501, "NotImplemented", f"The sub-resource {min(unsupported)!r} is not implemented.")
        table = _ON_OBJECT if key else _ON_BUCKET
        for (method, parameter), (name, operation) in table.items():
            if method == request.method and (not parameter or parameter in query):
                if "x-amz-copy-source" in request.headers and name in _COPIES:
                    return self._call(*_COPIES[name], request, bucket, key)
                return self._call(name, operation, request, bucket, key)
        raise ApiError(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")

    def _call(self, name: str, operation: Operation, request: Request, bucket: str, key: str) -> Call:
        def run() -> Response:
            return self._shortcomings.on_response(operation(self._state, request, bucket, key))

        return Call(name, bucket, key, run)

    def authenticate(self, request: Request, call: Call) -> None:
        payload = request.headers.get("x-amz-content-sha256", "")
        signature = None
        dialect = sigv4.dialect_of(request)
        public = dialect is None and call.bucket in self._state.public and request.method in ("GET", "HEAD")
        if not self._keyring.open and not public:
            if dialect is not sigv4.AWS:
                raise ApiError(403, "AccessDenied", "Access Denied")
            signature = sigv4.verify(request, dialect, self._keyring)
            if _SHA256.fullmatch(payload):
                request.body = HashedBody(request.body, payload)
        if payload.startswith("STREAMING-") or "aws-chunked" in request.headers.get("content-encoding", ""):
            length = request.headers.get("x-amz-decoded-content-length", "")
            if not length.isdecimal():
                raise ApiError(411, "MissingContentLength", "You must provide the x-amz-decoded-content-length header.")
            signed = signature if payload.startswith("STREAMING-AWS4-HMAC-SHA256-PAYLOAD") else None
            request.body = AwsChunkedBody(request.body, int(length), signed)
        if call.bucket in self._state.requester_pays and request.headers.get("x-amz-request-payer") != "requester":
            raise ApiError(403, "AccessDenied", "Access Denied")
        self._shortcomings.on_request(self._state, request, call)

    def expire(self, request: Request) -> ApiError:
        dialect = sigv4.dialect_of(request)
        if dialect is not None:
            self._keyring.expire(sigv4.identity(request, dialect))
        return ApiError(400, "ExpiredToken", "The provided token has expired.")

    def render_error(self, error: ApiError, request: Request) -> Response:
        request_id = f"{next(self._request_ids):016X}"
        headers = {"Content-Type": "application/xml", "x-amz-request-id": request_id, **error.headers}
        pairs = [("Code", error.code), ("Message", error.message), *error.fields.items()]
        content = xmlio.elements([*pairs, ("Resource", request.path), ("RequestId", request_id)])
        return self._shortcomings.on_response(Response(error.status, headers, xmlio.document("Error", content)))
