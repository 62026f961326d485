"""Which GCS operation a request is, whether it may pass, and what a refusal looks like in either dialect."""

# ruff: noqa: D102 - the docstrings of the interfaces that these classes have hold.
from __future__ import annotations

import functools
from collections.abc import Callable

from skyplane_core.testing.objectserver import sigv4, xmlio
from skyplane_core.testing.objectserver.gcs import json_objects, xml_multipart, xml_objects
from skyplane_core.testing.objectserver.gcs.json_uploads import Uploads
from skyplane_core.testing.objectserver.gcs.resources import answer
from skyplane_core.testing.objectserver.keyring import Keyring
from skyplane_core.testing.objectserver.messages import ApiError, Call, Request, Response, unquote
from skyplane_core.testing.objectserver.s3.buckets import list_uploads
from skyplane_core.testing.objectserver.state import State

Operation = Callable[[State, Request, str, str], Response]

_REASONS = {
    304: "notModified",
    400: "invalid",
    401: "authError",
    403: "forbidden",
    404: "notFound",
    409: "conflict",
    412: "conditionNotMet",
    416: "requestedRangeNotSatisfiable",
    429: "rateLimitExceeded",
}

_XML_BUCKET: dict[tuple[str, str], tuple[str, Operation]] = {
    ("GET", "uploads"): ("ListMultipartUploads", list_uploads),
    ("GET", ""): ("ListObjects", xml_objects.list_objects),
    ("HEAD", ""): ("HeadBucket", xml_objects.head_bucket),
    ("PUT", ""): ("CreateBucket", xml_objects.create_bucket),
    ("DELETE", ""): ("DeleteBucket", xml_objects.delete_bucket),
}

_XML_OBJECT: dict[tuple[str, str], tuple[str, Operation]] = {
    ("GET", "uploadId"): ("ListParts", xml_multipart.list_parts),
    ("PUT", "uploadId"): ("UploadPart", xml_multipart.upload_part),
    ("POST", "uploads"): ("CreateMultipartUpload", xml_multipart.create_upload),
    ("POST", "uploadId"): ("CompleteMultipartUpload", xml_multipart.complete_upload),
    ("DELETE", "uploadId"): ("AbortMultipartUpload", xml_multipart.abort_upload),
    ("GET", ""): ("GetObject", xml_objects.get_object),
    ("HEAD", ""): ("HeadObject", xml_objects.get_object),
    ("PUT", ""): ("PutObject", xml_objects.put_object),
    ("DELETE", ""): ("DeleteObject", xml_objects.delete_object),
}

_JSON_BUCKETS: dict[str, tuple[str, Operation]] = {
    "GET": ("ListBuckets", json_objects.list_buckets),
    "POST": ("CreateBucket", json_objects.create_bucket),
}

_JSON_BUCKET: dict[str, tuple[str, Operation]] = {
    "GET": ("HeadBucket", json_objects.get_bucket),
    "DELETE": ("DeleteBucket", json_objects.delete_bucket),
}

_JSON_OBJECT: dict[str, tuple[str, Operation]] = {
    "GET": ("HeadObject", json_objects.get_object),
    "DELETE": ("DeleteObject", json_objects.delete_object),
    "PATCH": ("PatchObject", json_objects.patch_object),
    "PUT": ("PatchObject", json_objects.patch_object),
}


