"""Signature version 4 as AWS defines it, and Google's variants of it: header and presigned query."""

from __future__ import annotations

import calendar
import dataclasses
import functools
import hashlib
import hmac
import time
import urllib.parse
from collections.abc import Callable

from skyplane_core.testing.objectserver.keyring import Keyring
from skyplane_core.testing.objectserver.messages import ApiError, Request
from skyplane_core.testing.objectserver.rsa import verify_rsa_sha256

MAX_SKEW = 15 * 60
"""Seconds that the clock of a signer may be off."""

MAX_EXPIRY = 7 * 24 * 3600
"""Seconds that a presigned URL may be valid at most."""


@dataclasses.dataclass(frozen=True)
class Dialect:
    """What differs between AWS and Google: names only."""

    name: str
    vendor: str
    terminator: str

    @property
    def algorithm(self) -> str:
        """The name of signing with an HMAC key."""
        return f"{self.name}-HMAC-SHA256"

    def header(self, name: str) -> str:
        """One of the dialect's own headers."""
        return f"x-{self.vendor}-{name}"

    def parameter(self, name: str) -> str:
        """One of the dialect's own query parameters."""
        return f"X-{self.vendor.capitalize()}-{name}"


AWS = Dialect("AWS4", "amz", "aws4_request")
GOOGLE = Dialect("GOOG4", "goog", "goog4_request")


@dataclasses.dataclass(frozen=True)
class Signature:
    """A signature that was found right. ``payload`` is what it says about the body: a hex SHA-256 or a keyword."""

    access: str
    key: bytes
    timestamp: str
    scope: str
    signature: str
    payload: str


@dataclasses.dataclass(frozen=True)
class _Claim:
    algorithm: str
    access: str
    scope: tuple[str, ...]
    signed_headers: tuple[str, ...]
    signature: str
    timestamp: str
    payload: str
    query: str
    expires: int | None
    token: str


def dialect_of(request: Request) -> Dialect | None:
    """The dialect that this request is signed in, None if it is not signed."""
    authorization = request.headers.get("authorization", "")
    for dialect in (AWS, GOOGLE):
        if authorization.startswith(f"{dialect.name}-") or f"{dialect.parameter('Signature')}=" in request.raw_query:
            return dialect
    return None


def identity(request: Request, dialect: Dialect) -> str:
    """The access key that a signed request claims to be of."""
    return _claim(request, dialect).access


def verify(request: Request, dialect: Dialect, keyring: Keyring, now: float | None = None) -> Signature:
    """Check signature, age and session token.

    Raises:
        ApiError: 403 with the store's own code, or 400 for a malformed or expired-token one.
    """
    claim = _claim(request, dialect)
    _check_age(claim, dialect, time.time() if now is None else now)
    _check_headers_signed(request, claim, dialect)
    scope = "/".join(claim.scope)
    text = "\n".join((claim.algorithm, claim.timestamp, scope, _canonical_hash(request, claim)))
    if keyring.expired(claim.access):
        raise ApiError(400, "ExpiredToken", "The provided token has expired.")
    if claim.algorithm.endswith("-RSA-SHA256"):
        pem = keyring.public_key(claim.access)
        if pem is None:
            raise _unknown(claim)
        if not verify_rsa_sha256(pem, text.encode(), bytes.fromhex(claim.signature)):
            raise _mismatch(text)
        return Signature(claim.access, b"", claim.timestamp, scope, claim.signature, claim.payload)
    secret = keyring.secret(claim.access)
    if secret is None:
        raise _unknown(claim)
    if secret.token and not hmac.compare_digest(secret.token.encode(), claim.token.encode()):
        raise ApiError(400, "InvalidToken", "The provided token is malformed or otherwise invalid.")
    key = signing_key(dialect.name + secret.secret, *claim.scope)
    expected = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, claim.signature.lower()):
        raise _mismatch(text)
    return Signature(claim.access, key, claim.timestamp, scope, claim.signature, claim.payload)


@functools.lru_cache(maxsize=256)
def signing_key(secret: str, date: str, region: str, service: str, terminator: str) -> bytes:
    """The day's key; ``secret`` already starts with the dialect's name."""
    key = secret.encode()
    for step in (date, region, service, terminator):
        key = hmac.new(key, step.encode(), hashlib.sha256).digest()
    return key


