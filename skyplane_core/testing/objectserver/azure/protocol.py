"""The basic calls of Azure Blob Storage: what a request is, whether it may pass, what a refusal looks like."""

# ruff: noqa: ARG002, D102 - the docstrings of the interfaces that these classes have hold.
from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import hmac
import urllib.parse
from collections.abc import Callable

from skyplane_core.testing.objectserver import xmlio
from skyplane_core.testing.objectserver.azure import blobs
from skyplane_core.testing.objectserver.keyring import Keyring
from skyplane_core.testing.objectserver.messages import ApiError, Call, Request, Response, unquote
from skyplane_core.testing.objectserver.state import State

Operation = Callable[[State, Request, str, str], Response]

_CODES = {
    "NoSuchBucket": "ContainerNotFound",
    "NoSuchKey": "BlobNotFound",
    "BucketAlreadyOwnedByYou": "ContainerAlreadyExists",
    "PreconditionFailed": "ConditionNotMet",
    "NotModified": "ConditionNotMet",
    "BadDigest": "Md5Mismatch",
    "InvalidDigest": "InvalidMd5",
    "InvalidRequest": "InvalidHeaderValue",
    "SignatureDoesNotMatch": "AuthenticationFailed",
    "SlowDown": "ServerBusy",
}
"""S3's names for errors in Azure's words; others pass as they are."""

_CONTAINER: dict[tuple[str, str], tuple[str, Operation]] = {
    ("GET", "list"): ("ListObjects", blobs.list_blobs),
    ("GET", "properties"): ("HeadBucket", blobs.get_account),
    ("GET", ""): ("HeadBucket", blobs.get_container),
    ("HEAD", ""): ("HeadBucket", blobs.get_container),
    ("PUT", ""): ("CreateBucket", blobs.create_container),
    ("DELETE", ""): ("DeleteBucket", blobs.delete_container),
}

_BLOB: dict[tuple[str, str], tuple[str, Operation]] = {
    ("PUT", "block"): ("UploadPart", blobs.put_block),
    ("PUT", "blocklist"): ("CompleteMultipartUpload", blobs.put_block_list),
    ("GET", "blocklist"): ("ListParts", blobs.get_block_list),
    ("PUT", "metadata"): ("PatchObject", blobs.set_metadata),
    ("GET", ""): ("GetObject", blobs.get_blob),
    ("HEAD", ""): ("HeadObject", blobs.get_blob),
    ("PUT", ""): ("PutObject", blobs.put_blob),
    ("DELETE", ""): ("DeleteObject", blobs.delete_blob),
}

_SIGNED_HEADERS = (
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
)


class AzureProtocol:
    """Addresses are ``/account/container/blob``, as the storage emulators have them."""

    def __init__(self, state: State, keyring: Keyring) -> None:
        self._state = state
        self._keyring = keyring

    def route(self, request: Request) -> Call:
        _, _, rest = request.path.removeprefix("/").partition("/")
        raw_container, _, raw_key = rest.partition("/")
        container, key = unquote(raw_container), unquote(raw_key)
        component = request.query.get("comp", "")
        found = (_BLOB if key else _CONTAINER).get((request.method, component))
        if not container or found is None:
            raise ApiError(
                400, "InvalidUri", f"{request.method} with comp={component!r} is not implemented by this server"
            )
        name, operation = found
        return Call(name, container, key, functools.partial(operation, self._state, request, container, key))

    def authenticate(self, request: Request, call: Call) -> None:
        if self._keyring.open:
            return
        if request.headers.get("authorization", "").startswith("Bearer "):
            token = request.headers["authorization"].removeprefix("Bearer ")
            if not self._keyring.has_token(token) or self._keyring.expired(token):
                raise ApiError(401, "InvalidAuthenticationInfo", "Lifetime or signature of the token is not valid.")
            return
        account, claimed = _shared_key(request)
        secret = self._keyring.secret(account)
        if secret is None or self._keyring.expired(account):
            raise ApiError(403, "AuthenticationFailed", "Server failed to authenticate the request.")
        text = _string_to_sign(request, account)
        try:
            key = base64.b64decode(secret.secret, validate=True)
        except binascii.Error:
            raise ApiError(500, "InternalError", "the account's key is not base64") from None
        expected = base64.b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode()
        if not hmac.compare_digest(expected, claimed):
            raise ApiError(403, "AuthenticationFailed", f"The MAC signature is not the same as any computed: {text!r}")

    def expire(self, request: Request) -> ApiError:
        if not self._keyring.open:
            authorization = request.headers.get("authorization", "")
            bearer = authorization.startswith("Bearer ")
            self._keyring.expire(authorization.removeprefix("Bearer ") if bearer else _shared_key(request)[0])
        return ApiError(403, "AuthenticationFailed", "Signature not valid in the specified time frame")

    def render_error(self, error: ApiError, request: Request) -> Response:
        code = _CODES.get(error.code, error.code)
        if code == "ConditionNotMet" and error.fields.get("Condition") == "If-None-Match":
            error.status, code = 409, "BlobAlreadyExists"
        content = xmlio.elements([("Code", code), ("Message", error.message)])
        headers = {"Content-Type": "application/xml", "x-ms-error-code": code, **blobs.VERSION, **error.headers}
        return Response(error.status, headers, xmlio.document("Error", content))


def _shared_key(request: Request) -> tuple[str, str]:
    """Account and signature. Raises ApiError for any other sort of authorization."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    account, colon, signature = value.partition(":")
    if scheme != "SharedKey" or not colon:
        raise ApiError(403, "AuthenticationFailed", "This server implements SharedKey and Bearer authorization.")
    return account, signature


def _order(name: str) -> list[int]:
    """The service sorts headers as words are sorted: it passes over hyphens, and underscores precede digits."""
    return [0 if character == "_" else ord(character) for character in name if character != "-"]


def _string_to_sign(request: Request, account: str) -> str:
    headers = dict(request.headers)
    if headers.get("content-length") == "0":
        headers["content-length"] = ""
    if "x-ms-date" in headers:
        headers["date"] = ""
    named = sorted(
        ((name, value) for name, value in headers.items() if name.startswith("x-ms-")), key=lambda pair: _order(pair[0])
    )
    values: dict[str, list[str]] = {}
    for name, value in urllib.parse.parse_qsl(request.raw_query, keep_blank_values=True):
        values.setdefault(name.lower(), []).append(value)
    lines = [request.method, *(headers.get(name, "") for name in _SIGNED_HEADERS)]
    lines += [f"{name}:{value}" for name, value in named]
    lines.append(f"/{account}{request.path}")
    lines += [f"{name}:{','.join(sorted(items))}" for name, items in sorted(values.items())]
    return "\n".join(lines)
