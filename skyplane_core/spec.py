"""A transfer as a value: what is asked for, how it stands, and what came of it.

No credentials live here: a :class:`TransferSpec` may be logged, journalled and kept. Credentials travel beside it,
to each gateway only those that its roles need (:class:`skyplane_core.model.GatewayTransfer`).
"""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec

from skyplane_core.filters import Filters
from skyplane_core.history import History
from skyplane_core.model import Attestation, AttributeRules, Compression, Concurrency, Role, Shrinkage, StoreConfig

STATE_SEGMENT = ".skyplane"
"""The reserved key segment under a destination's prefix. Listings and syncs leave it out."""

SOURCE_VERSION_KEY = "skyplane-source"
"""The user-metadata key under which a copy records the version of the source object that it was made from."""


_Bytes = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class MappingKind(enum.Enum):
    """How a source key becomes a destination key; the function itself is :func:`skyplane_core.keys.map_key`."""

    OBJECT = "object"
    """One object: the destination is a full key, or ends in ``/`` (or is empty) and receives the basename."""
    PREFIX = "prefix"
    """A tree: strip the source prefix at a ``/`` boundary, join to the destination prefix with exactly one ``/``."""
    APPEND = "append"
    """Destination prefix + the whole source key, as the stock S3ToGCSOperator does by default."""
    REPLACE = "replace"
    """The first occurrence of the source prefix replaced by the destination prefix: its ``apply_gcs_prefix``."""
    FLATTEN = "flatten"
    """Destination prefix + what follows the last ``/``; several keys may get the same one."""


