"""The object server's Azure side, vouched for by azure-storage-blob."""

# ruff: noqa: TID253 - the SDKs are what is used here, and every URL is our own.
from __future__ import annotations

import base64
import os

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.storage.blob import BlobBlock, BlobServiceClient

from skyplane_core.testing.objectserver import ObjectServer

KEY = base64.b64encode(b"k" * 32).decode()
MIB = 1 << 20


def container_of(server, key=KEY, **options):
    url = f"{server.endpoint_url}/account"
    service = BlobServiceClient(
        url, credential={"account_name": "account", "account_key": key}, retry_total=0, **options
    )
    return service.get_container_client("c")


@pytest.fixture
def server():
    with ObjectServer("azure", buckets=["c"], credentials={"account": KEY}) as running:
        yield running


def test_blobs(server):
    container = container_of(server)
    for name in ("plain", "a b/ü%+//x", "/lead", "é" * 400):
        container.upload_blob(name, b"0123456789", metadata={"m": "1"}, validate_content=True)
        blob = container.get_blob_client(name)
        assert blob.download_blob().readall() == b"0123456789" == server.get("c", name)
        assert blob.download_blob(offset=2, length=3).readall() == b"234"
        assert blob.get_blob_properties().metadata == {"m": "1"}
    assert [blob.name for blob in container.list_blobs(results_per_page=1)] == server.list("c")
    assert {item.name for item in container.walk_blobs()} == {"plain", "a b/", "/", "é" * 400}
    container.delete_blob("plain")
    with pytest.raises(ResourceNotFoundError):
        container.get_blob_client("plain").get_blob_properties()


def test_blocks(server):
    blob = container_of(server).get_blob_client("big")
    blob.stage_block("b1", b"1" * 100, validate_content=True)
    blob.stage_block("b2", b"2" * 100)
    committed, waiting = blob.get_block_list("all")
    assert (committed, [block.id for block in waiting]) == ([], ["b1", "b2"])
    with pytest.raises(HttpResponseError):
        blob.commit_block_list([BlobBlock("b9")])
    etag = blob.commit_block_list([BlobBlock("b2"), BlobBlock("b1")])["etag"]
    assert server.get("c", "big") == b"2" * 100 + b"1" * 100
    with pytest.raises(ResourceExistsError):
        blob.commit_block_list([BlobBlock("b2")], if_none_match="*")
    with pytest.raises(ResourceModifiedError):
        blob.commit_block_list([BlobBlock("b2")], etag='"x"', match_condition=MatchConditions.IfNotModified)
    blob.commit_block_list([BlobBlock("b1")], etag=etag, match_condition=MatchConditions.IfNotModified)
    assert server.get("c", "big") == b"1" * 100


def test_a_large_upload_in_blocks(server):
    data = os.urandom(3 * MIB + 1)
    container = container_of(
        server, max_single_put_size=MIB, max_block_size=MIB, max_single_get_size=MIB, max_chunk_get_size=MIB
    )
    container.upload_blob("big", data, max_concurrency=3)
    assert server.get("c", "big") == data
    assert container.download_blob("big", max_concurrency=3).readall() == data
    with pytest.raises(ResourceExistsError):
        container.upload_blob("big", data)
    container.upload_blob("big", b"x", overwrite=True)
    assert server.get("c", "big") == b"x"


def test_refusals(server):
    with pytest.raises(ClientAuthenticationError):
        container_of(server, base64.b64encode(b"wrong").decode()).upload_blob("k", b"x")
    with pytest.raises(HttpResponseError) as error:
        container_of(server).upload_blob("k", b"x", headers={"Content-MD5": base64.b64encode(bytes(16)).decode()})
    assert error.value.error_code == "Md5Mismatch"
    assert server.list("c") == []
