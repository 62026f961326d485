"""Open transfers: found by id and tag, waited for while they may still come, and their stores renewed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from gateway.opened import Transfer, Transfers
from gateway.wire import transfer_tag
from skyplane_core.errors import GatewayRefused, TransferNotFound
from skyplane_core.model import GatewayTransfer, StoreConfig, TransferKeys


def config(directory: Path, transfer_id: str = "t") -> GatewayTransfer:
    return GatewayTransfer(transfer_id, TransferKeys(bytes(32)), StoreConfig("local", str(directory)))


def test_a_batch_that_comes_before_its_transfer_waits_for_it(tmp_path: Path) -> None:
    transfers = Transfers()
    found: list[Transfer] = []
    thread = threading.Thread(target=lambda: found.append(transfers.by_tag(transfer_tag("t"), 10)))
    thread.start()
    transfers.open(config(tmp_path, "other"))
    transfers.open(config(tmp_path))
    thread.join()
    assert found == [transfers.get("t")]


def test_closed_and_unknown_transfers_are_not_found(tmp_path: Path) -> None:
    transfers = Transfers()
    transfers.open(config(tmp_path))
    opened = transfers.get("t")
    transfers.close("t")
    transfers.close("never")
    for wrong in (lambda: transfers.get("t"), lambda: transfers.by_tag(transfer_tag("t"), 60)):
        with pytest.raises(TransferNotFound):
            wrong()
    with pytest.raises(TransferNotFound):
        transfers.by_tag(transfer_tag("unknown"), 0.01)
    with pytest.raises(TransferNotFound), opened.source():
        pass
    transfers.open(config(tmp_path))
    assert transfers.by_tag(transfer_tag("t"), 0) is transfers.get("t")
    assert transfers.all() == [transfers.get("t")]


def test_renewal_opens_data_paths_anew_and_leaves_those_in_use(tmp_path: Path) -> None:
    transfer = Transfer(config(tmp_path / "first"))
    with transfer.source() as used:
        transfer.update(config(tmp_path / "first"))
    with transfer.source() as again:
        assert again is used
        transfer.update(config(tmp_path / "second"))
        with transfer.source() as renewed:
            assert renewed is not used
    with transfer.source() as path:
        assert path is renewed


def test_a_role_that_was_not_given_is_refused(tmp_path: Path) -> None:
    transfer = Transfer(GatewayTransfer("t"))
    for wrong in (transfer.key, transfer.source().__enter__, transfer.destination(0).__enter__):
        with pytest.raises(GatewayRefused):
            wrong()
    assert Transfer(config(tmp_path)).key() == bytes(32)
