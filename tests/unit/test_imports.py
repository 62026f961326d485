"""What an import costs: no SDK, no Airflow and no daemon library before it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ["airflow", "boto3", "botocore", "google.cloud.storage", "google.auth", "azure", "aiohttp", "awscrt", "cramjam"]


@pytest.mark.parametrize(
    "module", ["skyplane_core", "skyplane_core.client", "skyplane_core.cli.program", "skyplane_core.uri"]
)
def test_importing_the_engine_loads_nothing_heavy(module: str) -> None:
    program = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_upload_to_s3_loads_no_sdk() -> None:
    program = f"""
import sys
from awscrt.checksums import crc32c
from skyplane_core.model import Credentials, ObjectAttributes, Precondition, StoreConfig
from skyplane_core.stores.registry import open_store
from skyplane_core.testing.objectserver import ObjectServer

with ObjectServer("s3", buckets=["b"], credentials={{"AK": "SK"}}) as server:
    config = StoreConfig("s3", "b", endpoint_url=server.endpoint_url, credentials=Credentials("AK", "SK"))
    store = open_store(config)
    store.probe()
    assert list(store.list()) == []
    upload = store.create_upload("k", ObjectAttributes())
    data, content = store.data(), memoryview(b"bytes")
    part = data.put_part("k", upload, 1, 0, content, crc32c=crc32c(content))
    store.complete_upload("k", upload, [part], size=5, crc32c=crc32c(content), precondition=Precondition(absent=True))
    assert [info.key for info in store.list()] == ["k"]
    data.close()
    store.close()
print([name for name in {HEAVY!r} if name in sys.modules and name != "awscrt"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