class KeyMapping(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rule and its two prefixes; for OBJECT they are whole keys.

    ``first_wins``: of several objects that get one key the first is taken and the others are left alone. Otherwise they
    are refused, unless the name alone counts.
    """

    kind: MappingKind
    source: str
    destination: str
    first_wins: bool = False


class Selection(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which objects of the source take part.

    ``prefix`` is what is listed. ``tree``: only keys under ``prefix`` at a ``/`` boundary (``foo`` selects
    ``foo/x`` and not ``foobar/x``). ``delimiter`` leaves out keys that contain it after the prefix. ``glob`` is
    matched against the whole key with ``fnmatch`` rules (``*`` crosses ``/``). ``drop_covered_markers`` leaves out a
    key that ends in ``/`` and is a prefix of the next key. ``single``: exactly the object named ``prefix``.
    ``filters`` leave out more, of all but a single one.
    """

    prefix: str
    single: bool = False
    tree: bool = False
    delimiter: str = ""
    glob: str = ""
    drop_covered_markers: bool = False
    filters: Filters = Filters()


class Pick(msgspec.Struct, frozen=True):
    """One of several things that a transfer takes along: what is selected, and where its keys go."""

    selection: Selection
    mapping: KeyMapping


class Compare(enum.Enum):
    """When an object that exists at the destination counts as unchanged."""

    EXACT = "exact"
    """It records this very source version, or both stores report the same checksum and size."""
    CHECKSUM = "checksum"
    """Both stores report the same CRC32C or CRC64NVME, and the same size."""
    MTIME = "size+mtime"
    """The sizes are equal, and it was written in a later second than the source."""
    SIZE = "size"
    """The sizes are equal. ``size-only`` means this as well."""
    NAME = "name"
    """It exists, as the stock operator's ``replace=False``."""
    ALWAYS = "always"
    """Never: everything is copied."""

    @classmethod
    def _missing_(cls, value: object) -> Compare | None:
        return cls.SIZE if value == "size-only" else None


class Overwrite(enum.Enum):
    """What may happen to an object that exists at the destination."""

    IF_CHANGED = "if-changed"
    """It is replaced unless it counts as unchanged (:class:`Compare`)."""
    ALWAYS = "always"
    """It is replaced, whatever it is."""
    NEVER = "never"
    """It is left alone, whatever it is."""
    IF_NEWER = "if-newer"
    """As IF_CHANGED, and left alone if it was written in a later second than the source."""


class Verification(enum.Enum):
    """What is compared before an object counts as copied. Checksums travel with the bytes in any case."""

    NONE = "none"
    """Nothing more: not with the source's checksum, and nothing is read back where the destination attests nothing."""
    TRANSFERRED = "transferred"
    """What was read with the source's own checksum, where it has one; what was written with the destination's
    attestation, or by reading back where there is none."""
    FULL = "full"
    """As TRANSFERRED, and every object is read back from the destination, whatever it attests."""


class ServerSideCopy(enum.Enum):
    """Whether a store that holds both ends copies objects by itself."""

    AUTO = "auto"
    """Wherever it can, and what it made can be compared with the source. docs/server-side-copy.md says when that is."""
    NEVER = "never"
    """All bytes are read and written by gateways."""


class DeleteCap(msgspec.Struct, frozen=True, omit_defaults=True):
    """How much a sync may delete: ``objects`` in number, and ``percent`` of the objects that the destination held.

    None is no limit of that kind.
    """

    objects: _Bytes | None = None
    percent: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None


DEFAULT_DELETE_CAP = DeleteCap(objects=1000, percent=50.0)


class Destination(msgspec.Struct, frozen=True):
    """One destination of a transfer. ``store`` carries no credentials here."""

    store: StoreConfig
    mapping: KeyMapping


class TransferOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """How to move the bytes.

    Args:
        compare: what counts as unchanged. ``cp`` uses ALWAYS, ``sync`` EXACT.
        overwrite: see :class:`Overwrite`.
        delete: delete what no source object maps to, once everything else has succeeded.
        max_delete: if more would go than this, nothing does, and the transfer fails.
        compression: see :class:`Compression`.
        part_size: bytes a part; 0 lets the engine choose. It has to be one that the destination takes (S3, GCS:
            5 MiB to 5 GiB) and of which two fit into the buffer pool. For an object that would have more parts than the
            destination takes (10,000) it grows by itself, which the head's log tells.
        multipart_threshold: objects of at least so many bytes are striped; 0 means twice the part size.
        concurrency: requests in flight to each store, for each gateway.
        keep_attributes: carry content headers and user metadata over.
        record_source: write the source version into the destination's metadata, so that later syncs are exact.
        progress_timeout: seconds without any progress after which the transfer fails. While all that is left is stores
            that complete uploads, it waits for them longer: some take minutes, and say nothing meanwhile.
        max_attempts: how often one part is tried.
        keep_uploads: a transfer that fails as a whole leaves the uploads of unfinished objects open, so that one that
            continues it sends only what they do not hold. For whoever never does, False: they are aborted.
        move: delete each source object that was copied, at the version that was copied, once everything has arrived.
        move_same: delete as well each that was left alone as its very copy is at the destination already, by both
            stores' checksums; for a move that finishes what an earlier one has begun.
        verify: see :class:`Verification`.
        attributes: what becomes of content headers, metadata and the like; see :class:`AttributeRules`.
        server_side_copy: see :class:`ServerSideCopy`.
    """

    compare: Compare = Compare.ALWAYS
    compression: Compression = Compression.AUTO
    part_size: _Bytes = 0
    multipart_threshold: _Bytes = 0
    concurrency: Concurrency = 32
    keep_attributes: bool = True
    record_source: bool = True
    progress_timeout: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 5
    keep_uploads: bool = True
    verify: Verification = Verification.TRANSFERRED
    attributes: AttributeRules = AttributeRules()
    overwrite: Overwrite = Overwrite.IF_CHANGED
    delete: bool = False
    max_delete: DeleteCap = DEFAULT_DELETE_CAP
    move: bool = False
    move_same: bool = False
    server_side_copy: ServerSideCopy = ServerSideCopy.AUTO


class Route(msgspec.Struct, frozen=True):
    """A path from one reader to one destination, named by its index.

    ``path`` lists the gateways from the one after the reader to the writer; empty means that the reader writes as
    well. ``share`` is the planned part of that destination's bytes; shares of a destination add up to 1.
    """

    reader: str
    path: tuple[str, ...] = ()
    destination: int = 0
    share: float = 1.0

    @property
    def writer(self) -> str:
        """The gateway that touches the destination."""
        return self.path[-1] if self.path else self.reader

    @property
    def relays(self) -> tuple[str, ...]:
        """The gateways between reader and writer, which hold neither credentials nor key."""
        return self.path[:-1]


class Site(msgspec.Struct, frozen=True, omit_defaults=True):
    """A gateway that may be used. ``loopback``: a process on this very machine, reached over its loopback interface.

    ``role`` None: its place among the others says what it does (see :func:`skyplane_core.planner.plan.plan`).
    ``dials_out``: nobody can dial it, so its neighbours on a route must be gateways that can be dialled.
    """

    gateway_id: str
    provider: str = "local"
    region: str = "local"
    loopback: bool = True
    role: Role | None = None
    dials_out: bool = False


class ReceiptPlace(msgspec.Struct, frozen=True):
    """An object that the receipt is written to besides the transfer's state. ``store`` carries no credentials here.

    The ending of ``key`` says the format, see :func:`skyplane_core.receipt_place.format_of`.
    """

    store: StoreConfig
    key: str


class TransferSpec(msgspec.Struct, frozen=True):
    """One cp or sync, from one source to one or more destinations.

    ``state`` is the key prefix (ending in ``/``) for journal and receipt, in the store of destination 0.
    ``also``: what is taken along besides ``selection``, from the same source to the same destination.
    ``routes``: as planned, at least one for each destination; empty where the head reads and writes. ``gateways``:
    those of the plan, by which the transfer's cost is reckoned.
    """

    transfer_id: str
    source: StoreConfig
    selection: Selection
    destinations: Annotated[tuple[Destination, ...], msgspec.Meta(min_length=1, max_length=64)]
    options: TransferOptions
    state: str
    created_at: float
    routes: tuple[Route, ...] = ()
    receipt: ReceiptPlace | None = None
    gateways: tuple[Site, ...] = ()
    also: tuple[Pick, ...] = ()

    @property
    def picks(self) -> tuple[Pick, ...]:
        """All that the transfer takes along."""
        return (Pick(self.selection, self.destinations[0].mapping), *self.also)


class TransferState(enum.Enum):
    """Where a transfer is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self in (TransferState.DONE, TransferState.FAILED, TransferState.CANCELLED)


class Outcome(enum.Enum):
    """What became of an object."""

    COPIED = "copied"
    SKIPPED = "skipped"
    FAILED = "failed"
    DELETED = "deleted"


class Method(enum.Enum):
    """Who moved the bytes of an object."""

    GATEWAYS = "gateways"
    """They were read from the source and written to the destination."""
    SERVER_SIDE = "server-side"
    """The store that holds both ends copied them, and no gateway saw them."""


class ReceiptLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one object at one destination.

    ``crc32c`` is ours over the bytes as read, ``destination_crc32c`` the destination store's own, which ``attestation``
    is about; ``read_back_crc32c`` is of what we read there again. ``source_crc32c`` and ``source_crc64nvme`` are what
    the source store vouched for; both equal what was read (``crc32c``, ``crc64nvme``). CRC64NVME values are 16
    hexadecimal digits, because readers of JSON round integers beyond 2^53. None or "": that side said nothing, or was
    not asked. ``method`` SERVER_SIDE: nothing was read, so that ``crc32c`` and ``crc64nvme`` are nobody's, and it was
    the copy's checksum that equalled the source's; ``source_checksum`` is that one where it is of another kind, as
    ``ALGORITHM:text``. Of a DELETED one, ``size`` is what went, ``destination_version`` its
    version, and ``key`` and ``source_version`` are empty: no source object maps to it.
    """

    key: str
    destination: int
    destination_key: str
    size: int
    source_version: str
    outcome: Outcome
    reason: str
    crc32c: int | None = None
    destination_version: str = ""
    destination_crc32c: int | None = None
    attestation: Attestation | None = None
    crc64nvme: str = ""
    source_crc32c: int | None = None
    source_crc64nvme: str = ""
    read_back_crc32c: int | None = None
    verify: Verification = Verification.TRANSFERRED
    method: Method = Method.GATEWAYS
    source_checksum: str = ""


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a transfer stands. Bytes are of original data; ``wire_bytes`` is what crossed between gateways.

    ``shrinkage`` is what compression chose and saved there; None without gateways between which to compress, and with
    ``none``.

    ``listing_done`` False means that ``objects_selected`` and ``bytes_selected`` still grow. ``failures`` holds the
    first few as ``(key, reason)``. ``error`` is set when the transfer as a whole failed. ``credentials_expire_at``: the
    earliest expiry among the credentials in use, which somebody must renew before then. ``stopped_at``: the limit
    (``max_objects``, ``max_bytes``) that ended the selection; what comes after it in key order was not selected.
    ``objects_server_side`` and ``bytes_server_side`` are those of the copied ones that the store copied by itself, and
    ``server_side_refused`` is why it did not copy the rest, if it refused one.
    ``history`` comes with the last report, and in the receipt's totals.
    """

    transfer_id: str
    state: TransferState
    objects_listed: int = 0
    objects_selected: int = 0
    objects_copied: int = 0
    objects_skipped: int = 0
    objects_failed: int = 0
    bytes_selected: int = 0
    bytes_copied: int = 0
    bytes_acked: int = 0
    wire_bytes: int = 0
    listing_done: bool = False
    started_at: float = 0.0
    ended_at: float | None = None
    failures: tuple[tuple[str, str], ...] = ()
    error: str = ""
    receipt: str = ""
    credentials_expire_at: float | None = None
    shrinkage: Shrinkage | None = None
    objects_deleted: int = 0
    stopped_at: str = ""
    objects_server_side: int = 0
    bytes_server_side: int = 0
    server_side_refused: str = ""
    history: History | None = None
