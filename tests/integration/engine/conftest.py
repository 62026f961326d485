"""Object servers and clients for tests of the whole engine: real daemons, real sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from skyplane_core.client import ClientConfig, Location, SkyplaneClient
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.testing.objectserver import ObjectServer

MIB = 1024 * 1024
SECRET = b"a control secret for tests, 32 bytes or more"


@pytest.fixture
def s3() -> Iterator[ObjectServer]:
    with ObjectServer("s3", buckets=["src"], credentials={"AKTEST": "source-canary-secret"}) as server:
        yield server


@pytest.fixture
def gcs() -> Iterator[ObjectServer]:
    with ObjectServer("gcs", buckets=["dst"], tokens=["destination-canary-token"]) as server:
        yield server


@pytest.fixture
def source(s3: ObjectServer) -> Callable[[str], Location]:
    credentials = Credentials(access_key="AKTEST", secret_key="source-canary-secret")
    store = StoreConfig(
        "s3", "src", endpoint_url=s3.endpoint_url, region="us-east-1", path_style=True, credentials=credentials
    )
    return lambda key="": Location(store, key)


@pytest.fixture
def destination(gcs: ObjectServer) -> Callable[[str], Location]:
    credentials = Credentials(token="destination-canary-token")
    store = StoreConfig("gcs", "dst", endpoint_url=gcs.endpoint_url, credentials=credentials)
    return lambda key="": Location(store, key)


@pytest.fixture
def client() -> SkyplaneClient:
    return SkyplaneClient(ClientConfig(gateways=2, pool_bytes=128 * MIB, control_secret=SECRET))


@pytest.fixture(params=[1, 2], ids=["one-gateway", "two-gateways"])
def either_client(request: pytest.FixtureRequest) -> SkyplaneClient:
    return SkyplaneClient(ClientConfig(gateways=request.param, pool_bytes=128 * MIB, control_secret=SECRET))
