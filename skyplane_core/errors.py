"""Every exception of the engine.

::

    SkyplaneError
    ├── UsageError                  the request itself is wrong; nothing was provisioned or written
    │   ├── InvalidURI              not a URI that we know, or a part of it is missing
    │   └── NothingToTransfer       the source holds nothing under this prefix
    ├── StoreError                  an object store said no, or said nothing
    │   ├── ObjectNotFound          the key, or this version of it, is not there
    │   ├── BucketNotFound          the bucket, container or directory is not there
    │   ├── UploadNotFound          the multipart upload was aborted or has expired
    │   ├── PermissionDenied        known to the store, but not allowed
    │   ├── Unauthenticated         credentials are missing, wrong or expired
    │   ├── PreconditionFailed      somebody else wrote the object first
    │   ├── SourceChanged           the source object is not the one that was listed
    │   ├── Throttled               the store asks us to slow down
    │   ├── StoreUnavailable        5xx, reset, timeout, truncated body: the same call may work later
    │   ├── ChecksumMismatch        bytes and checksum disagree
    │   └── StoreRejected           the store refuses this very request (too large, bad name, unsupported)
    ├── WireError                   between gateways
    │   ├── ProtocolError           the peer's bytes are not a frame of ours
    │   ├── HandshakeFailed         the peer does not know the dataplane's secret
    │   ├── FrameCorrupt            a frame failed its authentication tag
    │   └── LinkLost                a connection broke; unacknowledged parts are sent again
    ├── GatewayError                about a gateway or a dataplane as a whole
    │   ├── GatewayUnreachable      its control API does not answer
    │   ├── GatewayRefused          it answered that it will not
    │   └── ProvisionFailed         it could not be started
    └── TransferError
        ├── TransferFailed          it ended, and some objects did not arrive (they are named)
        ├── TransferCancelled       somebody cancelled it
        ├── TransferTakenOver       another client goes on with it on other gateways
        ├── TransferStalled         nothing has moved for longer than the progress limit
        ├── DeletionRefused         a sync would delete more than it may; it deleted nothing
        └── TransferNotFound        this dataplane does not know that transfer

An error says what went wrong, where, why and what to do next. Its ``retry`` trait says what a machine
may do about it; code decides by that trait and never by the text.
"""

from __future__ import annotations

import enum
from typing import ClassVar

import msgspec


class Retry(enum.Enum):
    """What may be done about an error without asking a person."""

    RETRY = "retry"
    """The same call may succeed later; back off and try again."""
    THROTTLED = "throttled"
    """As RETRY, and whoever sent it should send less."""
    AUTH = "auth"
    """Ask once for fresh credentials, then try again."""
    CORRUPT = "corrupt"
    """Send the bytes again, a bounded number of times, then fail loudly."""
    PERMANENT = "permanent"
    """Trying again cannot help."""


class ErrorRecord(msgspec.Struct, frozen=True):
    """An error as a value, to cross a process or a wire. Holds no secret and no traceback."""

    kind: str
    what: str
    where: str = ""
    why: str = ""
    next_step: str = ""
    retry_after: float | None = None


class SkyplaneError(Exception):
    """Base of all errors of the engine.

    Args:
        what: what went wrong, one clause.
        where: URI, part or gateway that it went wrong at.
        why: the cause as far as it is known, such as a store's own words.
        next_step: what the reader should do now.
        retry_after: seconds that the other side asked us to wait, if it did.
    """

    retry: ClassVar[Retry] = Retry.PERMANENT

    def __init__(
        self, what: str, *, where: str = "", why: str = "", next_step: str = "", retry_after: float | None = None
    ) -> None:
        self.what = what
        self.where = where
        self.why = why
        self.next_step = next_step
        self.retry_after = retry_after
        super().__init__(self._message())

    def _message(self) -> str:
        text = self.what
        if self.where:
            text += f" [{self.where}]"
        if self.why:
            text += f": {self.why}"
        if self.next_step:
            text = text.rstrip(".")
            text += f" {self.next_step}" if text.endswith("?") else f". {self.next_step}"
        return text

    def record(self) -> ErrorRecord:
        """This error as a value that survives a process boundary (see :func:`from_record`)."""
        return ErrorRecord(type(self).__name__, self.what, self.where, self.why, self.next_step, self.retry_after)


