"""When a store copies an object by itself, without a byte of it passing a gateway. Pure.

Every such copy is compared with its source, as any other: so it takes a store that says its own checksum of the copy or
lets it be read back, and a source that has one to compare with.
"""

from __future__ import annotations

from skyplane_core.model import Attestation, ObjectInfo, StoreConfig
from skyplane_core.spec import ServerSideCopy, TransferSpec, Verification
from skyplane_core.stores.base import Capabilities

_KINDS = ("s3", "gcs")


def one_service(source: StoreConfig, destination: StoreConfig) -> bool:
    """Whether both are buckets of one endpoint, whoever reads and writes them."""
    if source.kind not in _KINDS:
        return False

    def place(store: StoreConfig) -> tuple[str, str, str]:
        return (store.kind, store.service, store.endpoint_url.rstrip("/"))

    return place(source) == place(destination)


def wanted(spec: TransferSpec) -> bool:
    """Whether the store of the destination is to copy what it can."""
    return spec.options.server_side_copy is ServerSideCopy.AUTO and one_service(spec.source, spec.destinations[0].store)


def takes_parts(size: int, limits: Capabilities) -> bool:
    """Whether an object of ``size`` bytes is beyond one call of the store, which then copies it part by part."""
    return size > limits.max_copy


def copies(info: ObjectInfo, limits: Capabilities, verify: Verification) -> bool:
    """Whether the store can copy the object, and its copy be compared as ``verify`` demands.

    Args:
        info: with the checksums that the source's HEAD shows.
    """
    if not limits.max_copy:
        return False
    if takes_parts(info.size, limits):
        # A part is acknowledged by its checksum, of which those of the whole are made: CRC32C, as uploads have.
        known = info.crc32c is not None or verify is Verification.NONE
        return limits.copies_parts and limits.attestation is not Attestation.READ_BACK and known
    if verify is Verification.NONE or info.crc32c is not None:
        return True
    # What is read back is summed in CRC32C only.
    known = info.crc64nvme is not None or bool(info.other_checksum)
    return verify is Verification.TRANSFERRED and known and limits.attestation is Attestation.WHOLE
