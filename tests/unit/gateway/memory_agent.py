"""A store as a coordinator sees it, in memory, and a reader that stores every part at once: no process, no socket."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from gateway.head import TransferRun
from skyplane_core.checksum import combined_crc32c
from skyplane_core.errors import ObjectNotFound, PreconditionFailed, StoreUnavailable, UploadNotFound
from skyplane_core.model import (
    Attestation,
    Lease,
    LeaseResult,
    ObjectAttributes,
    ObjectInfo,
    PartAck,
    Precondition,
    StoreConfig,
    Stored,
    StoredPart,
)
from skyplane_core.spec import (
    Compare,
    Destination,
    KeyMapping,
    MappingKind,
    Progress,
    Route,
    Selection,
    TransferOptions,
    TransferSpec,
)
from skyplane_core.stores.base import Capabilities, ObjectStore

STATE = "to/.skyplane/t/"
CRC = 7


class MemoryStore:
    """Objects by key. ``refuse`` may raise for a call (its name and its key), before it has any effect."""

    def __init__(self, objects: Sequence[ObjectInfo] = ()) -> None:
        self.capabilities = Capabilities(Attestation.WHOLE, min_part_size=1)
        self.answered_at = 0.0
        self.trouble = ""
        self.listed = {info.key: info for info in objects}
        self.state: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, StoredPart]] = {}
        self.aborted: list[str] = []
        self.refuse: Callable[[str, str], None] = lambda call, key: None
        self._lock = threading.Lock()

    def list(self, prefix: str = "", *, start_after: str = "", delimiter: str = "") -> Iterator[ObjectInfo]:
        self.refuse("list", prefix)
        state = {key: ObjectInfo(key, len(data), "v") for key, data in self.state.items()}
        there = {**self.listed, **state}
        return iter([there[key] for key in sorted(there) if key.startswith(prefix) and key > start_after])

    def head(self, key: str) -> ObjectInfo:
        self.refuse("head", key)
        if key not in self.listed:
            raise ObjectNotFound("no such object", where=key)
        return self.listed[key]

    def create_upload(self, key: str, attributes: ObjectAttributes) -> str:
        self.refuse("create_upload", key)
        with self._lock:
            upload_id = f"upload-{len(self.uploads)}-{time.monotonic_ns()}"
            self.uploads[upload_id] = {}
        return upload_id

    def list_parts(self, key: str, upload_id: str) -> Sequence[StoredPart]:
        self.refuse("list_parts", key)
        if upload_id not in self.uploads:
            raise UploadNotFound("no such upload", where=key)
        return list(self.uploads[upload_id].values())

    def complete_upload(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[StoredPart],
        *,
        size: int,
        crc32c: int,
        precondition: Precondition,
    ) -> Stored:
        self.refuse("complete_upload", key)
        del self.uploads[upload_id]
        self.listed[key] = ObjectInfo(key, size, "1", crc32c=crc32c)
        return Stored("1", size, combined_crc32c((CRC, part.size) for part in parts), Attestation.WHOLE)

    def abort_upload(self, key: str, upload_id: str) -> None:
        self.refuse("abort_upload", key)
        self.uploads.pop(upload_id, None)
        self.aborted.append(upload_id)

    def delete(self, key: str, precondition: Precondition = Precondition()) -> None:
        self.refuse("delete", key)
        found = self.listed.get(key)
        if precondition.version and (found is None or found.version != precondition.version):
            raise PreconditionFailed("not as it was seen", where=key)
        self.listed.pop(key, None)
        self.state.pop(key, None)

    def read_back(self, key: str, version: str, size: int) -> int:
        return CRC

    def put_bytes(self, key: str, data: bytes) -> None:
        self.refuse("put_bytes", key)
        self.state[key] = data

    def get_bytes(self, key: str) -> bytes:
        self.refuse("get_bytes", key)
        if key not in self.state:
            raise ObjectNotFound("no such object", where=key)
        return self.state[key]

    def peek(self, key: str) -> bytes | None:
        return self.state.get(key)


def failing(
    call: str, prefix: str = "", error: Exception | None = None, times: int = 10**9
) -> Callable[[str, str], None]:
    """A ``refuse`` that fails the first ``times`` calls of that name whose key begins with ``prefix``."""
    left = [times]

    def refuse(name: str, key: str) -> None:
        if name == call and key.startswith(prefix) and left[0]:
            left[0] -= 1
            raise error or StoreUnavailable("the store is down", where=key)

    return refuse


def transfer(**options: object) -> TransferSpec:
    to = Destination(StoreConfig("s3", "there"), KeyMapping(MappingKind.PREFIX, "p/", "to/"))
    chosen = TransferOptions(**{"compare": Compare.ALWAYS, "part_size": 10, "multipart_threshold": 20, **options})  # type: ignore[arg-type]
    return TransferSpec("t", StoreConfig("s3", "here"), Selection("p/", tree=True), (to,), chosen, STATE, 0.0)


def objects(count: int, size: int = 1) -> list[ObjectInfo]:
    return [ObjectInfo(f"p/{number:06d}", size, "v1", attributes=ObjectAttributes()) for number in range(count)]


def no_receipt() -> ObjectStore:
    raise AssertionError("no receipt was asked for")


class Reader:
    """Answers each lease from a thread of its own, as a data process would."""

    def __init__(
        self,
        source: MemoryStore,
        destination: MemoryStore,
        spec: TransferSpec | None = None,
        receipt: Callable[[], ObjectStore] | None = None,
    ) -> None:
        self.reports: list[Progress] = []
        self.parts_sent = 0
        self.idle = False
        self._destination = destination
        self.run = TransferRun(
            spec or transfer(),
            [Route("r")],
            source,
            {0: destination},
            pool_bytes=1 << 20,
            execute=self.execute,
            report=self.reports.append,
            renew=lambda: None,
            receipt=receipt or no_receipt,
            pulse=lambda: 0,
        )

    def execute(self, _reader: str, lease: Lease) -> None:
        if not self.idle:
            threading.Thread(target=self.answer, args=(lease,), daemon=True).start()

    def answer(self, lease: Lease) -> None:
        acks = []
        self.parts_sent += len(lease.parts)
        for part in lease.parts:
            target = part.targets[0]
            stored_part = stored = None
            if target.upload_id:
                stored_part = StoredPart(part.part, f"id-{part.part}", part.size)
                upload = self._destination.uploads.get(target.upload_id)
                if upload is not None:
                    upload[part.part] = stored_part
            else:
                stored = Stored("1", part.size, CRC, Attestation.WHOLE)
            acks.append(PartAck(part.object, part.part, 0, part.size, CRC, stored_part, stored))
        self.run.deliver(LeaseResult(lease.lease_id, lease.transfer_id, tuple(acks)))

    def finish(self, seconds: float = 20.0) -> Progress:
        """Run to the end, which must come in time."""
        self.run.start()
        assert self.run.join(seconds), f"no end: {self.run.progress()}"
        return self.run.progress()
