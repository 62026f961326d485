"""GCS servers under the suite. fake-gcs-server has no XML writes: tests/integration/stores/test_gcs_on_fake_gcs.py."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from skyplane_core.model import Credentials, StoreConfig
from tests.conformance.store_case import Running, StoreCase


@contextlib.contextmanager
def object_server(path: Path) -> Iterator[Running]:
    from skyplane_core.testing.objectserver import ObjectServer

    with ObjectServer("gcs", tokens=["good"]) as server:

        def make_bucket(name: str) -> StoreConfig:
            server.create_bucket(name)
            return _config(name, "good")

        def distrust(config: StoreConfig) -> StoreConfig:
            return _config(config.bucket, "bad")

        def _config(bucket: str, token: str) -> StoreConfig:
            return StoreConfig(
                kind="gcs", bucket=bucket, endpoint_url=server.endpoint_url, credentials=Credentials(token=token)
            )

        yield Running(make_bucket, distrust)


CASES = [
    StoreCase(
        "gcs-objectserver",
        object_server,
        copies=True,
        refused_keys={"line\nfeed": "GCS takes no carriage return or line feed in a name"},
    )
]
