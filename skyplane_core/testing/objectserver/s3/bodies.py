"""How an S3 upload's body lands: whatever coding, with every checksum that the client announced verified."""

from __future__ import annotations

import dataclasses

from skyplane_core.testing.objectserver.blobs import Blob
from skyplane_core.testing.objectserver.checksums import COMBINABLE, DIGEST_BYTES
from skyplane_core.testing.objectserver.messages import ApiError, BodySource, Request
from skyplane_core.testing.objectserver.s3.aws_chunked import AwsChunkedBody
from skyplane_core.testing.objectserver.state import State
from skyplane_core.testing.objectserver.upload_body import check_digest, receive

ALGORITHMS = ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")
"""What S3 can attest; MD5 is checked on arrival only."""

DEFAULT_ALGORITHM = "CRC64NVME"
"""What S3 computes where the client asked for nothing."""


@dataclasses.dataclass(slots=True)
class Landed:
    """A body at rest. ``algorithm`` is the one that the client sent a checksum of, "" if none."""

    blob: Blob
    algorithm: str


def checksum_header(algorithm: str) -> str:
    """The header that carries such a checksum."""
    return f"x-amz-checksum-{algorithm.lower()}"


def checksum_element(algorithm: str) -> str:
    """The XML element that carries such a checksum."""
    return f"Checksum{algorithm}"


def declared_algorithm(request: Request) -> str:
    """The algorithm of the checksum in the request's headers or announced trailers, "" if there is none."""
    trailers = {name.strip().lower() for name in request.headers.get("x-amz-trailer", "").split(",")}
    found = [
        name for name in ALGORITHMS if checksum_header(name) in request.headers or checksum_header(name) in trailers
    ]
    if len(found) > 1:
        raise ApiError(
            400, "InvalidRequest", "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
        )
    return found[0] if found else ""


def land(request: Request, state: State, *, extra: str = "") -> Landed:
    """Take in the body, by the declared algorithm and ``extra``, and check it.

    Raises:
        ApiError: MissingContentLength, BadDigest, InvalidDigest, IncompleteBody, SignatureDoesNotMatch.
    """
    headers = request.headers
    algorithm = declared_algorithm(request)
    wanted = {name for name in (algorithm, extra) if name}
    if state.md5 or "content-md5" in headers:
        wanted.add("MD5")
    body: BodySource = request.body
    if isinstance(body, AwsChunkedBody):
        blob = receive(request, state.arena, wanted, body)
        claimed = headers.get(checksum_header(algorithm)) or body.trailers.get(checksum_header(algorithm), "")
    else:
        if request.content_length is None and "transfer-encoding" not in headers:
            raise ApiError(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
        blob = receive(request, state.arena, wanted)
        claimed = headers.get(checksum_header(algorithm), "")
    if algorithm:
        check_digest(blob, algorithm, claimed, checksum_header(algorithm))
    if "content-md5" in headers:
        check_digest(blob, "MD5", headers["content-md5"], "Content-MD5")
    return Landed(blob, algorithm)


def supported(algorithm: str) -> str:
    """An algorithm as a client names it, checked. Raises ApiError."""
    name = algorithm.upper()
    if name not in DIGEST_BYTES or name not in ALGORITHMS:
        raise ApiError(400, "InvalidRequest", f"Checksum algorithm provided is unsupported: {algorithm}")
    return name


def default_type(algorithm: str) -> str:
    """FULL_OBJECT or COMPOSITE, as S3 chooses for an upload that does not say."""
    return "FULL_OBJECT" if algorithm == DEFAULT_ALGORITHM else "COMPOSITE"


def check_type(algorithm: str, checksum_type: str) -> None:
    """Raise unless S3 can give a checksum of that type by that algorithm."""
    full_only, composite_only = algorithm == "CRC64NVME", algorithm not in COMBINABLE
    if (checksum_type == "COMPOSITE" and full_only) or (checksum_type == "FULL_OBJECT" and composite_only):
        raise ApiError(
            400,
            "InvalidRequest",
            f"The {checksum_type} checksum type cannot be used with the {algorithm.lower()} checksum algorithm.",
        )
