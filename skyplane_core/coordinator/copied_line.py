"""The receipt's line of an object that has arrived."""

from __future__ import annotations

from skyplane_core.coordinator.objects import ObjectState
from skyplane_core.model import Stored
from skyplane_core.spec import Method, Outcome, ReceiptLine, Verification


def copied_line(
    state: ObjectState,
    destination: int,
    stored: Stored,
    crc32c: int | None,
    read_back: int | None,
    verify: Verification,
) -> ReceiptLine:
    """What became of ``state``, which is done at ``destination``.

    Args:
        crc32c: ours over what was read; nobody's where the store copied by itself.
        read_back: of what was read there again, if it was.
    """
    target = state.targets[destination]
    notes: tuple[str, ...] = ()
    source_checksum = ""
    if state.order is not None:
        source, source_wide, wide, crc32c = state.info.crc32c, state.info.crc64nvme, None, None
        source_checksum = state.info.other_checksum if source is source_wide is None else ""
        notes = () if state.order.in_parts else state.order.fitted.notes
    elif target.target.upload_id:
        source, source_wide = state.info.crc32c, state.info.crc64nvme
        wide = state.crc64nvme(destination) if source_wide is not None else None
    else:
        ack = next(iter(target.acks.values()), None)
        source, source_wide = (ack.source_crc32c, ack.source_crc64nvme) if ack else (None, None)
        wide, notes = (ack.crc64nvme, ack.notes) if ack else (None, ())
    return ReceiptLine(
        key=state.info.key,
        destination=destination,
        destination_key=target.target.key,
        size=state.info.size,
        source_version=state.info.version,
        outcome=Outcome.COPIED,
        reason="; ".join((state.reason, *notes)),
        crc32c=crc32c,
        destination_version=stored.version,
        destination_crc32c=stored.crc32c,
        attestation=stored.attestation,
        crc64nvme="" if wide is None else f"{wide:016x}",
        source_crc32c=source,
        source_crc64nvme="" if source_wide is None else f"{source_wide:016x}",
        read_back_crc32c=read_back,
        verify=verify,
        method=Method.GATEWAYS if state.order is None else Method.SERVER_SIDE,
        source_checksum=source_checksum,
    )
