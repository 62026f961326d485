"""What S3's own refusals look like to a person."""

from __future__ import annotations

import pytest

from skyplane_core.errors import StoreError
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.stores.s3 import open_store
from skyplane_core.testing.objectserver import ObjectServer


def test_who_gave_no_credentials_is_told_to_give_some_whatever_the_call() -> None:
    with ObjectServer("s3", buckets=["src"], credentials={"AK": "SK"}) as server:
        server.put("src", "k", b"hello")
        config = StoreConfig(kind="s3", bucket="src", endpoint_url=server.endpoint_url)
        store = open_store(config)
        data = store.data()
        for call in (
            store.probe,
            lambda: list(store.list()),
            lambda: store.head("k"),
            lambda: data.read_into("k", "etag:x", 0, memoryview(bytearray(5))),
        ):
            with pytest.raises(StoreError, match="No credentials were given") as caught:
                call()
            assert caught.value.where.startswith("s3://src")
        data.close()
        store.close()
        wrong = open_store(
            StoreConfig(
                kind="s3", bucket="src", endpoint_url=server.endpoint_url, credentials=Credentials("AK", "other")
            )
        )
        with pytest.raises(StoreError) as refused:
            wrong.probe()
        assert "No credentials" not in refused.value.next_step
        wrong.close()
