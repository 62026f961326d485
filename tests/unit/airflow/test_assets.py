"""Assets by the URIs that only this provider knows, as Airflow makes them."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Asset
from airflow.providers_manager import ProvidersManager

from airflow_provider_skyplane.assets import to_openlineage
from airflow_provider_skyplane.compat import web_server_is_flask

AIRFLOW_2 = web_server_is_flask()
TOLD = r"bucket|container|account"
PLACES = ["az://account/container/events/", "r2://bucket/events/", "cos://bucket/events/report.json"]


@pytest.mark.parametrize("uri", PLACES)
def test_a_place_is_an_asset_by_its_uri(uri: str) -> None:
    # Airflow takes final slashes away.
    assert Asset(uri).uri.rstrip("/") == uri.rstrip("/")


@pytest.mark.parametrize("uri", ["az://account/", "az:///container", "r2:///events"])
def test_what_names_no_place_is_none(uri: str) -> None:
    # Airflow 2 warns of what later ones refuse.
    refused: Any = pytest.warns(UserWarning, match=TOLD) if AIRFLOW_2 else pytest.raises(ValueError, match=TOLD)
    with refused:
        Asset(uri)


# Where providers are looked up has moved in Airflow 3.2; its old place is the one that all versions have.
@pytest.mark.filterwarnings("ignore:ProvidersManager")
def test_airflow_finds_them_and_names_them_in_lineage_as_the_operators_do() -> None:
    name = "dataset_to_openlineage_converters" if AIRFLOW_2 else "asset_to_openlineage_converters"
    converters = getattr(ProvidersManager(), name)
    for uri in PLACES:
        converter = converters[uri.partition(":")[0]]
        assert converter is to_openlineage
    found = [to_openlineage(Asset(uri), None) for uri in PLACES]
    assert [(one.namespace, one.name) for one in found] == [
        ("wasbs://container@account", "events"),
        ("r2://bucket", "events"),
        ("cos://bucket", "events/report.json"),
    ]
