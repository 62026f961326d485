"""Connections of type wasb and adls, field by field as the stock hooks read them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from airflow_provider_skyplane.compat import AirflowException, AirflowNotFoundException
from airflow_provider_skyplane.hooks.azure import account_of, azure_config
from airflow_provider_skyplane.hooks.skyplane import SkyplaneHook
from airflow_provider_skyplane.operators.skyplane import SkyplaneOperator
from skyplane_core.errors import InvalidURI, Unauthenticated, UsageError
from skyplane_core.locations import Location
from skyplane_core.model import Credentials, StoreConfig

KEY = base64.b64encode(b"the account's key").decode()
SAS = "sv=2026-02-06&sp=rl&sig=abc%3D"
BY_KEY = Credentials("account1", KEY)


def place(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> StoreConfig:
    """The store that a connection gives for a URI of account1."""
    monkeypatch.setenv("AIRFLOW_CONN_BLOBS", json.dumps({"conn_type": "wasb", **fields}))
    found = SkyplaneHook().place("az://account1/box/a/key", "blobs")
    assert isinstance(found, Location)
    assert (found.key, found.store.kind, found.store.bucket) == ("a/key", "azure", "account1/box")
    return found.store


@pytest.mark.parametrize(
    ("fields", "credentials"),
    [
        ({"login": "account1", "password": KEY}, BY_KEY),
        ({"login": "account1", "extra": {"shared_access_key": KEY}}, BY_KEY),
        ({"login": "account1", "extra": {"shared_access_key": SAS}}, Credentials(sas=SAS)),
        ({"login": "account1", "extra": {"sas_token": f"?{SAS}"}}, Credentials(sas=SAS)),
        (
            {"login": "account1", "extra": {"sas_token": f"https://account1.blob.core.windows.net/box?{SAS}"}},
            Credentials(sas=SAS),
        ),
        ({"login": "account1", "password": KEY, "extra": {"sas_token": SAS}}, Credentials(sas=SAS)),
        ({"extra": {"connection_string": f"AccountName=account1;AccountKey={KEY}"}}, BY_KEY),
        ({"extra": {"extra__wasb__connection_string": f"AccountName=account1;AccountKey={KEY}"}}, BY_KEY),
        ({"host": "account1.blob.core.windows.net", "password": KEY}, BY_KEY),
        ({"conn_type": "adls", "host": "https://account1.dfs.core.windows.net", "password": KEY}, BY_KEY),
        ({"login": "account1", "password": KEY, "extra": {"sas_token": "", "tenant_id": None}}, BY_KEY),
    ],
)
def test_credentials(monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], credentials: Credentials) -> None:
    store = place(monkeypatch, **fields)
    assert store.credentials == credentials
    assert store.endpoint_url == ""


@pytest.mark.parametrize(
    ("host", "endpoint_url"),
    [
        ("http://127.0.0.1:10000/account1", "http://127.0.0.1:10000/account1"),
        ("http://azurite:10000/account1/", "http://azurite:10000/account1"),
        ("https://account1.blob.core.usgovcloudapi.net", "https://account1.blob.core.usgovcloudapi.net"),
        ("account1.dfs.core.chinacloudapi.cn", "https://account1.blob.core.chinacloudapi.cn"),
        ("https://store.example.org", "https://store.example.org"),
        ("account1", ""),
    ],
)
def test_endpoints(monkeypatch: pytest.MonkeyPatch, host: str, endpoint_url: str) -> None:
    assert place(monkeypatch, host=host, login="account1", password=KEY).endpoint_url == endpoint_url


@pytest.mark.parametrize(
    "fields",
    [
        {"login": "account2", "password": KEY},
        {"host": "account2.blob.core.windows.net", "login": "a-client", "password": KEY},
        {"extra": {"connection_string": f"AccountName=account2;AccountKey={KEY}"}},
    ],
)
def test_another_accounts_connection_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    with pytest.raises(AirflowException, match="Connection 'blobs' is for the storage account") as caught:
        place(monkeypatch, **fields)
    assert "'account1'" in str(caught.value)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"login": "account1", "password": "no base64"}, "the password of connection 'blobs' is not the key"),
        ({"login": "account1", "extra": {"sas_token": "sv=1"}}, "sas_token of connection 'blobs' is not a SAS token"),
        ({"extra": {"connection_string": "nonsense"}}, "connection_string of connection 'blobs' is not a storage"),
    ],
)
def test_malformed_fields_are_named(monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        place(monkeypatch, **fields)


def test_without_secrets_the_default_chain_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    # Which may look at the environment here and nowhere else, and finds nothing.
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    with pytest.raises(Unauthenticated) as caught:
        place(monkeypatch, login="account1")
    assert caught.value.where == "az://account1/box"


def test_the_usual_connection_is_wasb_default(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AirflowNotFoundException):
        SkyplaneHook().place("az://account1/box/key")
    monkeypatch.setenv(
        "AIRFLOW_CONN_WASB_DEFAULT", json.dumps({"conn_type": "wasb", "login": "account1", "password": KEY})
    )
    for uri in ("azure://account1/box/key", "abfss://box@account1.dfs.core.windows.net/key"):
        found = SkyplaneHook().place(uri)
        assert isinstance(found, Location)
        assert (found.store.credentials, found.key) == (BY_KEY, "key")


def test_operators_take_azures_addresses_and_refuse_wrong_ones_at_once() -> None:
    SkyplaneOperator(task_id="a", source="s3://bucket/key", destination="az://account1/box/key")
    with pytest.raises(InvalidURI, match="name of the container is missing"):
        SkyplaneOperator(task_id="b", source="az://account1", destination="s3://bucket/key")
    with pytest.raises(UsageError, match="lies inside the source"):
        SkyplaneOperator(
            task_id="c", source="az://account1/box/a", destination="azure://account1/box/a/b", recursive=True
        )


@pytest.mark.parametrize(
    "fields",
    [
        {"login": "account1", "password": KEY},
        {"host": "account1"},
        {"host": "account1.blob.core.windows.net", "login": "a-client", "extra": {"tenant_id": "a-tenant"}},
        {"host": "https://account1.dfs.core.windows.net/"},
        {"host": "http://127.0.0.1:10000/account1"},
        {"host": "http://azurite:10000", "login": "account1"},
        {"host": "https://store.example.org", "login": "account1"},
        {"extra": {"sas_token": f"https://account1.blob.core.windows.net/?{SAS}"}},
        {"extra": {"connection_string": f"AccountName=account1;AccountKey={KEY}"}, "login": "account2"},
        {
            "extra": {
                "connection_string": f"BlobEndpoint=https://account1.blob.core.windows.net;SharedAccessSignature={SAS}"
            }
        },
    ],
)
def test_a_connection_says_whose_account_it_is(monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BLOBS", json.dumps({"conn_type": "wasb", **fields}))
    assert account_of("blobs") == "account1"


@pytest.mark.parametrize(
    "fields", [{}, {"host": "https://store.example.org"}, {"login": "a-client", "extra": {"tenant_id": "a-tenant"}}]
)
def test_a_connection_that_names_no_account_is_refused(monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BLOBS", json.dumps({"conn_type": "wasb", **fields}))
    with pytest.raises(AirflowException, match="'blobs' names no storage account"):
        account_of("blobs")


@pytest.mark.parametrize(
    "fields",
    [
        {"login": "account1", "password": KEY},
        {"login": "account1"},
        {"extra": {"connection_string": f"AccountName=account1;AccountKey={KEY}"}},
    ],
)
def test_public_containers_are_read_without_credentials(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BLOBS", json.dumps({"conn_type": "wasb", **fields}))
    assert azure_config("account1/box", "blobs", anonymous=True) == StoreConfig("azure", "account1/box")
