"""What each kind of store can hold besides bytes, as data: what fidelity is decided from and documented by.

A kind that is not here is taken to hold content headers and metadata without a limit of its own; it says by refusing.
"""

from __future__ import annotations

import enum

import msgspec

from skyplane_core.model import StoreConfig
from skyplane_core.stores.s3_sign import is_aws


class Mtime(enum.Enum):
    """How a source's time of modification is kept."""

    SET = "set"
    """The store sets it on the object itself."""
    SECONDS = "seconds"
    """Metadata ``mtime``, seconds since the epoch with a fraction, as rclone has it on S3."""
    RFC3339 = "rfc3339"
    """Metadata ``mtime`` as rclone has it on Azure."""
    GOOGLE = "google"
    """The same, as rclone has it on GCS, and ``goog-reserved-file-mtime`` as gsutil has it."""
    NOWHERE = "nowhere"


class Holding(msgspec.Struct, frozen=True):
    """What a store holds of an object's attributes.

    Args:
        name: in documentation and messages.
        content_headers, metadata: whether there is a place for them at all.
        metadata_bytes: of all names and values together; 0: no limit that is known.
        metadata_names: what a name may look like, as a regular expression.
        metadata_values: what a value may look like.
        lower_case: names lose their capitals.
        one_case: names that differ only in case are one.
        ascii_values: values beyond ASCII travel encoded, and count as long as that.
        ascii_headers: content headers are printable ASCII.
        tags: how many an object may have.
        storage_classes: the names that are known; empty where any may be, or (``classes`` False) none is.
        archives: those of them whose objects have to be restored before they can be read.
        encryptions: names of encryption at rest that can be asked for.
        mtime: see :class:`Mtime`.
        mode: whether permissions are the object's own, rather than metadata.
        custom_time: whether an object has a time that its writer chooses.
    """

    name: str
    content_headers: bool = True
    metadata: bool = True
    metadata_bytes: int = 0
    metadata_names: str = r"(?s).+"
    metadata_values: str = r"(?s).*"
    lower_case: bool = False
    one_case: bool = False
    ascii_values: bool = False
    ascii_headers: bool = False
    tags: int = 0
    classes: bool = True
    storage_classes: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()
    encryptions: tuple[str, ...] = ()
    mtime: Mtime = Mtime.SECONDS
    mode: bool = False
    custom_time: bool = False


_TOKEN = r"[A-Za-z0-9!#$&'*+.^_`|~-]+"  # noqa: S105 - HTTP's word for what a header's name is made of
AWS = Holding(
    "Amazon S3",
    metadata_bytes=2048,
    metadata_names=_TOKEN,
    lower_case=True,
    ascii_values=True,
    ascii_headers=True,
    tags=10,
    storage_classes=(
        "STANDARD",
        "STANDARD_IA",
        "ONEZONE_IA",
        "INTELLIGENT_TIERING",
        "GLACIER_IR",
        "GLACIER",
        "DEEP_ARCHIVE",
        "REDUCED_REDUNDANCY",
    ),
    archives=("GLACIER", "DEEP_ARCHIVE"),
    encryptions=("AES256", "aws:kms", "aws:kms:dsse"),
)
"""S3 user guide, "Working with object metadata", "Categorizing your storage using tags", "Storage classes"."""
S3_COMPATIBLE = msgspec.structs.replace(
    AWS, name="S3-compatible", storage_classes=(), archives=("GLACIER", "DEEP_ARCHIVE")
)
"""Whatever the server allows itself beyond AWS's limits is not known. Storage classes are the administrator's."""
R2 = msgspec.structs.replace(
    AWS, name="Cloudflare R2", tags=0, storage_classes=("STANDARD", "STANDARD_IA"), archives=(), encryptions=()
)
"""Cloudflare, "S3 API compatibility": no tags, no encryption but by keys of the customer's own."""
COS = msgspec.structs.replace(
    AWS,
    name="IBM COS",
    classes=False,
    storage_classes=(),
    archives=(),
    encryptions=(),
)
"""IBM, "Use storage classes" and "Encrypting your data": both are a bucket's own, and not an object's."""
GCS = Holding(
    "Google Cloud Storage",
    metadata_bytes=8192,
    storage_classes=("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"),
    mtime=Mtime.GOOGLE,
    custom_time=True,
)
"""Cloud Storage, "Object metadata", "Storage classes" (all of which are read without restoring)."""
AZURE = Holding(
    "Azure Blob Storage",
    metadata_bytes=8192,
    metadata_names=r"[A-Za-z_][A-Za-z0-9_]*",
    metadata_values=r"(?s).+",
    one_case=True,
    ascii_values=True,
    ascii_headers=True,
    classes=False,
    mtime=Mtime.RFC3339,
)
"""Azure, "Setting and retrieving properties and metadata". Tags and access tiers are not written."""
HDFS = Holding("HDFS", content_headers=False, metadata=False, classes=False, mtime=Mtime.NOWHERE)
LOCAL = Holding("local directory", content_headers=False, metadata=False, classes=False, mtime=Mtime.SET, mode=True)

_BY_KIND = {"gcs": GCS, "azure": AZURE, "hdfs": HDFS, "local": LOCAL}
_BY_SERVICE = {"r2": R2, "cos": COS}
_OTHER = Holding("other stores")


def holding(config: StoreConfig) -> Holding:
    """What the store of ``config`` holds. Asks nobody."""
    if config.kind == "s3":
        return _BY_SERVICE.get(config.service) or (AWS if is_aws(config.endpoint_url) else S3_COMPATIBLE)
    return _BY_KIND.get(config.kind, _OTHER)
