"""The shipped test tools, as docs/testing.md shows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from skyplane_core.client import Location, SkyplaneClient
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.spec import ServerSideCopy, TransferOptions
from skyplane_core.testing.objectserver import ObjectServer
from tests.docs.pages import Snippet, on_page

SERVER, FAULTS, PROXY = on_page("testing.md", "tools")
MIB = 1024 * 1024
STRIPED = TransferOptions(part_size=5 * MIB, multipart_threshold=6 * MIB, server_side_copy=ServerSideCopy.NEVER)


def execute(snippet: Snippet, **names: Any) -> dict[str, Any]:
    exec(compile(snippet.text, snippet.where, "exec"), names)  # noqa: S102 - it is our own page
    return names


def test_the_servers() -> None:
    def run_my_dag(s3_url: str, gcs_url: str) -> None:
        keys = Credentials(access_key="AK", secret_key="SK")
        source = StoreConfig("s3", "src", endpoint_url=s3_url, region="us-east-1", path_style=True, credentials=keys)
        destination = StoreConfig("gcs", "dst", endpoint_url=gcs_url, credentials=Credentials(token="token"))
        client = SkyplaneClient()
        prepared = client.prepare(Location(source, "in/"), Location(destination, "in/"), recursive=True)
        dataplane = client.dataplane()
        with dataplane.auto_deprovision():
            dataplane.provision()
            dataplane.submit(prepared).wait().raise_for_state()
        # Nothing but objects stays, as after an operator's run.
        dataplane.discard_state(prepared)

    execute(SERVER, run_my_dag=run_my_dag)["test_my_dag_copies_everything"]()


@pytest.fixture
def upload(tmp_path: Any) -> Callable[[str], None]:
    """Copies a file of several parts into ``s3://b``."""
    (tmp_path / "file").write_bytes(bytes(12 * MIB))

    def copy(endpoint_url: str) -> None:
        keys = Credentials(access_key="AK", secret_key="SK")
        store = StoreConfig("s3", "b", endpoint_url=endpoint_url, region="us-east-1", path_style=True, credentials=keys)
        SkyplaneClient().copy(str(tmp_path / "file"), Location(store, "file"), options=STRIPED)

    return copy


def test_faults(upload: Callable[[str], None]) -> None:
    execute(FAULTS, run_my_dag=upload)


def test_the_proxy() -> None:
    def run_my_transfer(endpoint_url: str) -> None:
        keys = Credentials(access_key="AK", secret_key="SK")
        store = StoreConfig("s3", "b", endpoint_url=endpoint_url, region="us-east-1", path_style=True, credentials=keys)
        SkyplaneClient().copy(Location(store, "in"), Location(store, "out"), options=STRIPED)

    with ObjectServer("s3", buckets=["b"]) as server:
        server.put("b", "in", bytes(12 * MIB))
        execute(PROXY, server=server, run_my_transfer=run_my_transfer)
        assert server.get("b", "out") == bytes(12 * MIB)
