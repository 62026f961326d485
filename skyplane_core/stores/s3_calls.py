"""One control call on an S3 bucket: signed, on a kept connection, tried again while it may help, refusals as errors.

No SDK: boto3 takes half a second to load and to make a client, and then 60 us for each object of a listing, where this
takes 5 to 8 (docs/measurements.md).
"""

from __future__ import annotations

import functools
import hashlib
import random
import re
import time
from collections.abc import Callable

from skyplane_core.errors import (
    BucketNotFound,
    ObjectNotFound,
    Retry,
    StoreError,
    StoreRejected,
    StoreUnavailable,
)
from skyplane_core.model import StoreConfig
from skyplane_core.stores import s3_errors
from skyplane_core.stores.http_data import CONTROL_TIMEOUT, Answer, HttpData, Request
from skyplane_core.stores.http_pool import ConnectionPool
from skyplane_core.stores.s3_sign import DEFAULT_REGION, Address, address, is_aws, sign

ATTEMPTS = 3
MAX_PAUSE = 20.0
"""Seconds. Both are those of the AWS SDKs' standard mode. Who calls may come back much later; this is for a hiccup."""

_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")


def pause(error: StoreError, status: int, attempt: int, chance: float) -> float | None:
    """Seconds before the next attempt, or None if there must be none.

    Args:
        error: what the attempt met.
        status: the answer's, or 0 if there was none.
        attempt: the number of the attempt that failed, from 1.
        chance: uniform in [0, 1), so that many who failed together do not come back together.
    """
    # A conflict (409) is with somebody else's write, which the next millisecond does not end.
    if attempt >= ATTEMPTS or status == 409 or error.retry not in (Retry.RETRY, Retry.THROTTLED):
        return None
    backoff = chance * 2.0 ** (attempt - 1)
    return float(min(MAX_PAUSE, max(backoff, error.retry_after or 0.0)))


class S3Calls:
    """Calls on one bucket. Thread-safe; opens its first connection with its first call.

    Args:
        sleep: waits for so many seconds.
        timeout: seconds without progress.
    """

    def __init__(
        self,
        config: StoreConfig,
        *,
        sleep: Callable[[float], None] = time.sleep,
        timeout: float = CONTROL_TIMEOUT,
    ) -> None:
        self._timeout = timeout
        self.config = config
        self.aws = is_aws(config.endpoint_url)
        self._sleep = sleep
        self._pool = ConnectionPool(self._open)
        self._region = config.region or DEFAULT_REGION

    def send(
        self,
        method: str,
        key: str | None = None,
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """The answer to a call that succeeded, on the bucket itself if ``key`` is None.

        Raises:
            StoreError: it was refused (:meth:`refused`), or got no answer.
        """
        answer = self.exchange(method, key, query=query, headers=headers, body=body)
        if s3_errors.is_refusal(answer):
            raise self.refused(answer, key)
        return answer

    def exchange(
        self,
        method: str,
        key: str | None = None,
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """As :meth:`send`, but a refusal is an answer. Passing failures are tried again a few times."""
        for attempt in range(1, ATTEMPTS + 1):
            answer: Answer | None = None
            try:
                answer = self._once(method, key, query or {}, headers or {}, body)
                if not s3_errors.is_refusal(answer):
                    return answer
                error = self.refused(answer, key)
            except StoreUnavailable as broken:
                error = broken
            # Not for secrets: it spreads repetitions.
            wait = pause(error, answer.status if answer else 0, attempt, random.random())  # noqa: S311
            if wait is None:
                if answer is None:
                    raise error
                return answer
            self._sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def refused(self, answer: Answer, key: str | None = None) -> StoreError:
        """The error that a refusal stands for."""
        return s3_errors.from_answer(
            answer,
            where=self.where(key),
            anonymous=self.config.credentials.anonymous,
            region=self._region,
            missing=BucketNotFound if key is None else ObjectNotFound,
        )

    def garbled(self, error: Exception, key: str | None = None) -> StoreUnavailable:
        """The error for an answer that is not what it should be."""
        return StoreUnavailable(
            "the store gave an answer that we cannot read", where=self.where(key), why=str(error)[:200]
        )

    def where(self, key: str | None) -> str:
        return self.config.uri if key is None else self.config.object_uri(key)

    def close(self) -> None:
        """Close the connections; a later call has one of its own."""
        self._pool.close()

    @functools.cached_property
    def _address(self) -> Address:
        return address(self.config)

    def _open(self) -> HttpData:
        bucket = self.config.bucket
        if not _BUCKET.fullmatch(bucket):
            raise StoreRejected(
                "not a name for a bucket",
                where=self.config.uri,
                why="S3 takes letters, digits, '.', '-' and '_'",
                next_step="Check the bucket's name. An access point goes by its alias.",
            )
        if self.aws and bucket.endswith("--x-s3"):
            raise StoreRejected(
                "an S3 directory bucket cannot be a side of a transfer",
                where=self.config.uri,
                why="it does not list its keys in order",
                next_step="Use a general purpose bucket.",
            )
        return HttpData(self._address.endpoint_url, verify=self.config.verify, timeout=self._timeout)

    def _once(
        self, method: str, key: str | None, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> Answer:
        if key == "":
            # Its path would be the bucket's: a DELETE would mean all of it.
            raise StoreRejected("not a name for an object", where=self.where(key), why="it is empty")
        if self.config.requester_pays:
            headers = headers | {"x-amz-request-payer": "requester"}
        with self._pool.connection() as http:
            place = self._address
            request = sign(
                Request(method, place.bucket_target(query) if key is None else place.target(key, query), headers),
                endpoint_url=place.endpoint_url,
                credentials=self.config.credentials,
                region=self._region,
                payload_hash=hashlib.sha256(body).hexdigest(),
                now=time.time(),
            )
            try:
                return http.send(request, body)
            except StoreUnavailable as error:
                raise StoreUnavailable(
                    "no answer from the store",
                    where=self.where(key),
                    why=f"{error.what} ({place.endpoint_url}): {error.why}",
                    next_step=error.next_step,
                ) from error
            except StoreRejected as error:
                raise StoreRejected(error.what, where=self.where(key), next_step=error.next_step) from error
