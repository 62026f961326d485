"""Writes the seeds that our own encoders make: ``python -m tests.fuzz.make_corpus``. The others are kept by hand."""

from __future__ import annotations

import os

import msgspec

from gateway import handshake, link, manifest, messages
from gateway.crypto import seal_batch
from gateway.framing import seal_message
from gateway.manifest import Answer, ManifestPart
from gateway.store_calls import CompleteUpload, Delete, GetBytes, ListPage, PutBytes
from gateway.wire import VERSION, Codec, FrameType, Header, transfer_tag
from skyplane_core.control import PeerAddress
from skyplane_core.coordinator.journal import AckRecord, BeganRecord, ClosedRecord, RecallRecord, UploadRecord
from skyplane_core.coordinator.receipt import ReceiptSummary
from skyplane_core.errors import ErrorRecord
from skyplane_core.model import (
    Attestation,
    Credentials,
    GatewayTransfer,
    Lease,
    LeaseResult,
    ObjectAttributes,
    PartAck,
    PartFailure,
    PartLease,
    PartTarget,
    Precondition,
    StoreConfig,
    Stored,
    StoredPart,
    TransferKeys,
)
from skyplane_core.spec import (
    Destination,
    KeyMapping,
    MappingKind,
    Outcome,
    Progress,
    ReceiptLine,
    Selection,
    TransferOptions,
    TransferSpec,
    TransferState,
)
from tests.fuzz.mutation import CORPUS

KEY = bytes(range(32))
RECORD = ErrorRecord("LinkLost", "what", "where", "why", "next", 1.5)
ATTRIBUTES = ObjectAttributes("text/plain", "no-cache", metadata={"a": "ä", "b": ""})
STORE = StoreConfig("s3", "bucket", "http://127.0.0.1:9", "r", credentials=Credentials("a", "s", "t", "x", 1e9))
ACK = PartAck(1, 2, 0, 10, 7, StoredPart(2, "etag", 10, 7), Stored("v", 10, 7, Attestation.WHOLE), ATTRIBUTES)
LINE = ReceiptLine("k", 0, "d/k", 10, "v1", Outcome.COPIED, "new", 7, "v2", 7, Attestation.WHOLE)


def seeds() -> dict[str, dict[str, bytes]]:
    """File contents by folder and name."""
    target = PartTarget(0, "key", "", Precondition(absent=True), ATTRIBUTES)
    parts = [ManifestPart(1, 1, 0, 10, 0, 7, (target,)), ManifestPart(2, 3, 10, 0, 5, 0, (target, PartTarget(3, "k")))]
    manifests = {"two-parts": manifest.encode_manifest(parts)}
    answers = {"both": manifest.encode_answer(Answer((ACK,), (PartFailure(2, 1, 3, RECORD, 5),)))}
    refusals = {"record": manifest.encode_refusal(RECORD)}
    return {
        "frames": _frames(manifests["two-parts"], answers["both"]),
        "manifest": manifests,
        "answer": answers,
        "refusal": refusals,
        "handshake": {
            "hello": msgspec.msgpack.encode(handshake._Hello(VERSION, "data", "a", "b", KEY, KEY)),
            "challenge": msgspec.msgpack.encode(handshake._Challenge(KEY, KEY, KEY)),
            "confirm": msgspec.msgpack.encode(handshake._Confirm(KEY)),
        },
        "link": _link(),
        "processes": _processes(),
        "calls": _calls(),
        "journal": {
            "records": b"".join(
                msgspec.json.encode(record) + b"\n"
                for record in (
                    BeganRecord("a -> b"), UploadRecord("k", "v", 10, 0, "d", "u", 5), AckRecord("u", ACK),
                    ClosedRecord("u"), RecallRecord("n", hand_over=True),
                )
            )
        },
        "receipt": {
            "summary": msgspec.json.encode(ReceiptSummary(_progress(), ("state/receipt-000000.jsonl",))),
            "lines": (msgspec.json.encode(LINE) + b"\n") * 2,
        },
    }  # fmt: skip


