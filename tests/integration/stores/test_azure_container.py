"""Containers that a transfer makes because it was asked to, on the project's own server."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator

import msgspec
import pytest

from skyplane_core.errors import BucketNotFound, NothingToTransfer, StoreUnavailable, Unauthenticated
from skyplane_core.locations import Location
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.prepare import check, prepare
from skyplane_core.spec import TransferOptions
from skyplane_core.stores.azure import open_store
from skyplane_core.stores.azure_container import make_container
from skyplane_core.testing.objectserver import ObjectServer

KEY = base64.b64encode(b"k" * 32).decode()
OPTIONS = TransferOptions()


@pytest.fixture
def server() -> Iterator[ObjectServer]:
    with ObjectServer("azure", credentials={"account": KEY}, buckets=["there"]) as running:
        running.put("there", "in/a", b"a")
        yield running


def config(server: ObjectServer, container: str) -> StoreConfig:
    return StoreConfig(
        "azure", f"account/{container}", endpoint_url=server.endpoint_url, credentials=Credentials("account", KEY)
    )


def test_a_container_is_made_once(server: ObjectServer) -> None:
    made = config(server, "made")
    with contextlib.closing(open_store(made)) as store:
        with pytest.raises(BucketNotFound):
            store.probe()
        make_container(made)
        make_container(made)
        store.probe()


def test_what_is_in_one_stays(server: ObjectServer) -> None:
    there = config(server, "there")
    make_container(there)
    with contextlib.closing(open_store(there)) as store:
        assert [info.key for info in store.list()] == ["in/a"]


def test_refusals_name_the_container(server: ObjectServer) -> None:
    stranger = msgspec.structs.replace(
        config(server, "made"), credentials=Credentials("account", base64.b64encode(b"w" * 32).decode())
    )
    with pytest.raises(Unauthenticated, match=r"cannot create the container.*az://account/made"):
        make_container(stranger)


def test_no_answer_names_the_container(server: ObjectServer) -> None:
    gone = config(server, "made")
    server.stop()
    with pytest.raises(StoreUnavailable, match=r"cannot create the container.*az://account/made"):
        make_container(gone)


def test_a_transfer_makes_its_container_only_if_asked_and_if_there_is_something_to_move(server: ObjectServer) -> None:
    here, there = config(server, "there"), Location(config(server, "made"), "out/")
    asked = prepare(Location(here, "in/"), there, options=OPTIONS, recursive=True)
    nothing = prepare(Location(here, "none/"), there, options=OPTIONS, recursive=True)
    with pytest.raises(NothingToTransfer):
        check(nothing, create_container=lambda: there.store)
    with pytest.raises(BucketNotFound):
        check(asked)
    check(asked, create_container=lambda: there.store)
    check(asked)
