"""What servers that speak S3 are known to lack, so that a test can have a server that lacks it."""

from __future__ import annotations

from collections.abc import Collection

from skyplane_core.testing.objectserver.messages import ApiError, Call, Request, Response
from skyplane_core.testing.objectserver.state import State

SHORTCOMINGS = {
    "refuses-checksums": "a request that carries a checksum is refused (Backblaze B2: InvalidArgument)",
    "ignores-checksums": "checksums are neither compared nor kept nor shown (Ceph 16)",
    "composite-only": "CRC32C only of the parts' checksums, never of a whole upload (Cloudflare R2)",
    "refuses-conditions": "a conditional write is refused as not implemented (Swift, Backblaze B2)",
    "ignores-conditions": "a conditional write happens whatever is there",
    "equal-parts": "all parts of an upload but the last one have the same size (Cloudflare R2)",
}

_OF_CHECKSUMS = ("x-amz-checksum-", "x-amz-sdk-checksum-algorithm", "x-amz-mp-object-size")
_CONDITIONS = ("if-match", "if-none-match")
_WRITES = ("PutObject", "CompleteMultipartUpload", "DeleteObject")


class Shortcomings:
    """What one server lacks. With nothing in it, it behaves as S3 does."""

    def __init__(self, names: Collection[str]) -> None:
        unknown = sorted(set(names) - set(SHORTCOMINGS))
        if unknown:
            raise ValueError(f"unknown shortcomings: {', '.join(unknown)}")
        self._names = frozenset(names)

    def on_request(self, state: State, request: Request, call: Call) -> None:
        """Refuse a request that has passed authentication, or take away what this server does not see."""
        headers = request.headers
        sums = [name for name in headers if name.startswith(_OF_CHECKSUMS) and name != "x-amz-checksum-mode"]
        if "refuses-checksums" in self._names and sums:
            raise ApiError(400, "InvalidArgument", f"Unsupported header '{sums[0]}' received for this API call.")
        if "ignores-checksums" in self._names:
            for name in sums:
                del headers[name]
        full = headers.get("x-amz-checksum-type", "") == "FULL_OBJECT"
        asked = headers.get("x-amz-checksum-algorithm", "")
        if "composite-only" in self._names and full and asked not in ("", "CRC64NVME"):
            raise ApiError(400, "InvalidArgument", f"The FULL_OBJECT checksum type cannot be used with {asked}.")
        conditions = [name for name in _CONDITIONS if name in headers and call.operation in _WRITES]
        if "refuses-conditions" in self._names and conditions:
            raise ApiError(501, "NotImplemented", f"Header '{conditions[0]}' is not implemented.")
        if "ignores-conditions" in self._names:
            for name in conditions:
                del headers[name]
        if "equal-parts" in self._names and call.operation == "CompleteMultipartUpload":
            _check_parts(state, request, call)

    def on_response(self, response: Response) -> Response:
        """The answer without what this server does not show. It does not say who it is, either."""
        if not self._names:
            return response
        headers = {"Server": "somebody-else", **response.headers}
        if {"ignores-checksums", "refuses-checksums"} & self._names:
            headers = {name: value for name, value in headers.items() if not name.startswith("x-amz-checksum-")}
        return Response(response.status, headers, response.body)


def _check_parts(state: State, request: Request, call: Call) -> None:
    upload = state.bucket(call.bucket).upload(request.query["uploadId"], call.key)
    *sizes, last = [upload.parts[number].blob.size for number in sorted(upload.parts)] or [0]
    if len(set(sizes)) > 1 or (sizes and last > sizes[0]):
        raise ApiError(400, "InvalidPart", "All non-trailing parts must have the same length.")
