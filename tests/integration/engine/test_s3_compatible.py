"""Transfers to servers that lack what S3 has: nothing counts as done that was not attested or read back."""

from __future__ import annotations

import os

import msgspec
import pytest

from skyplane_core.client import Location, SkyplaneClient
from skyplane_core.model import Attestation, Credentials, StoreConfig
from skyplane_core.spec import Compare, ServerSideCopy, TransferOptions
from skyplane_core.testing.objectserver import ObjectServer

MIB = 1024 * 1024
STRIPED = TransferOptions(part_size=5 * MIB, multipart_threshold=6 * MIB, server_side_copy=ServerSideCopy.NEVER)
READ_BACK, WHOLE, PER_PART = Attestation.READ_BACK, Attestation.WHOLE, Attestation.PER_PART


def place(server: ObjectServer, bucket: str, key: str) -> Location:
    config = StoreConfig("s3", bucket, endpoint_url=server.endpoint_url, credentials=Credentials("AK", "SK"))
    return Location(config, key)


@pytest.mark.parametrize(
    ("shortcomings", "small", "striped"),
    [
        ((), WHOLE, WHOLE),
        (("refuses-checksums", "refuses-conditions"), READ_BACK, READ_BACK),
        (("ignores-checksums", "ignores-conditions"), READ_BACK, READ_BACK),
        (("composite-only", "equal-parts", "refuses-conditions"), WHOLE, PER_PART),
    ],
)
def test_a_tree_arrives_and_a_sync_replaces_what_changed(
    client: SkyplaneClient, shortcomings: tuple[str, ...], small: Attestation, striped: Attestation
) -> None:
    with ObjectServer("s3", buckets=["a", "b"], credentials={"AK": "SK"}, shortcomings=shortcomings) as server:
        objects = {"small": b"bytes", "empty": b"", "striped": os.urandom(17 * MIB + 3)}
        for key, body in objects.items():
            server.put("a", f"src/{key}", body)
        source, destination = place(server, "a", "src/"), place(server, "b", "dst/")
        result = client.copy(source, destination, recursive=True, options=STRIPED)
        assert {line.key: line.attestation for line in result.lines()} == {
            "src/small": small,
            "src/empty": small,
            "src/striped": striped,
        }
        assert {key: server.get("b", f"dst/{key}") for key in objects} == objects
        assert len(server.head("b", "dst/striped")["part_sizes"]) == 4
        assert server.uploads("b") == []
        # Replacing needs a condition on what is there, however the server takes that.
        for key in ("small", "striped"):
            objects[key] = objects[key][::-1]
            server.put("a", f"src/{key}", objects[key])
        options = msgspec.structs.replace(STRIPED, compare=Compare.EXACT)
        again = client.sync(source, destination, options=options)
        assert (again.progress.objects_copied, again.progress.objects_skipped) == (2, 1)
        assert {key: server.get("b", f"dst/{key}") for key in objects} == objects
