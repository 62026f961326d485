"""HTTP's conditional requests, on reads and on writes."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from skyplane_core.testing.objectserver.messages import ApiError, Request
from skyplane_core.testing.objectserver.state import Condition, StoredObject


def etag_matches(header: str, etag: str) -> bool:
    """Whether a list of ETags (or ``*``) names this one."""
    return any(item.strip().removeprefix("W/").strip('"') in (etag, "*") for item in header.split(","))


def failed(condition: str) -> ApiError:
    """The refusal of a request whose precondition does not hold."""
    return ApiError(
        412,
        "PreconditionFailed",
        "At least one of the pre-conditions you specified did not hold",
        fields={"Condition": condition},
    )


def check_read(request: Request, stored: StoredObject) -> None:
    """Raise 412 or 304 if the request's conditions say so; RFC 9110's order of precedence."""
    headers = request.headers
    if "if-match" in headers:
        if not etag_matches(headers["if-match"], stored.etag):
            raise failed("If-Match")
    elif "if-unmodified-since" in headers and int(stored.modified) > _seconds(headers["if-unmodified-since"]):
        raise failed("If-Unmodified-Since")
    if "if-none-match" in headers:
        unchanged = etag_matches(headers["if-none-match"], stored.etag)
    else:
        unchanged = "if-modified-since" in headers and int(stored.modified) <= _seconds(headers["if-modified-since"])
    if unchanged:
        raise ApiError(304, "NotModified", headers={"ETag": f'"{stored.etag}"'})


def write_condition(request: Request) -> Condition | None:
    """What the If-Match and If-None-Match headers of a write demand of the object that is there."""
    match, none_match = request.headers.get("if-match"), request.headers.get("if-none-match")
    if match is None and none_match is None:
        return None

    def condition(current: StoredObject | None) -> None:
        if match is not None:
            if current is None:
                raise ApiError(404, "NoSuchKey", "The specified key does not exist.")
            if not etag_matches(match, current.etag):
                raise failed("If-Match")
        if none_match is not None and current is not None and etag_matches(none_match, current.etag):
            raise failed("If-None-Match")

    return condition


def _seconds(date: str) -> float:
    try:
        return parsedate_to_datetime(date).timestamp()
    except ValueError:
        raise ApiError(400, "InvalidArgument", f"not an HTTP date: {date}") from None
