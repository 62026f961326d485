"""The copy that compresses on the worker, when it has to end before it is done."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_skyplane.transfers.gzip_copy import GzipCopy, GzipReader

READS = 5000


class Body:
    """An object that fails, once another one is being read; or one that has no end that is worth waiting for."""

    def __init__(self, key: str, begun: threading.Event) -> None:
        self.key, self.begun, self.reads = key, begun, 0

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *exc_info: object) -> None: ...

    def read(self, size: int) -> bytes:
        if self.key == "fails":
            assert self.begun.wait(10)
            raise ConnectionError("the source is gone")
        self.begun.set()
        self.reads += 1
        return bytes(size) if self.reads < READS else b""


class Clouds:
    """What of both SDKs a copy uses."""

    def __init__(self) -> None:
        begun = threading.Event()
        self.bodies = {key: Body(key, begun) for key in ("endless", "fails")}

    def list_keys(self, **_arguments: Any) -> list[str]:
        return sorted(self.bodies)

    def get_conn(self) -> Clouds:
        return self

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Body]:  # noqa: N803  # boto3's names
        return {"Body": self.bodies[Key]}

    def bucket(self, _name: str) -> Clouds:
        return self

    def blob(self, _name: str, *, chunk_size: int) -> Clouds:
        del chunk_size
        return self

    def upload_from_file(self, reader: GzipReader, **_arguments: Any) -> None:
        while reader.read(1024):
            pass


def test_the_first_failure_breaks_off_what_is_being_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a timeout of the task does: it is not to wait until the largest object has been copied."""
    clouds = Clouds()
    monkeypatch.setattr("airflow.providers.amazon.aws.hooks.s3.S3Hook", lambda **_: clouds)
    monkeypatch.setattr("airflow.providers.google.cloud.hooks.gcs.GCSHook", lambda **_: clouds)
    operator: Any = SimpleNamespace(
        bucket="src",
        prefix="",
        delimiter="",
        apply_wildcard=False,
        replace=True,
        dest_gcs="gs://dst/",
        s3_to_gcs_object=str,
        **dict.fromkeys(
            ("gcp_conn_id", "google_impersonation_chain", "aws_conn_id", "verify", "region_name", "botocore_config")
        ),
        log=logging.getLogger("a-task"),
    )
    with pytest.raises(ConnectionError, match="the source is gone"):
        GzipCopy(operator).run()
    assert clouds.bodies["endless"].reads < READS