class GcsProtocol:
    """JSON API below ``/storage/v1``, ``/upload`` and ``/download``; everything else is the XML API, path-style."""

    def __init__(self, state: State, keyring: Keyring) -> None:
        self._state = state
        self._keyring = keyring
        self._uploads = Uploads(state)

    def route(self, request: Request) -> Call:
        path = request.path
        for prefix in ("/upload/storage/v1/b/", "/resumable/upload/storage/v1/b/"):
            if path.startswith(prefix):
                return self._route_upload(request, unquote(path[len(prefix) :].partition("/")[0]))
        for prefix in ("/storage/v1/b", "/download/storage/v1/b"):
            if path == prefix or path.startswith(prefix + "/"):
                return self._route_json(request, path[len(prefix) + 1 :])
        raw_bucket, _, raw_key = path.removeprefix("/").partition("/")
        bucket, key = unquote(raw_bucket), unquote(raw_key)
        if len(key.encode()) > 1024:
            raise ApiError(400, "KeyTooLong", "The object name is too long")
        if not bucket:
            return self._call(("ListBuckets", xml_objects.list_buckets), request, "", "")
        query = request.query if request.raw_query else {}
        for (method, parameter), found in (_XML_OBJECT if key else _XML_BUCKET).items():
            if method == request.method and (not parameter or parameter in query):
                if found[0] == "PutObject" and "x-goog-copy-source" in request.headers:
                    return self._call(("CopyObject", xml_objects.copy_object), request, bucket, key)
                return self._call(found, request, bucket, key)
        raise ApiError(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")

    def _route_upload(self, request: Request, bucket: str) -> Call:
        uploads, query = self._uploads, request.query
        key = query.get("name", "")
        if "upload_id" in query:
            handler: tuple[str, Operation] = ("UploadPart", uploads.resume)
            if request.method == "DELETE":
                handler = ("AbortMultipartUpload", uploads.cancel)
        elif query.get("uploadType") == "resumable":
            handler = ("CreateMultipartUpload", uploads.start)
        else:
            handler = ("PutObject", uploads.insert)
        return self._call(handler, request, bucket, key)

    def _route_json(self, request: Request, rest: str) -> Call:
        raw_bucket, slash, tail = rest.partition("/")
        bucket, method = unquote(raw_bucket), request.method
        found: tuple[str, Operation] | None = None
        key = ""
        if not bucket:
            found = _JSON_BUCKETS.get(method)
        elif not slash:
            found = _JSON_BUCKET.get(method)
        elif tail == "o" and method == "GET":
            found = ("ListObjects", json_objects.list_objects)
        elif tail.startswith("o/"):
            raw_key = tail[2:]
            if method == "POST" and raw_key.endswith("/compose"):
                key, found = unquote(raw_key.removesuffix("/compose")), ("ComposeObject", json_objects.compose)
            elif method == "POST" and ("/rewriteTo/b/" in raw_key or "/copyTo/b/" in raw_key):
                key, found = unquote(raw_key.rpartition("/o/")[2]), ("CopyObject", json_objects.rewrite)
            else:
                key, found = unquote(raw_key), _JSON_OBJECT.get(method)
                if method == "GET" and request.query.get("alt") == "media":
                    found = ("GetObject", json_objects.get_object)
        if found is None:
            raise ApiError(501, "NotImplemented", f"{method} {request.path} is not implemented by this server")
        return self._call(found, request, bucket, key)

    def _call(self, found: tuple[str, Operation], request: Request, bucket: str, key: str) -> Call:
        name, operation = found
        return Call(name, bucket, key, functools.partial(operation, self._state, request, bucket, key))

    def authenticate(self, request: Request, call: Call) -> None:
        payer = request.headers.get("x-goog-user-project", "") or request.query.get("userProject", "")
        if call.bucket in self._state.requester_pays and not payer:
            raise ApiError(400, "UserProjectMissing", "Bucket is a requester pays bucket but no user project provided.")
        if call.bucket in self._state.public and request.method in ("GET", "HEAD") and _unsigned(request):
            return
        # A resumable session's address is a capability: it needs no further credentials.
        if self._keyring.open or "upload_id" in request.query:
            return
        token = _bearer(request)
        if token:
            if self._keyring.expired(token) or not self._keyring.has_token(token):
                raise ApiError(401, "AuthenticationRequired", "Invalid Credentials")
            return
        dialect = sigv4.dialect_of(request)
        if dialect is None:
            raise ApiError(401, "AuthenticationRequired", "Authentication required.")
        sigv4.verify(request, dialect, self._keyring)

    def expire(self, request: Request) -> ApiError:
        dialect, token = sigv4.dialect_of(request), _bearer(request)
        if token:
            self._keyring.expire(token)
        elif dialect is not None:
            self._keyring.expire(sigv4.identity(request, dialect))
        return ApiError(401, "AuthenticationRequired", "Invalid Credentials")

    def render_error(self, error: ApiError, request: Request) -> Response:
        if request.path.startswith(("/storage/v1/", "/upload/", "/download/", "/resumable/")):
            reason = _REASONS.get(error.status, "backendError")
            detail = {"message": error.message, "domain": "global", "reason": reason}
            response = answer(
                {"error": {"code": error.status, "message": error.message, "errors": [detail]}}, error.status
            )
        else:
            pairs = [("Code", error.code), ("Message", error.message), *error.fields.items()]
            response = Response(
                error.status, {"Content-Type": "application/xml"}, xmlio.document("Error", xmlio.elements(pairs))
            )
        response.headers.update(error.headers)
        return response


def _unsigned(request: Request) -> bool:
    return not _bearer(request) and sigv4.dialect_of(request) is None


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
