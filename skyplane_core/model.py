"""The engine's values: frozen, typed, and the same in memory, between processes and on the wire.

They are ``msgspec`` structs, so decoding checks every field's type before any of our code sees it.
Sizes and offsets are bytes, times are seconds since the epoch (UTC), CRC32C values are unsigned 32-bit integers,
CRC64NVME values unsigned 64-bit ones.
"""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec

from skyplane_core.errors import ErrorRecord

_URI_SCHEMES = {"gcs": "gs", "azure": "az"}


class ObjectAttributes(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Content headers and user metadata. An empty string means that the store has none.

    ``storage_class``: empty is the bucket's default, or STANDARD. ``mtime_ns`` (nanoseconds since the epoch) and
    ``mode`` (permission bits) are a file's; what a store that has neither makes of them says
    :mod:`skyplane_core.fidelity`. ``custom_time`` is a GCS object's, as GCS writes it; others have none.
    """

    content_type: str = ""
    cache_control: str = ""
    content_disposition: str = ""
    content_encoding: str = ""
    content_language: str = ""
    metadata: dict[str, str] = {}
    tags: dict[str, str] = {}
    storage_class: str = ""
    mtime_ns: int | None = None
    mode: int | None = None
    custom_time: str = ""


class Unfit(enum.Enum):
    """What is done with an attribute that a destination cannot hold as it is."""

    FAIL = "fail"
    """The object is not copied, and the receipt says why."""
    DROP = "drop"
    """It is left out, and the receipt says so."""
    RENAME = "rename"
    """It gets another name, where that helps; otherwise it is left out. The receipt says so."""


class AttributeRules(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What becomes of attributes on their way.

    Args:
        content_type, cache_control, content_disposition, content_encoding, content_language: of every copy, whatever
            the source has; empty for the source's, where attributes are kept.
        metadata, tags: entries that every copy gets, whatever the source has.
        metadata_rename: old names to new ones.
        metadata_drop: patterns (``fnmatch``, in any case) of names that are left out.
        storage_class: of every copy; empty for the destination's default.
        keep_storage_class: give a copy the source's class.
        keep_tags: carry tags over, at the price of one more request for each object that gateways copy.
        keep_mtime: carry the time of modification over; otherwise a copy's is that of its writing.
        keep_mode: carry a file's permissions over; otherwise a new file has those that the umask leaves.
        unfit: see :class:`Unfit`.
    """

    content_type: str = ""
    cache_control: str = ""
    content_disposition: str = ""
    content_encoding: str = ""
    content_language: str = ""
    metadata: dict[str, str] = {}
    tags: dict[str, str] = {}
    metadata_rename: dict[str, str] = {}
    metadata_drop: tuple[str, ...] = ()
    storage_class: str = ""
    keep_storage_class: bool = False
    keep_tags: bool = False
    keep_mtime: bool = False
    keep_mode: bool = False
    unfit: Unfit = Unfit.FAIL


class ObjectInfo(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One object as a listing or a HEAD shows it.

    ``version`` is the store's own opaque pin for exactly these bytes (S3 version id or ETag, GCS generation,
    local device/inode/mtime/size): a read that names it either gets these bytes or fails. ``attributes`` is
    None where the listing does not carry them. ``crc32c`` and ``crc64nvme`` are the store's own over the whole object,
    where it has computed them and shows them; ``other_checksum`` is one of another kind, as ``ALGORITHM:text``, which
    says something only beside one of the same algorithm.
    """

    key: str
    size: int
    version: str
    modified: float = 0.0
    crc32c: int | None = None
    attributes: ObjectAttributes | None = None
    crc64nvme: int | None = None
    other_checksum: str = ""


class Attestation(enum.Enum):
    """How strongly a store vouches for what it holds. Never a size alone."""

    WHOLE = "whole"
    """The store computed a checksum over the whole object, and it equals ours."""
    PER_PART = "per-part"
    """The store checked each part's checksum on arrival, and lists exactly the parts that we committed."""
    READ_BACK = "read-back"
    """We read the object again from the store and its checksum equals ours."""


class Stored(msgspec.Struct, frozen=True, omit_defaults=True):
    """A store's word that an object is committed and visible."""

    version: str
    size: int
    crc32c: int | None = None
    """The checksum that the *store* reports, not ours."""
    attestation: Attestation | None = None
    """None: the store attested nothing yet; the object is not DONE before somebody reads it back."""


class StoredPart(msgspec.Struct, frozen=True, omit_defaults=True):
    """A store's word that it holds one part of an open upload. Part numbers start at 1."""

    number: int
    part_id: str
    size: int
    crc32c: int | None = None


class Copied(msgspec.Struct, frozen=True, omit_defaults=True):
    """A store's word that it copied an object by itself.

    ``crc64nvme`` and ``other_checksum`` (see :class:`ObjectInfo`) are the store's own over the copy.
    """

    stored: Stored
    crc64nvme: int | None = None
    other_checksum: str = ""


class CopyStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a copy is after one call. ``copied`` None: the next call continues it by ``token``."""

    copied: Copied | None = None
    token: str = ""
    moved: int = 0


class CopySource(msgspec.Struct, frozen=True, omit_defaults=True):
    """An object in a bucket of the same service. ``info`` pins its version, and its checksums say which to compute.

    ``keeps_tags``: the copy gets the tags of the source, by the store itself, and none of the attributes'.
    """

    bucket: str
    info: ObjectInfo
    requester_pays: bool = False
    keeps_tags: bool = False


class Precondition(msgspec.Struct, frozen=True, omit_defaults=True):
    """What must be true of the destination key at the moment of the write.

    Neither field: anything goes. ``absent``: no object may exist. ``version``: exactly this version must be current.
    """

    absent: bool = False
    version: str = ""


class Credentials(msgspec.Struct, frozen=True, omit_defaults=True):
    """Short-lived credentials of one store, as resolved by the client. Never printed, logged or persisted.

    S3: ``access_key``, ``secret_key``, ``session_token``. GCS: ``token`` (OAuth2 bearer). Azure, one of: ``access_key``
    (the account's name) and ``secret_key`` (its key); ``sas`` (the query of a shared access signature); ``token``.
    All empty: anonymous. ``expires_at``: seconds since the epoch, None if they do not expire.
    """

    access_key: str = ""
    secret_key: str = ""
    session_token: str = ""
    token: str = ""
    expires_at: float | None = None
    sas: str = ""

    @property
    def anonymous(self) -> bool:
        """Whether there are none."""
        return not (self.access_key or self.token or self.sas)

    def __repr__(self) -> str:
        return f"Credentials({'anonymous' if self.anonymous else 'redacted'}, expires_at={self.expires_at})"

    __str__ = __repr__


class Hadoop(msgspec.Struct, frozen=True, omit_defaults=True):
    """How to reach an HDFS cluster, besides its name.

    ``user`` is who to be where the cluster has no Kerberos; empty for whoever runs the gateway. ``properties`` are
    Hadoop's own settings. ``datanodes`` says under which ``host`` or ``host:port`` a DataNode is reached that calls
    itself by another: its keys are a DataNode's host name or IP address, each with or without a port.
    """

    user: str = ""
    properties: dict[str, str] = {}
    datanodes: dict[str, str] = {}

    def __hash__(self) -> int:
        return hash((self.user, frozenset(self.properties.items()), frozenset(self.datanodes.items())))


class StoreConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that is needed to open one store, on any machine.

    ``kind`` is ``s3``, ``gcs``, ``azure``, ``hdfs`` or ``local``; ``bucket`` the bucket name, for ``azure`` the account
    and the container (``account/container``), for ``hdfs`` and ``local`` an absolute directory. ``endpoint_url`` of
    ``hdfs`` is ``hdfs://namenode:port`` or ``hdfs://nameservice``.
    ``verify`` is True, False, or the path of a CA bundle for the store's own HTTPS. ``service`` names a service that
    speaks another one's protocol, as its URIs do (``r2``, ``cos``). ``path_style`` and ``virtual_host`` say how a
    bucket is named to an S3 endpoint; neither: see :func:`skyplane_core.stores.s3_sign.use_path_style`. ``encryption``
    and ``kms_key`` are what every object that is written is to be encrypted with at rest; empty: the bucket's default.
    ``acl`` is the canned access control list of every copy that is written to S3; empty: S3's default, ``private``.
    ``match_glob``: a GCS source lists only what matches this pattern, by GCS's own rules.
    ``object_version`` pins the one object that a source is asked for: an S3 version id, or a GCS generation.
    ``symlinks``: ``follow`` or ``skip``, for the links in a local directory.
    """

    kind: str
    bucket: str
    endpoint_url: str = ""
    region: str = ""
    project: str = ""
    path_style: bool = False
    requester_pays: bool = False
    verify: bool | str = True
    credentials: Credentials = Credentials()
    service: str = ""
    virtual_host: bool = False
    encryption: str = ""
    kms_key: str = ""
    acl: str = ""
    match_glob: str = ""
    object_version: str = ""
    symlinks: str = "follow"
    hadoop: Hadoop = Hadoop()

    @property
    def uri(self) -> str:
        """For messages and receipts."""
        if self.kind == "local":
            return f"file://{self.bucket}"
        if self.kind == "hdfs":
            return f"{self.endpoint_url}{self.bucket}".rstrip("/")
        return f"{self.service or _URI_SCHEMES.get(self.kind, self.kind)}://{self.bucket}"

    def object_uri(self, key: str) -> str:
        """The URI of one object, for messages and receipts."""
        return f"{self.uri}/{key}"


class Compression(enum.Enum):
    """``auto``: what leaves the machine and shrinks by half. ``lz4``: what shrinks by a tenth. ``none``: nothing.

    docs/performance.md says why.
    """

    AUTO = "auto"
    LZ4 = "lz4"
    NONE = "none"


class Shrinkage(msgspec.Struct, frozen=True, omit_defaults=True):
    """What ``mode`` did to the bytes that gateways sent, those that were sent again included.

    Bytes are of original data. ``local_bytes`` were sent as they are because reader and writer are on one machine,
    ``dense_bytes`` because they would not have shrunk enough: ``sample_bytes`` of those were tried, and became
    ``sample_bytes_after``. ``lz4_bytes`` were compressed, to ``lz4_bytes_after``.
    """

    mode: Compression
    local_bytes: int = 0
    dense_bytes: int = 0
    sample_bytes: int = 0
    sample_bytes_after: int = 0
    lz4_bytes: int = 0
    lz4_bytes_after: int = 0


class Role(enum.Enum):
    """What a gateway does in a transfer."""

    READER = "reader"
    RELAY = "relay"
    WRITER = "writer"


class PartTarget(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where one part goes at one destination.

    ``destination`` is the index into the transfer's destinations. Without ``upload_id`` the part is the whole
    object and is written by a single put under ``precondition``. ``attributes`` of None: those that the
    source's answer to the read carried, with ``tags``, and with ``mtime_ns`` if it carried none.
    """

    destination: int
    key: str
    upload_id: str = ""
    precondition: Precondition = Precondition()
    attributes: ObjectAttributes | None = None
    extra_metadata: dict[str, str] = {}
    tags: dict[str, str] = {}
    mtime_ns: int | None = None


class PartLease(msgspec.Struct, frozen=True, omit_defaults=True):
    """One part to be read from the source and written to its targets.

    ``object`` numbers the object within the transfer, ``part`` starts at 1. ``version`` pins the source.
    ``crc32c`` is the source store's own checksum where this part is the whole object and the store has one.
    ``crc64nvme`` is the source store's own over the whole object: a reader of a part sums what it read in the same way,
    so that the parts' sums can be combined and compared with it.
    """

    object: int
    part: int
    key: str
    version: str
    offset: int
    size: int
    targets: tuple[PartTarget, ...]
    crc32c: int | None = None
    crc64nvme: int | None = None

    @property
    def whole(self) -> bool:
        """Whether this part is the whole object."""
        return any(not target.upload_id for target in self.targets)


class Lease(msgspec.Struct, frozen=True, omit_defaults=True):
    """A batch of parts handed to one reader: one big part, or many small ones that share a round trip.

    ``route`` lists the gateways from the one after the reader to the writer; empty means that the reader
    writes as well, and no wire is used. ``way`` is that route's number within the transfer, by which relays know where
    a batch goes. ``attempt`` counts sendings of these parts from 1, but for those that were lost with a connection or a
    gateway: that is no fault of a part.
    """

    lease_id: int
    transfer_id: str
    attempt: int
    route: tuple[str, ...]
    parts: tuple[PartLease, ...]
    way: int = 0

    @property
    def size(self) -> int:
        """Payload bytes of all parts together."""
        return sum(part.size for part in self.parts)


class PartAck(msgspec.Struct, frozen=True, omit_defaults=True):
    """The writer's word that one part is stored at one destination.

    ``crc32c`` is ours, computed over the bytes as they left the source, and so is ``crc64nvme`` where the source
    vouches for one. For a multipart part ``stored_part`` is set; for a whole object ``stored`` is. ``source_crc32c``
    and ``source_crc64nvme`` are what the source vouched for, of a whole object, and equal ours. ``notes``: what of its
    attributes was dropped or renamed.
    """

    object: int
    part: int
    destination: int
    size: int
    crc32c: int
    stored_part: StoredPart | None = None
    stored: Stored | None = None
    attributes: ObjectAttributes | None = None
    crc64nvme: int | None = None
    source_crc32c: int | None = None
    source_crc64nvme: int | None = None
    notes: tuple[str, ...] = ()


class PartFailure(msgspec.Struct, frozen=True, omit_defaults=True):
    """One part that did not arrive at one destination, and why. ``destination`` -1: it could not be read at all.

    ``crc32c`` is ours over the part where it had been read; it lets the coordinator recognise an earlier attempt of
    this very write that took effect although its answer was lost.
    """

    object: int
    part: int
    destination: int
    error: ErrorRecord
    crc32c: int | None = None


class LeaseResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a lease; every part of it is in exactly one of the two lists, per destination.

    ``wire_bytes`` is what was sent after compression (0 without a wire), ``shrinkage`` what that did; None if there was
    nothing to decide.
    """

    lease_id: int
    transfer_id: str
    acks: tuple[PartAck, ...] = ()
    failures: tuple[PartFailure, ...] = ()
    wire_bytes: int = 0
    shrinkage: Shrinkage | None = None


Concurrency = Annotated[int, msgspec.Meta(ge=1, le=65_536)]
"""Requests in flight. The bound is on nonsense; what a machine can do is far less."""


class TransferKeys(msgspec.Struct, frozen=True):
    """The end-to-end key of one transfer (32 bytes). Readers and writers hold it, relays never do."""

    key: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]

    def __repr__(self) -> str:
        return "TransferKeys(redacted)"

    __str__ = __repr__


class GatewayTransfer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one gateway is told about one transfer: only what its roles need.

    A reader gets ``source``; a writer gets ``destinations`` (by destination index) with their credentials. A relay gets
    ``onward``, the next gateway by the number of the way that a batch takes, and neither credentials nor keys.
    ``receipt`` is the store of a receipt that was asked for elsewhere; only the head gets it.
    ``concurrency`` bounds the requests in flight to a store from this gateway for this transfer.
    ``compare_source``: a reader compares what it read with what the source vouches for. ``rules`` are a writer's.
    ``credentials_expire_at`` is the earliest expiry on either side, so that the head can say when renewal is due.
    """

    transfer_id: str
    keys: TransferKeys | None = None
    source: StoreConfig | None = None
    destinations: dict[Annotated[int, msgspec.Meta(ge=0, lt=64)], StoreConfig] = {}
    compression: Compression = Compression.AUTO
    concurrency: Concurrency = 32
    keep_attributes: bool = True
    compare_source: bool = True
    credentials_expire_at: float | None = None
    onward: dict[int, str] = {}
    receipt: StoreConfig | None = None
    rules: AttributeRules = AttributeRules()
