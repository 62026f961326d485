"""What the store holds of journals."""

from __future__ import annotations

from skyplane_core.coordinator.journal import AckRecord, ClosedRecord, UploadRecord, decode
from tests.simulation.stores import ModelStore


def journalled(store: ModelStore, state: str) -> tuple[dict[str, UploadRecord], set[str], dict[tuple[str, int], str]]:
    """Uploads, which of them are closed, and the part ids of acks, below the prefix ``state``."""
    uploads: dict[str, UploadRecord] = {}
    closed: set[str] = set()
    acks: dict[tuple[str, int], str] = {}
    for key in sorted(store.objects):
        if not key.startswith(f"{state}journal-"):
            continue
        for record in decode(store.objects[key].data):
            if isinstance(record, UploadRecord):
                uploads[record.upload_id] = record
            elif isinstance(record, ClosedRecord):
                closed.add(record.upload_id)
            elif isinstance(record, AckRecord) and record.ack.stored_part is not None:
                acks[record.upload_id, record.ack.part] = record.ack.stored_part.part_id
    return uploads, closed, acks