def _frames(first: bytes, answer: bytes) -> dict[str, bytes]:
    sealer = seal_batch(KEY)
    header = Header(FrameType.MANIFEST, Codec.RAW, False, transfer_tag("t"), 1, 1, 1, 1, bytes(8), 0, 0, 0, 0, KEY)
    data = header._replace(type=FrameType.DATA, frame=1)
    return {
        "manifest": bytes(seal_message(header, first, sealer, last=False)),
        "data-raw": bytes(seal_message(data, os.urandom(100), sealer, last=False)),
        "data-lz4": bytes(seal_message(data._replace(frame=2), bytes(5000), sealer, last=True)),
        "ack": bytes(seal_message(header._replace(type=FrameType.ACK), answer, seal_batch(KEY), last=True, prefix=KEY)),
    }


def _link() -> dict[str, bytes]:
    calls = {
        "list": ListPage("p", "a", "/", 10),
        "complete": CompleteUpload("k", "u", (StoredPart(1, "e", 5, 7),), 5, 7, Precondition(version="v")),
        "delete": Delete("k"),
        "put": PutBytes("k", b"data"),
        "get": GetBytes("k"),
    }
    lease = Lease(1, "t", 1, ("l", "w"), (PartLease(1, 1, "k", "v", 0, 10, (PartTarget(0, "d", "u"),)),), 1)
    requests = {
        **{name: link.StoreRequest("t", 0, call) for name, call in calls.items()},
        "renew": link.RenewExpiry(),
        "pulse": link.Pulse(),
        "ping": link.Ping(),
        "execute": link.ExecuteLeases("t", (lease,)),
        "done": link.LeasesDone("t", (LeaseResult(1, "t", (ACK,), (PartFailure(2, 1, 3, RECORD, 5),), 9),)),
    }
    asked = {name: link.Asked(1, msgspec.msgpack.encode(request), KEY) for name, request in requests.items()}
    others = {
        "body": link.Answered(1, b"x", proof=KEY),
        "no": link.Answered(1, b"", RECORD),
    }
    return {name: msgspec.msgpack.encode(message) for name, message in {**asked, **others}.items()}


def _processes() -> dict[str, bytes]:
    """Messages between the processes of one gateway."""
    transfer = GatewayTransfer("t", TransferKeys(KEY), STORE, {0: STORE})
    told = {
        "open": messages.OpenTransfer(transfer),
        "close": messages.CloseTransfer("t"),
        "peers": messages.SetPeers((messages.Peer("g", "127.0.0.1", 9),), dial_out=True),
        "stop": messages.Stop(),
    }
    return {name: msgspec.msgpack.encode(message) for name, message in told.items()}


def _calls() -> dict[str, bytes]:
    """Bodies of the control API's calls."""
    # Directories that are not there: whatever starts ends by itself, and soon.
    nowhere = StoreConfig("local", "/nonexistent/skyplane")
    mapping = KeyMapping(MappingKind.PREFIX, "a/", "b/")
    spec = TransferSpec(
        "t1", nowhere, Selection("a/", tree=True, glob="*.x"), (Destination(nowhere, mapping),),
        TransferOptions(part_size=8 << 20, progress_timeout=60.0), "b/.skyplane/t1/", 1e9,
    )  # fmt: skip
    return {
        "transfer": msgspec.json.encode(GatewayTransfer("t1", TransferKeys(KEY), STORE, {0: STORE}, concurrency=4)),
        "spec": msgspec.json.encode(spec),
        "peers": msgspec.json.encode((PeerAddress("gateway-1", "127.0.0.1", 9, 2), PeerAddress("g2", dials_out=True))),
    }


def _progress() -> Progress:
    return Progress("t1", TransferState.DONE, 1, 1, 1, bytes_copied=10, failures=(("k", "why"),), ended_at=2.5)


if __name__ == "__main__":
    for folder, files in seeds().items():
        (CORPUS / folder).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (CORPUS / folder / name).write_bytes(content)
