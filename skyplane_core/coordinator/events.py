"""What the transfer machine asks its host to do. Values; the host does the I/O and reports back."""

from __future__ import annotations

import msgspec

from skyplane_core.model import ObjectAttributes, ObjectInfo, PartAck, PartLease, Precondition, Stored, StoredPart
from skyplane_core.spec import ReceiptLine


class Commit(msgspec.Struct, frozen=True):
    """All parts are acknowledged: complete the upload. ``crc32c`` is over the whole object."""

    object: int
    destination: int
    key: str
    upload_id: str
    parts: tuple[StoredPart, ...]
    info: ObjectInfo
    crc32c: int
    precondition: Precondition


class Copy(msgspec.Struct, frozen=True):
    """Have the store copy the object by itself, with these attributes and, ``keeps_tags``, the tags that it has."""

    object: int
    destination: int
    key: str
    info: ObjectInfo
    attributes: ObjectAttributes
    precondition: Precondition
    keeps_tags: bool = False


class CopyPart(msgspec.Struct, frozen=True):
    """Have the store copy one part of the object into its upload."""

    object: int
    destination: int
    key: str
    upload_id: str
    info: ObjectInfo
    part: PartLease


class Open(msgspec.Struct, frozen=True):
    """The store does not copy the object: open an upload for gateways to put its parts into, and read its tags.

    ``part_size`` 0: it is one part and needs no upload. ``reads_tags``: nobody has read them yet.
    """

    object: int
    destination: int
    key: str
    info: ObjectInfo
    part_size: int
    reads_tags: bool = False


class Verify(msgspec.Struct, frozen=True):
    """The object is visible, and the store attested nothing or every object is read back: read it and compare."""

    object: int
    destination: int
    key: str
    stored: Stored
    crc32c: int


class Recognise(msgspec.Struct, frozen=True):
    """A conditional put found an object, perhaps our own, of a sending whose answer was lost. Compare checksums."""

    object: int
    destination: int
    key: str
    part: PartLease
    crc32c: int
    reason: str


class Resend(msgspec.Struct, frozen=True):
    """All parts are stored, and together they are not what the source vouches for: begin again with a new upload."""

    object: int
    destination: int
    key: str
    info: ObjectInfo
    part_size: int


class Abort(msgspec.Struct, frozen=True):
    """The object has failed at this destination: drop its upload."""

    destination: int
    key: str
    upload_id: str


class Discard(msgspec.Struct, frozen=True):
    """What was read back is not what was sent: delete exactly this version.

    It carries our record of the source's version, and a later sync would believe that.
    """

    destination: int
    key: str
    version: str


class Acked(msgspec.Struct, frozen=True):
    """A multipart part is stored; to be journalled."""

    upload_id: str
    ack: PartAck


class Finished(msgspec.Struct, frozen=True):
    """One object is settled at one destination; the line goes into the receipt."""

    line: ReceiptLine


Event = Commit | Copy | CopyPart | Open | Verify | Recognise | Resend | Abort | Discard | Acked | Finished