def _claim(request: Request, dialect: Dialect) -> _Claim:
    authorization = request.headers.get("authorization", "")
    if authorization.startswith(f"{dialect.name}-"):
        algorithm, _, rest = authorization.partition(" ")
        fields = dict(item.strip().partition("=")[::2] for item in rest.split(","))
        payload = request.headers.get(dialect.header("content-sha256"), "")
        if not payload:
            raise ApiError(400, "InvalidRequest", f"Missing required header: {dialect.header('content-sha256')}")
        found = [fields.get("Credential"), fields.get("SignedHeaders"), fields.get("Signature")]
        timestamp = request.headers.get(dialect.header("date")) or request.headers.get("date", "")
        token = request.headers.get(dialect.header("security-token"), "")
        expires, query = None, request.raw_query
    else:
        parameter = dialect.parameter
        algorithm = request.query.get(parameter("Algorithm"), "")
        found = [request.query.get(parameter(name)) for name in ("Credential", "SignedHeaders", "Signature")]
        timestamp = request.query.get(parameter("Date"), "")
        token = request.query.get(parameter("Security-Token"), "")
        text = request.query.get(parameter("Expires"), "")
        if not text.isdecimal() or not 0 < int(text) <= MAX_EXPIRY:
            raise _malformed("the expiry of a presigned URL is between 1 second and 7 days")
        expires = int(text)
        payload = request.headers.get(dialect.header("content-sha256"), "UNSIGNED-PAYLOAD")
        query = "&".join(
            item for item in request.raw_query.split("&") if not item.startswith(f"{parameter('Signature')}=")
        )
    if algorithm not in (dialect.algorithm, "GOOG4-RSA-SHA256") or not all(found):
        raise _malformed("the authorization is malformed")
    credential, signed, signature = (str(value) for value in found)
    access, *scope = credential.rsplit("/", 4)
    if len(scope) != 4 or scope[3] != dialect.terminator or scope[0] != timestamp[:8]:
        raise _malformed("the credential scope is malformed")
    headers = tuple(signed.split(";"))
    return _Claim(algorithm, access, tuple(scope), headers, signature, timestamp, payload, query, expires, token)


def _check_age(claim: _Claim, dialect: Dialect, now: float) -> None:
    try:
        signed_at = calendar.timegm(time.strptime(claim.timestamp, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        raise _malformed("the date of the signature is malformed") from None
    if claim.expires is not None:
        if now > signed_at + claim.expires:
            if dialect is GOOGLE:
                raise ApiError(400, "ExpiredToken", "Invalid argument: the request signature has expired")
            raise ApiError(403, "AccessDenied", "Request has expired")
        if signed_at > now + MAX_SKEW:
            raise ApiError(403, "AccessDenied", "Request is not valid yet")
    elif abs(now - signed_at) > MAX_SKEW:
        raise ApiError(
            403,
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
        )


def _check_headers_signed(request: Request, claim: _Claim, dialect: Dialect) -> None:
    prefix = f"x-{dialect.vendor}-"
    missing = [name for name in request.headers if name.startswith(prefix) and name not in claim.signed_headers]
    if claim.expires is not None:
        missing = [name for name in missing if name != dialect.header("content-sha256")]
    if missing or "host" not in claim.signed_headers:
        raise ApiError(
            403,
            "AccessDenied",
            "There were headers present in the request which were not signed",
            fields={"HeadersNotSigned": ", ".join(missing or ["host"])},
        )


def _canonical_hash(request: Request, claim: _Claim) -> str:
    encode: Callable[[str], str] = functools.partial(urllib.parse.quote, safe="-_.~")
    pairs = sorted(
        (encode(urllib.parse.unquote_plus(name)), encode(urllib.parse.unquote_plus(value)))
        for name, _, value in (item.partition("=") for item in claim.query.split("&") if item)
    )
    path = urllib.parse.quote(urllib.parse.unquote_to_bytes(request.path), safe="/-_.~")
    headers = "".join(f"{name}:{' '.join(request.headers.get(name, '').split())}\n" for name in claim.signed_headers)
    canonical = "\n".join(
        (
            request.method,
            path,
            "&".join(f"{name}={value}" for name, value in pairs),
            headers,
            ";".join(claim.signed_headers),
            claim.payload,
        )
    )
    return hashlib.sha256(canonical.encode("latin-1")).hexdigest()


def _unknown(claim: _Claim) -> ApiError:
    return ApiError(
        403,
        "InvalidAccessKeyId",
        "The AWS Access Key Id you provided does not exist in our records.",
        fields={"AWSAccessKeyId": claim.access},
    )


def _mismatch(text: str) -> ApiError:
    return ApiError(
        403,
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. "
        "Check your key and signing method.",
        fields={"StringToSign": text},
    )


def _malformed(message: str) -> ApiError:
    return ApiError(400, "AuthorizationHeaderMalformed", message)
