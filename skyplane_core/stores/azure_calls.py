"""One Azure call: authorized, a connection under it, refusals as errors. Used by both faces of the store."""

from __future__ import annotations

import logging
import time

from skyplane_core import checksum
from skyplane_core.errors import (
    ChecksumMismatch,
    ObjectNotFound,
    PermissionDenied,
    PreconditionFailed,
    StoreError,
    StoreRejected,
    StoreUnavailable,
)
from skyplane_core.model import StoreConfig
from skyplane_core.stores import azure_wire as wire
from skyplane_core.stores.azure_errors import from_answer, lacks_feature
from skyplane_core.stores.azure_sign import address, authorize, divide
from skyplane_core.stores.http_data import ANSWER_LIMIT, CONTROL_TIMEOUT, Answer, HttpData, Request
from skyplane_core.stores.http_pool import ConnectionPool

log = logging.getLogger(__name__)


class AzureCalls:
    """Calls on one container. Holds no connection; each call is given one. Thread-safe.

    What is written is checked by the service on arrival: by CRC64, or by MD5 where the endpoint does not know CRC64,
    which is remembered.
    """

    def __init__(self, config: StoreConfig) -> None:
        self.config = config
        self._account, _ = divide(config.bucket)
        self._address = address(config)
        self._knows_crc64 = True
        self._hierarchical: bool | None = None

    def open_http(self, timeout: float = CONTROL_TIMEOUT) -> HttpData:
        """A connection to the config's endpoint; ``timeout`` is seconds without progress."""
        return HttpData(self._address.endpoint_url, verify=self.config.verify, timeout=timeout)

    def open_pool(self) -> ConnectionPool:
        """The connections of one store's control calls. Opens none yet."""
        return ConnectionPool(self.open_http)

    def target(self, key: str = "", **query: str) -> str:
        """Path and query of a request on the container, or on a blob.

        Raises:
            StoreRejected: Azure has no blob of that name.
        """
        if key:
            wire.check_key(key, self.where(key))
        return self._address.target(key, **query)

    def check_segments(self, http: HttpData, key: str) -> None:
        """Refuse a name with an empty segment where a hierarchical namespace would store it as another one.

        Raises:
            StoreRejected: ``a//b`` would become ``a/b``.
        """
        if "" in key.split("/")[:-1] and self.hierarchical(http):
            raise StoreRejected(
                "not a name for a blob",
                where=self.where(key),
                why="this account's hierarchical namespace drops empty segments, and would mix it up with another name",
                next_step="Rename the object.",
            )

    def hierarchical(self, http: HttpData) -> bool:
        """Whether the account has a hierarchical namespace, which is asked once.

        False as well where the credentials may not ask.
        """
        if self._hierarchical is None:
            target = self.target(restype="account", comp="properties")
            try:
                answer = self.send(http, "GET", target, "cannot ask what kind of account it is")
            except (PermissionDenied, StoreRejected):
                return False
            self._hierarchical = answer.headers.get("x-ms-is-hns-enabled", "").lower() == "true"
        return self._hierarchical

    def where(self, key: str = "") -> str:
        """The URI of a blob, or of the container."""
        return self.config.object_uri(key) if key else self.config.uri

    def request(self, method: str, target: str, headers: dict[str, str] | None = None, length: int = 0) -> Request:
        """An authorized request, to be sent now."""
        return authorize(
            Request(method, target, headers or {}),
            account=self._account,
            credentials=self.config.credentials,
            length=length,
            now=time.time(),
        )

    def send(
        self,
        http: HttpData,
        method: str,
        target: str,
        what: str,
        *,
        key: str = "",
        headers: dict[str, str] | None = None,
        missing: type[StoreError] = ObjectNotFound,
        conflict: type[StoreError] = PreconditionFailed,
        limit: int = ANSWER_LIMIT,
    ) -> Answer:
        """The answer to a call without a body that succeeded.

        Raises:
            StoreError: any other status (see :mod:`azure_errors` for ``missing`` and ``conflict``), or no answer.
        """
        try:
            answer = http.send(self.request(method, target, headers), limit=limit)
        except StoreUnavailable as error:
            raise self.unreachable(error, what, key) from error
        if answer.status >= 300:
            raise self.refused(answer, what, key=key, missing=missing, conflict=conflict)
        return answer

    def put(
        self,
        http: HttpData,
        target: str,
        what: str,
        *,
        key: str,
        headers: dict[str, str],
        body: memoryview | bytes,
        crc32c: int | None = None,
    ) -> Answer:
        """Send ``body`` with a checksum that the service holds against what arrives; the answer, whatever its status.

        Args:
            crc32c: what the body's must be. Both checksums are taken of the same bytes in one pass, so that what the
                service vouches for is what the engine acknowledged.

        Raises:
            ChecksumMismatch: the bytes here, or those that arrived, are others.
            StoreUnavailable: no answer.
        """
        while True:
            by_crc64 = self._knows_crc64
            name, value = self._checked(body, crc32c, key, by_crc64=by_crc64)
            try:
                answer = http.send(self.request("PUT", target, headers | {name: value}, len(body)), body)
            except StoreUnavailable as error:
                raise self.unreachable(error, what, key) from error
            if answer.status < 300 and answer.status != 201:
                raise self.garbled(
                    ValueError(f"HTTP {answer.status} to a write, which the service answers with 201"), key
                )
            echoed = answer.headers.get(name)
            # What carries no object's bytes need not be confirmed.
            unconfirmed = answer.status < 300 and echoed is None and crc32c is not None
            if by_crc64 and (lacks_feature(answer) or unconfirmed):
                self._fall_back()
                continue
            if answer.status < 300 and echoed not in (None, value):
                raise ChecksumMismatch(
                    "the service received other bytes than we sent",
                    where=self.where(key),
                    why=f"its {name} is {echoed}, ours {value}",
                )
            return answer

    def refused(
        self,
        answer: Answer,
        what: str,
        *,
        key: str = "",
        missing: type[StoreError] = ObjectNotFound,
        conflict: type[StoreError] = PreconditionFailed,
    ) -> StoreError:
        """The error that ``answer`` stands for."""
        return from_answer(
            answer,
            what=what,
            where=self.where(key),
            missing=missing,
            conflict=conflict,
            anonymous=self.config.credentials.anonymous,
        )

    def unreachable(self, error: StoreUnavailable, what: str, key: str = "") -> StoreUnavailable:
        """The error for a call without an answer; the connection's own names the address, not the blob."""
        return StoreUnavailable(what, where=self.where(key), why=error.why, next_step=error.next_step)

    def garbled(self, error: Exception, key: str = "") -> StoreUnavailable:
        """The error for an answer that is not what it should be."""
        return StoreUnavailable("Azure gave an answer that we cannot read", where=self.where(key), why=str(error)[:200])

    def _checked(self, body: memoryview | bytes, crc32c: int | None, key: str, *, by_crc64: bool) -> tuple[str, str]:
        """Name and value of the header that has the service check ``body``."""
        if by_crc64:
            ours, wide = checksum.crc32c_and_crc64nvme(memoryview(body))
            header = wire.CRC64, wire.encode_crc64(wide)
        else:
            header = wire.MD5, wire.encode_md5(body)
            # After the digest: the check is of the bytes that it was taken of, unless they change in between.
            ours = checksum.crc32c(body)
        if crc32c is not None and ours != crc32c:
            raise ChecksumMismatch(
                "the bytes to write are not those that were read",
                where=self.where(key),
                why=f"CRC32C {ours:08x}, expected {crc32c:08x}",
            )
        return header

    def _fall_back(self) -> None:
        if self._knows_crc64:
            self._knows_crc64 = False
            log.warning(
                "this endpoint does not check CRC64: MD5 is used, at a CPU second a GB",
                extra={"store": self.config.uri},
            )