class UsageError(SkyplaneError):
    """The request itself is wrong; raised before anything is provisioned or written."""


class InvalidURI(UsageError):
    """A URI cannot be parsed, has an unknown scheme, or lacks a part that is needed."""


class NothingToTransfer(UsageError):
    """The source exists and holds no object under the prefix that was asked for."""


class StoreError(SkyplaneError):
    """An object store refused or failed. ``where`` is the object's URI."""


class ObjectNotFound(StoreError):
    """The key, or the pinned version of it, does not exist."""


class BucketNotFound(StoreError):
    """The bucket, container or directory does not exist."""


class UploadNotFound(StoreError):
    """The multipart upload is unknown to the store: aborted, completed or expired."""


class PermissionDenied(StoreError):
    """The credentials are valid and do not allow this call."""


class Unauthenticated(StoreError):
    """Credentials are missing, malformed or expired; fresh ones may help."""

    retry = Retry.AUTH


class PreconditionFailed(StoreError):
    """A write's precondition did not hold: somebody else changed the destination."""


class SourceChanged(StoreError):
    """The source object changed or vanished after it was listed; mixing versions is never an option."""


class Throttled(StoreError):
    """The store asks for fewer requests (429, 503 SlowDown)."""

    retry = Retry.THROTTLED


class StoreUnavailable(StoreError):
    """A passing failure: 5xx, connection reset, timeout, or a body that ended early."""

    retry = Retry.RETRY


class ChecksumMismatch(StoreError):
    """Bytes and checksum disagree, at the store or here."""

    retry = Retry.CORRUPT


class StoreRejected(StoreError):
    """The store will never take this very request (size, name, unsupported feature)."""


class WireError(SkyplaneError):
    """Something went wrong between two gateways. ``where`` names the peer."""


class ProtocolError(WireError):
    """The peer sent bytes that are not a frame of this protocol version; the connection is closed."""


class HandshakeFailed(WireError):
    """The peer could not prove that it belongs to this dataplane; the connection is closed."""


class FrameCorrupt(WireError):
    """A frame failed authentication or decompression."""

    retry = Retry.CORRUPT


class LinkLost(WireError):
    """A connection between gateways broke; whatever was not acknowledged is sent again."""

    retry = Retry.RETRY


class GatewayError(SkyplaneError):
    """About a gateway or a dataplane as a whole."""


class GatewayUnreachable(GatewayError):
    """The gateway's control API does not answer at its address."""

    retry = Retry.RETRY


class GatewayRefused(GatewayError):
    """The gateway answered and refuses: wrong state, unknown call, bad arguments."""


class ProvisionFailed(GatewayError):
    """A gateway could not be started; whatever was started before it has been stopped again."""


class TransferError(SkyplaneError):
    """About one transfer as a whole."""


class TransferFailed(TransferError):
    """The transfer ended and some objects did not arrive.

    ``failures`` holds the first of them as ``(key, reason)``; the receipt names them all.
    """

    failures: tuple[tuple[str, str], ...] = ()


class TransferCancelled(TransferError):
    """The transfer was cancelled; its uploads are aborted, what had arrived stays."""


class TransferTakenOver(TransferError):
    """Another client goes on with the transfer on other gateways; what these had open was left to them."""


class TransferStalled(TransferError):
    """No byte has moved for longer than the progress limit."""


class DeletionRefused(TransferError):
    """A sync would delete more than it may; it deleted nothing. Look at it with a dry run, or allow more."""


class TransferNotFound(TransferError):
    """The dataplane does not know this transfer id."""


def _tree(cls: type[SkyplaneError]) -> dict[str, type[SkyplaneError]]:
    found = {cls.__name__: cls}
    for sub in cls.__subclasses__():
        found.update(_tree(sub))
    return found


def from_record(record: ErrorRecord) -> SkyplaneError:
    """The exception that a record stands for; an unknown kind becomes a plain :class:`SkyplaneError`."""
    cls = _tree(SkyplaneError).get(record.kind, SkyplaneError)
    return cls(
        record.what,
        where=record.where,
        why=record.why,
        next_step=record.next_step,
        retry_after=record.retry_after,
    )
