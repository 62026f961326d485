"""What a transfer left at its destination, found by its id alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from skyplane_core.afterwards import Left, left_by
from skyplane_core.coordinator.receipt import ReceiptWriter
from skyplane_core.errors import BucketNotFound, StoreRejected
from skyplane_core.locations import Location, resolve
from skyplane_core.model import StoreConfig
from skyplane_core.spec import Progress, TransferState

ID = "0123456789abcdef" * 2
NOTHING = Left(None, begun=False)


def write(root: Path, progress: Progress) -> None:
    def put(key: str, content: bytes) -> None:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    ReceiptWriter(put, f".skyplane/{ID}/", "1").close(progress)


@pytest.mark.parametrize("state", [TransferState.DONE, TransferState.FAILED, TransferState.CANCELLED])
def test_a_receipt_tells_how_it_ended(tmp_path: Path, state: TransferState) -> None:
    progress = Progress(ID, state, objects_copied=3, failures=(("k", "denied"),))
    write(tmp_path, progress)
    assert left_by(ID, resolve(f"{tmp_path}/")) == Left(progress, begun=True)


@pytest.mark.parametrize("destination", ["tree", "tree/", "tree/object"])
def test_it_is_found_by_a_prefix_and_by_an_object(tmp_path: Path, destination: str) -> None:
    """A tree's state is below its prefix, that of an object beside it; the tree need not be a directory yet."""
    write(tmp_path / "tree", Progress(ID, TransferState.DONE))
    place = Location(StoreConfig("local", str(tmp_path)), destination)
    assert left_by(ID, place).ended == Progress(ID, TransferState.DONE)
    assert left_by(ID[::-1], place) == NOTHING


def test_a_journal_alone_tells_that_it_has_begun(tmp_path: Path) -> None:
    state = tmp_path / ".skyplane" / ID
    state.mkdir(parents=True)
    (state / "journal-1-000000.jsonl").write_bytes(b"{}\n")
    assert left_by(ID, resolve(str(tmp_path))) == Left(None, begun=True)


def test_nothing_is_there_yet(tmp_path: Path) -> None:
    assert left_by(ID, resolve(str(tmp_path))) == NOTHING
    assert left_by(ID, resolve(f"{tmp_path}/to/come/")) == NOTHING


def test_the_receipt_of_another_transfer_is_not_believed(tmp_path: Path) -> None:
    write(tmp_path, Progress("f" * 32, TransferState.DONE))
    with pytest.raises(StoreRejected, match="is of transfer ffff"):
        left_by(ID, resolve(str(tmp_path)))


def test_what_is_no_receipt_is_not_believed(tmp_path: Path) -> None:
    write(tmp_path, Progress(ID, TransferState.DONE))
    (tmp_path / ".skyplane" / ID / "receipt.json").write_bytes(b"[]")
    with pytest.raises(StoreRejected, match="cannot be read"):
        left_by(ID, resolve(str(tmp_path)))


def test_a_bucket_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    from skyplane_core.testing.objectserver import ObjectServer

    with ObjectServer("gcs", buckets=[]) as server:
        store = StoreConfig("gcs", "none", endpoint_url=server.endpoint_url)
        with pytest.raises(BucketNotFound):
            left_by(ID, Location(store, "x/"))
